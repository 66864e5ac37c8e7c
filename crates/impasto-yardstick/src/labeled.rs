//! Pictures with a person's answers, and how well acceptance agrees with them.

use crate::acceptance::{Acceptance, acceptance};
use crate::failure::Failure;
use crate::judge::{Evaluator, class};
use crate::measure::Pair;
use crate::picture::{self, Picture};
use impasto::{Raster, Rgb};
use ndarray::Array2;
use serde::Deserialize;
use std::fmt;
use std::fs;
use std::path::Path;

/// Width of the gap between the pictures of a strip, in pixels.
const GAP: usize = 4;

/// A picture's label, an entry of a `labels.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Label {
    /// Name of the strip. The unforced and the forced picture are the first two of its square pictures, side by side.
    pub file: String,
    pub part: String,
    pub asked: Rgb,
    pub verdict: Answer,
    #[serde(default)]
    pub reason: String,
}

/// A person's answer to the question whether a person who asked for the color would keep the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Accept,
    Reject,
    Unsure,
}

/// Labeled pictures with their figures. A picture without enough of the part has no figures and counts as rejected.
pub struct Judged(pub Vec<(Label, Option<Acceptance>)>);

impl Judged {
    /// Judges the strips that the `labels.json` of a folder lists, by the judge of the embedded model's pictures.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("labels.json");
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let labels: Vec<Label> = impasto::json::parse(text).map_err(|error| format!("{}: {error}", path.display()))?;
        let evaluator = Evaluator::open()?;
        let judged = |label: Label| -> Result<_, Failure> {
            let strip = picture::picture(&Raster::open(folder.join(&label.file))?)?;
            let Some([unforced, forced]) = pair(&strip) else {
                let (h, w) = strip.dim();
                let file = &label.file;
                return Err(format!("{file} has {w}×{h} pixels; expected two squares and a gap of {GAP} pixels").into());
            };
            let (seen_u, seen_f) = (evaluator.see(&unforced)?, evaluator.see(&forced)?);
            let pair = Pair {
                unforced: &unforced,
                forced: &forced,
                labels_unforced: &seen_u.labels,
                labels_forced: &seen_f.labels,
                unit: picture::unit(unforced.dim()),
            };
            let figures = acceptance(&pair, class(&label.part, &[]), label.asked, &[]);
            Ok((label, figures))
        };
        Ok(Self(labels.into_iter().map(judged).collect::<Result<_, _>>()?))
    }

    /// Returns the share of the pictures with this answer that the figures reject; `None` if no picture has it.
    pub fn rejected(&self, answer: Answer) -> Option<f64> {
        let with = self.0.iter().filter(|(label, _)| label.verdict == answer);
        let rejected: Vec<bool> = with.map(|(_, figures)| !figures.as_ref().is_some_and(|all| all.accepted)).collect();
        let count = rejected.iter().filter(|rejected| **rejected).count();
        (!rejected.is_empty()).then(|| count as f64 / rejected.len() as f64)
    }
}

/// Prints a line for each picture, and then how many of the rejected pictures are found and how many of the accepted
/// ones are found wrongly.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Label { file, part, verdict, reason, .. }, figures) in &self.0 {
            write!(f, "{file:<24} {part:<10} {:<8}", format!("{verdict:?}").to_lowercase())?;
            match figures {
                Some(Acceptance { material, whole, lines, neighbor, grown, accepted }) => {
                    let lines = lines.map_or("–".into(), |lines| format!("{lines:.2}"));
                    let material = material.map_or("vanished".into(), |material| format!("{material:.1}"));
                    let judged = if *accepted { "accepted" } else { "rejected" };
                    write!(f, " {judged}: material {material}, whole {whole:.2}, lines {lines}, ")?;
                    write!(f, "neighbor {neighbor:.1}, grown {grown:.3}")?;
                }
                None => write!(f, " rejected: the unforced picture has too little of the part")?,
            }
            writeln!(f, "{}{reason}", if reason.is_empty() { "" } else { "; " })?;
        }
        for (what, answer) in [("sensitivity", Answer::Reject), ("false alarms", Answer::Accept)] {
            let count = self.0.iter().filter(|(label, _)| label.verdict == answer).count();
            let share = self.rejected(answer).map_or("–".into(), |share| format!("{share:.2}"));
            writeln!(f, "{what:<12} {share} of {count}")?;
        }
        Ok(())
    }
}

/// Returns the first two square pictures of a strip; `None` if it is too narrow for them.
fn pair(strip: &Picture) -> Option<[Picture; 2]> {
    let (side, width) = strip.dim();
    let cut = |from: usize| Array2::from_shape_fn((side, side), |(y, x)| strip[(y, from + x)]);
    (side > 0 && width >= 2 * side + GAP).then(|| [cut(0), cut(side + GAP)])
}
