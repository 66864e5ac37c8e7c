//! [`Schedule`]: the noise levels a run goes through.

use super::table::Table;
use crate::error::{Error, Result};
use crate::step::Step;
use tch::Tensor;

/// How the levels of a run are spread over those the model was trained at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub enum Family {
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
    Table,
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
    /// latent is kept and read again at the next level: see [`relabel`].
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
    pub family: Family,
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
    /// [`Family::Lcm`]: number of timesteps that the model was distilled at, of which a schedule takes some; 50 is usual.
    pub original: usize,
    /// Leaves out the level before the end, which is a small one (A1111's DPM2 and DPM2 a, ComfyUI's UniPC).
    pub drop_penultimate: bool,
}

impl Default for SpacingOptions {
    fn default() -> Self {
        Self {
            family: Family::default(),
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

/// The noise levels of a run, falling, and the timestep of each.
///
/// ```
/// use impasto::diffusion::{Schedule, Spacing, Table};
///
/// let schedule = Schedule::new(&Table::stable_diffusion(), 10, Spacing::Leading)?;
/// let timesteps: Vec<f64> = schedule.steps().map(|step| step.timestep).collect();
/// assert_eq!(timesteps, [901., 801., 701., 601., 501., 401., 301., 201., 101., 1.]);
/// assert_eq!(schedule.steps().last().map(|step| step.to), Some(0.0));
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    intervals: Vec<Interval>,
    nominal: usize,
    initial: InitScale,
    table: Table,
}

/// One step: from a level to a level, and the timestep that stands for the first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    from: f64,
    to: f64,
    timestep: f64,
}

impl Schedule {
    /// `steps` levels, then 0, with the default [`SpacingOptions`].
    ///
    /// # Errors
    /// [`Error::Parameter`] if `steps` is not in 1..=1000 (the timesteps of the table), or if levels coincide.
    pub fn new(table: &Table, steps: usize, spacing: Spacing) -> Result<Self> {
        Self::with_options(table, steps, spacing, &SpacingOptions::default())
    }

    /// The same with the fine print.
    ///
    /// # Errors
    /// As [`Schedule::new`], and if ρ is not positive, or for more steps than [`SpacingOptions::original`] where that
    /// counts.
    pub fn with_options(table: &Table, steps: usize, spacing: Spacing, options: &SpacingOptions) -> Result<Self> {
        if !(1..=table.len()).contains(&steps) {
            let expected = format!("1 to {} (the timesteps of the model's table); 20 to 50 is usual", table.len());
            return Err(Error::parameter("steps", steps, expected));
        }
        if !(options.rho > 0.0 && options.rho.is_finite()) {
            return Err(Error::parameter("rho", options.rho, "a positive number; 7 is usual"));
        }
        if options.family == Family::Lcm && !(steps..=table.len()).contains(&options.original) {
            let expected = format!("1 to {}, the timesteps the model was distilled at; 4 is usual", options.original);
            return Err(Error::parameter("steps", steps, expected));
        }
        let mut levels = levels(table, steps + usize::from(options.drop_penultimate), spacing, options);
        if options.drop_penultimate {
            levels.pop();
        }
        Self::of(table, &levels, levels.len(), options)
            .ok_or_else(|| Error::parameter("steps", steps, "fewer steps: two noise levels of this spacing coincide"))
    }

    /// The given training timesteps, falling, then the terminal.
    ///
    /// # Errors
    /// [`Error::Parameter`] if they are none, do not fall, or leave the table.
    pub fn from_timesteps(table: &Table, timesteps: &[f64], options: &SpacingOptions) -> Result<Self> {
        let last = (table.len() - 1) as f64;
        let inside = timesteps.iter().all(|timestep| (0.0..=last).contains(timestep));
        let levels: Vec<_> = timesteps.iter().map(|&timestep| (table.level(timestep), timestep)).collect();
        let schedule = if inside { Self::of(table, &levels, timesteps.len(), options) } else { None };
        schedule.ok_or_else(|| {
            Error::parameter(
                "timesteps",
                format!("{timesteps:?}"),
                "falling timesteps of the table, 0 to 999 for most models",
            )
        })
    }

