//! [`Spacing`]: the distribution of a run's noise levels, and its options.

use serde::{Deserialize, Serialize};

/// The distribution of a run's noise levels over those that the model was trained at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Spacing {
    /// Timesteps i·⌊N/n⌋ (+ offset), for n steps and N training timesteps; Stable Diffusion's files ask for this
    /// spacing. The usual numbers of steps stop below the highest level.
    Leading,
    /// Timesteps spaced evenly from the first to the last.
    Linspace,
    /// Timesteps spaced evenly, counted from the last; suits few steps and zero terminal SNR.
    Trailing,
    /// Levels (not timesteps) by Karras et al. (2022), equation 5: small steps near the clean picture.
    Karras,
    /// Levels spaced evenly in ln σ: still smaller steps near the clean picture.
    Exponential,
    /// Levels at the quantiles of a beta distribution with α = β = 0.6 (Lee et al., 2024): small steps at both ends.
    Beta,
    /// Whole timesteps at the quantiles of a beta distribution with α = β = 0.6 (ComfyUI's "beta"). Equal timesteps are
    /// merged, so a schedule may have fewer steps than were asked for.
    BetaTimesteps,
    /// Timesteps spaced evenly from the last to the first, fractions included (ComfyUI's and A1111's "normal",
    /// "uniform").
    Normal,
    /// Timesteps spaced evenly from the last, without the first (Stability's generative models: "SGM uniform").
    SgmUniform,
    /// Levels at timesteps N − 1 − ⌊i·N/n⌋, for n steps and N training timesteps (ComfyUI's "simple").
    Simple,
    /// Every ⌊N/n⌋th level from the second lowest up, for n steps and N training timesteps (ComfyUI's "ddim_uniform").
    /// The number of steps may differ from the one asked for: 28 become 29.
    DdimUniform,
    /// Levels spaced evenly in arctan σ down to the lowest, followed by the end of the run (ComfyUI's "kl_optimal").
    /// [`Terminal::Lowest`] makes the lowest level itself the end (A1111's form).
    KlOptimal,
    /// Levels tuned for Stable Diffusion 1.5 at 10 steps (Sabour et al., 2024), interpolated in ln σ for other numbers
    /// of steps.
    AlignYourSteps,
    /// Levels tuned for SDXL at 10 steps (Sabour et al., 2024), interpolated in ln σ for other numbers of steps.
    AlignYourStepsXl,
}

/// The group of diffusers classes that a schedule is laid out for. Families round the same spacing differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulerFamily {
    /// Euler, Heun, LMS, DPM2: timesteps may be fractions.
    #[default]
    Euler,
    /// DDIM, DDPM, PNDM: whole timesteps.
    Ddim,
    /// DPM++ multistep, UniPC, DEIS: whole timesteps. Leading and linspace take the highest n of n + 1 points.
    Multistep,
    /// LCM, TCD: a subset of the timesteps that models are distilled at ([`SpacingOptions::original`]). The [`Spacing`]
    /// has no effect.
    Lcm,
}

/// The range of spacings by level ([`Spacing::Karras`], `Exponential`, `Beta`, `KlOptimal`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// The lowest and the highest level of the table (A1111, ComfyUI).
    #[default]
    TrainingSchedule,
    /// The last and the first level of this timestep spacing (diffusers' Euler classes).
    Spaced(Spacing),
}

/// The rule for the timestep of a level that lies between two entries of the table. The level itself is unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimestepRule {
    /// Fractional timesteps (k-diffusion; diffusers' Euler classes).
    #[default]
    Interpolated,
    /// The nearest whole timestep (diffusers' multistep classes with Karras levels).
    Rounded,
    /// The whole timestep below (diffusers' multistep classes with exponential and beta levels).
    Truncated,
}

/// The end of a run's last step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Terminal {
    /// Level 0, without noise.
    #[default]
    Zero,
    /// The table's lowest level (`set_alpha_to_one: false`, `final_sigmas_type: "sigma_min"`).
    Lowest,
}

/// The end of every step but the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The level that the next step begins at.
    #[default]
    Next,
    /// The level ⌊N/n⌋ timesteps further on, for n steps and N training timesteps (diffusers' DDIM and PNDM). If the
    /// next step begins at another level, the variance-preserving latent is kept and read again there: see
    /// [`rescale_level`](super::rescale_level).
    Stride,
}

/// The factor on the first noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitScale {
    /// √(1 + σ²): the deviation of a noised picture of unit variance, as the model saw in training.
    #[default]
    WithSignal,
    /// σ (A1111, and diffusers' Euler classes unless the spacing is leading).
    Sigma,
}

/// Options of a [`Spacing`]; the default suits Stable Diffusion.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpacingOptions {
    /// Diffusers classes whose rounding applies.
    pub family: SchedulerFamily,
    /// Offset added to [`Spacing::Leading`] timesteps (`steps_offset`); 1 for Stable Diffusion. A smaller offset
    /// applies if the first timestep would leave the table.
    pub offset: usize,
    /// Range of spacings by level.
    pub ends: Ends,
    /// Rule for the timesteps of spacings by level.
    pub timesteps: TimestepRule,
    /// ρ of [`Spacing::Karras`], positive; 7 is usual. Larger values make smaller steps near the clean picture.
    pub rho: f64,
    /// End of the last step.
    pub terminal: Terminal,
    /// End of the other steps.
    pub target: Target,
    /// Scale of the first noise.
    pub initial: InitScale,
    /// Number of timesteps that the model was distilled at, for [`SchedulerFamily::Lcm`]; 50 is usual. A schedule takes
    /// some of them.
    pub original: usize,
    /// Leaves out the level before the end of the run, which is a small one (A1111's DPM2 and DPM2 a, ComfyUI's UniPC).
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
