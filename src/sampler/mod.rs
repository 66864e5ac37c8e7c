//! Sampling: a [`Sampler`] holds the settings of a run, and a [`Run`] executes them one step at a time.
//!
//! ```
//! # fn main() -> impasto::Result<()> {
//! use impasto::diffusion::{Noise, Schedule, Spacing, solver::Euler};
//! use impasto::{Grid, Model, Source, sampler::{Sampler, Start}};
//!
//! let model = Model::load(&Source::embedded())?;
//! let schedule = Schedule::new(model.training_schedule(), 4, Spacing::Leading)?;
//! let start = Start::new("a red boat, blue sky", Grid::new(32, 32), Noise::seeded(7));
//! let mut run = Sampler::new(schedule, Euler).start(&model, start)?;
//! while let Some(progress) = run.step()? {
//!     assert_eq!(progress.step.count, 4);
//! }
//! let pictures = run.decode()?; // [1, 3, 256, 256]
//! # Ok(()) }
//! ```

mod batching;
mod branches;
mod calls;
mod cancel;
mod evaluation;
mod masked_content;
mod parts;
mod rehearsal;
mod start;

pub use batching::Batching;
pub use cancel::CancelToken;
pub use masked_content::MaskedContent;
pub(crate) use rehearsal::Rehearsal;
pub use start::{Origin, Start};

use crate::attention::{CrossAttentionHook, HookTable, KvCache};
use crate::branch::Branch;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::solver::Solver;
use crate::diffusion::{Denoiser, Network, Noise, Schedule};
use crate::error::{Error, Result, is_finite};
use crate::guidance::{Attached, Cfg, Combine, Details, Guidance, GuidanceRun, Report, Setup};
use crate::step::{Grid, Step};
use crate::wording::{Note, Remedy};
use branches::{Branches, add_channels};
use calls::{each, every, keeps};
use evaluation::Evaluation;
use parts::Conjunction;
use start::{Begun, Kept, MOST_IMAGES};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// The settings of a run: noise schedule, solver, combination of branches, and the guidance methods lent to it.
#[must_use]
pub struct Sampler<'g> {
    schedule: Schedule,
    solver: Box<dyn Solver>,
    combine: Box<dyn Combine>,
    guidances: Vec<Attached<'g>>,
    batching: Batching,
    /// Largest number of rows of a call of the network; a row is a branch of an image.
    most_rows: usize,
    cancel: CancelToken,
}

impl fmt::Debug for Sampler<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.guidances.iter().map(|guidance| guidance.name()).collect();
        f.debug_struct("Sampler")
            .field("solver", &self.solver.name())
            .field("guidances", &names)
            .field("batching", &self.batching)
            .finish_non_exhaustive()
    }
}

impl<'g> Sampler<'g> {
    /// Creates a sampler with classifier-free guidance of scale 7.5 and no guidance method. `solver` may be chosen at
    /// run time, because a `Box<dyn Solver>` is a solver too.
    pub fn new(schedule: Schedule, solver: impl Solver + 'static) -> Self {
        Self {
            schedule,
            solver: Box::new(solver),
            combine: Box::new(Cfg(7.5)),
            guidances: Vec::new(),
            batching: Batching::default(),
            most_rows: usize::MAX,
            cancel: CancelToken::default(),
        }
    }

    /// Sets the combination of branches.
    pub fn combine(mut self, combine: impl Combine + 'static) -> Self {
        self.combine = Box::new(combine);
        self
    }

    /// Adds a guidance method.
    pub fn guide(self, guidance: impl Guidance + 'static) -> Self {
        self.attached(Attached::method(Arc::new(guidance)))
    }

    /// Adds a value of your own that guides this run alone, to read it after the run.
    pub fn attach(self, guidance: &'g mut impl GuidanceRun) -> Self {
        self.attached(Attached::Lent(guidance))
    }

    /// Adds an attention hook that is not part of a guidance method: a value, or `&mut value` to read the value after
    /// the run.
    pub fn hook(self, hook: impl CrossAttentionHook + 'g) -> Self {
        self.attached(Attached::hook(hook))
    }

