//! [`Schedule`]: the noise schedule of a run.

use super::flow_levels;
use super::levels::levels;
use super::spacing::{InitScale, SchedulerFamily, Spacing, SpacingOptions, Target, Terminal};
use super::training_schedule::{Flow, TrainingSchedule};
use crate::error::{Error, Result};
use crate::step::{Process, Step};
use tch::Tensor;

/// Time of a flow, before the shift, that takes the place of its start for solvers that compute with ln σ.
const BELOW_START: f64 = 0.9999;

/// The noise schedule of a run: falling noise levels, each with its timestep.
///
/// ```
/// use impasto::diffusion::{Schedule, Spacing, TrainingSchedule};
///
/// let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 10, Spacing::Leading)?;
/// let timesteps: Vec<f64> = schedule.steps().map(|step| step.timestep).collect();
/// assert_eq!(timesteps, [901., 801., 701., 601., 501., 401., 301., 201., 101., 1.]);
/// assert_eq!(schedule.steps().last().map(|step| step.to), Some(0.0));
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    intervals: Vec<Interval>,
    nominal: usize,
    /// Number of steps of the whole schedule before the first interval, and after the last one.
    left_out: (usize, usize),
    initial: InitScale,
    table: TrainingSchedule,
    /// Shift of a flow in place of the table's.
    shift: Option<f64>,
}

/// One step: its noise levels at both ends, and the timestep of the first level.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Interval {
    from: f64,
    to: f64,
    timestep: f64,
}

impl Schedule {
    /// Creates a schedule of `steps` noise levels and a final level of 0, with the default [`SpacingOptions`].
    ///
    /// # Errors
    /// [`Error::Parameter`] if `steps` is not in 1..=N for N training timesteps (usually 1000), or if two noise levels
    /// coincide.
    pub fn new(table: &TrainingSchedule, steps: usize, spacing: Spacing) -> Result<Self> {
        Self::with_options(table, steps, spacing, &SpacingOptions::default())
    }

    /// Creates a schedule of `steps` noise levels with the given options.
    ///
    /// # Errors
    /// [`Error::Parameter`]
    /// - in the cases of [`Schedule::new`];
    /// - if ρ is not positive and finite;
    /// - for [`SchedulerFamily::Lcm`] in a diffusion, if [`SpacingOptions::original`] is less than `steps` or more than
    ///   the number of training timesteps.
    pub fn with_options(
        table: &TrainingSchedule,
        steps: usize,
        spacing: Spacing,
        options: &SpacingOptions,
    ) -> Result<Self> {
        if !(1..=table.len()).contains(&steps) {
            let expected = format!("1 to {}, the number of timesteps of the model; 20 to 50 is usual", table.len());
            return Err(Error::parameter("steps", steps, expected));
        }
        check(options)?;
        let is_flow = table.process() == Process::Flow;
        // The levels of a flow do not depend on those of a distillation.
        if options.family == SchedulerFamily::Lcm && !is_flow {
            if !(1..=table.len()).contains(&options.original) {
                let expected = format!("1 to {}, the number of timesteps of the model; 50 is usual", table.len());
                return Err(Error::parameter("original", options.original, expected));
            }
            if steps > options.original {
                let expected =
                    format!("1 to {}, the number of timesteps of distillation; 4 is usual", options.original);
                return Err(Error::parameter("steps", steps, expected));
            }
        }
        let aligned = matches!(spacing, Spacing::AlignYourSteps | Spacing::AlignYourStepsXl);
        if aligned && is_flow {
            let expected = "another spacing, because this one was tuned for Stable Diffusion and not for flows";
            return Err(Error::parameter("spacing", format!("{spacing:?}"), expected));
        }
        let count = steps + usize::from(options.drop_penultimate);
        let mut levels = match table.as_flow() {
            Some(flow) => flow_levels::levels(flow, table.len(), count, spacing, options),
            None => levels(table, count, spacing, options),
        };
        if options.drop_penultimate {
            levels.pop();
        }
        let expected = "fewer steps or another spacing, because two noise levels of this spacing coincide";
        Self::of(table, &levels, levels.len(), options).ok_or_else(|| Error::parameter("steps", steps, expected))
    }

