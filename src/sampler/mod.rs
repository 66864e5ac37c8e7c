//! [`Sampler`] is a recipe, [`Run`] its execution, one step at a time.
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
mod calls;
mod cancel;
mod evaluation;
mod paired;
mod start;

pub use batching::Batching;
pub use cancel::CancelToken;
pub use start::{Origin, Start};

use crate::attention::{CrossAttentionHook, HookTable, KvCache};
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::solver::Solver;
use crate::diffusion::{Denoiser, Noise, Schedule, rescale_level};
use crate::error::{Error, Result, is_finite};
use crate::guidance::{Cfg, Combine, Guidance, HookOnly, Report, Setup};
use crate::micro_conditioning::MicroConditioning;
use crate::step::{Grid, Step};
use calls::{each, keeps};
use evaluation::Evaluation;
use paired::Paired;
use start::{Begun, Kept};
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};
use tch::Tensor;

/// A recipe: schedule, solver, combination of branches, and the guidances lent to it.
#[must_use]
pub struct Sampler<'g> {
    schedule: Schedule,
    solver: Box<dyn Solver>,
    combine: Box<dyn Combine>,
    guidances: Vec<Box<dyn Guidance + 'g>>,
    batching: Batching,
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
    /// Classifier-free guidance of 7.5 and nothing else. A solver chosen at run time is a `Box<dyn Solver>`, which is a solver
    /// too.
    pub fn new(schedule: Schedule, solver: impl Solver + 'static) -> Self {
        Self {
            schedule,
            solver: Box::new(solver),
            combine: Box::new(Cfg(7.5)),
            guidances: Vec::new(),
            batching: Batching::default(),
            cancel: CancelToken::default(),
        }
    }

    /// Another way to combine branches.
    pub fn combine(mut self, combine: impl Combine + 'static) -> Self {
        self.combine = Box::new(combine);
        self
    }

    /// Adds a guidance: a value, or `&mut value` to read it afterwards.
    pub fn guide(mut self, guidance: impl Guidance + 'g) -> Self {
        self.guidances.push(Box::new(guidance));
        self
    }

    /// Adds a bare hook: a value, or `&mut value` to read it afterwards.
    pub fn hook(self, hook: impl CrossAttentionHook + 'g) -> Self {
        self.guide(HookOnly(hook))
    }

    /// How branches and images are batched.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// A token that stops the run.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// Encodes the prompts, lets every guidance method prepare, and draws the first latent. No model call yet, but for the first
    /// pass that a guidance method may want ([`Guidance::first_pass`]).
    ///
    /// # Errors
    /// What guidances find wrong, named after them; [`Error::Parameter`] for no images, a mask without a picture,
    /// or a second prompt for a model of one text encoder; [`Error::Shape`] for a picture, mask or latent of another size
    /// than the grid's.
    pub fn start<'m, M: Denoiser + Codec>(self, model: &'m M, start: Start<'_>) -> Result<Run<'g, 'm>> {
        self.start_watched(model, start, |_, _| Ok(()))
    }

    /// As [`start`](Self::start), and shows the run of the first pass to `watch` after each of its steps, if there is one. An error
    /// of `watch` ends it.
    ///
    /// # Errors
    /// As [`start`](Self::start), and those of `watch`.
    pub(crate) fn start_watched<'m, M: Denoiser + Codec>(
        mut self,
        model: &'m M,
        start: Start<'_>,
        mut watch: impl FnMut(&Run<'g, 'm>, &Progress) -> Result<()>,
    ) -> Result<Run<'g, 'm>> {
        let candidates = start.best_of;
        if !(1..=MOST_IMAGES as usize).contains(&candidates) {
            return Err(Error::parameter("best_of", candidates, format!("1 to {MOST_IMAGES} first passes")));
        }
        if candidates > 1 && start.images > 1 {
            let expected = "one image: a run finishes one of its first passes";
            return Err(Error::parameter("images", format!("{} with best_of", start.images), expected));
        }
        let all = self.schedule.steps().count();
        let Some(until) = self.guidances.iter().filter_map(|guidance| guidance.first_pass()).reduce(f64::min) else {
            if candidates > 1 {
                let expected =
                    "a method that looks before it paints, such as ColorForce::exact: nothing else ranks pictures";
                return Err(Error::parameter("best_of", candidates, expected));
            }
            return self.begin(model, start, Pass { index: 0, count: 1, before: 0, total: all, candidate: None });
        };
        let first = self.schedule.steps().take_while(|step| step.timestep >= until).count();
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

    fn begin<'m, M: Denoiser + Codec>(mut self, model: &'m M, start: Start<'_>, pass: Pass) -> Result<Run<'g, 'm>> {
        let _no_grad = tch::no_grad_guard();
        let Start { prompt, second_prompt: second, negative, second_negative, grid, images, .. } = start;
        let (micro, negative_micro) = (start.micro_conditioning, start.negative_micro_conditioning);
        micro.check()?;
        negative_micro.iter().try_for_each(MicroConditioning::check)?;
        let images = match i64::try_from(images) {
            Ok(count) if (1..=MOST_IMAGES).contains(&count) => count,
            _ => return Err(Error::parameter("images", images, format!("1 to {MOST_IMAGES}"))),
        };
        if grid.h < 1 || grid.w < 1 {
            let size = format!("{} × {} cells", grid.h, grid.w);
            return Err(Error::parameter("grid", size, "one row and column or more"));
        }
        each(&mut self.guidances, ("check", None), |guidance| guidance.check())?;
        let codec = Paired { codec: model, second };
        let against = Paired { codec: model, second: second_negative };
        let mut tokens = codec.prompt(prompt)?;
        let mut notes = Vec::new();
        for (name, tokens) in [("prompt", &tokens), ("negative prompt", &against.prompt(negative)?)] {
            if let Some(cut) = tokens.cut() {
                notes.push(format!("the {name} is too long for the text encoder, which does not see \"{cut}\""));
            }
        }
        let own = |branch, role, prompt: &str, codec: &Paired<'_>| -> Result<(BranchInfo, Conditioning)> {
            Ok((BranchInfo { branch, like: branch, role, prompt: prompt.into(), shared: true }, codec.text(prompt)?))
        };
        let mut branches =
            vec![own(Branch::Uncond, "uncond", negative, &against)?, own(Branch::Cond, "cond", prompt, &codec)?];
        let all = model.sites();
        let (sites, control_sites) = all.split_at(all.partition_point(|site| site.control.is_none()));
        each(&mut self.guidances, ("prompt", None), |guidance| {
            tokens = guidance.prompt(&tokens, &codec)?.unwrap_or_else(|| tokens.clone());
            Ok(())
        })?;
        each(&mut self.guidances, ("begin", None), |guidance| {
            guidance.begin(&mut Setup {
                prompt: &tokens,
                grid,
                images,
                device: model.device(),
                schedule: &self.schedule,
                sites,
                control_sites,
                codec: &codec,
                first_pass: pass.index + 1 < pass.count,
                candidate: pass.candidate.map(|image| image as i64),
                branches: &mut branches,
            })
        })?;
        for (info, conditioning) in &mut branches {
            let codec = if info.like == Branch::Uncond { &against } else { &codec };
            each(&mut self.guidances, ("condition", None), |guidance| guidance.condition(info, conditioning, codec))?;
        }
        let against = negative_micro.unwrap_or_else(|| micro.negative());
        for (info, conditioning) in &mut branches {
            let is_negative = info.like == Branch::Uncond;
            let told = if is_negative { against.or_score(2.5) } else { micro };
            conditioning.during(0..usize::MAX, |part| {
                part.against = is_negative;
                part.micro.get_or_insert(told);
                Ok(())
            })?;
        }
        let (infos, mut conditionings): (Vec<_>, Vec<_>) = branches.into_iter().unzip();
        Conditioning::equalize(&mut conditionings, model)?;
        self.combine.begin(&infos)?;
        self.solver.reset();
        let names: Vec<Branch> = infos.iter().map(|info| info.branch).collect();
        let hooks: Vec<&mut dyn CrossAttentionHook> = self.guidances.iter_mut().flat_map(|g| g.hooks()).collect();
        let table = HookTable::new(&hooks, all, &names)?;
        let edit = |noise: &mut Tensor| {
            let shape = noise.size();
            each(&mut self.guidances, ("noise", None), |guidance| {
                guidance.noise(noise)?;
                keeps("the first noise", noise, &shape)
            })
        };
        let Begun { x, kept, concat, noise } = start.begin(model, &self.schedule, images, edit)?;
        for conditioning in &mut conditionings {
            conditioning.during(0..usize::MAX, |part| {
                part.concat = part.concat.take().or_else(|| concat.as_ref().map(Tensor::shallow_clone));
                Ok(())
            })?;
        }
        let steps: Vec<Step> = self.schedule.steps().collect();
        Ok(Run {
            state: State::Going,
            pass,
            sampler: self,
            model,
            codec: model,
            conditionings: names.into_iter().zip(conditionings).collect(),
            table,
            cache: KvCache::default(),
            noise,
            grid,
            steps: steps.into_iter(),
            level: None,
            x,
            x0: None,
            kept,
            notes,
        })
    }
}

