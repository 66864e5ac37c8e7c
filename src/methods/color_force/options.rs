//! The options of a force beyond what, where, how strong and when.

use super::{ColorStat, GoldMode, ProtectMode, Texture};
use crate::error::{Error, Result};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The options of a force that few runs change; [`ColorForce::tune`](super::ColorForce::tune) changes them in place.
///
/// [`ForceOptions::default`] are the options of [`ColorForce::published`](super::ColorForce::published), and
/// [`ForceOptions::exact`] those of [`ColorForce::exact`](super::ColorForce::exact).
///
/// ```
/// use impasto::Rgb;
/// use impasto::methods::ColorForce;
/// use impasto::methods::color_force::{MaskEdge, Texture};
/// let soft = ColorForce::published("hair", Rgb(72, 61, 139)).tune(|options| {
///     options.edge = MaskEdge::Soft(0.1);
///     options.texture = Texture::MaskedMean;
/// });
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForceOptions {
    /// Shape of the step from saliency to a mask.
    pub edge: MaskEdge,
    /// Which of several forces gets a cell that all of them claim.
    pub overlap: Overlap,
    /// Whether the last step of a run is forced whatever its timestep. Schedules of a few steps may have no step in the
    /// window; this forces them too.
    pub last_step: bool,
    /// The variance σ² of a step.
    pub step_variance: StepVariance,
    /// Part of a step that the force shifts.
    pub target: ForceTarget,
    /// Which part of the way to the color the force goes; every choice but `Off` keeps what is drawn on the region.
    pub texture: Texture,
    /// Finds the color variance while the picture is made, starting from [`ColorForce::color_var`](super::ColorForce::color_var).
    pub feedback: Option<Feedback>,
    /// Way in which the latent of the color is made.
    pub gold: GoldMode,
    /// The number of steps, 1..=1000, whose total strength every run has. With `None`, more steps force more.
    pub reference_steps: Option<usize>,
    /// The training timestep, 0..=999, at which a first pass ends; 0 is a whole run, `None` no first pass. The first pass
    /// runs over the same noise, forces nothing and only looks. The second pass forces under the last map of the first, so
    /// the mask is known from the first step on, does not flicker and does not follow the force's own effect.
    pub first_pass: Option<f64>,
    /// Whether masks follow the outlines of the picture instead of the coarse cells of attention. The first pass's map is
    /// brought to the outlines of the first pass's picture (cells that it covers by half or more are forced), and the
    /// measured region to those of the measured picture. It costs one more decoding.
    pub outlines: bool,
    /// Whether the first pass's map loses the cells whose colors in the first pass's picture are far from those of its surest
    /// cells. It finds a thing of one color, such as what lies under a stroke, and leaves a thing of many colors as it is.
    #[serde(default)]
    pub alike: bool,
    /// Rounds of trimming after the last step, 0..=10. A round decodes the picture, measures the region and moves its latent
    /// by what is missing, because the effect of decoder and texture on a color is not known before.
    pub trim: usize,
    /// Whether trimming may also lessen the texture, a quarter at a time, where the color is not met otherwise: shaded gold has
    /// no pixels beyond gold that make up for its dark ones. Where the color is met but fewer than .8 of the pixels are within
    /// CIEDE2000 10 of it, trimming lessens the texture by one quarter.
    pub flatten: bool,
    /// Which color stands for the region when it is measured.
    pub stat: ColorStat,
    /// Which side gets a cell that is both forced and protected.
    pub protect_mode: ProtectMode,
    /// Cells by which protected regions are grown, 0..=16.
    pub protect_grow: i64,
}

impl Default for ForceOptions {
    fn default() -> Self {
        Self {
            edge: MaskEdge::default(),
            overlap: Overlap::default(),
            last_step: false,
            step_variance: StepVariance::default(),
            target: ForceTarget::default(),
            texture: Texture::default(),
            feedback: None,
            gold: GoldMode::default(),
            reference_steps: None,
            first_pass: None,
            outlines: false,
            alike: false,
            trim: 0,
            flatten: false,
            stat: ColorStat::default(),
            protect_mode: ProtectMode::default(),
            protect_grow: 1,
        }
    }
}

impl ForceOptions {
    /// The options of [`ColorForce::exact`](super::ColorForce::exact).
    #[must_use]
    pub fn exact() -> Self {
        Self {
            overlap: Overlap::Winner,
            last_step: true,
            target: ForceTarget::SignalOnly,
            texture: Texture::Local(1.0 / 16.0),
            reference_steps: Some(28),
            first_pass: Some(0.0),
            outlines: true,
            trim: 3,
            flatten: true,
            stat: ColorStat::Median,
            ..Self::default()
        }
    }

    /// Checks that every number is in its range.
    pub(super) fn check(&self) -> Result<()> {
        self.texture.check()?;
        self.stat.check()?;
        self.feedback.map_or(Ok(()), |feedback| feedback.check())?;
        if let MaskEdge::Soft(half) = self.edge
            && !(half.is_finite() && half > 0.0)
        {
            return Err(Error::parameter("edge Soft", half, "a half-width above 0; .05 to .1 is useful"));
        }
        if let Some(until) = self.first_pass
            && !(0.0..=999.0).contains(&until)
        {
            return Err(Error::parameter("first_pass", until, "a training timestep in 0..=999"));
        }
        if !(0..=16).contains(&self.protect_grow) {
            return Err(Error::parameter("protect_grow", self.protect_grow, "0 to 16 cells; 1 is usual"));
        }
        if self.trim > 10 {
            return Err(Error::parameter("trim", self.trim, "0 to 10 rounds; 3 is usual"));
        }
        match self.reference_steps {
            Some(steps) if !(1..=1000).contains(&steps) => {
                Err(Error::parameter("reference_steps", steps, "1 to 1000; 28 is usual"))
            }
            _ => Ok(()),
        }
    }
}

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

/// Part of a step that a force shifts. k is the force's strength at the step, 0..1.
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

/// Shape of the step from saliency to a mask.
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
