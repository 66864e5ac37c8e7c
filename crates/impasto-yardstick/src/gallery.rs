//! The pictures that a run keeps: those of the worst runs, and a sample from which ordinary runs are chosen.

use crate::arguments::Pictures;
use crate::failure::Failure;
use crate::picture::raster;
use crate::random::fnv;
use crate::record::{PartFigures, Record};
use crate::runner::Strip;
use crate::task::Mask;
use impasto::{Raster, Rgb, Size};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One of this many runs is kept regardless of its badness.
const SAMPLED: u64 = 31;

pub struct Gallery {
    folder: PathBuf,
    which: Pictures,
    /// Badness in thousandths and key of the worst runs, the least bad first.
    worst: BTreeSet<(u64, String)>,
}

/// Badness of a run: the largest sum of a part's ΔE and its leakage, in CIEDE2000. `None` for methods that the gallery
/// does not show.
pub fn badness(record: &Record) -> Option<f64> {
    let ours = record.method.row().mask != Mask::None;
    let part = |part: &PartFigures| part.delta_e().min(200.0) + part.measure.leak_median.unwrap_or(0.0);
    record.parts.iter().filter(|_| ours).map(part).reduce(f64::max)
}

pub fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join("pictures").join(format!("{key}.png"))
}

impl Gallery {
    /// Opens the gallery in `folder` and continues with the pictures of these records that exist there.
    pub fn open(folder: &Path, which: Pictures, records: &[Record]) -> Result<Self, Failure> {
        if which != Pictures::None {
            std::fs::create_dir_all(folder.join("pictures"))?;
        }
        let known = records.iter().filter(|record| path(folder, &record.key).exists());
        let worst = known.filter_map(|record| Some(((1e3 * badness(record)?) as u64, record.key.clone()))).collect();
        Ok(Self { folder: folder.to_owned(), which, worst })
    }

    /// Saves the pictures of a run if all are kept, or if the run is among the worst so far or in the sample.
    pub fn keep(&mut self, record: &Record, strip: Option<Strip>) -> Result<(), Failure> {
        let Some(strip) = strip else { return Ok(()) };
        match (self.which, badness(record)) {
            (Pictures::All, _) => {}
            (Pictures::None, _) | (_, None) => return Ok(()),
            (Pictures::Worst(n), Some(badness)) => {
                let _ = self.worst.insert(((1e3 * badness) as u64, record.key.clone()));
                let mut dropped = None;
                if self.worst.len() > n {
                    dropped = self.worst.pop_first().map(|(_, key)| key);
                }
                let sampled = |key: &str| fnv(key).is_multiple_of(SAMPLED);
                if let Some(key) = dropped.as_ref().filter(|key| !sampled(key)) {
                    if *key == record.key {
                        return Ok(());
                    }
                    std::fs::remove_file(path(&self.folder, key)).ok();
                }
            }
        }
        Ok(joined(&strip)?.save(path(&self.folder, &record.key))?)
    }
}

/// Joins the pictures of a strip side by side.
fn joined(Strip(pictures): &Strip) -> Result<Raster, Failure> {
    const GAP: u32 = 4;
    let rasters = pictures.iter().map(raster).collect::<Result<Vec<_>, _>>()?;
    let Size { width: w, height: h } = rasters.first().map_or(Size::new(1, 1), Raster::size);
    // A gray gap is visible between the pictures on light and dark pages.
    let mut whole = Raster::flat(Rgb(128, 128, 128), ((w + GAP) * rasters.len() as u32 - GAP, h));
    for (i, raster) in (0..).zip(&rasters) {
        whole.paste(raster, i * (w + GAP), 0);
    }
    Ok(whole)
}
