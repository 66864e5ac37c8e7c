//! Report of a painting.

use super::area::Area;
use super::canvas::Canvas;
use super::map_colors::ColorShare;
use super::weights::Placed;
use crate::attention::At;
use crate::branch::Branch;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::{Curve, Picture, Report};
use crate::prompt::TokenSpan;
use crate::window::Window;
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Report of a painting's areas and effects in one run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PaintReport {
    /// Painted areas, in the order they were added.
    pub areas: Vec<PaintedArea>,
    /// Colors of the map that belong to no area, the most frequent first.
    pub unused: Vec<ColorShare>,
    /// Steps at which the paint acted, in order.
    pub steps: Vec<PaintedStep>,
    /// Warnings for the user.
    pub warnings: Vec<PaintWarning>,
}

/// One painted area.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PaintedArea {
    /// Phrase that the area stands for.
    pub phrase: String,
    /// Color of the area in the map; `None` for a drawn mask.
    pub color: Option<Rgb>,
    /// Weight of the phrase in the area, as requested.
    pub strength: f64,
    /// Weight of the phrase outside the area, as requested.
    pub outside: f64,
    /// Seed of the area's own noise.
    pub seed: Option<u64>,
    /// True if the phrase belongs to the negative prompt.
    pub negative: bool,
    /// Positions of the phrase in the prompt, or in the negative prompt.
    pub tokens: Vec<TokenSpan>,
    /// Share of the area in the picture, 0..=1; the mean over the images if each has its own map.
    pub share: f64,
    /// Largest share of any single cell that the area covers at the finest attention site, 0..=1.
    pub largest_cell: f64,
}

/// One step at which the paint acted.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PaintedStep {
    /// 0-based index of the step.
    pub index: usize,
    /// Noise level of the step's first evaluation.
    pub sigma: f64,
    /// Bias that a weight of 1 added to the scaled scores, per image, averaged over sites and evaluations. Empty for a
    /// custom law.
    pub per_weight: Vec<f64>,
}

/// A warning about a painting that is valid but doubtful. The `Display` text is a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub enum PaintWarning {
    /// No step of the schedule is inside the window.
    NeverActive {
        /// The window.
        window: Window,
    },
    /// An area covers less than a quarter of every cell.
    Thin {
        /// Phrase that the area stands for.
        phrase: String,
        /// Largest share of any single cell that the area covers at the finest attention site.
        largest_cell: f64,
    },
    /// More than half of the map belongs to no area, in more than 64 colors.
    ManyColors {
        /// Share of the map that belongs to no area.
        share: f64,
        /// Number of colors that belong to no area.
        colors: usize,
    },
    /// A part of the map is near an area's color without belonging to an area.
    NearColors {
        /// Share of the map whose colors are near an area's color and belong to no area.
        share: f64,
        /// Tolerance at which these colors belong to areas.
        tolerance: f64,
    },
    /// The negative prompt is painted, but was never evaluated.
    NoNegative,
    /// A branch that varies the prompt does not contain a phrase.
    NotInBranch {
        /// The phrase.
        phrase: String,
        /// The branch's prompt.
        prompt: String,
        /// The branch's role.
        role: &'static str,
    },
}

impl PaintWarning {
    /// Returns the warning as a note: the sentence, and what the user can do.
    pub(super) fn note(&self) -> Note {
        match self {
            Self::NeverActive { window } => {
                let problem = format!("no step of the schedule is in the window ({window}), so the paint did nothing");
                Remedy::Window.after(problem)
            }
            Self::Thin { phrase, largest_cell } => Remedy::LargerArea.after(format!(
                "the area of \"{}\" covers at most {:.0} % of any cell, so the effect is weak",
                excerpt(phrase, QUOTED),
                100.0 * largest_cell
            )),
            Self::ManyColors { share, colors } => Remedy::Tolerance
                .after(format!("{:.0} % of the map, in {colors} colors, belongs to no area", 100.0 * share)),
            Self::NearColors { share, tolerance } => Remedy::Tolerance.after(format!(
                "{:.0} % of the map belongs to no area but is near an area's color, as after saving the map as JPEG; a \
                 tolerance of {tolerance} adds these parts to the areas",
                100.0 * share
            )),
            Self::NoNegative => {
                "the negative prompt was never evaluated, so its areas did nothing; use a guidance scale above 1".into()
            }
            Self::NotInBranch { phrase, prompt, role } => {
                let [phrase, prompt] = [phrase, prompt].map(|text| excerpt(text, QUOTED));
                format!("\"{phrase}\" is not in \"{prompt}\", so the phrase is not painted in the branch \"{role}\"")
                    .into()
            }
        }
    }
}

impl fmt::Display for PaintWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note().fmt(f)
    }
}

impl std::error::Error for PaintWarning {}

/// Records of one run.
#[derive(Debug)]
pub(super) struct Trace {
    images: i64,
    areas: Vec<PaintedArea>,
    /// Branch whose calls are recorded: the prompt's, or the negative prompt's if only the latter is painted.
    branch: Branch,
    unused: Vec<ColorShare>,
    steps: Vec<Calls>,
    pub warnings: Vec<PaintWarning>,
}

/// The calls of one step. They are summed in the report, because each operation on a tensor takes some of the time of a
/// small model.
#[derive(Debug)]
struct Calls {
    index: usize,
    sigma: f64,
    /// The images of each call, and the bias of a weight of 1, [images of the call or 1, 1, 1, 1].
    per_weight: Vec<(Range<i64>, Tensor)>,
}

