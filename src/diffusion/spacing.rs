//! [`Spacing`]: the distribution of a run's noise levels, and its options.

use serde::{Deserialize, Serialize};

/// The distribution of a run's noise levels over the levels that the model was trained at.
///
/// In a flow, the spacings place times t in 0..=1, which the schedule's shift then moves to higher noise.
/// [`Linspace`](Spacing::Linspace) and [`Normal`](Spacing::Normal) go down to the lowest time that the model was
/// trained at, [`Trailing`](Spacing::Trailing) to 1/n for n steps.
///
/// After [`KlOptimal`](Spacing::KlOptimal), [`Terminal::Lowest`] makes the lowest level itself the end (A1111's form).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Spacing {
    /// Timesteps i·⌊N/n⌋ (+ offset), for n steps and N training timesteps; Stable Diffusion's configuration files name
    /// this spacing. With the usual numbers of steps, a run begins below the highest noise level.
    Leading,
    /// Timesteps spaced evenly from the first to the last.
    Linspace,
    /// Timesteps spaced evenly, counted down from the last; suits few steps and zero terminal SNR.
    Trailing,
    /// Noise levels (not timesteps) by Karras et al. (2022), equation 5: small steps near the clean picture.
    Karras,
    /// Noise levels spaced evenly in ln σ: smaller steps near the clean picture than with Karras' spacing.
    Exponential,
    /// Noise levels at the quantiles of a beta distribution with α = β = 0.6 (Lee et al., 2024): small steps at both
    /// ends.
    Beta,
    /// Whole timesteps at the quantiles of a beta distribution with α = β = 0.6 (ComfyUI's "beta"). Equal timesteps are
    /// merged, so a schedule may have fewer steps than were asked for.
    BetaTimesteps,
    /// Timesteps spaced evenly from the last to the first, fractions included (ComfyUI's and A1111's "normal",
    /// "uniform").
    Normal,
    /// Timesteps spaced evenly from the last, without the first (Stability's generative models: "SGM uniform").
    SgmUniform,
    /// Noise levels at timesteps N − 1 − ⌊i·N/n⌋, for n steps and N training timesteps (ComfyUI's "simple").
    Simple,
    /// Every ⌊N/n⌋th noise level from the second lowest up, for n steps and N training timesteps (ComfyUI's
    /// "ddim_uniform"). The number of steps may differ from the requested number: 28 becomes 29.
    DdimUniform,
    /// Noise levels spaced evenly in arctan σ down to the lowest level, followed by the end of the run (ComfyUI's
    /// "kl_optimal").
    KlOptimal,
    /// Noise levels tuned for Stable Diffusion 1.5 at 10 steps (Sabour et al., 2024), interpolated in ln σ for other
    /// numbers of steps.
    AlignYourSteps,
    /// Noise levels tuned for SDXL at 10 steps (Sabour et al., 2024), interpolated in ln σ for other numbers of steps.
    AlignYourStepsXl,
}

/// The group of diffusers' scheduler classes that a schedule imitates. Each family rounds the timesteps of a spacing in
/// its own way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulerFamily {
    /// Euler, Heun, LMS, DPM2: timesteps may be fractions.
    #[default]
    Euler,
    /// DDIM, DDPM, PNDM: whole timesteps.
    Ddim,
    /// DPM++ multistep, UniPC, DEIS: whole timesteps. For n steps, [`Spacing::Leading`] and [`Spacing::Linspace`] take
    /// the highest n of n + 1 points.
    Multistep,
    /// LCM, TCD: a subset of the timesteps that models are distilled at ([`SpacingOptions::original`]). The [`Spacing`]
    /// has no effect.
    Lcm,
}

/// The lowest and the highest noise level of a spacing by level ([`Spacing::Karras`], `Exponential`, `Beta`,
/// `KlOptimal`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ends {
    /// The lowest and the highest level of the training schedule (A1111, ComfyUI).
    #[default]
    TrainingSchedule,
    /// The last and the first level of the given spacing (diffusers' Euler classes): `Leading`, `Linspace` or
    /// `Trailing`. Any other spacing here means [`Ends::TrainingSchedule`].
    Spaced(Spacing),
}

/// The rule for the timestep of a noise level between two levels of the training schedule. The noise level itself is
/// unchanged.
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

/// The noise level at which a run's last step ends.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Terminal {
    /// Level 0, without noise.
    #[default]
    Zero,
    /// The lowest level of the training schedule (`set_alpha_to_one: false`, `final_sigmas_type: "sigma_min"`). In a
    /// flow, the lowest level of the schedule itself, so that the last step changes nothing.
    Lowest,
    /// This noise level.
    Level(f64),
}

/// The first time of a flow's schedule in [`SchedulerFamily::Multistep`], before the shift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowStart {
    /// A training time below the start, t = .999 (diffusers' DPM++ and DEIS).
    #[default]
    Below,
    /// The start, t = 1, within 1e-6 (diffusers' UniPC).
    Whole,
}

/// The noise level at which every step but the last ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The level that the next step begins at.
    #[default]
    Next,
    /// The level ⌊N/n⌋ timesteps lower, for n steps and N training timesteps (diffusers' DDIM and PNDM). If the next
    /// step begins at another level, [`rescale_level`](super::Schedule::rescale_level) converts the latent in between.
    Stride,
}

/// The factor on the noise that a run starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InitScale {
    /// √(1 + σ²): the standard deviation of a noised picture of unit variance, as the model saw in training; 1 + σ for
    /// a flow, whose noise alone has a standard deviation of 1.
    #[default]
    WithSignal,
    /// σ (A1111, and diffusers' Euler classes unless the spacing is leading).
    Sigma,
}

/// Options of a [`Spacing`]; the default suits Stable Diffusion.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SpacingOptions {
    /// Group of diffusers' classes that decides the rounding of timesteps.
    pub family: SchedulerFamily,
    /// Offset added to [`Spacing::Leading`] timesteps (`steps_offset`); 1 for Stable Diffusion. A smaller offset
    /// applies if the first timestep would otherwise exceed the last training timestep.
    pub offset: usize,
    /// Lowest and highest level of spacings by level.
    pub ends: Ends,
    /// Rule for the timesteps of spacings by level.
    pub timesteps: TimestepRule,
    /// ρ of [`Spacing::Karras`], positive; 7 is usual. Larger values make smaller steps near the clean picture.
    pub rho: f64,
    /// Noise level at which the last step ends.
    pub terminal: Terminal,
    /// Noise level at which the other steps end.
    pub target: Target,
    /// Factor on the noise that a run starts from.
    pub initial: InitScale,
    /// Number of timesteps that the model was distilled at, for [`SchedulerFamily::Lcm`]; 50 is usual. A schedule uses
    /// some of these timesteps.
    pub original: usize,
    /// Leaves out the lowest level, from which the last step would begin (A1111's DPM2 and DPM2 a, ComfyUI's UniPC). A
    /// schedule of n steps is then one of n + 1 steps without that level.
    pub drop_penultimate: bool,
    /// First time of a flow's schedule in [`SchedulerFamily::Multistep`].
    pub start: FlowStart,
    /// Shift of a flow's times to higher noise; `None` for the shift of the training schedule.
    pub shift: Option<f64>,
    /// Last time of a flow's schedule, to which its times are stretched; `None` leaves them.
    pub shift_terminal: Option<f64>,
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
            start: FlowStart::default(),
            shift: None,
            shift_terminal: None,
        }
    }
}