    /// Creates a schedule of the given training timesteps in falling order. The last step ends at the level of
    /// [`SpacingOptions::terminal`].
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no timesteps, if they do not fall, or if a timestep is outside the training
    /// schedule.
    pub fn from_timesteps(table: &TrainingSchedule, timesteps: &[f64], options: &SpacingOptions) -> Result<Self> {
        let last = table.last_timestep();
        let inside = timesteps.iter().all(|timestep| (0.0..=last).contains(timestep));
        let levels: Vec<_> = timesteps.iter().map(|&timestep| (table.level(timestep), timestep)).collect();
        let schedule = if inside { Self::of(table, &levels, timesteps.len(), options) } else { None };
        schedule.ok_or_else(|| {
            Error::parameter(
                "timesteps",
                format!("{timesteps:?}"),
                "timesteps of the model in falling order; most models have 0 to 999",
            )
        })
    }

    /// Creates a schedule of the given times of a flow, in falling order from 1 or less. The shift and the other
    /// options act on them as on the times of a spacing. `spacing` may be [`Spacing::Karras`], `Exponential` or `Beta`,
    /// whose levels then lie between the first and the last time.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the training schedule is not that of a flow, or if the times do not fall within 0..=1.
    pub fn from_times(
        table: &TrainingSchedule,
        times: &[f64],
        spacing: Spacing,
        options: &SpacingOptions,
    ) -> Result<Self> {
        let expected = "times of a flow in falling order, above 0 and at most 1";
        let wrong = || Error::parameter("times", format!("{times:?}"), expected);
        check(options)?;
        let flow = table.as_flow().ok_or_else(wrong)?;
        if !times.iter().all(|t| (f64::MIN_POSITIVE..=1.0).contains(t)) {
            return Err(wrong());
        }
        let levels = flow_levels::place(flow, times.to_vec(), spacing, options);
        Self::of(table, &levels, levels.len(), options).ok_or_else(wrong)
    }

    /// Returns the schedule with a first level below the start of a flow, at t = .9999 before the shift. Solvers that
    /// compute with ln σ need it ([`Solver::needs_finite_start`](super::solver::Solver)), as in ComfyUI. Other
    /// schedules stay unchanged.
    #[must_use]
    pub fn below_start(mut self) -> Self {
        if let (Some(flow), Some(first)) = (self.table.as_flow(), self.intervals.first_mut())
            && Flow::time(first.from) > BELOW_START
        {
            let shift = self.shift.unwrap_or(flow.shift);
            first.from = Flow::sigma(Flow::shift_time(shift, BELOW_START));
            first.timestep = self.table.timestep_of(first.from);
        }
        self
    }

    /// Creates a schedule of the given noise levels, including the end of the last step: n + 1 numbers for n steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `sigmas` holds two or more numbers that are finite, strictly falling and not
    /// negative.
    pub fn from_sigmas(table: &TrainingSchedule, sigmas: &[f64]) -> Result<Self> {
        let expected = "two or more finite numbers in falling order, ending at 0 or more";
        let refused = |value: String| Error::parameter("sigmas", value, expected);
        let (Some((&terminal, froms)), true) = (sigmas.split_last(), sigmas.len() > 1) else {
            return Err(refused(format!("{sigmas:?}")));
        };
        let wrong = sigmas.windows(2).position(|pair| !matches!(pair, [a, b] if a > b && a.is_finite()));
        if let Some(index) = wrong.or((terminal < 0.0).then_some(froms.len())) {
            return Err(refused(format!("{:?} from index {index} on", sigmas.get(index..).unwrap_or_default())));
        }
        let tos = froms.iter().skip(1).chain([&terminal]);
        let intervals =
            froms.iter().zip(tos).map(|(&from, &to)| Interval { from, to, timestep: table.timestep_of(from) });
        let intervals: Vec<_> = intervals.collect();
        Ok(Self {
            nominal: intervals.len(),
            left_out: (0, 0),
            intervals,
            initial: InitScale::default(),
            table: table.clone(),
            shift: None,
        })
    }

