//! [`Rehearsal`]: the work of a run, counted and measured without making the run.

use super::evaluation::{Evaluation, Row};
use super::{Pass, Run, Sampler, Start};
use crate::attention::{HookTable, KvCache};
use crate::branch::Branch;
use crate::diffusion::Network;
use crate::diffusion::solver::Eval;
use crate::error::{Error, Result, is_finite};
use crate::step::Step;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// The work of a run, counted and measured without making the run.
pub(crate) struct Rehearsal<'g, 'm> {
    run: Run<'g, 'm>,
    /// Branches that an evaluation has, if all guidance methods act.
    branches: Vec<Branch>,
    /// Passes of the run: evaluations and images of each.
    pub passes: Vec<(usize, usize)>,
    /// Time to convert the prompts and to prepare the guidance methods, for all passes.
    pub text: Duration,
}

/// Evaluator that counts evaluations in place of making them.
struct Count(usize);

impl Eval for Count {
    fn x0(&mut self, x: &Tensor, _: f64) -> Result<Tensor> {
        self.0 += 1;
        Ok(x.f_zeros_like()?)
    }

    fn noise(&mut self) -> Result<Tensor> {
        Ok(Tensor::f_zeros([1, 1, 1, 1], (Kind::Float, Device::Cpu))?)
    }
}

impl<'g> Sampler<'g> {
    /// Begins a run from noise alone, and counts its work. No step is taken.
    ///
    /// # Errors
    /// The errors of [`Sampler::start`].
    pub(crate) fn rehearse<'m>(mut self, model: &'m dyn Network, start: Start<'_>) -> Result<Rehearsal<'g, 'm>> {
        let begun = Instant::now();
        let (first_pass, images) = (self.first_pass(&start)?, start.images);
        let steps: Vec<Step> = self.schedule.steps().collect();
        let mut passes = Vec::new();
        if let Some(first) = first_pass {
            let evaluations = self.count_evaluations(steps.get(..first).unwrap_or_default())?;
            passes.push((evaluations, images.max(start.best_of)));
        }
        passes.push((self.count_evaluations(&steps)?, images));
        let count = passes.len();
        let pass = Pass { index: 0, count, before: 0, total: steps.len(), candidate: None };
        let start = if count > 1 { start.all_candidates() } else { start };
        let run = self.begin(model, start, pass)?;
        let needed = steps.first().map(|step| run.sampler.combine.branches(step)).unwrap_or_default();
        let extra = run.conditionings.keys().filter(|branch| matches!(branch, Branch::Extra(_))).copied();
        let mut branches: Vec<Branch> = extra.chain(needed).chain(run.conjunction.branches()).collect();
        branches.sort();
        branches.dedup();
        Ok(Rehearsal { run, branches, passes, text: begun.elapsed() * count as u32 })
    }

    /// Returns the number of evaluations that the solver makes in these steps.
    fn count_evaluations(&mut self, steps: &[Step]) -> Result<usize> {
        let _no_grad = tch::no_grad_guard();
        let (mut count, x) = (Count(0), Tensor::f_ones([1, 1, 1, 1], (Kind::Float, Device::Cpu))?);
        self.solver.reset();
        steps.iter().try_for_each(|step| self.solver.step(step, &x, &mut count).map(drop))?;
        Ok(count.0)
    }
}

impl Rehearsal<'_, '_> {
    /// Returns the number of branches of an evaluation.
    pub(crate) const fn branches(&self) -> usize {
        self.branches.len()
    }

    /// Returns the number of branches and of images of the largest call.
    pub(crate) fn largest_call(&self) -> (usize, usize) {
        let images = self.passes.iter().map(|(_, images)| *images).max().unwrap_or_default();
        let Sampler { batching, most_rows, .. } = &self.run.sampler;
        batching.of_a_call(self.branches.len(), images, *most_rows)
    }

    /// Calls the network for the first branches and images, without hooks and guidance methods, and returns the time of
    /// the call. Another call comes before one that has `reused` the results of an earlier step.
    ///
    /// # Errors
    /// The errors of the model.
    pub(crate) fn call(&mut self, branches: usize, images: usize, reused: bool) -> Result<Duration> {
        if reused {
            let _ = self.call(branches, images, false)?;
        }
        let _no_grad = tch::no_grad_guard();
        let Run { sampler, model, conditionings, conjunction, noise, seeds, grid, x, steps, .. } = &mut self.run;
        let Some(mut step) = steps.as_slice().first().copied() else { return Ok(Duration::ZERO) };
        step.index += usize::from(reused);
        let rows: Vec<Row> = self.branches.iter().take(branches).map(|branch| (*branch, None)).collect();
        let names: Vec<Branch> = rows.iter().map(|(branch, _)| *branch).collect();
        let Sampler { schedule, combine, batching, most_rows, cancel, .. } = sampler;
        let mut evaluation = Evaluation {
            step,
            schedule,
            combine: combine.as_mut(),
            conjunction,
            guidances: &mut Vec::new(),
            batching: *batching,
            most_rows: *most_rows,
            cancel,
            model: *model,
            conditionings,
            table: &HookTable::new(&[], model.sites(), &names)?,
            cache: &mut KvCache::default(),
            noise,
            seeds,
            shape: x.size(),
            grid: *grid,
        };
        let images = x.size4()?.0.min(images as i64);
        let begun = Instant::now();
        let predictions = evaluation.denoise(&rows, x, 0..images)?;
        // Reading a number waits for the device.
        match names.first() {
            Some(branch) if !is_finite(predictions.x0(*branch)?)? => {
                Err(Error::NonFinite { what: "the prediction of the first step".into(), step: 0 })
            }
            _ => Ok(begun.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::solver::{Euler, Heun, Solver};
    use crate::diffusion::{Schedule, Spacing, TrainingSchedule};
    use crate::testing::ToyModel;
    use crate::{Grid, diffusion::Noise};

    #[test]
    fn rehearsal_counts_evaluations_and_calls() -> Result<()> {
        let model = ToyModel::new(1)?;
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 5, Spacing::Leading)?;
        let mut start = Start::new("a boat", Grid::new(8, 8), Noise::seeded(7));
        start.images = 3;
        let solvers: [(Box<dyn Solver>, usize); 2] = [(Box::new(Euler), 5), (Box::new(Heun), 9)];
        for (solver, evaluations) in solvers {
            let sampler = Sampler::new(schedule.clone(), solver).most_rows(4);
            let mut rehearsal = sampler.rehearse(&model, start.clone())?;
            assert_eq!((&rehearsal.passes[..], rehearsal.branches()), (&[(evaluations, 3)][..], 2));
            assert_eq!(rehearsal.largest_call(), (2, 2));
            assert!(rehearsal.call(2, 2, false)? > Duration::ZERO && rehearsal.call(1, 9, true)? > Duration::ZERO);
        }
        Ok(())
    }
}
