//! [`Notes`]: remarks about a run, told once.

use crate::console;
use crate::wording::Terminal;
use impasto::wording::Note;
use std::collections::BTreeSet;

/// Notes that were told before a run. They are not told again after the run.
#[derive(Debug, Default)]
pub struct Notes(BTreeSet<String>);

impl Notes {
    /// Tells the notes that are new, each after `label`.
    pub fn tell_before(&mut self, label: &str, notes: &[Note]) {
        for note in notes.iter().map(|note| note.worded(&Terminal)) {
            if !self.0.contains(&note) {
                console::tell(format_args!("{label}note: {note}"));
                self.0.insert(note);
            }
        }
    }

    /// Tells the notes of a finished picture that were not told before its run.
    pub fn tell_after(&self, notes: &[Note]) {
        for note in notes.iter().map(|note| note.worded(&Terminal)).filter(|note| !self.0.contains(note)) {
            console::tell(format_args!("  note: {note}"));
        }
    }
}