    pub(crate) fn attached(mut self, attached: Attached<'g>) -> Self {
        self.guidances.push(attached);
        self
    }

    /// Sets how branches and images are batched.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// Sets the largest number of rows of a call of the network. Larger batches are split.
    pub(crate) fn most_rows(mut self, rows: usize) -> Self {
        self.most_rows = rows;
        self
    }

    /// Sets a token that can stop the run.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Starts a run: encodes the prompts, prepares every guidance method, and draws the first latent. The denoiser is
    /// not called yet, unless a guidance method wants a first pass ([`Guidance::first_pass`]).
    ///
    /// # Errors
    /// * Errors of guidance methods, with the name of the method.
    /// * [`Error::Parameter`] for no images, a mask without a picture, or a second prompt for a model with one text
    ///   encoder.
    /// * [`Error::Shape`] for a picture, mask or latent of a size other than the grid's.
    pub fn start<'m, M: Denoiser + Codec>(self, model: &'m M, start: Start<'_>) -> Result<Run<'g, 'm>> {
        self.start_watched(model, start, |_, _| Ok(()))
    }

    /// Starts a run like [`start`](Self::start), and calls `watch` after each step of a first pass. An error of `watch`
    /// ends the run.
    ///
    /// # Errors
    /// The errors of [`start`](Self::start), and those of `watch`.
    pub(crate) fn start_watched<'m>(
        mut self,
        model: &'m dyn Network,
        start: Start<'_>,
        mut watch: impl FnMut(&Run<'g, 'm>, &Progress) -> Result<()>,
    ) -> Result<Run<'g, 'm>> {
        let (candidates, all) = (start.best_of, self.schedule.steps().count());
        let Some(first) = self.first_pass(&start)? else {
            return self.begin(model, start, Pass { index: 0, count: 1, before: 0, total: all, candidate: None });
        };
        let pass = |index| Pass { index, count: 2, before: index * first, total: first + all, candidate: None };
        let mut run = self.begin(model, start.all_candidates(), pass(0))?;
        for _ in 0..first {
            if let Some(progress) = run.step()? {
                watch(&run, &progress)?;
            }
        }
        self = run.sampler;
        if candidates == 1 {
            return self.begin(model, start, pass(1));
        }
        let best = best(&mut self.guidances, candidates, model)?;
        self.begin(model, start.candidate(best)?, Pass { candidate: Some(best), ..pass(1) })
    }

    /// Returns the number of steps of the first pass; `None` if no guidance method wants one.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a number of candidates that this run cannot compare.
    fn first_pass(&self, start: &Start<'_>) -> Result<Option<usize>> {
        let candidates = start.best_of;
        if !(1..=MOST_IMAGES as usize).contains(&candidates) {
            return Err(Error::parameter("best_of", candidates, format!("1 to {MOST_IMAGES} first passes")));
        }
        if candidates > 1 && start.images > 1 {
            let expected = "1 with best_of, because a run finishes only one of its first passes";
            return Err(Error::parameter("images", format!("{} with best_of", start.images), expected));
        }
        let wanted = self.guidances.iter().filter_map(|guidance| guidance.settings()?.first_pass());
        match wanted.reduce(f64::min) {
            Some(until) => Ok(Some(self.schedule.steps().take_while(|step| step.sd_timestep >= until).count())),
            None if candidates > 1 => {
                let expected = Remedy::ExactColor.after("1 without a guidance method that ranks pictures");
                Err(Error::parameter("best_of", candidates, expected))
            }
            None => Ok(None),
        }
    }

    /// Begins one pass of a run, in five stages: checks, branches, guidance methods, conditionings, first latent.
    fn begin<'m>(mut self, model: &'m dyn Network, start: Start<'_>, pass: Pass) -> Result<Run<'g, 'm>> {
        let _no_grad = tch::no_grad_guard();
        let images = start.check()?;
        every(&mut self.guidances, ("check", None), |guidance| guidance.settings().map_or(Ok(()), |own| own.check()))?;
        let mut branches = Branches::encode(model, &start, &self.schedule)?;
        self.begin_methods(model, &start, &mut branches, images, pass)?;
        let notes = std::mem::take(&mut branches.notes);
        let conjunction = std::mem::take(&mut branches.conjunction);
        let (infos, mut conditionings) = branches.condition(&mut self.guidances, model, &start)?;
        self.combine.begin(&infos)?;
        self.solver.reset();
        let names: Vec<Branch> = infos.iter().map(|info| info.branch).collect();
        let hooks: Vec<&mut dyn CrossAttentionHook> = self.guidances.iter_mut().flat_map(|g| g.hooks()).collect();
        let table = HookTable::new(&hooks, model.sites(), &names)?;
        let (grid, seeds) = (start.grid, start.noise.inner_seeds(start.images));
        let Begun { x, kept, concat, noise } = start.begin(model, &self.schedule, images, |noise| {
            let shape = noise.size();
            each(&mut self.guidances, ("noise", None), |guidance| {
                guidance.noise(noise)?;
                keeps("the first noise", noise, &shape)
            })
        })?;
        add_channels(&mut conditionings, concat.as_ref())?;
        let steps: Vec<Step> = self.schedule.steps().collect();
        Ok(Run {
            state: State::Going,
            pass,
            sampler: self,
            model,
            codec: model,
            conditionings: names.into_iter().zip(conditionings).collect(),
            conjunction,
            table,
            cache: KvCache::default(),
            noise,
            seeds,
            grid,
            steps: steps.into_iter(),
            level: None,
            x,
            x0: None,
            kept,
            notes,
        })
    }

    /// Lets every guidance method prepare for the pass, and add branches.
    fn begin_methods(
        &mut self,
        model: &dyn Network,
        start: &Start<'_>,
        branches: &mut Branches,
        images: i64,
        pass: Pass,
    ) -> Result<()> {
        let all = model.sites();
        let (sites, control_sites) = all.split_at(all.partition_point(|site| site.control.is_none()));
        let own = branches.all.iter().find(|(info, _)| info.branch == Branch::Cond);
        let (second_prompt, third_prompt) =
            own.map(|(info, _)| (info.second_prompt.clone(), info.third_prompt.clone())).unwrap_or_default();
        let replaces = |guidance: &Attached<'_>| guidance.settings().is_some_and(|own| own.replaces_context());
        for first in [true, false] {
            every(&mut self.guidances, ("begin", None), |guidance| {
                if replaces(guidance) != first {
                    return Ok(());
                }
                let mut replaced = None;
                guidance.begin(&mut Setup {
                    prompt: &branches.prompt,
                    parts: &branches.parts,
                    grid: start.grid,
                    images,
                    device: model.device(),
                    schedule: &self.schedule,
                    sites,
                    control_sites,
                    codec: model,
                    first_pass: pass.index + 1 < pass.count,
                    candidate: pass.candidate.map(|image| image as i64),
                    second_prompt: second_prompt.as_deref(),
                    third_prompt: third_prompt.as_deref(),
                    branches: &mut branches.all,
                    replaced: &mut replaced,
                })?;
                replaced.into_iter().for_each(|prompt| branches.prompt = prompt);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Data about a step that [`Run::step`] took.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The step that was taken.
    pub step: Step,
    /// Standard deviation of the noise that the step added.
    pub std: f64,
    /// Time that the step took, guidance methods included.
    pub took: Duration,
    /// Index of the run of the model that the step belongs to, from 0. Requests with a second run at a larger size
    /// ([`Hires`](crate::pipeline::Hires)) have several; [`done`](Self::done) and [`total`](Self::total) count each by
    /// itself.
    pub stage: usize,
    /// Index of the pass that the step belongs to, from 0. Only the last pass makes the picture. With two passes,
    /// guidance methods measure in the first ([`Guidance::first_pass`]).
    pub pass: usize,
    /// Number of passes, 1 or 2.
    pub passes: usize,
    /// Steps taken so far, including those of an earlier pass; equals [`total`](Self::total) after the last step.
    pub done: usize,
    /// Steps of all passes together.
    pub total: usize,
}

/// One of the passes of a run.
#[derive(Clone, Copy, Debug)]
struct Pass {
    index: usize,
    count: usize,
    /// Steps of the earlier passes.
    before: usize,
    /// Steps of all passes.
    total: usize,
    /// Index of the image in the first pass that this pass continues with, if it was chosen among several.
    candidate: Option<usize>,
}

/// A run in progress.
pub struct Run<'g, 'm> {
    sampler: Sampler<'g>,
    model: &'m dyn Denoiser,
    codec: &'m dyn Codec,
    conditionings: HashMap<Branch, Conditioning>,
    conjunction: Conjunction,
    table: HookTable,
    cache: KvCache,
    noise: Noise,
    /// Seed of each image, for draws inside the network.
    seeds: Vec<u64>,
    grid: Grid,
    steps: std::vec::IntoIter<Step>,
    /// Noise level of the latent; `None` before the first step.
    level: Option<f64>,
    x: Tensor,
    x0: Option<Tensor>,
    kept: Option<Kept>,
    state: State,
    pass: Pass,
    notes: Vec<Note>,
}

impl fmt::Debug for Run<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("sampler", &self.sampler)
            .field("grid", &self.grid)
            .field("steps_left", &self.steps.len())
            .finish_non_exhaustive()
    }
}

/// The state of a run.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Going,
    Finished,
    /// Solver and guidance state may be inconsistent after an error; the run cannot continue.
    Failed,
}