    /// Creates the steps between pairs (noise level, timestep); `None` if there are no pairs or the levels do not fall.
    fn of(table: &TrainingSchedule, levels: &[(f64, f64)], steps: usize, options: &SpacingOptions) -> Option<Self> {
        if levels.is_empty() || !levels.is_sorted_by(|a, b| a.0 > b.0) {
            return None;
        }
        let terminal = match options.terminal {
            Terminal::Zero => 0.0,
            Terminal::Level(level) => level,
            // A flow's table can go lower than its schedules.
            Terminal::Lowest => match (table.process(), levels.last()) {
                (Process::Flow, Some((lowest, _))) => *lowest,
                _ => table.sigma_min(),
            },
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
        Some(Self {
            intervals,
            nominal: steps,
            left_out: (0, 0),
            initial: options.initial,
            table: table.clone(),
            shift: options.shift,
        })
    }

    /// The last `count` steps, for a run that starts from a picture. [`Step::nominal`] stays the number of all steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `count` is 0 or more than the number of steps.
    pub fn last(&self, count: usize) -> Result<Self> {
        match self.intervals.len().checked_sub(count).and_then(|first| self.intervals.get(first..)) {
            Some(rest) if count > 0 => {
                let left_out = (self.left_out.0 + self.intervals.len() - count, self.left_out.1);
                Ok(Self { intervals: rest.to_vec(), left_out, ..self.clone() })
            }
            _ => {
                let expected = format!("1 to {}, the number of steps of the schedule", self.intervals.len());
                Err(Error::parameter("count", count, expected))
            }
        }
    }

    /// The steps that begin in the first `share` of the training timesteps, counted from pure noise.
    /// [`Schedule::after`] returns the other steps, with which another model can continue: SDXL's refiner takes over
    /// from the base model at 0.8. [`Step::nominal`] stays the number of all steps.
    ///
    /// ```
    /// use impasto::diffusion::{Schedule, Spacing, TrainingSchedule};
    ///
    /// let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 10, Spacing::Leading)?;
    /// assert_eq!((schedule.until(0.8)?.steps().len(), schedule.after(0.8)?.steps().len()), (8, 2));
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] unless `share` is in 0..=1 and at least one step is left.
    ///
    /// Source: `denoising_end` of diffusers' SDXL pipelines.
    pub fn until(&self, share: f64) -> Result<Self> {
        let part = self.parted(share, |timestep, cut| timestep >= cut)?;
        let cut = self.intervals.len() - part.intervals.len();
        Ok(Self { left_out: (self.left_out.0, self.left_out.1 + cut), ..part })
    }

    /// The steps that begin after the first `share` of the training timesteps, counted from pure noise.
    ///
    /// # Errors
    /// The errors of [`Schedule::until`].
    ///
    /// Source: `denoising_start` of diffusers' SDXL pipelines.
    pub fn after(&self, share: f64) -> Result<Self> {
        let part = self.parted(share, |timestep, cut| timestep < cut)?;
        let cut = self.intervals.len() - part.intervals.len();
        Ok(Self { left_out: (self.left_out.0 + cut, self.left_out.1), ..part })
    }

    /// Returns the steps for which `side(timestep, cut)` is true, where `cut` is the timestep at `share` of the run.
    fn parted(&self, share: f64, side: impl Fn(f64, f64) -> bool) -> Result<Self> {
        let cut = match self.table.process() {
            Process::Flow => self.table.last_timestep() * (1.0 - share),
            Process::Diffusion => {
                let all = self.table.len() as f64;
                (all - share * all).round_ties_even() // Python rounds like this
            }
        };
        let intervals: Vec<_> = self.intervals.iter().filter(|step| side(step.timestep, cut)).copied().collect();
        if !(0.0..=1.0).contains(&share) || intervals.is_empty() {
            let expected = "a share of the run in 0..=1 that leaves at least one step; 0.8 is usual";
            return Err(Error::parameter("share", share, expected));
        }
        Ok(Self { intervals, ..self.clone() })
    }