/// What [`Run::step`] did.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// The step that was taken.
    pub step: Step,
    /// Standard deviation of the noise it added.
    pub std: f64,
    /// The time it took, guidance methods included.
    pub took: Duration,
    /// Which pass over the noise it belongs to, from 0. Only the last one makes the picture: what a guidance method wants to see
    /// before it is the first ([`Guidance::first_pass`]).
    pub pass: usize,
    /// Number of passes, 1 or 2.
    pub passes: usize,
    /// Steps taken so far, those of an earlier pass included; [`total`](Self::total) after the last.
    pub done: usize,
    /// Steps of all passes together.
    pub total: usize,
}

/// One of the passes of a run.
#[derive(Clone, Copy, Debug)]
struct Pass {
    index: usize,
    count: usize,
    /// Steps of the passes before it.
    before: usize,
    /// Steps of all passes.
    total: usize,
    /// The image of the first pass that this one goes on with, of several.
    candidate: Option<usize>,
}

/// A run in progress.
pub struct Run<'g, 'm> {
    sampler: Sampler<'g>,
    model: &'m dyn Denoiser,
    codec: &'m dyn Codec,
    conditionings: HashMap<Branch, Conditioning>,
    table: HookTable,
    cache: KvCache,
    noise: Noise,
    grid: Grid,
    steps: std::vec::IntoIter<Step>,
    /// Noise level the latent is at, after the first step.
    level: Option<f64>,
    x: Tensor,
    x0: Option<Tensor>,
    kept: Option<Kept>,
    state: State,
    pass: Pass,
    notes: Vec<String>,
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

/// How far a run has come.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Going,
    Finished,
    /// What the solver and the guidances remember is in pieces.
    Failed,
}

