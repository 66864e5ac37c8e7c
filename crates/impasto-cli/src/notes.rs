//! [`Notes`]: remarks about a run, told once.

use crate::console;
use crate::wording::Terminal;
use impasto::wording::Note;
use std::collections::BTreeSet;

/// Notes that were told before a run. They are not told again after the run.
#[derive(Debug, Default)]
pub struct Notes {
    told: BTreeSet<String>,
    /// Beginning of each note before a run, such as `line 3: `.
    label: String,
}

impl Notes {
    /// Returns the notes of a part of the command, whose new notes begin with `label`. A note on another part is told
    /// again, and a note that was told for the whole command is not.
    pub fn of_part(&self, label: String) -> Self {
        Self { told: self.told.clone(), label }
    }

    /// Tells the notes that are new.
    pub fn tell_before(&mut self, notes: &[Note]) {
        let words = Terminal::present();
        for note in notes.iter().map(|note| note.worded(&words)) {
            if !self.told.contains(&note) {
                console::tell(format_args!("{}note: {note}", self.label));
                self.told.insert(note);
            }
        }
    }

    /// Tells the notes of a finished picture that were not told before its run.
    pub fn tell_after(&self, notes: &[Note]) {
        let words = Terminal::present();
        for note in notes.iter().map(|note| note.worded(&words)).filter(|note| !self.told.contains(note)) {
            console::tell(format_args!("  note: {note}"));
        }
    }
}
