//! The options of a force beyond what, where, how strong and when.

use super::settings::{Feedback, ForceTarget, MaskEdge, Overlap, StepVariance};
use super::{ColorStat, GoldMode, ProtectMode, Texture};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

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
    /// How saliency becomes a mask.
    pub edge: MaskEdge,
    /// Which of several forces gets a cell that all of them claim.
    pub overlap: Overlap,
    /// Whether the last step of a run is forced whatever its timestep. Schedules of a few steps may have no step in the
    /// window; this forces them too.
    pub last_step: bool,
    /// The variance σ² of a step.
    pub step_variance: StepVariance,
    /// What the force shifts.
    pub target: ForceTarget,
    /// Which part of the way to the color the force goes; every choice but `Off` keeps what is drawn on the region.
    pub texture: Texture,
    /// Finds the color variance while the picture is made, starting from [`ColorForce::color_var`](super::ColorForce::color_var).
    pub feedback: Option<Feedback>,
    /// How the latent of the color is made.
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