    /// Your own levels, the end of the last step included: n + 1 numbers for n steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless they are two or more, finite, strictly falling and not negative.
    pub fn from_sigmas(table: &Table, sigmas: &[f64]) -> Result<Self> {
        let expected = "two or more finite numbers that fall, the last 0 or more";
        let refused = |value: String| Error::parameter("sigmas", value, expected);
        let (Some((&terminal, froms)), true) = (sigmas.split_last(), sigmas.len() > 1) else {
            return Err(refused(format!("{sigmas:?}")));
        };
        let wrong = sigmas.windows(2).position(|pair| !matches!(pair, [a, b] if a > b && a.is_finite()));
        if let Some(index) = wrong.or((terminal < 0.0).then_some(froms.len())) {
            return Err(refused(format!("{:?} at {index}", sigmas.get(index..).unwrap_or_default())));
        }
        let tos = froms.iter().skip(1).chain([&terminal]);
        let intervals = froms.iter().zip(tos).map(|(&from, &to)| Interval { from, to, timestep: table.t_of(from) });
        let intervals: Vec<_> = intervals.collect();
        Ok(Self { nominal: intervals.len(), intervals, initial: InitScale::default(), table: table.clone() })
    }

    /// Steps between (level, timestep) pairs; `None` unless there are some and they fall.
    fn of(table: &Table, levels: &[(f64, f64)], steps: usize, options: &SpacingOptions) -> Option<Self> {
        if levels.is_empty() || !levels.is_sorted_by(|a, b| a.0 > b.0) {
            return None;
        }
        let terminal = match options.terminal {
            Terminal::Zero => 0.0,
            Terminal::Lowest => table.sigma_min(),
        };
        let stride = (table.len() / steps) as f64;
        let nexts = levels.iter().skip(1).map(|level| level.0).chain([terminal]);
        let intervals = levels.iter().zip(nexts).map(|(&(from, timestep), next)| {
            let to = match options.target {
                Target::Next => next,
                Target::Stride if timestep < stride => terminal,
                Target::Stride => table.level(timestep - stride),
            };
            Interval { from, to, timestep }
        });
        let intervals = intervals.collect();
        Some(Self { intervals, nominal: steps, initial: options.initial, table: table.clone() })
    }

    /// The last `count` steps: where a run begins that starts from a picture. [`Step::nominal`] stays the number of
    /// all.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `count` is 0 or more than there are.
    pub fn last(&self, count: usize) -> Result<Self> {
        match self.intervals.len().checked_sub(count).and_then(|first| self.intervals.get(first..)) {
            Some(rest) if count > 0 => Ok(Self { intervals: rest.to_vec(), ..self.clone() }),
            _ => Err(Error::parameter("count", count, "1 to the number of steps of the schedule")),
        }
    }

    /// The steps, in order. Each begins at the level the one before ends at, except under [`Target::Stride`]: see
    /// [`relabel`].
    pub fn steps(&self) -> impl ExactSizeIterator<Item = Step> + '_ {
        let (count, nominal) = (self.intervals.len(), self.nominal);
        self.intervals.iter().enumerate().map(move |(index, interval)| Step {
            nominal,
            ..Step::new(index, count, interval.from, interval.to, interval.timestep)
        })
    }

    /// The timestep of a level: as stored for levels of this schedule, else as the table says.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let stored = self.intervals.iter().find(|interval| interval.from == sigma);
        stored.map_or_else(|| self.table.t_of(sigma), |interval| interval.timestep)
    }

    /// The timestep of a level as the table says, whatever is stored for levels of this schedule.
    pub fn timestep_between(&self, sigma: f64) -> f64 {
        self.table.t_of(sigma)
    }

    /// The level the first step begins at.
    pub fn sigma_max(&self) -> f64 {
        self.intervals.first().map_or(0.0, |interval| interval.from)
    }

    /// What standard normal noise is multiplied by to begin with. (A run that starts from a picture adds
    /// [`Schedule::sigma_max`] times the noise to it.)
    pub fn initial_scale(&self) -> f64 {
        match self.initial {
            InitScale::WithSignal => self.sigma_max().hypot(1.0),
            InitScale::Sigma => self.sigma_max(),
        }
    }
}

