//! [`Spacing`]: how the levels of a run are spread, and its fine print.

use serde::{Deserialize, Serialize};

/// How the levels of a run are spread over those the model was trained at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Spacing {
    /// Timesteps i·⌊N/n⌋ (+ offset): what Stable Diffusion's files ask for. Never reaches the highest level.
    Leading,
    /// Evenly from the first timestep to the last.
    Linspace,
    /// Evenly, counted from the last timestep: for few steps and for zero terminal SNR.
    Trailing,
    /// Levels (not timesteps) by Karras et al. (2022), equation 5: fine steps near the picture.
    Karras,
    /// Levels evenly in ln σ: still finer steps near the picture.
    Exponential,
    /// Levels by the quantiles of a beta distribution with α = β = 0.6 (Lee et al., 2024): fine steps at both ends.
    Beta,
    /// The same of whole timesteps (ComfyUI's "beta"). Fewer steps than were asked for where two timesteps are one.
    BetaTimesteps,
    /// Timesteps evenly from the last to the first, fractions included (ComfyUI's and A1111's "normal", "uniform").
    Normal,
    /// Timesteps evenly from the last, the first left out (Stability's generative models: "SGM uniform").
    SgmUniform,
    /// Every ⌊N/n⌋th level from the highest down (ComfyUI's "simple").
    Simple,
    /// Every ⌊N/n⌋th level from the second lowest up (ComfyUI's "ddim_uniform"). Not always the number of steps that was
    /// asked for: 28 become 29.
    DdimUniform,
    /// Levels evenly in arctan σ down to the lowest, then the end (ComfyUI's "kl_optimal"); with [`Terminal::Lowest`] the
    /// lowest is the end (A1111's).
    KlOptimal,
    /// Levels tuned for Stable Diffusion 1.5 at 10 steps (Sabour et al., 2024), interpolated in ln σ for other numbers.
    AlignYourSteps,
    /// The same, tuned for SDXL.
    AlignYourStepsXl,
}

/// Which classes of diffusers a schedule is laid out like. They round the same spacing differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulerFamily {
    /// Euler, Heun, LMS, DPM2: timesteps may be fractions.
    #[default]
    Euler,
    /// DDIM, DDPM, PNDM: whole timesteps.
    Ddim,
    /// DPM++ multistep, UniPC, DEIS: n of n + 1 points, whole timesteps.
    Multistep,
    /// LCM, TCD: some of the timesteps that models are distilled at ([`SpacingOptions::original`]), whatever the spacing.
    Lcm,
}

/// Where spacings by level ([`Spacing::Karras`], `Exponential`, `Beta`) begin and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// At the ends of the table (A1111, ComfyUI).
    #[default]
    TrainingSchedule,
    /// Where the levels of this spacing do (diffusers' Euler classes).
    Spaced(Spacing),
}

/// How spacings by level find a level's timestep, which lies between two of the table. The level stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimestepRule {
    /// Fractions (k-diffusion; diffusers' Euler classes).
    #[default]
    Interpolated,
    /// The nearest whole timestep (diffusers' multistep classes, Karras).
    Rounded,
    /// The whole timestep below (diffusers' multistep classes, exponential and beta).
    Truncated,
}

/// Where the last step of a run ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Terminal {
    /// At 0, without noise.
    #[default]
    Zero,
    /// At the table's lowest level (`set_alpha_to_one: false`, `final_sigmas_type: "sigma_min"`).
    Lowest,
}

/// Where a step ends that is not the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// At the level the next step begins with.
    #[default]
    Next,
    /// ⌊N/n⌋ timesteps further on (diffusers' DDIM and PNDM). Where that is not the next level, the variance-preserving
    /// latent is kept and read again at the next level: see [`rescale_level`](super::rescale_level).
    Stride,
}

/// What the first noise is multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitScale {
    /// √(1 + σ²): the variance of a picture and its noise, which the model was trained on.
    #[default]
    WithSignal,
    /// σ (A1111, and diffusers' Euler classes unless the spacing is leading).
    Sigma,
}

/// The fine print of a [`Spacing`]; the default suits Stable Diffusion.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpacingOptions {
    /// Whose rounding.
    pub family: SchedulerFamily,
    /// Added to [`Spacing::Leading`] timesteps (`steps_offset`); 1 for Stable Diffusion. Less where the first timestep
    /// would leave the table.
    pub offset: usize,
    /// Ends of spacings by level.
    pub ends: Ends,
    /// Timesteps of spacings by level.
    pub timesteps: TimestepRule,
    /// ρ of [`Spacing::Karras`], positive; 7 is usual, larger makes finer steps near the picture.
    pub rho: f64,
    /// End of the last step.
    pub terminal: Terminal,
    /// End of the other steps.
    pub target: Target,
    /// Scale of the first noise.
    pub initial: InitScale,
    /// [`SchedulerFamily::Lcm`]: number of timesteps that the model was distilled at, of which a schedule takes some; 50 is usual.
    pub original: usize,
    /// Leaves out the level before the end, which is a small one (A1111's DPM2 and DPM2 a, ComfyUI's UniPC).
    pub drop_penultimate: bool,
}

impl Default for SpacingOptions {
    fn default() -> Self {
        Self {
            family: SchedulerFamily::default(),
            offset: 1,
            ends: Ends::default(),
            timesteps: TimestepRule::default(),
            rho: 7.0,
            terminal: Terminal::default(),
            target: Target::default(),
            initial: InitScale::default(),
            original: 50,
            drop_penultimate: false,
        }
    }
}
