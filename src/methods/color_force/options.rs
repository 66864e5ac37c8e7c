//! The options of a force besides its phrase, color, region, strength and window.

use super::{ColorStat, GoldMode, ProtectMode, Texture};
use crate::error::{Error, Result};
use crate::recipe::Function;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The options of a force that few runs change; [`ColorForce::tune`](super::ColorForce::tune) changes them in place.
///
/// [`ForceOptions::default`] returns the options of [`ColorForce::published`](super::ColorForce::published).
/// [`ForceOptions::exact`] returns the options of [`ColorForce::exact`](super::ColorForce::exact).
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForceOptions {
    /// Shape of the mask's edge, where the saliency crosses the cutoff.
    pub edge: MaskEdge,
    /// The rule for a cell that several forces claim.
    pub overlap: Overlap,
    /// Forces the last step of a run even if its timestep is outside the window. A schedule of a few steps may have no
    /// step in the window; with this option the force still acts.
    pub last_step: bool,
    /// The variance σ² of a step.
    pub step_variance: StepVariance,
    /// Part of a step that the force shifts.
    pub target: ForceTarget,
    /// The part of the color shift that the force applies. Every choice but `Off` keeps the texture of the region.
    pub texture: Texture,
    /// Pulls toward a flat color along three directions of the latent's channels alone: those in which latents of flat
    /// colors differ most. The other directions stay as the model wants them. A force toward a recolored picture, as
    /// with `material`, ignores the option.
    ///
    /// Source: "Latent Color Subspace" (arXiv 2603.12261). The paper's shift of all cells by the same amount, which it
    /// makes in one step, has this option, [`ForceTarget::Denoised`] and [`Texture::MaskedMean`].
    #[serde(default)]
    pub color_subspace: bool,
    /// Adjusts the color variance during the run, starting from
    /// [`ColorForce::color_var`](super::ColorForce::color_var).
    pub feedback: Option<Feedback>,
    /// Method that makes the latent of the color.
    pub gold: GoldMode,
    /// Number of steps, 1..=1000. Every run gets the total strength of a run with this number of steps. With `None`, a
    /// run of more steps forces more strongly.
    pub reference_steps: Option<usize>,
    /// The training timestep, 0..=999, at which a first pass ends; 0 runs the pass to the end, `None` omits it.
    ///
    /// The first pass runs over the same noise, forces nothing and only records the saliency. The second pass forces
    /// under the last map of the first pass. The mask of the second pass is therefore known from the first step on,
    /// does not flicker and does not follow the force's own effect.
    pub first_pass: Option<f64>,
    /// Makes masks follow the outlines of the picture instead of the coarse cells of attention.
    ///
    /// The first pass's map is brought to the outlines of the first pass's picture, and cells that the map covers by
    /// half or more are forced. The measured region is brought to the outlines of the measured picture. The option
    /// costs one more decoding.
    pub outlines: bool,
    /// Forces only the object's own material in the first pass's picture, pixel by pixel.
    ///
    /// The material is the color, in any shade, that most of each piece of the object has and that its surroundings
    /// lack. Pupils, rims, highlights and things that no word names, such as a mouth under "skin", are no material, so
    /// they keep their drawing. If nothing is mostly material, the whole object is forced.
    ///
    /// The force pulls toward the first pass's picture with the material recolored, shades included. Cells that are not
    /// next to the material keep the first pass's content. Otherwise the model redraws a mouth, for example, because
    /// the skin became blue. Both need a run that is the same as the first pass up to the force's first step, and
    /// [`Texture::Local`]; other runs are pulled toward the flat color in cells that are mostly material. The option
    /// needs `outlines`.
    #[serde(default)]
    pub material: bool,
    /// The training timestep, 0..=999, from which on an object without a clear material is redrawn; `None` for never.
    ///
    /// Eyes as dark as their pupils and rims have no clear material, and neither have white eyes in a white face. From
    /// this timestep on, the model draws such an object anew, under the gentle pull of
    /// [`ColorForce::published`](super::ColorForce::published), and everything around the object keeps the first pass's
    /// content. The material of the new object is then recolored. The option needs `material`.
    #[serde(default)]
    pub redraw: Option<f64>,
    /// Lowers the first pass's map in cells with a color, in the first pass's picture, that is far from the color of
    /// the cells with the largest saliency. The map of an object of one color, such as the object under a stroke, gains
    /// precision. The map of an object of many colors changes little.
    #[serde(default)]
    pub alike: bool,
    /// Number of rounds of trimming after the last step, 0..=10. A round decodes the picture, measures the region and
    /// moves the region's latent by the color error. Trimming corrects the effect of the decoder and the texture on the
    /// color, which is not known before the picture is decoded.
    pub trim: usize,
    /// Lets trimming reduce the texture, of a force toward a flat color, by a quarter at a time where the color is not
    /// met otherwise. An example is shaded gold: there is no brighter gold to balance the dark pixels. If the color is
    /// met but less than .8 of the pixels are within CIEDE2000 10 of the color asked for, trimming tries one quarter
    /// less texture.
    pub flatten: bool,
    /// The statistic that stands for the region's color in measurements.
    pub stat: ColorStat,
    /// The rule for a cell that is both forced and protected.
    pub protect_mode: ProtectMode,
    /// Number of cells by which protected regions grow, 0..=16.
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
            color_subspace: false,
            feedback: None,
            gold: GoldMode::default(),
            reference_steps: None,
            first_pass: None,
            outlines: false,
            material: false,
            redraw: None,
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
    /// Returns true if a force may repaint the first pass's picture: its target and its texture leave that open.
    pub(super) const fn repaints(&self) -> bool {
        self.material && !matches!(self.target, ForceTarget::Mean) && matches!(self.texture, Texture::Local(_))
    }

    /// Returns the rule for protected cells, and the number of cells by which they grow.
    pub(super) const fn protection(&self) -> (ProtectMode, i64) {
        (self.protect_mode, self.protect_grow)
    }

    /// Returns the options of [`ColorForce::exact`](super::ColorForce::exact).
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
            material: true,
            redraw: Some(700.0),
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
            return Err(Error::parameter("edge.Soft", half, "a half-width above 0; .05 to .1 is useful"));
        }
        for (option, timestep) in [("first_pass", self.first_pass), ("redraw", self.redraw)] {
            if let Some(timestep) = timestep
                && !(0.0..=999.0).contains(&timestep)
            {
                return Err(Error::parameter(option, timestep, "a training timestep in 0..=999"));
            }
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

/// The variance σ² of a step, against which `color_var` is weighed. The variance says how far the model's own mean may
/// move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StepVariance {
    /// The noise level at the step's start, squared.
    #[default]
    NoiseLevel,
    /// The noise level at the step's end, squared.
    NextLevel,
    /// A function of the step, as [`custom`](Self::custom) makes it.
    #[serde(skip)]
    Custom(Function<dyn Fn(&Step) -> f64 + Send + Sync>),
}