/// A latent that reached level `reached`, for a step that begins at `next`.
///
/// The same tensor if the levels are equal. Otherwise its variance-preserving form x/√(1 + σ²) is kept: what diffusers'
/// DDIM does where its stride misses the next timestep.
pub fn relabel(x: &Tensor, reached: f64, next: f64) -> Result<Tensor> {
    if reached == next {
        return Ok(x.shallow_clone());
    }
    Ok(x.f_mul_scalar(next.hypot(1.0) / reached.hypot(1.0))?)
}

/// The levels of a spacing with their timesteps, falling; `steps` is at least 1.
fn levels(table: &Table, steps: usize, spacing: Spacing, options: &SpacingOptions) -> Vec<(f64, f64)> {
    let last = table.len() - 1;
    // Evenly from `last` down to 0, both included.
    let even = |points: usize| {
        let stride = last as f64 / (points.max(2) - 1) as f64;
        (0..points).rev().map(move |i| i as f64 * stride).collect::<Vec<_>>()
    };
    let timesteps: Vec<f64> = match (spacing, options.family) {
        (_, Family::Lcm) => {
            let stride = table.len() / options.original;
            (0..steps).map(|i| ((options.original - i * options.original / steps) * stride - 1) as f64).collect()
        }
        (Spacing::Leading, family) => {
            let skipped = usize::from(family == Family::Multistep);
            let stride = table.len() / (steps + skipped);
            let highest = (steps + skipped - 1) * stride;
            let offset = options.offset.min(last.saturating_sub(highest));
            (skipped..steps + skipped).rev().map(|i| (i * stride + offset) as f64).collect()
        }
        (Spacing::Linspace, Family::Euler) => even(steps),
        (Spacing::Linspace, Family::Ddim) => even(steps).into_iter().map(f64::round_ties_even).collect(),
        (Spacing::Linspace, Family::Multistep) => {
            even(steps + 1).into_iter().take(steps).map(f64::round_ties_even).collect()
        }
        (Spacing::Trailing, _) => {
            let stride = table.len() as f64 / steps as f64;
            (0..steps).map(|i| (table.len() as f64 - i as f64 * stride).round_ties_even() - 1.0).collect()
        }
        (Spacing::BetaTimesteps, _) => {
            let timestep = |i: usize| (last as f64 * beta_quantile(1.0 - i as f64 / steps as f64)).round_ties_even();
            let mut timesteps: Vec<f64> = (0..steps).map(timestep).collect();
            timesteps.dedup();
            timesteps
        }
        (Spacing::Simple, _) => (0..steps).map(|i| (last - i * table.len() / steps) as f64).collect(),
        (Spacing::DdimUniform, _) => {
            let mut rising: Vec<f64> = (1..=last).step_by(table.len() / steps).map(|t| t as f64).collect();
            rising.reverse();
            rising
        }
        (Spacing::Normal, _) => return between(table, even(steps)),
        (Spacing::SgmUniform, _) => return between(table, even(steps + 1).into_iter().take(steps)),
        (
            Spacing::Karras
            | Spacing::Exponential
            | Spacing::Beta
            | Spacing::KlOptimal
            | Spacing::AlignYourSteps
            | Spacing::AlignYourStepsXl,
            _,
        ) => return by_level(table, steps, spacing, options),
    };
    timesteps.into_iter().map(|timestep| (table.level(timestep), timestep)).collect()
}

/// The levels of timesteps that may be fractions, as k-diffusion reads its tables.
fn between(table: &Table, timesteps: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
    timesteps.into_iter().map(|timestep| (table.sigma_of(timestep), timestep)).collect()
}