impl Run<'_, '_> {
    /// Takes the next step; `None` after the last.
    ///
    /// # Errors
    /// What the model, a hook (with its site) or a guidance (with its name) reports; [`Error::NonFinite`];
    /// [`Error::Cancelled`]. After an error the run is over: [`Error::RunFailed`].
    pub fn step(&mut self) -> Result<Option<Progress>> {
        self.guarded(|run| {
            let Some(step) = run.steps.next() else { return Ok(None) };
            run.take(step).map(Some)
        })
    }

    /// Does something to a run that has not failed; if that fails, the run has.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
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
            self.x = rescale_level(&self.x, level, step.from)?;
        }
        let Self { sampler, model, conditionings, table, cache, noise, grid, x, .. } = self;
        let Sampler { schedule, solver, combine, guidances, batching, cancel } = sampler;
        if conditionings.values().any(|conditioning| conditioning.changes(step.index)) {
            cache.clear();
        }
        let (x, grid, batching) = (x.shallow_clone(), *grid, *batching);
        let mut evaluation = Evaluation {
            step,
            schedule,
            combine: combine.as_mut(),
            guidances,
            batching,
            cancel,
            model: *model,
            conditionings,
            table,
            cache,
            noise,
            shape: x.size(),
            grid,
        };
        let mut transition = solver.step(&step, &x, &mut evaluation)?;
        let shape = x.size();
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
        Ok(Progress { step, std, took, pass: index, passes: count, done, total })
    }

    /// The current latent, [n, 4, h, w] f32 in sigma space (x0 + σ·noise).
    pub const fn latent(&self) -> &Tensor {
        &self.x
    }

    /// Which image of the first pass this run goes on with, counted from 0, if it was chosen of several ([`Start::best_of`]).
    pub const fn candidate(&self) -> Option<usize> {
        self.pass.candidate
    }

    /// The clean latent that the last step was based on; for previews.
    pub const fn x0(&self) -> Option<&Tensor> {
        self.x0.as_ref()
    }

    /// Takes all remaining steps and returns the clean latent, [n, 4, h, w] f32.
    pub fn finish(&mut self) -> Result<&Tensor> {
        while self.step()?.is_some() {}
        if self.state == State::Going {
            self.guarded(|run| {
                // A schedule that ends above 0 hands over the variance-preserving latent, as diffusers' DDIM does.
                run.x = rescale_level(&run.x, run.level.unwrap_or_default(), 0.0)?;
                // What another run goes on with is not finished, and at one level everywhere.
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
                let (shape, codec, x) = (run.x.size(), run.codec, &mut run.x);
                each(&mut run.sampler.guidances, ("finish", None), |guidance| {
                    guidance.finish(x, codec)?;
                    keeps("the finished latent", x, &shape)
                })?;
                keep(&mut run.x) // a guidance may have gone beyond what is repainted
            })?;
            self.state = State::Finished;
        }
        Ok(&self.x)
    }

    /// [`Run::finish`], then the pictures, [n, 3, H, W] f32 in about -1..=1, which every guidance is shown.
    pub fn decode(&mut self) -> Result<Tensor> {
        let latent = self.finish()?.shallow_clone();
        self.guarded(|run| {
            run.sampler.cancel.check()?;
            let picture = match run.sampler.batching {
                Batching::Together => run.codec.decode(&latent)?,
                Batching::OneByOne => {
                    let each = (0..latent.size4()?.0).map(|image| run.codec.decode(&latent.f_narrow(0, image, 1)?));
                    Tensor::f_cat(&each.collect::<Result<Vec<_>>>()?, 0)?
                }
            };
            each(&mut run.sampler.guidances, ("decoded", None), |guidance| guidance.decoded(&picture))?;
            Ok(picture)
        })
    }

    /// What guidances have to say, each sentence with its origin.
    pub fn notes(&self) -> Vec<String> {
        let guidances = self.sampler.guidances.iter();
        let told = guidances.flat_map(|g| g.notes().into_iter().map(|note| format!("{}: {note}", g.name())));
        self.notes.iter().cloned().chain(told).collect()
    }

    /// What guidances have to show.
    pub fn reports(&self) -> Result<Vec<Report>> {
        let reports = self.sampler.guidances.iter().map(|guidance| guidance.report());
        reports.filter_map(Result::transpose).collect()
    }
}

/// More images than any batch; keeps their number from overflowing.
const MOST_IMAGES: i64 = 1024;

/// The image of a first pass that all methods together rate highest; of equals the first.
fn best(guidances: &mut [Box<dyn Guidance + '_>], candidates: usize, codec: &dyn Codec) -> Result<usize> {
    let _no_grad = tch::no_grad_guard();
    let mut promise = vec![1.0; candidates];
    each(guidances, ("outlook", None), |guidance| {
        promise.iter_mut().zip(guidance.outlook(codec)?).for_each(|(promise, own)| *promise *= own);
        Ok(())
    })?;
    // A comparison with NaN never is `Greater`, so a figure that is none is never the best.
    let better = |best: usize, (image, own): (usize, &f64)| match promise.get(best) {
        Some(most) if own.partial_cmp(most).is_some_and(std::cmp::Ordering::is_gt) => image,
        _ => best,
    };
    Ok(promise.iter().enumerate().fold(0, better))
}
