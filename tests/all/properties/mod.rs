//! Laws that hold for every hook and every guidance method, checked on a toy model.
//!
//! Each file of this folder holds one family of laws. This file holds their shared parts: the run, a hook, a watched
//! saliency, a solver and a painted area.

mod batching;
mod branches;
mod forces;
mod forwarding;
mod hooks;
mod methods;
mod runs;
mod saliency;

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, Scores};
use impasto::diffusion::solver::{Euler, EulerAncestral, Eval, Solver};
use impasto::diffusion::{Noise, Predictions, Schedule, Spacing, TrainingSchedule, Transition};
use impasto::guidance::{Details, GuidanceRun, Plan, Setup};
use impasto::mask::Region;
use impasto::methods::PaintWithWords;
use impasto::saliency::{Saliency, SaliencyRun};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::{Branch, Error, Grid, Result, Rgb, Step};
use ndarray::Array2;
use std::any::Any;
use tch::{Kind, Tensor};

const PROMPT: &str = "girl with gold eyes";
const GRID: Grid = Grid::new(8, 6);
const GOLD: Rgb = Rgb(255, 215, 0);

/// A noise schedule with Karras spacing.
fn schedule(steps: usize) -> Schedule {
    Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Karras).expect("steps in range")
}

/// A sampler of six steps.
fn sampler<'g>() -> Sampler<'g> {
    Sampler::new(schedule(6), EulerAncestral::default())
}

/// The start of a run of `images` images from the seed 7.
fn start(images: usize) -> Start<'static> {
    let mut start = Start::new(PROMPT, GRID, Noise::seeded(7));
    start.images = images;
    start
}

/// The latents of a finished run of `images` images.
fn latents(sampler: Sampler<'_>, images: usize) -> Result<Tensor> {
    let model = ToyModel::new(3)?;
    let mut run = sampler.start(&model, start(images))?;
    Ok(run.finish()?.shallow_clone())
}

/// The latent of a finished run of one image.
fn latent(sampler: Sampler<'_>) -> Result<Tensor> {
    latents(sampler, 1)
}

/// The latents of a finished run of `images` images, and what its guidance methods found.
fn found(sampler: Sampler<'_>, images: usize) -> Result<(Tensor, Details)> {
    let model = ToyModel::new(3)?;
    let mut run = sampler.start(&model, start(images))?;
    let latents = run.finish()?.shallow_clone();
    Ok((latents, run.into_details()?))
}

/// The largest absolute difference of two tensors.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// A hook that asks for one phase, counts its calls and can be switched off or made to fail.
#[derive(Default)]
struct Probe {
    wants: Interest,
    off: bool,
    fails: bool,
    calls: usize,
    worst: f64,
    images: Vec<std::ops::Range<i64>>,
}

impl Probe {
    fn wanting(wants: Interest) -> Self {
        Self { wants, ..Self::default() }
    }
}

/// A bias that raises the first token's scores by 70 % of `max`.
fn raise(scores: &Tensor, max: &Tensor) -> Tensor {
    let tokens = scores.size()[3];
    let first = Tensor::zeros([tokens], (Kind::Float, tch::Device::Cpu));
    let _ = first.narrow(0, 0, 1).fill_(0.7);
    max * first
}

impl CrossAttentionHook for Probe {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let everywhere = self.wants == Interest::PROBS;
        if everywhere || (site.is_cross() && branch == Branch::Cond) { self.wants } else { Interest::NONE }
    }
    fn active(&self, _: &Step) -> bool {
        !self.off
    }
    fn context(&mut self, _: &At, context: &mut Tensor) -> Result<()> {
        self.calls += 1;
        *context = Tensor::f_cat(&[&*context, &context.narrow(1, 0, 2)], 1)?; // two more tokens
        Ok(())
    }
    fn bias(&mut self, _: &At, scores: &Scores) -> Result<Option<Tensor>> {
        self.calls += 1;
        Ok(Some(raise(&scores.full()?, &scores.max()?)))
    }
    fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
        self.calls += 1;
        *scores = &*scores + raise(scores, &scores.amax([1i64, 2, 3], true));
        Ok(())
    }
    fn probs(&mut self, at: &At, probs: &Probs) -> Result<()> {
        self.calls += 1;
        if self.fails {
            return Err(Error::NoMaps("Probe"));
        }
        let all = probs.columns(probs.tokens())?;
        assert_eq!(all.size()[2], at.grid.cells());
        let rows = all.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float) - 1.0;
        self.worst = self.worst.max(rows.abs().max().double_value(&[]));
        self.worst = self.worst.max(apart(&all, &probs.untouched().columns(probs.tokens())?));
        self.images.push(at.images.clone());
        Ok(())
    }
    fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
        self.calls += 1;
        assert_eq!(output.size()[1], at.grid.cells());
        *output = &*output * 0.5;
        Ok(())
    }
}

/// A saliency that is lent to a run, and whose map is kept after every step.
struct Watch {
    settings: Box<dyn Saliency>,
    state: Option<Box<dyn SaliencyRun>>,
    maps: Vec<Tensor>,
}

impl Watch {
    fn of(settings: impl Saliency + 'static) -> Self {
        Self { settings: Box::new(settings), state: None, maps: Vec::new() }
    }

    /// The state of the saliency in the run.
    fn state<S: 'static>(&self) -> &S {
        let state: &dyn Any = &**self.state.as_ref().expect("a run has begun");
        state.downcast_ref().expect("a state of this type")
    }
}

impl GuidanceRun for Watch {
    fn begin(&mut self, setup: &mut Setup) -> Result<()> {
        self.settings.check()?;
        self.state = Some(self.settings.find(setup)?);
        self.maps.clear();
        Ok(())
    }
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        self.state.iter_mut().try_for_each(|state| state.plan(step, plan))
    }
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.state.iter_mut().flat_map(|state| state.hooks()).collect()
    }
    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.state.iter_mut().try_for_each(|state| state.predicted(step, predictions))
    }
    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        let state = self.state.as_mut().expect("a run has begun");
        state.transition(step, transition)?;
        self.maps.extend(state.map()?);
        Ok(())
    }
}

/// Paint with Words for the eyes, at full strength in the top row and fading out towards the bottom.
fn paint() -> PaintWithWords {
    let above = Region::new(Array2::from_shape_fn((8, 6), |(row, _)| 1.0 - row as f32 / 7.0));
    PaintWithWords::default().mask(above, "eyes", 2.0)
}

/// A solver with two evaluations a step, both at levels of the schedule, as in Heun's method.
struct Twice;

impl Solver for Twice {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let mut transition = Euler.step(step, x, eval)?;
        if step.to > 0.0 {
            transition.x0 = eval.x0(&transition.mean.copy(), step.to)?;
        }
        Ok(transition)
    }
    fn name(&self) -> &'static str {
        "Twice"
    }
}