impl Run<'_, '_> {
    /// Takes the next step; returns `None` after the last.
    ///
    /// # Errors
    /// Errors of the model, of a hook (with its site) or of a guidance method (with its name); [`Error::NonFinite`];
    /// [`Error::Cancelled`]. After an error the run is over, and later calls return [`Error::RunFailed`].
    pub fn step(&mut self) -> Result<Option<Progress>> {
        self.guard(|run| {
            let Some(step) = run.steps.next() else { return Ok(None) };
            run.take(step).map(Some)
        })
    }

    /// Calls `act` if the run has not failed. An error of `act` fails the run.
    fn guard<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.state == State::Failed {
            return Err(Error::RunFailed);
        }
        let _no_grad = tch::no_grad_guard();
        let done = act(self);
        if done.is_err() {
            self.state = State::Failed;
        }
        done
    }

    fn take(&mut self, step: Step) -> Result<Progress> {
        let begun = Instant::now();
        if let Some(level) = self.level.filter(|level| *level != step.from) {
            self.x = self.sampler.schedule.rescale_level(&self.x, level, step.from)?;
        }
        let Self { sampler, model, conditionings, conjunction, table, cache, noise, seeds, grid, x, .. } = self;
        let Sampler { schedule, solver, combine, guidances, batching, most_rows, cancel } = sampler;
        if conditionings.values().any(|conditioning| conditioning.changes(step.index)) {
            cache.clear();
        }
        let (x, grid, batching, most_rows) = (x.shallow_clone(), *grid, *batching, *most_rows);
        let mut evaluation = Evaluation {
            step,
            schedule,
            combine: combine.as_mut(),
            conjunction,
            guidances,
            batching,
            most_rows,
            cancel,
            model: *model,
            conditionings,
            table,
            cache,
            noise,
            seeds,
            shape: x.size(),
            grid,
        };
        let mut transition = solver.step(&step, &x, &mut evaluation)?;
        let shape = x.size();
        combine.transition(&step, &mut transition)?;
        keeps("Transition::mean", &transition.mean, &shape)?;
        each(guidances, ("transition", Some(step.index)), |guidance| {
            guidance.transition(&step, &mut transition)?;
            keeps("Transition::mean", &transition.mean, &shape)
        })?;
        let std = transition.std;
        self.x0 = Some(transition.x0.shallow_clone());
        self.x = transition.sample(&mut self.noise)?;
        keeps("the latent", &self.x, &shape)?;
        if !is_finite(&self.x)? {
            let what = format!("the latent that {} made", self.sampler.solver.name());
            return Err(Error::NonFinite { what, step: step.index });
        }
        if let Some(kept) = &self.kept {
            self.x = kept.after(&step, &self.x)?;
        }
        self.level = Some(step.to);
        let Pass { index, count, before, total, .. } = self.pass;
        let (took, done) = (begun.elapsed(), before + step.index + 1);
        Ok(Progress { step, std, took, stage: 0, pass: index, passes: count, done, total })
    }

    /// Returns the current latent, [n, c, h, w] f32 in sigma space (x0 + σ·noise).
    pub const fn latent(&self) -> &Tensor {
        &self.x
    }

    /// Returns the index, from 0, of the image in the first pass that this run continues with. `None` unless the image
    /// was chosen among several ([`Start::best_of`]).
    pub const fn candidate(&self) -> Option<usize> {
        self.pass.candidate
    }

    /// Returns the clean latent that the last step was based on, for previews; `None` before the first step.
    pub const fn x0(&self) -> Option<&Tensor> {
        self.x0.as_ref()
    }

    /// Leaves out the remaining steps: the latent becomes the clean one that the last step was based on.
    pub(crate) fn cut_short(&mut self) {
        if let Some(x0) = &self.x0 {
            (self.x, self.level, self.steps) = (x0.shallow_clone(), Some(0.0), Vec::new().into_iter());
        }
    }

    /// Takes all remaining steps and returns the clean latent, [n, c, h, w] f32.
    pub fn finish(&mut self) -> Result<&Tensor> {
        while self.step()?.is_some() {}
        if self.state == State::Going {
            self.guard(|run| {
                // After a schedule that ends above 0 the result is the variance-preserving latent, as in diffusers'
                // DDIM.
                run.x = run.sampler.schedule.rescale_level(&run.x, run.level.unwrap_or_default(), 0.0)?;
                // A latent for another run is not finished. The noise level of such a latent must be the same
                // everywhere, so the kept part of a picture is not put back.
                if run.sampler.schedule.steps().last().is_some_and(|last| last.left() > 1) {
                    return Ok(());
                }
                let keep = |x: &mut Tensor| -> Result<()> {
                    if let Some(kept) = &run.kept {
                        *x = kept.at_end(x)?;
                    }
                    Ok(())
                };
                keep(&mut run.x)?;
                if let Some(exact) = exact_cells(&mut run.sampler.guidances)? {
                    each(&mut run.sampler.guidances, ("spare", None), |guidance| guidance.spare(&exact))?;
                }
                let (shape, codec, x) = (run.x.size(), run.codec, &mut run.x);
                each(&mut run.sampler.guidances, ("finish", None), |guidance| {
                    guidance.finish(x, codec)?;
                    keeps("the finished latent", x, &shape)
                })?;
                keep(&mut run.x) // a guidance method may have changed cells outside the mask
            })?;
            self.state = State::Finished;
        }
        Ok(&self.x)
    }

    /// Finishes the run ([`Run::finish`]) and decodes the pictures, [n, 3, H, W] f32 in about -1..=1. Every guidance
    /// method sees the pictures.
    pub fn decode(&mut self) -> Result<Tensor> {
        self.decode_and(|picture, _| Ok(picture))
    }

    /// Decodes the pictures as [`decode`](Self::decode) does, and edits them before the guidance methods see them.
    /// `edit` also gets the share of each cell, [1 or n, 1, h, w], that a method gave an exact color.
    pub(crate) fn decode_and(
        &mut self,
        edit: impl FnOnce(Tensor, Option<&Tensor>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let latent = self.finish()?.shallow_clone();
        self.guard(|run| {
            run.sampler.cancel.check()?;
            let picture = match run.sampler.batching {
                Batching::Together => run.codec.decode(&latent)?,
                Batching::OneByOne => {
                    let each = (0..latent.size4()?.0).map(|image| run.codec.decode(&latent.f_narrow(0, image, 1)?));
                    Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?
                }
            };
            let exact = exact_cells(&mut run.sampler.guidances)?;
            let picture = edit(picture, exact.as_ref())?;
            each(&mut run.sampler.guidances, ("decoded", None), |guidance| guidance.decoded(&picture))?;
            Ok(picture)
        })
    }

    /// Returns the notes of the run and of its guidance methods. The origin of a method's notes is the method's name.
    pub fn notes(&self) -> Vec<Note> {
        let told = self.sampler.guidances.iter().flat_map(Attached::notes);
        self.notes.iter().cloned().chain(told).collect()
    }

    /// Ends the run.
    ///
    /// # Errors
    /// The errors of [`GuidanceRun::details`].
    pub(crate) fn end(self) -> Result<Ended> {
        let Sampler { solver, combine, guidances, .. } = self.sampler;
        Ok(Ended { solver, combine, details: Attached::end_all(guidances)? })
    }

    /// Ends the run, and returns what the guidance methods found.
    ///
    /// # Errors
    /// The errors of [`GuidanceRun::details`].
    pub fn into_details(self) -> Result<Details> {
        Attached::end_all(self.sampler.guidances)
    }

    /// Returns the reports of the guidance methods.
    pub fn reports(&self) -> Result<Vec<Report>> {
        let reports = self.sampler.guidances.iter().map(Attached::report);
        reports.filter_map(Result::transpose).collect()
    }
}