    /// The steps, in order. Each step begins at the noise level where the previous step ends, except with
    /// [`Target::Stride`] (see [`Schedule::rescale_level`]).
    pub fn steps(&self) -> impl ExactSizeIterator<Item = Step> + '_ {
        let (count, nominal, (before, after)) = (self.intervals.len(), self.nominal, self.left_out);
        self.intervals.iter().enumerate().map(move |(index, interval)| Step {
            nominal,
            before,
            after,
            sd_timestep: self.table.sd_timestep(interval.from, interval.timestep),
            process: self.table.process(),
            ..Step::new(index, count, interval.from, interval.to, interval.timestep)
        })
    }

    /// The timestep of noise level `sigma`: the step's own timestep if a step begins at `sigma`, otherwise interpolated
    /// in the training schedule.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let stored = self.intervals.iter().find(|interval| interval.from == sigma);
        stored.map_or_else(|| self.table.timestep_of(sigma), |interval| interval.timestep)
    }

    /// The timestep of noise level `sigma`, always interpolated in the training schedule, even if a step begins at
    /// `sigma`.
    pub(crate) fn timestep_between(&self, sigma: f64) -> f64 {
        self.table.timestep_of(sigma)
    }

    /// The timestep of Stable Diffusion with the noise level `sigma`, for a flow; otherwise `timestep`.
    pub(crate) fn sd_timestep(&self, sigma: f64, timestep: f64) -> f64 {
        self.table.sd_timestep(sigma, timestep)
    }

    /// Converts a latent at noise level `reached` for a step that begins at noise level `next`.
    ///
    /// Equal levels return the same tensor. For other levels, the form that the network sees, such as x/√(1 + σ²),
    /// stays the same, as in diffusers' DDIM when its stride misses the next timestep.
    pub fn rescale_level(&self, x: &Tensor, reached: f64, next: f64) -> Result<Tensor> {
        if reached == next {
            return Ok(x.shallow_clone());
        }
        let process = self.table.process();
        Ok(x.f_mul_scalar(process.size(next) / process.size(reached))?)
    }

    /// The noise level that the first step begins at.
    pub fn sigma_max(&self) -> f64 {
        self.intervals.first().map_or(0.0, |interval| interval.from)
    }

    /// The factor on the standard normal noise that a run starts from. (A run that starts from a picture instead adds
    /// [`Schedule::sigma_max`] times the noise to the picture.)
    pub fn initial_scale(&self) -> f64 {
        match self.initial {
            InitScale::WithSignal => self.table.process().size(self.sigma_max()),
            InitScale::Sigma => self.sigma_max(),
        }
    }
}

