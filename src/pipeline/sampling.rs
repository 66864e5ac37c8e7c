//! [`Sampling`]: the solver and the noise schedule of a run, and the run's sampler.

use super::config::RequestConfig;
use super::embedded_scale::EmbeddedScale;
use super::model_view::ModelView;
use crate::diffusion::solver::{self, Solver};
use crate::diffusion::{Noise, Schedule, SchedulerConfig, SchedulerFamily, Strength};
use crate::error::Result;
use crate::guidance::{Combine, RescaledCfg};
use crate::sampler::{Sampler, Start};
use crate::step::Grid;
use crate::wording::Note;

/// The solver and the noise schedule of a run.
pub(super) struct Sampling {
    pub solver: Box<dyn Solver>,
    pub schedule: Schedule,
    /// Note that the requested spacing is ignored.
    pub note: Option<Note>,
}

impl Sampling {
    /// Returns the solver and the schedule of a run of `steps` steps. `own` is the solver that the request sets; the
    /// name in `config` and the checkpoint's `scheduler` come after it. With a `strength`, the schedule is the last
    /// part of one of `steps` steps. `left` is the share that an earlier run took.
    ///
    /// # Errors
    /// [`Error::UnknownSolver`](crate::Error::UnknownSolver); [`Error::Parameter`](crate::Error::Parameter) for a
    /// number of steps, a strength or a share out of range; [`Error::Config`](crate::Error::Config) for the
    /// checkpoint's sampler, if none was chosen.
    pub(super) fn new(
        own: Option<Box<dyn Solver>>,
        config: &RequestConfig,
        scheduler: &SchedulerConfig,
        steps: usize,
        strength: Option<Strength>,
        left: Option<f64>,
    ) -> Result<Self> {
        let (steps, run) = match strength {
            Some(strength) if scheduler.is_flow() => strength.flow_steps(steps)?,
            Some(strength) => strength.steps(steps)?,
            None => (steps, steps),
        };
        let (solver, named) = match (own, &config.solver_named) {
            (Some(solver), _) => (Some(solver), None),
            (None, Some(name)) => solver::by_name(name).map(|(solver, spacing)| (Some(solver), spacing))?,
            (None, None) => (None, None),
        };
        let spacing = config.spacing.or(named);
        let (solver, schedule) = match (solver, spacing) {
            (None, None) => (scheduler.solver()?, scheduler.schedule(steps)?),
            (solver, spacing) => {
                let solver = solver.map_or_else(|| scheduler.solver(), Ok)?;
                let schedule = scheduler.schedule_for_another(solver.family(), steps, spacing)?;
                (solver, schedule)
            }
        };
        let schedule = if solver.needs_finite_start() { schedule.below_start() } else { schedule };
        let schedule = if run < steps { schedule.last(run)? } else { schedule };
        let schedule = if let Some(share) = config.until { schedule.until(share)? } else { schedule };
        let schedule = if let Some(share) = left { schedule.after(share)? } else { schedule };
        let ignored = spacing.filter(|_| solver.family() == SchedulerFamily::Lcm && !scheduler.is_flow());
        let name = solver.name();
        let note = ignored
            .map(|spacing| format!("the solver {name} has its own timesteps, so the spacing {spacing:?} is ignored"));
        Ok(Self { solver, schedule, note: note.map(Note::from) })
    }

    /// Makes the run's sampler, without guidance methods. `combine` combines the branches in place of classifier-free
    /// guidance. `rows` is the largest number of rows of a call of the network.
    pub(super) fn sampler<'g>(
        self,
        config: &RequestConfig,
        model: ModelView<'_>,
        combine: Option<Box<dyn Combine>>,
        rows: usize,
    ) -> Sampler<'g> {
        let scale = config.guidance_scale.unwrap_or(model.defaults().guidance_scale);
        let embeds = model.info.embeds_guidance();
        let combine = combine.unwrap_or_else(|| {
            Box::new(RescaledCfg { scale: if embeds { 1.0 } else { scale }, rescale: config.guidance_rescale })
        });
        let sampler = Sampler::new(self.schedule, self.solver).combine(combine);
        let sampler = sampler.batching(config.batching).most_rows(rows);
        if embeds { sampler.guide(EmbeddedScale(scale)) } else { sampler }
    }
}

/// Returns the start of a run with the texts of a request, from noise.
pub(super) fn start(config: &RequestConfig, grid: Grid, noise: Noise) -> Start<'_> {
    Start {
        second_prompt: config.second_prompt.as_deref(),
        negative: &config.negative,
        second_negative: config.second_negative.as_deref(),
        third_prompt: config.third_prompt.as_deref(),
        third_negative: config.third_negative.as_deref(),
        syntax: config.syntax,
        micro_conditioning: config.micro_conditioning.unwrap_or_default(),
        negative_micro_conditioning: config.negative_micro_conditioning,
        ..Start::new(&config.prompt, grid, noise)
    }
}