/// The parts of a run that are left after its end.
pub(crate) struct Ended {
    /// Solver for another run.
    pub solver: Box<dyn Solver>,
    /// Combination of branches for another run.
    pub combine: Box<dyn Combine>,
    pub details: Details,
}

/// Returns the share of each cell to which methods give an exact color; `None` if no method does.
fn exact_cells(guidances: &mut [Attached<'_>]) -> Result<Option<Tensor>> {
    let mut exact: Option<Tensor> = None;
    each(guidances, ("exact_cells", None), |guidance| {
        exact = match (exact.take(), guidance.exact_cells()?) {
            (Some(known), Some(more)) => Some(known.f_maximum(&more)?),
            (known, more) => known.or(more),
        };
        Ok(())
    })?;
    Ok(exact)
}

/// Returns the index of the image in a first pass with the highest product of the methods' ratings; the first of equal
/// ones.
fn best(guidances: &mut [Attached<'_>], candidates: usize, codec: &dyn Codec) -> Result<usize> {
    let _no_grad = tch::no_grad_guard();
    let mut promise = vec![1.0; candidates];
    each(guidances, ("outlook", None), |guidance| {
        promise.iter_mut().zip(guidance.outlook(codec)?).for_each(|(promise, own)| *promise *= own);
        Ok(())
    })?;
    // NaN counts as the lowest rating, so that an image without a rating never wins over one with a rating.
    promise.iter_mut().filter(|rating| rating.is_nan()).for_each(|rating| *rating = f64::NEG_INFINITY);
    let better = |best: usize, (image, own): (usize, &f64)| match promise.get(best) {
        Some(most) if own > most => image,
        _ => best,
    };
    Ok(promise.iter().enumerate().fold(0, better))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ToyModel;

    /// A guidance method with fixed ratings of the images.
    struct Rates(Vec<f64>);

    impl GuidanceRun for Rates {
        fn outlook(&self, _: &dyn Codec) -> Result<Vec<f64>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn best_image_has_the_highest_rating() -> Result<()> {
        let model = ToyModel::new(1)?;
        let nan = f64::NAN;
        for (ratings, image) in [([nan, 0.2, 0.9], 2), ([0.3, nan, 0.1], 0), ([0.5, 0.5, nan], 0), ([nan; 3], 0)] {
            let mut rates = Rates(ratings.to_vec());
            let mut methods = vec![Attached::Lent(&mut rates)];
            assert_eq!(best(&mut methods, 3, &model)?, image, "{ratings:?}");
        }
        Ok(())
    }
}