/// Checks the options that the levels of any spacing depend on.
fn check(options: &SpacingOptions) -> Result<()> {
    if !(options.rho > 0.0 && options.rho.is_finite()) {
        return Err(Error::parameter("rho", options.rho, "a positive number; 7 is usual"));
    }
    if let Some(shift) = options.shift.filter(|shift| !(0.01..=100.0).contains(shift)) {
        return Err(Error::parameter("shift", shift, "0.01 to 100; 3 is usual"));
    }
    if let Some(end) = options.shift_terminal.filter(|end| !(0.0..1.0).contains(end)) {
        return Err(Error::parameter("shift_terminal", end, "a time in 0..1, the last one before 0; 0.1 is usual"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() -> Result<()> {
        let table = TrainingSchedule::flow(3.0, 1.0)?;
        type Change = fn(&mut SpacingOptions);
        let changes: [(&str, Change); 5] = [
            ("rho", |options| options.rho = f64::NAN),
            ("shift", |options| options.shift = Some(f64::NAN)),
            ("shift", |options| options.shift = Some(0.0)),
            ("shift_terminal", |options| options.shift_terminal = Some(-0.5)),
            ("shift_terminal", |options| options.shift_terminal = Some(1.0)),
        ];
        for (name, change) in changes {
            let mut options = SpacingOptions::default();
            change(&mut options);
            for schedule in [
                Schedule::with_options(&table, 4, Spacing::Trailing, &options),
                Schedule::from_times(&table, &[1.0, 0.5], Spacing::Simple, &options),
            ] {
                let message = schedule.map(drop).unwrap_err().to_string();
                assert!(message.starts_with(&format!("{name} is")), "{message}");
            }
        }
        let options = SpacingOptions { shift_terminal: Some(0.1), ..SpacingOptions::default() };
        let one = Schedule::with_options(&table, 1, Spacing::Trailing, &options)?;
        assert!(one.sigma_max() > 0.0, "a single step is not stretched");
        Ok(())
    }

    #[test]
    fn every_step_of_a_table_can_be_taken() -> Result<()> {
        let options = SpacingOptions { drop_penultimate: true, ..SpacingOptions::default() };
        for table in [TrainingSchedule::flow(3.0, 1.0)?, TrainingSchedule::stable_diffusion()] {
            let schedule = Schedule::with_options(&table, table.len(), Spacing::DdimUniform, &options)?;
            assert!(schedule.steps().count() > 900);
        }
        Ok(())
    }
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap()
    }

    #[test]
    fn until_and_after_split_where_diffusers_does() -> Result<()> {
        let table = TrainingSchedule::stable_diffusion();
        for steps in [1, 7, 25, 40, 999] {
            let schedule = Schedule::new(&table, steps, Spacing::Leading)?;
            for share in [0.1, 0.3, 0.75, 0.8, 0.8005] {
                // len([t for t in timesteps if t >= int(round(1000 - share * 1000))])
                let cut = (1000.0 - share * 1000.0f64).round_ties_even();
                let first = schedule.steps().filter(|step| step.timestep >= cut).count();
                let counts =
                    [schedule.until(share), schedule.after(share)].map(|part| part.map_or(0, |p| p.steps().len()));
                assert_eq!(counts, [first, steps - first], "{steps} steps, {share}");
            }
        }
        let forty = Schedule::new(&table, 40, Spacing::Leading)?;
        assert_eq!(forty.until(0.8)?.steps().last().map(|step| (step.timestep, step.nominal)), Some((201.0, 40)));
        assert_eq!(
            forty.until(0.8)?.steps().last().map(|step| step.to),
            forty.after(0.8)?.steps().next().map(|step| step.from)
        );
        assert_eq!(forty.until(1.0)?, forty);
        for share in [-0.1, 1.1, f64::NAN, 0.0] {
            assert!(matches!(forty.until(share), Err(Error::Parameter { name: "share", .. })), "{share}");
        }
        Ok(())
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

    #[test]
    fn initial_scale_has_both_forms_of_diffusers() {
        let golden = golden();
        let mut schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 10, Spacing::Trailing).unwrap();
        assert_near(&[schedule.initial_scale()], &[golden["init_scale"]["with_signal"].as_f64().unwrap()], "signal");
        schedule.initial = InitScale::Sigma;
        assert_near(&[schedule.initial_scale()], &[golden["init_scale"]["sigma_max"].as_f64().unwrap()], "sigma");
    }

    #[test]
    fn steps_fall_and_join_without_gaps() {
        let table = TrainingSchedule::stable_diffusion();
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
    fn last_returns_the_end_of_the_schedule() {
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 10, Spacing::Leading).unwrap();
        let inside = schedule.last(6).unwrap();
        assert_eq!(timesteps(&inside), timesteps(&schedule)[4..]);
        assert!(inside.steps().all(|step| step.count == 6 && step.nominal == 10));
        assert!(schedule.last(0).is_err() && schedule.last(11).is_err());
    }

    #[test]
    fn missed_stride_keeps_variance_preserving_latent() {
        let options = SpacingOptions {
            family: SchedulerFamily::Ddim,
            target: Target::Stride,
            terminal: Terminal::Lowest,
            ..Default::default()
        };
        let table = TrainingSchedule::stable_diffusion();
        let steps =
            |spacing| -> Vec<Step> { Schedule::with_options(&table, 10, spacing, &options).unwrap().steps().collect() };
        assert!(steps(Spacing::Leading).windows(2).all(|pair| pair[0].to == pair[1].from));
        let missing = steps(Spacing::Linspace);
        assert_eq!(missing[0].to, table.level(899.0));
        assert_eq!(missing[9].to, table.sigma_min());
        let x = Tensor::from_slice(&[1f64]);
        let schedule = Schedule::new(&table, 10, Spacing::Leading).unwrap();
        let again = schedule.rescale_level(&x, 2.0, 3.0).unwrap();
        assert!((again.double_value(&[0]) / 10f64.sqrt() - 1.0 / 5f64.sqrt()).abs() < 1e-12);
        assert_eq!(schedule.rescale_level(&x, 2.0, 2.0).unwrap().data_ptr(), x.data_ptr());
    }

    #[test]
    fn given_levels_and_timesteps_are_checked() {
        let table = TrainingSchedule::stable_diffusion();
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
    fn steps_and_rho_out_of_range_are_errors() {
        let table = TrainingSchedule::stable_diffusion();
        for steps in [0, 1001] {
            let error = Schedule::new(&table, steps, Spacing::Karras).unwrap_err().to_string();
            assert!(error.starts_with(&format!("steps is {steps}; expected 1 to 1000")), "{error}");
        }
        let options = SpacingOptions { family: SchedulerFamily::Multistep, ..Default::default() };
        let error = Schedule::with_options(&table, 1000, Spacing::Leading, &options).unwrap_err().to_string();
        assert!(error.contains("coincide"), "{error}");
        let options = SpacingOptions { rho: 0.0, ..Default::default() };
        assert!(Schedule::with_options(&table, 5, Spacing::Karras, &options).is_err());
    }
}
