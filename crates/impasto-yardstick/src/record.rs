//! The record of a run: one line of JSON. The file has a whole line or none.

use crate::acceptance::Acceptance;
use crate::edges::Followed;
use crate::guides::Guided;
use crate::measure::Measure;
use crate::papers::Papers;
use crate::placement::Placement;
use crate::reference::Colored;
use crate::task::{Method, Style, Task};
use impasto::Rgb;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Number of lines between two syncs to the disk.
const SYNC: usize = 32;
/// Largest CIEDE2000 by which the decoder may miss a color.
const REACH: f64 = 3.0;

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
    /// Number of the record's wanted pair, the unit that the bootstrap resamples.
    pub wanted: usize,
    #[serde(flatten)]
    pub made: Made,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Figures of each part that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartFigures>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub things: Vec<Thing>,
    /// True if the picture has no object that the prompt does not name.
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
    /// Wall time of the picture in milliseconds. `ms_unforced` is the time of its unforced twin.
    pub ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms_unforced: Option<f64>,
}

/// The maker of a record: model, judge, settings and version. Records of different makers are never mixed.
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
    /// The unforced picture does not show the part. This is a failure of the model, not of the method.
    Missing,
    /// The method ended in an error, or in a picture of the wrong size or of one color.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartFigures {
    pub part: String,
    pub target: Rgb,
    /// True if a channel of the target is near its lowest or highest value.
    pub corner: bool,
    /// True if the region is the one that both pictures share, because the judge's region moves with the color.
    #[serde(default)]
    pub unsteady: bool,
    /// CIEDE2000 between the target and a flat picture of it after the decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<f64>,
    /// True if the judge's confidence in the part is below 0.6.
    pub uncertain: bool,
    /// The best IoU that a mask of whole latent cells can have with the part.
    pub ceiling: f64,
    /// IoU of the last forced step's mask with the part in the unforced picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iou_mask: Option<f64>,
    /// CIEDE2000 to the target, as the method itself reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_delta_e: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub converged: Option<bool>,
    /// Median CIEDE2000 of the pixels under the part's stroke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_stroke: Option<f64>,
    /// `None` if the unforced picture has too little of the part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
    /// Figures by the rules of papers; `None` if the part vanished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub papers: Option<Papers>,
    #[serde(flatten)]
    pub measure: Measure,
}

impl PartFigures {
    /// True if the decoder cannot show the target. Runs with such a color have rows of their own.
    pub(crate) fn is_unrepresentable(&self) -> bool {
        self.round_trip.is_some_and(|delta_e| delta_e > REACH)
    }

    /// Share of the part's components that are covered. It is 0 if the part vanished, and `None` if the part is too
    /// small to tell.
    pub fn whole(&self) -> Option<f64> {
        if self.measure.vanished { Some(0.0) } else { self.measure.whole }
    }

    /// CIEDE2000 between the part's material and the target; +∞ if the part vanished.
    pub fn delta_e(&self) -> f64 {
        let material = |acceptance: &Acceptance| acceptance.material.unwrap_or(f64::INFINITY);
        self.acceptance.as_ref().map_or_else(|| self.mean_delta_e(), material)
    }

    /// CIEDE2000 between the part's mean color and the target; +∞ if the part vanished.
    pub fn mean_delta_e(&self) -> f64 {
        self.measure.painted.as_ref().map_or(f64::INFINITY, |painted| painted.delta_e)
    }

    /// True if a person would keep the picture.
    pub fn accepted(&self) -> bool {
        self.acceptance.as_ref().map_or(!self.measure.retry, |acceptance| acceptance.accepted)
    }
}

/// Counts of the other parts' color words: those that are right in the unforced picture, and those of them that stay
/// right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub right: usize,
    pub kept: usize,
}

/// Figures of how well attention finds a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub part: String,
    /// IoU of attention above a threshold with the judge's region, by the threshold in hundredths.
    pub iou: BTreeMap<String, f64>,
    pub ceiling: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub object: String,
    #[serde(flatten)]
    pub placement: Placement,
}

/// The file `OUT/runs.jsonl`. Its whole lines are never changed; new lines are added.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    file: File,
    /// Number of bytes in whole lines.
    whole: u64,
    unsynced: usize,
}

impl Records {
    /// Opens or creates a file and returns its records. An unfinished last line is cut off.
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

    /// Adds a record as one line. If the write fails, as on a full disk, the written part of the line is removed.
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

/// Adds the path of a file to its error.
fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Reads the records in the whole lines of a file.
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

/// Selects the records of one maker, each key once, in an order that does not depend on the workers' speed.
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