/// Eleven levels for ten steps, the last one being where an interpolation to other numbers ends. Sabour et al. (2024),
/// "Align Your Steps"; digits of diffusers and A1111.
const ALIGNED: [f64; 11] = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029];
/// The same for SDXL.
const ALIGNED_XL: [f64; 11] = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029];

/// Linear in ln σ between eleven levels, `way` from 0 to 1.
fn aligned(levels: &[f64; 11], way: f64) -> f64 {
    let place = way * 10.0;
    let (below, part) = ((place.floor() as usize).min(9), place - place.floor().min(9.0));
    let log = |i: usize| levels.get(i).map_or(0.0, |level| level.ln());
    (log(below) + part * (log(below + 1) - log(below))).exp()
}

/// Levels from M down to m, and the timesteps they have.
fn by_level(table: &Table, steps: usize, spacing: Spacing, options: &SpacingOptions) -> Vec<(f64, f64)> {
    let (max, min) = match options.ends {
        Ends::Spaced(spaced @ (Spacing::Leading | Spacing::Linspace | Spacing::Trailing)) => {
            let spaced = levels(table, steps, spaced, options);
            let level = |of: Option<&(f64, f64)>| of.map_or(0.0, |level| level.0);
            (level(spaced.first()), level(spaced.last()))
        }
        _ => (table.sigma_max(), table.sigma_min()),
    };
    let even = |way: f64, from: f64, to: f64| from + way * (to - from);
    let level = |way: f64| match spacing {
        // (M^(1/ρ) + i/(n − 1)·(m^(1/ρ) − M^(1/ρ)))^ρ
        Spacing::Karras => {
            let root = options.rho.recip();
            even(way, max.powf(root), min.powf(root)).powf(options.rho)
        }
        Spacing::Beta => even(beta_quantile(1.0 - way), min, max),
        Spacing::KlOptimal => even(way, max.atan(), min.atan()).tan(),
        _ => even(way, max.ln(), min.ln()).exp(),
    };
    let timestep = |sigma: f64| match options.timesteps {
        TimestepRule::Interpolated => table.t_of(sigma),
        TimestepRule::Rounded => table.t_of(sigma).round_ties_even(),
        TimestepRule::Truncated => table.t_of(sigma).trunc(),
    };
    let sigmas = (0..steps).map(|i| match spacing {
        Spacing::KlOptimal if options.terminal == Terminal::Lowest => level(i as f64 / steps as f64),
        Spacing::AlignYourSteps => aligned(&ALIGNED, i as f64 / steps as f64),
        Spacing::AlignYourStepsXl => aligned(&ALIGNED_XL, i as f64 / steps as f64),
        _ => level(i as f64 / (steps.max(2) - 1) as f64),
    });
    sigmas.map(|sigma| (sigma, timestep(sigma))).collect()
}

