//! The command `tune`: finds the best settings for each part on the public split.

use crate::failure::Failure;
use crate::generator::{Preset, Real, Settings, force};
use crate::judge::{Evaluator, Seen, class};
use crate::measure::{Pair, measure};
use crate::picture;
use crate::regions::{core, of_class};
use crate::statistics::{median, short};
use crate::suite::Suite;
use crate::task::PARTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The content of the file that `tune` writes.
#[derive(Debug, Serialize, Deserialize)]
struct Tuned {
    split: String,
    suite: u64,
    seeds: usize,
    parts: BTreeMap<String, Best>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Best {
    #[serde(flatten)]
    preset: Preset,
    /// Median CIEDE2000; `None` for +∞ if the part vanished, because JSON has no infinity.
    delta_e: Option<f64>,
    leak: f64,
}

impl Best {
    /// Returns the rank of the settings; smaller is better. Settings that leak too much come last and are ordered by
    /// leakage. All others are ordered by ΔE.
    fn rank(&self) -> (bool, f64) {
        let much = self.leak > MOST_LEAK;
        (much, if much { self.leak } else { self.delta_e.unwrap_or(f64::INFINITY) })
    }
}

/// Name of the file that `tune` writes.
const NAME: &str = "tuned.json";
/// Highest leakage that settings may have, as CIEDE2000.
const MOST_LEAK: f64 = 6.0;

/// Finds a file in this folder or in its parent.
pub fn near(folder: &Path, name: &str) -> Option<PathBuf> {
    [Some(folder), folder.parent()].into_iter().flatten().map(|folder| folder.join(name)).find(|path| path.exists())
}

pub fn read(folder: &Path) -> Result<BTreeMap<String, Preset>, Failure> {
    let path = near(folder, NAME).ok_or_else(|| {
        format!("the method tuned needs {NAME}, which {} does not have; run `tune` first", folder.display())
    })?;
    let tuned: Tuned =
        serde_json::from_slice(&std::fs::read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(tuned.parts.into_iter().map(|(part, best)| (part, best.preset)).collect())
}

/// Searches a grid for each part: c {15, 25, 40, 70} × cutoff {.1, .15, .2, .3} × differential {off, on}.
///
/// The best settings have the lowest median ΔE among those with leakage ≤ 6. If no settings have such a leakage, those
/// with the lowest leakage are the best.
pub fn run(folder: &Path, settings: &Settings, suite: &Suite, parts: &[String], seeds: usize) -> Result<(), Failure> {
    let (mut real, judge) = (Real::new(settings)?, Evaluator::open()?);
    let seeds = seeds.min(suite.pair_count());
    let mut unforced = Vec::new();
    for i in 0..seeds {
        let picture = real.picture(&suite.plain[i], suite.seeds[i], None)?;
        let seen = judge.see(&picture)?;
        unforced.push((picture, seen));
    }
    let mut found = BTreeMap::new();
    for (number, part) in PARTS.iter().enumerate().filter(|(_, part)| parts.iter().any(|chosen| chosen == *part)) {
        let class = class(part, &[]);
        let shown = |seen: &Seen, unit| core(&of_class(&seen.labels, class), unit).0 >= 1;
        let mut best: Option<Best> = None;
        for (color_var, cutoff, differential) in grid() {
            let preset = Preset { color_var, cutoff, differential };
            let (mut deltas, mut leaks) = (Vec::new(), Vec::new());
            for (i, (u, seen_u)) in unforced.iter().enumerate() {
                let unit = picture::unit(u.dim());
                if !shown(seen_u, unit) {
                    continue;
                }
                let target = suite.colors[(i + number) % suite.colors.len()].rgb;
                let f = real.picture(&suite.plain[i], suite.seeds[i], Some(force(part, target, preset)))?;
                let seen_f = judge.see(&f)?;
                let (labels_unforced, labels_forced) = (&seen_u.labels, &seen_f.labels);
                let pair = Pair { unforced: u, forced: &f, labels_unforced, labels_forced, unit };
                let measure = measure(&pair, class, target, &[]);
                deltas.push(measure.painted.map_or(f64::INFINITY, |painted| painted.delta_e));
                leaks.extend(measure.leak_median);
            }
            if deltas.is_empty() {
                break;
            }
            // Without other parts in any picture nothing could have moved.
            let leak = if leaks.is_empty() { 0.0 } else { median(leaks) };
            let delta_e = Some(median(deltas)).filter(|delta_e| delta_e.is_finite());
            let now = Best { preset, delta_e, leak };
            if best.as_ref().is_none_or(|best| now.rank() < best.rank()) {
                best = Some(now);
            }
        }
        let Some(best) = best else {
            println!("{part}: found in none of the {seeds} pictures; take more seeds with --seeds-of-suite");
            continue;
        };
        let Preset { color_var, cutoff, differential } = best.preset;
        let (delta_e, leak) = (short(best.delta_e.unwrap_or(f64::INFINITY)), short(best.leak));
        println!("{part}: c {color_var}, cutoff {cutoff}, differential {differential}: ΔE {delta_e}, leakage {leak}");
        let _ = found.insert((*part).to_owned(), best);
    }
    let tuned = Tuned { split: suite.split.clone(), suite: suite.number, seeds, parts: found };
    let path = folder.join(NAME);
    std::fs::write(&path, serde_json::to_vec_pretty(&tuned)?)?;
    println!("{}", path.display());
    Ok(())
}

fn grid() -> impl Iterator<Item = (f64, f64, bool)> {
    let cutoffs = |color_var| [0.1, 0.15, 0.2, 0.3].map(move |cutoff| (color_var, cutoff));
    let pairs = [15.0, 25.0, 40.0, 70.0].into_iter().flat_map(cutoffs);
    pairs.flat_map(|(color_var, cutoff)| [false, true].map(move |differential| (color_var, cutoff, differential)))
}
