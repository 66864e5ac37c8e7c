//! What is written down of a run: one line of JSON, which is there whole or not at all.

use crate::edges::Followed;
use crate::guides::Guided;
use crate::metrics::Measure;
use crate::placement::Placement;
use crate::reference::Colored;
use crate::suite::{Method, Style, Task};
use impasto::Rgb;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Lines between two calls that bring them to the disk.
const SYNC: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub key: String,
    pub label: String,
    pub split: String,
    pub suite: u64,
    pub task: Task,
    pub method: Method,
    pub style: Style,
    pub part: String,
    pub rgb: String,
    pub prompt: String,
    pub seed: u64,
    /// The wanted pair it is of, which is what is resampled.
    pub wanted: usize,
    #[serde(flatten)]
    pub made: Made,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One for each part that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartFigures>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<Thing>,
    /// No object is there that the prompt does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guided: Option<Guided>,
    /// Figures of how closely the picture follows a drawing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<Followed>,
    /// Figures of how the picture took the colors of a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colored: Option<Colored>,
    /// Wall time of the picture and of its unforced twin.
    pub ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms_unforced: Option<f64>,
}

/// By what it was made. Records of different makers are never mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Made {
    pub model: String,
    pub judge: String,
    pub settings: String,
    pub version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Measured,
    /// The unforced picture does not show the part: the model's failure, not the guidance's.
    Missing,
    /// The method ended in an error, or in a picture that is none.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartFigures {
    pub part: String,
    pub target: Rgb,
    /// A channel of the target is at its end.
    pub corner: bool,
    /// The region is that of both pictures, as the judge's moves with the color.
    #[serde(default)]
    pub unsteady: bool,
    /// What a flat picture of the target loses in the decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<f64>,
    /// The judge is not sure of the part.
    pub uncertain: bool,
    /// The best IoU that cells of the latent can have with the part.
    pub ceiling: f64,
    /// IoU of the mask that the last forced step used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iou_mask: Option<f64>,
    /// What the guidance says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_delta_e: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converged: Option<bool>,
    /// Median CIEDE2000 of the pixels under the part's stroke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_stroke: Option<f64>,
    #[serde(flatten)]
    pub measure: Measure,
}

impl PartFigures {
    /// Share of the part's components that are covered; none of a part that vanished, and not known of one too small to tell.
    pub fn whole(&self) -> Option<f64> {
        if self.measure.vanished { Some(0.0) } else { self.measure.whole }
    }

    /// Distance to the target; +∞ if there is nothing left to measure.
    pub fn delta_e(&self) -> f64 {
        self.measure.painted.as_ref().map_or(f64::INFINITY, |painted| painted.delta_e)
    }
}

/// Color words of the other parts: how many were right without force, and how many of those still are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub right: usize,
    pub kept: usize,
}

/// How well attention to a part finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub part: String,
    /// By the threshold in hundredths.
    pub iou: BTreeMap<String, f64>,
    pub ceiling: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub object: String,
    #[serde(flatten)]
    pub placement: Placement,
}

/// `OUT/runs.jsonl`, to which lines are only ever added.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    whole: u64,
    unsynced: usize,
}

impl Records {
    /// Opens or begins a file and returns what it holds; a last line that was not finished is cut off.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        let file =
            OpenOptions::new().create(true).read(true).append(true).open(path).map_err(|error| at(path, error))?;
        let mut all = Self { path: path.to_owned(), file, whole: 0, unsynced: 0 };
        let mut text = Vec::new();
        let _ = all.file.read_to_end(&mut text).map_err(|error| at(path, error))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let records = parsed(path, &text[..whole])?;
        if whole < text.len() {
            all.file.set_len(whole as u64).map_err(|error| at(path, error))?;
        }
        all.whole = whole as u64;
        Ok((all, records))
    }

    /// Adds a line in a single write. What a full disk had room for of it is taken back.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.file.set_len(self.whole)?;
            return Err(at(&self.path, error));
        }
        self.whole += line.len() as u64;
        self.unsynced += 1;
        if self.unsynced >= SYNC { self.sync() } else { Ok(()) }
    }

    pub fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.sync_data().map_err(|error| at(&self.path, error))
    }
}

/// The error with the file that it is about.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The whole lines of a file.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let text = std::fs::read(path).map_err(|error| at(path, error))?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    parsed(path, &text[..whole])
}

fn parsed(path: &Path, text: &[u8]) -> io::Result<Vec<Record>> {
    let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_slice(line).map_err(|error| {
                let problem =
                    format!("{}, line {}: {error}; not a record of this yardstick", path.display(), number + 1);
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })
        })
        .collect()
}

/// The records of one maker, equal keys once, in an order that does not depend on who was faster.
pub fn of_maker(records: Vec<Record>, made: &Made) -> Vec<Record> {
    let mut known = HashSet::new();
    let mut records: Vec<Record> =
        records.into_iter().filter(|record| record.made == *made && known.insert(record.key.clone())).collect();
    records.sort_by(|a, b| {
        let order = |r: &Record| (r.wanted, r.task, r.method, r.part.clone(), r.rgb.clone(), r.key.clone());
        order(a).cmp(&order(b))
    });
    records
}