impl StepVariance {
    /// Returns the variance that a function computes; its values must be finite and 0 or more.
    pub fn custom(variance: impl Fn(&Step) -> f64 + Send + Sync + 'static) -> Self {
        Self::Custom(Function(Arc::new(variance)))
    }
}
/// The part of a step that a force shifts. In the formulas, k is the force's strength at the step, 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ForceTarget {
    /// The step's mean: mean + k·(gold − mean). This is the published method, which also shrinks the noise left in the
    /// mean.
    #[default]
    Mean,
    /// The clean part of the mean: mean + k·(gold − x0). The noise keeps the level that the model expects.
    SignalOnly,
    /// Every prediction of the clean picture, before the solver: x0 + k·(gold − x0). This target is the gentlest.
    Denoised,
}

/// Shape of the mask's edge, where the saliency crosses the cutoff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MaskEdge {
    /// A hard step: 1 where saliency ≥ cutoff, else 0.
    #[default]
    Hard,
    /// A smooth step of half-width h around the cutoff; h > 0.
    Soft(f64),
}

/// The rule for a cell that several forces claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Overlap {
    /// All forces act on the cell, as a product of Gaussians.
    #[default]
    Blend,
    /// Among the forces with `Winner`, the force with the largest saliency in the cell acts; on a tie, the earlier
    /// force.
    Winner,
}

/// Feedback that makes a force stronger while its color is far off, and slowly weaker once the color is met.
///
/// After each forced step, the color of the model's clean picture without the force is measured under the mask. The
/// color's CIEDE2000 e changes the color variance c of the next step: `c ← c·exp(−gain·u)`. Here
/// `u = clip((e − goal)/span, −1, 1)`, and a negative u is multiplied by `relax`.
///
/// A linear map from latents to linear light gives the color. The map is fitted to the latents of 64 flat colors when a
/// run begins. The colors of the map are off by some CIEDE2000, but the map takes almost no time. Further rules:
///
/// - If the map fits badly, c stays as it is, with a warning.
/// - c begins within `limits`.
/// - Masks of fewer than 8 cells are not measured.
/// - Once the color was met three times in a row and the timestep is below 100, c is frozen.
/// - If the color gets worse four times in a row although c fell, c returns to its best value and is frozen.
///
/// With [`Texture::Off`](Texture::Off), c stays at 15 or above, because smaller values turn regions into solid blocks.
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
    /// Target CIEDE2000, .1..=20.
    pub goal: f64,
    /// Distance above the goal, in CIEDE2000, at which c begins to change at its full rate; above 0.
    pub span: f64,
    /// Largest change of c in one step: c changes at most by the factor e^gain. Above 0, up to 2.
    pub gain: f64,
    /// Speed at which c grows, as a share of the speed at which c falls: 0..=1. At 0, c never grows.
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
