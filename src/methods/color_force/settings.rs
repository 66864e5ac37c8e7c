//! What the user of a force asked for.

use super::gold::Gold;
use super::options::ForceOptions;
use super::{ColorWarning, Cutoff, Texture};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::{LARGEST_LEVEL, Setup};
use crate::mask::Region;
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Kind, Tensor};

/// σ² of a step: how much the model's own mean may move. It is what `color_var` is weighed against.
#[derive(Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StepVariance {
    /// The noise level at the step's start, squared.
    #[default]
    NoiseLevel,
    /// The noise level at the step's end, squared.
    NextLevel,
    /// Any other; 0 or more and finite.
    #[serde(skip)]
    Custom(Box<dyn Fn(&Step) -> f64 + Send>),
}

impl fmt::Debug for StepVariance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoiseLevel => f.write_str("NoiseLevel"),
            Self::NextLevel => f.write_str("NextLevel"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// What a force shifts. k is its strength at the step, 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ForceTarget {
    /// The step's mean: mean + k·(gold − mean). As the method is described; also shrinks the noise left in the mean.
    #[default]
    Mean,
    /// The clean part of the mean: mean + k·(gold − x0). The noise stays what the model expects.
    SignalOnly,
    /// Every prediction of the clean picture, before the solver: x0 + k·(gold − x0). The gentlest.
    Denoised,
}

/// How saliency becomes a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MaskEdge {
    /// 1 where saliency ≥ cutoff, else 0.
    #[default]
    Hard,
    /// A smooth step of half-width h around the cutoff; h > 0.
    Soft(f64),
}

/// Who gets a cell that several forces claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Overlap {
    /// All of them, as a product of Gaussians.
    #[default]
    Blend,
    /// The one with the largest saliency there, of those that say `Winner`; the earlier one on a tie.
    Winner,
}

/// What the user asked for.
#[derive(Serialize, Deserialize)]
pub(super) struct Settings {
    pub phrase: String,
    pub color: Rgb,
    pub mask: Option<Region>,
    pub color_var: f64,
    pub cutoff: Cutoff,
    pub window: Window,
    pub options: ForceOptions,
}

/// A force this much surer than the step is a block of color; beyond it f32 overflows.
const LARGEST_WEIGHT: f64 = 1e6;

impl Settings {
    /// Is a step forced?
    pub(super) fn covers(&self, step: &Step) -> bool {
        self.window.contains(step) || (self.options.last_step && step.index + 1 == step.count && step.after == 0)
    }

    /// V of a step.
    pub(super) fn variance(&self, step: &Step) -> Result<f64> {
        let (from, to) = (step.from.min(LARGEST_LEVEL), step.to.min(LARGEST_LEVEL));
        let variance = match &self.options.step_variance {
            StepVariance::NoiseLevel => from * from,
            StepVariance::NextLevel => to * to,
            StepVariance::Custom(variance) => variance(step),
        };
        if !(variance.is_finite() && variance >= 0.0) {
            return Err(Error::parameter("step_variance", variance, "a finite number of 0 or more"));
        }
        Ok(variance)
    }

    /// w = V/c, the force's precision relative to the step's.
    pub(super) fn weight(&self, step: &Step, variance: f64, color_var: f64) -> f64 {
        let weight = variance / color_var;
        let weight = match self.options.reference_steps {
            // Strengths 1 − 1/(1+w) compound over steps; the exponent makes the product that of `reference` steps.
            Some(reference) => (1.0 + weight).powf(reference as f64 / step.nominal.max(1) as f64) - 1.0,
            None => weight,
        };
        weight.min(LARGEST_WEIGHT)
    }