/// The value below which a beta distribution with α = β = 0.6 has the share `p`, 0..=1.
fn beta_quantile(p: f64) -> f64 {
    const SHAPE: f64 = 0.6;
    if p >= 0.5 {
        return if p > 0.5 { 1.0 - beta_quantile(1.0 - p) } else { 0.5 }; // the distribution is symmetric
    }
    // ∫₀ˣ (t(1 − t))^(α − 1) dt = Σₖ cₖ·x^(α + k)/(α + k), cₖ = (1 − α)(2 − α)…(k − α)/k!, fast for x ≤ ½
    let share = |x: f64| {
        let terms = (0..60).scan(x.powf(SHAPE), |term, k| {
            let k = f64::from(k);
            let value = *term / (SHAPE + k);
            *term *= x * (k + 1.0 - SHAPE) / (k + 1.0);
            Some(value)
        });
        terms.sum::<f64>()
    };
    let wanted = p * 2.0 * share(0.5);
    let (mut below, mut above) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = (below + above) / 2.0;
        if share(middle) < wanted { below = middle } else { above = middle }
    }
    (below + above) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn assert_near(got: &[f64], want: &[f64], what: &str) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-5 + 1e-6 * want.abs(), "{what}: {got} {want}");
        }
    }

    fn timesteps(schedule: &Schedule) -> Vec<f64> {
        schedule.steps().map(|step| step.timestep).collect()
    }

    fn sigmas(schedule: &Schedule) -> Vec<f64> {
        schedule.steps().map(|step| step.from).collect()
    }

    #[test]
    fn timesteps_are_diffusers() {
        let table = Table::stable_diffusion();
        for (name, want) in golden()["timesteps"].as_object().unwrap() {
            let [family, spacing, steps] = name.split('_').collect::<Vec<_>>()[..] else { panic!("{name}") };
            let family = match family {
                "k" => Family::Euler,
                "d" => Family::Ddim,
                _ => Family::Multistep,
            };
            let spacing = match spacing {
                "leading" => Spacing::Leading,
                "linspace" => Spacing::Linspace,
                _ => Spacing::Trailing,
            };
            let options = SpacingOptions { family, ..Default::default() };
            let schedule = Schedule::with_options(&table, steps.parse().unwrap(), spacing, &options).unwrap();
            assert_near(&timesteps(&schedule), &numbers(want), name);
        }
    }

    #[test]
    fn karras_levels_are_k_diffusions() {
        let (table, golden) = (Table::stable_diffusion(), golden());
        let schedule = Schedule::new(&table, 10, Spacing::Karras).unwrap();
        let want = &golden["schedules"]["karras"];
        assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..10], "sigma");
        assert_near(&timesteps(&schedule), &numbers(&want["t"]), "t");

        let options = SpacingOptions { ends: Ends::Spaced(Spacing::Leading), ..Default::default() };
        let schedule = Schedule::with_options(&table, 10, Spacing::Karras, &options).unwrap();
        let want = &golden["karras_of_spaced_leading_10"];
        assert_near(&sigmas(&schedule), &numbers(&want["sigma"]), "spaced sigma");
        assert_near(&timesteps(&schedule), &numbers(&want["t"]), "spaced t");
    }

    #[test]
    fn exponential_and_beta_levels_are_the_references() {
        let (table, golden) = (Table::stable_diffusion(), golden());
        let further = [
            (Spacing::Normal, "normal", 10),
            (Spacing::SgmUniform, "sgm_uniform", 10),
            (Spacing::Simple, "simple", 10),
            (Spacing::DdimUniform, "ddim_uniform", 10),
            (Spacing::KlOptimal, "kl_optimal", 10),
            (Spacing::BetaTimesteps, "beta_timestep", 10),
            (Spacing::AlignYourSteps, "ays_sd15", 10),
            (Spacing::AlignYourStepsXl, "ays_sdxl", 10),
            (Spacing::AlignYourStepsXl, "ays_sdxl_16", 16),
        ];
        for (spacing, name, steps) in further {
            let schedule = Schedule::new(&table, steps, spacing).unwrap();
            let want = &golden["schedules"][name];
            assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..steps], name);
            assert_near(&timesteps(&schedule), &numbers(&want["t"]), name);
        }
        let options = SpacingOptions { terminal: Terminal::Lowest, ..Default::default() };
        let schedule = Schedule::with_options(&table, 10, Spacing::KlOptimal, &options).unwrap();
        let levels: Vec<f64> = schedule.steps().map(|step| step.from).chain([table.sigma_min()]).collect();
        assert_near(&levels, &numbers(&golden["schedules"]["kl_optimal_a1111"]["sigma"]), "kl_optimal_a1111");
        for (spacing, name) in [(Spacing::Exponential, "exponential"), (Spacing::Beta, "beta_sigma")] {
            let schedule = Schedule::new(&table, 10, spacing).unwrap();
            let want = &golden["schedules"][name];
            assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..10], name);
            assert_near(&timesteps(&schedule), &numbers(&want["t"]), name);
            let options = SpacingOptions { timesteps: TimestepRule::Truncated, ..Default::default() };
            let whole = Schedule::with_options(&table, 10, spacing, &options).unwrap();
            let below: Vec<f64> = timesteps(&schedule).into_iter().map(f64::trunc).collect();
            assert_eq!((sigmas(&whole), timesteps(&whole)), (sigmas(&schedule), below));
        }
        let quantiles = [(0.0, 0.0), (0.05, 0.0125544569), (0.1, 0.0395844056), (0.25, 0.1756803787), (0.5, 0.5)];
        for (p, want) in quantiles {
            assert!((beta_quantile(p) - want).abs() < 1e-9 && (beta_quantile(1.0 - p) - 1.0 + want).abs() < 1e-9);
        }
    }

    #[test]
    fn the_first_noise_has_the_variance_of_a_noised_picture() {
        let golden = golden();
        let mut schedule = Schedule::new(&Table::stable_diffusion(), 10, Spacing::Trailing).unwrap();
        assert_near(&[schedule.initial_scale()], &[golden["init_scale"]["with_signal"].as_f64().unwrap()], "signal");
        schedule.initial = InitScale::Sigma;
        assert_near(&[schedule.initial_scale()], &[golden["init_scale"]["sigma_max"].as_f64().unwrap()], "sigma");
    }

    #[test]
    fn steps_fall_and_meet() {
        let table = Table::stable_diffusion();
        use Spacing::{AlignYourSteps, AlignYourStepsXl, Beta, Exponential, Karras, KlOptimal, Leading, Linspace};
        use Spacing::{Normal, SgmUniform, Simple, Trailing};
        let even = [Leading, Linspace, Trailing, Normal, SgmUniform, Simple];
        for spacing in even.into_iter().chain([Karras, Exponential, Beta, KlOptimal, AlignYourSteps, AlignYourStepsXl])
        {
            for steps in [1, 2, 7, 50, 999, 1000] {
                let schedule = Schedule::new(&table, steps, spacing).unwrap();
                assert_eq!(schedule.steps().len(), steps);
                let all: Vec<Step> = schedule.steps().collect();
                assert!(all.iter().all(|step| step.from > step.to && (0.0..=999.0).contains(&step.timestep)));
                assert!(all.windows(2).all(|pair| pair[0].to == pair[1].from));
                assert_eq!(all.last().unwrap().to, 0.0);
                assert!(all.iter().all(|step| schedule.timestep(step.from) == step.timestep));
            }
        }
    }

    #[test]
    fn some_spacings_make_the_steps_that_fit() {
        let table = Table::stable_diffusion();
        let many = Schedule::new(&table, 900, Spacing::BetaTimesteps).unwrap();
        assert!(many.steps().len() < 900 && many.steps().all(|step| step.nominal == many.steps().len()));
        for (asked, made) in [(10, 10), (28, 29), (1, 1), (1000, 999)] {
            let schedule = Schedule::new(&table, asked, Spacing::DdimUniform).unwrap();
            assert_eq!((schedule.steps().len(), timesteps(&schedule).last()), (made, Some(&1.0)));
            assert!(schedule.steps().all(|step| step.nominal == made));
        }
    }

    #[test]
    fn distilled_models_have_timesteps_of_their_own() {
        let table = Table::stable_diffusion();
        let lcm = |steps, spacing, original| {
            let options = SpacingOptions { family: Family::Lcm, original, ..Default::default() };
            Schedule::with_options(&table, steps, spacing, &options)
        };
        let four = lcm(4, Spacing::Leading, 50).unwrap();
        assert_eq!(timesteps(&four), [999.0, 759.0, 499.0, 259.0]);
        assert_eq!(lcm(4, Spacing::Karras, 50).unwrap(), four);
        assert_eq!(timesteps(&lcm(2, Spacing::Leading, 25).unwrap()), [999.0, 519.0]);
        for (steps, original) in [(51, 50), (4, 0), (4, 1001)] {
            assert!(matches!(lcm(steps, Spacing::Leading, original), Err(Error::Parameter { name: "steps", .. })));
        }
    }

    #[test]
    fn the_level_before_the_end_can_be_left_out() {
        let table = Table::stable_diffusion();
        let options = SpacingOptions { drop_penultimate: true, ..Default::default() };
        let dropped = Schedule::with_options(&table, 10, Spacing::Karras, &options).unwrap();
        let whole = Schedule::new(&table, 11, Spacing::Karras).unwrap();
        assert_eq!(sigmas(&dropped), sigmas(&whole)[..10]);
        assert_eq!(dropped.steps().last().map(|step| (step.to, step.nominal)), Some((0.0, 10)));
    }

    #[test]
    fn a_run_from_a_picture_is_the_end_of_the_schedule() {
        let schedule = Schedule::new(&Table::stable_diffusion(), 10, Spacing::Leading).unwrap();
        let inside = schedule.last(6).unwrap();
        assert_eq!(timesteps(&inside), timesteps(&schedule)[4..]);
        assert!(inside.steps().all(|step| step.count == 6 && step.nominal == 10));
        assert!(schedule.last(0).is_err() && schedule.last(11).is_err());
    }

    #[test]
    fn strides_that_miss_the_next_level_keep_the_variance_preserving_latent() {
        let options = SpacingOptions {
            family: Family::Ddim,
            target: Target::Stride,
            terminal: Terminal::Lowest,
            ..Default::default()
        };
        let table = Table::stable_diffusion();
        let steps =
            |spacing| -> Vec<Step> { Schedule::with_options(&table, 10, spacing, &options).unwrap().steps().collect() };
        assert!(steps(Spacing::Leading).windows(2).all(|pair| pair[0].to == pair[1].from));
        let missing = steps(Spacing::Linspace);
        assert_eq!(missing[0].to, table.level(899.0));
        assert_eq!(missing[9].to, table.sigma_min());
        let x = Tensor::from_slice(&[1f64]);
        let again = relabel(&x, 2.0, 3.0).unwrap();
        assert!((again.double_value(&[0]) / 10f64.sqrt() - 1.0 / 5f64.sqrt()).abs() < 1e-12);
        assert_eq!(relabel(&x, 2.0, 2.0).unwrap().data_ptr(), x.data_ptr());
    }

    #[test]
    fn your_own_levels_and_timesteps_are_checked() {
        let table = Table::stable_diffusion();
        let schedule = Schedule::from_sigmas(&table, &[10.0, 1.0, 0.1]).unwrap();
        let ends: Vec<_> = schedule.steps().map(|step| (step.from, step.to)).collect();
        assert_eq!(ends, [(10.0, 1.0), (1.0, 0.1)]);
        let wrong: [&[f64]; 6] = [&[], &[1.0], &[1.0, 2.0], &[1.0, f64::NAN, 0.0], &[1.0, -0.1], &[f64::INFINITY, 0.0]];
        for sigmas in wrong {
            assert!(matches!(Schedule::from_sigmas(&table, sigmas), Err(Error::Parameter { name: "sigmas", .. })));
        }
        let options = SpacingOptions::default();
        assert_eq!(timesteps(&Schedule::from_timesteps(&table, &[999.0, 50.0], &options).unwrap()), [999.0, 50.0]);
        let wrong: [&[f64]; 4] = [&[], &[1.0, 1.0], &[1000.0, 3.0], &[f64::NAN]];
        for timesteps in wrong {
            assert!(Schedule::from_timesteps(&table, timesteps, &options).is_err());
        }
    }

    #[test]
    fn steps_and_rho_have_ranges() {
        let table = Table::stable_diffusion();
        for steps in [0, 1001] {
            let error = Schedule::new(&table, steps, Spacing::Karras).unwrap_err().to_string();
            assert!(error.starts_with(&format!("steps is {steps}; expected 1 to 1000")), "{error}");
        }
        let options = SpacingOptions { family: Family::Multistep, ..Default::default() };
        let error = Schedule::with_options(&table, 1000, Spacing::Leading, &options).unwrap_err().to_string();
        assert!(error.contains("coincide"), "{error}");
        let options = SpacingOptions { rho: 0.0, ..Default::default() };
        assert!(Schedule::with_options(&table, 5, Spacing::Karras, &options).is_err());
    }
}