impl Calls {
    /// Returns the mean bias of a weight of 1 for each of `images` images; nothing without a call.
    fn means(&self, images: i64) -> Result<Vec<f64>> {
        if self.per_weight.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Tensor> = self.per_weight.iter().map(|(_, per_weight)| per_weight).collect();
        let mut values =
            Vec::<f64>::try_from(&Tensor::f_cat(&all, 0)?.f_flatten(0, -1)?.f_to_kind(Kind::Double)?)?.into_iter();
        let (mut sums, mut counts) = (vec![0.0; images as usize], vec![0.0; images as usize]);
        for (own, per_weight) in &self.per_weight {
            let values: Vec<f64> = values.by_ref().take(per_weight.numel()).collect();
            for (image, value) in own.clone().zip(values.iter().cycle()) {
                if let (Some(sum), Some(count)) = (sums.get_mut(image as usize), counts.get_mut(image as usize)) {
                    (*sum, *count) = (*sum + value, *count + 1.0);
                }
            }
        }
        Ok(sums.into_iter().zip(counts).map(|(sum, count)| sum / count).collect())
    }
}

impl Trace {
    /// Creates the records of a run. `placed` holds each area's tokens in the prompt; `masks`, [areas, 1 or n, h, w],
    /// are on the finest grid.
    pub(super) fn new(canvas: &Canvas, placed: &[Placed], masks: &Tensor, images: i64) -> Result<Self> {
        let cells = [1i64, 2, 3];
        let shares = Vec::<f64>::try_from(&masks.f_mean_dim(cells.as_slice(), false, Kind::Double)?)?;
        let largest = Vec::<f64>::try_from(&masks.f_amax(cells, false)?.f_to_kind(Kind::Double)?)?;
        let areas = canvas.areas.iter().zip(placed).zip(shares.into_iter().zip(largest));
        let painted = |((area, placed), (share, largest_cell)): ((&Area, &Placed), _)| PaintedArea {
            phrase: area.phrase.clone(),
            color: area.rgb(),
            strength: area.strength,
            outside: area.outside,
            seed: area.seed,
            negative: area.negative,
            tokens: placed.tokens.clone(),
            share,
            largest_cell,
        };
        let areas: Vec<PaintedArea> = areas.map(painted).collect();
        let unused = canvas.unused();
        let mut warnings: Vec<PaintWarning> = Vec::new();
        warnings.extend(
            areas
                .iter()
                .filter(|area| area.largest_cell < 0.25)
                .map(|area| PaintWarning::Thin { phrase: area.phrase.clone(), largest_cell: area.largest_cell }),
        );
        let share: f64 = unused.iter().map(|entry| entry.share).sum();
        if share > 0.5 && unused.len() > 64 {
            warnings.push(PaintWarning::ManyColors { share, colors: unused.len() });
        }
        warnings.extend(
            canvas.nearly_used(&unused).map(|(share, tolerance)| PaintWarning::NearColors { share, tolerance }),
        );
        let branch = if areas.iter().all(|area| area.negative) { Branch::Uncond } else { Branch::Cond };
        Ok(Self { images, areas, branch, unused, steps: Vec::new(), warnings })
    }

    /// Sets the positions of the phrase of a negative area in the negative prompt.
    pub(super) fn found(&mut self, area: usize, tokens: &[TokenSpan]) {
        if let Some(area) = self.areas.get_mut(area) {
            area.tokens = tokens.to_vec();
        }
    }

    /// Records a call; `per_weight` is [images of the call or 1, 1, 1, 1].
    pub(super) fn record(&mut self, at: &At<'_>, per_weight: Option<Tensor>) {
        if at.branch != self.branch {
            return;
        }
        if self.steps.last().is_none_or(|step| step.index != at.step.index) {
            self.steps.push(Calls { index: at.step.index, sigma: at.step.sigma, per_weight: Vec::new() });
        }
        if let (Some(step), Some(per_weight)) = (self.steps.last_mut(), per_weight) {
            step.per_weight.push((at.images.clone(), per_weight));
        }
    }

    pub(super) fn report(&self) -> Result<PaintReport> {
        let step = |calls: &Calls| -> Result<PaintedStep> {
            let Calls { index, sigma, .. } = *calls;
            Ok(PaintedStep { index, sigma, per_weight: calls.means(self.images)? })
        };
        Ok(PaintReport {
            areas: self.areas.clone(),
            unused: self.unused.clone(),
            steps: self.steps.iter().map(step).collect::<Result<_>>()?,
            warnings: self.warnings.clone(),
        })
    }

    /// Creates the report for files: figures as JSON, and the mask of every area on the finest grid
    /// ([areas, 1 or n, h, w]) as a picture.
    pub(super) fn summary(&self, masks: &Tensor) -> Result<Report> {
        let told = self.report()?;
        let data = serde_json::to_value(&told)
            .map_err(|error| Error::Malformed { file: "paint report".into(), problem: error.to_string() })?;
        let phrases: Vec<String> = self.areas.iter().map(|area| format!("\"{}\"", area.phrase)).collect();
        let mut report = Report { data, ..Report::new(format!("PaintWithWords {}", phrases.join(", "))) };
        for (index, area) in (0..).zip(&self.areas) {
            let caption = format!("\"{}\", strength {}", area.phrase, area.strength);
            let masks = masks.f_get(index)?;
            let count = masks.size3()?.0;
            for image in 0..count {
                let picture = Picture::map(caption.as_str(), &masks.f_get(image)?);
                report.pictures.push(if count == 1 { picture } else { picture.image(image as usize) });
            }
        }
        for image in 0..self.images as usize {
            let added = |step: &PaintedStep| Some((step.index, *step.per_weight.get(image)?));
            let points: Vec<(usize, f64)> = told.steps.iter().filter_map(added).collect();
            if !points.is_empty() {
                let curve = Curve::new("added to the scores by a weight of 1", points);
                report.curves.push(Curve { image: Some(image), ..curve });
            }
        }
        Ok(report)
    }
}