    /// The mask that a saliency map makes, both [n, 1, h, w]; `levels` are the images' cutoffs, [n, 1, 1, 1], `region` is the
    /// user's.
    pub(super) fn mask(&self, map: &Tensor, levels: &Tensor, region: Option<&Tensor>) -> Result<Tensor> {
        let mask = match self.options.edge {
            MaskEdge::Hard => map.f_ge_tensor(levels)?.f_to_kind(Kind::Float)?,
            MaskEdge::Soft(half) => {
                let u = map.f_sub(levels)?.f_add_scalar(half)?.f_div_scalar(2.0 * half)?.f_clamp(0.0, 1.0)?;
                // u²·(3 − 2u)
                u.f_square()?.f_mul(&u.f_mul_scalar(-2.0)?.f_add_scalar(3.0)?)?
            }
        };
        Ok(match region {
            Some(region) => mask.f_mul(region)?,
            None => mask,
        })
    }

    /// Is every number in its range?
    pub(super) fn check(&self) -> Result<()> {
        if !(self.color_var.is_finite() && self.color_var > 0.0) {
            return Err(Error::parameter("color_var", self.color_var, "a number above 0; 15 to 70 is useful"));
        }
        self.cutoff.check()?;
        self.window.check()?;
        self.options.check()
    }

    /// Warnings before the run.
    pub(super) fn doubts(&self, setup: &Setup<'_>, range: f64, gold: &Gold) -> Vec<ColorWarning> {
        let unreachable = match self.cutoff {
            Cutoff::At(cutoff) if cutoff > range => Some(cutoff),
            _ => None,
        };
        let doubts = [
            (unreachable.is_some(), ColorWarning::CutoffOutOfReach { cutoff: unreachable.unwrap_or_default(), range }),
            // What keeps the texture does not turn into a block.
            (
                self.options.texture == Texture::Off && !(10.0..=200.0).contains(&self.color_var),
                ColorWarning::UnusualVariance { color_var: self.color_var },
            ),
            (
                !self.options.last_step && !setup.schedule.steps().any(|step| self.window.contains(&step)),
                ColorWarning::NeverActive { window: self.window },
            ),
            (gold.delta_e > 3.0, ColorWarning::ColorNotRepresentable { delta_e: gold.delta_e }),
        ];
        doubts.into_iter().filter_map(|(holds, doubt)| holds.then_some(doubt)).collect()
    }
}

/// Makes a force stronger while its color is far off, and slowly weaker once it is met: after each forced step the color of the
/// clean picture is measured under the mask, as the model sees it without the force, and changes the next step's color
/// variance: u = clip((e − goal)/span, −1, 1), times `relax` if negative, and c ← c·exp(−gain·u).
///
/// The color is seen by a linear map from latents to linear light, fitted to the latents of 64 flat colors when a run begins: exact
/// for flat regions, and free. Where it fits badly, c stays as it is, with a warning. c begins within `limits`; masks of fewer than 8
/// cells are not measured; c stays once the color was met three times late, and returns to its best if it gets worse four times in a row.
///
/// With [`Texture::Off`](Texture::Off) c stays above 15: below, regions turn into solid blocks.
///
/// ```
/// use impasto::methods::ColorForce;
/// use impasto::methods::color_force::{Feedback, Texture};
/// use impasto::Rgb;
/// let feedback = Feedback { goal: 2.0, ..Feedback::default() };
/// let force = ColorForce::published("hair", Rgb(255, 99, 71)).tune(|options| {
///     options.texture = Texture::MaskedMean;
///     options.feedback = Some(feedback);
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// CIEDE2000 to come to, .1..=20.
    pub goal: f64,
    /// CIEDE2000 above the goal from which on c changes as fast as it can; above 0.
    pub span: f64,
    /// The largest change of the strength c in one step: a factor of e^gain. Above 0, up to 2.
    pub gain: f64,
    /// The speed at which c grows, as a share of the speed at which it falls: 0..=1. At 0 it never grows.
    pub relax: f64,
    /// Smallest and largest c; above 0.
    pub limits: (f64, f64),
}

impl Default for Feedback {
    fn default() -> Self {
        let limits = (0.02, 1e4);
        Self { goal: 0.75, span: 5.0, gain: 1.0, relax: 0.25, limits }
    }
}
