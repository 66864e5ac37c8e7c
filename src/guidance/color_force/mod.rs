//! Color forcing: pulling what a phrase names toward a flat color.

mod gold;
mod report;

pub use gold::GoldMode;
pub use report::{ColorReport, ColorWarning, ForcedStep, PaintedColor};

use super::saliency::is_flat;
use super::{Daam, Guidance, Plan, Region, Report, Saliency, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::{Error, Result};
use crate::step::Step;
use gold::Gold;
use report::Trace;
use tch::{Kind, Tensor};

/// σ² of a step: how much the model's own mean may move. It is what `color_var` is weighed against.
#[derive(Default)]
#[non_exhaustive]
pub enum StepVariance {
    /// The noise level at the step's start, squared.
    #[default]
    NoiseLevel,
    /// The noise level at the step's end, squared.
    NextLevel,
    /// The variance of the noise that an ancestral sampler adds, to²·(from² − to²)/from²: literal, and too weak.
    Sampling,
    /// Any other; 0 or more and finite.
    Custom(Box<dyn Fn(&Step) -> f64 + Send>),
}

/// What a force shifts. k is its strength at the step, 0..1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForceTarget {
    /// The step's mean: mean + k·(gold − mean). As the method is described; also shrinks the noise left in the mean.
    #[default]
    Mean,
    /// The clean part of the mean: mean + k·(gold − x0). The noise stays what the model expects.
    SignalOnly,
    /// Every prediction of the clean picture, before the solver: x0 + k·(gold − x0). The gentlest.
    Denoised,
}

/// How saliency becomes a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum MaskEdge {
    /// 1 where saliency ≥ cutoff, else 0.
    #[default]
    Hard,
    /// A smooth step of half-width h around the cutoff; h > 0.
    Soft(f64),
}

/// Who gets a cell that several forces claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overlap {
    /// All of them, as a product of Gaussians.
    #[default]
    Blend,
    /// The one with the largest saliency there, of those that say `Winner`; the earlier one on a tie.
    Winner,
}

/// Pulls what a phrase names toward a flat color, in every solver.
///
/// Each step draws the next latent from a Gaussian around `mean`. Where the saliency of the phrase is above the cutoff,
/// that Gaussian is multiplied by another one around the latent of the flat color ("gold") whose variance is
/// [`color_var`](Self::color_var): `mean ← (c·mean + V·gold) / (V + c)`, V = σ² of the step. Cells outside the mask keep
/// their bits. Several forces, on whatever phrases, multiply all their Gaussians at once: their order does not matter.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, Rgb, guidance::ColorForce};
/// let mut pipeline = Pipeline::builder().build()?;
/// let mut force = ColorForce::new("eyes", Rgb(255, 215, 0)).color_var(15.0);
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(8).guide(&mut force).run()?;
/// let painted = &force.details()?.painted[0];
/// println!("{} painted, {:.1} from what was asked", painted.color, painted.delta_e);
/// # Ok(()) }
/// ```
///
/// Source: Color Forcing (AP-125); `docs/color-forcing.md` has the derivation and what was inferred.
#[allow(missing_debug_implementations)]
pub struct ColorForce {
    phrase: String,
    color: Rgb,
    saliency: Box<dyn Saliency>,
    mask: Option<Region>,
    color_var: f64,
    cutoff: f64,
    edge: MaskEdge,
    overlap: Overlap,
    window: (f64, f64),
    step_variance: StepVariance,
    target: ForceTarget,
    gold: GoldMode,
    reference_steps: Option<usize>,
    run: Option<Forcing>,
}

/// One run's state.
struct Forcing {
    gold: Gold,
    /// The user's mask at latent resolution, [1, 1, h, w].
    mask: Option<Tensor>,
    trace: Trace,
}

/// Zero-terminal-SNR schedules start at huge levels; the force treats them as Stable Diffusion's usual largest.
const LARGEST_LEVEL: f64 = 14.6146;

impl ColorForce {
    /// Forces `phrase` toward `color` with the usual settings: saliency by [`Daam`], color variance 40, cutoff .15,
    /// timesteps 0..=700.
    pub fn new(phrase: impl Into<String>, color: Rgb) -> Self {
        let phrase = phrase.into();
        Self {
            saliency: Box::new(Daam::of(&phrase)),
            phrase,
            color,
            mask: None,
            color_var: 40.0,
            cutoff: 0.15,
            edge: MaskEdge::default(),
            overlap: Overlap::default(),
            window: (0.0, 700.0),
            step_variance: StepVariance::default(),
            target: ForceTarget::default(),
            gold: GoldMode::default(),
            reference_steps: None,
            run: None,
        }
    }

    /// c, the variance of the color's Gaussian in squared latent units: small is strong. Above 0; 15 to 70 is useful,
    /// below that regions turn into solid blocks.
    pub fn color_var(mut self, color_var: f64) -> Self {
        self.color_var = color_var;
        self
    }

    /// Saliency from which on a cell is forced, 0..=`range()` of the saliency: .1 to .3 is useful, lower for large things.
    pub fn saliency_cutoff(mut self, cutoff: f64) -> Self {
        self.cutoff = cutoff;
        self
    }

    /// Another way to find what is to be forced.
    pub fn saliency(mut self, saliency: impl Saliency + 'static) -> Self {
        self.saliency = Box::new(saliency);
        self
    }

    /// Forces only inside a region: the mask that saliency makes is multiplied by it.
    pub fn mask(mut self, region: Region) -> Self {
        self.mask = Some(region);
        self
    }

    /// How saliency becomes a mask.
    pub fn edge(mut self, edge: MaskEdge) -> Self {
        self.edge = edge;
        self
    }

    /// Who gets a cell that several forces claim.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Largest training timestep that is forced, inclusive; 0..=999. Above 700 maps say little yet.
    pub fn max_timestep(mut self, timestep: f64) -> Self {
        self.window.1 = timestep;
        self
    }

    /// Smallest training timestep that is forced, inclusive; 0..=999.
    pub fn min_timestep(mut self, timestep: f64) -> Self {
        self.window.0 = timestep;
        self
    }

    /// σ² of a step.
    pub fn step_variance(mut self, variance: StepVariance) -> Self {
        self.step_variance = variance;
        self
    }

    /// What is shifted.
    pub fn target(mut self, target: ForceTarget) -> Self {
        self.target = target;
        self
    }

    /// How the color's latent is made.
    pub fn gold(mut self, gold: GoldMode) -> Self {
        self.gold = gold;
        self
    }

    /// Makes the force as strong at any number of steps as it is at `steps`; 1 or more. Without it, more steps force more.
    pub fn reference_steps(mut self, steps: usize) -> Self {
        self.reference_steps = Some(steps);
        self
    }

    /// What the last run did: the color that was painted, the masks and strengths of every forced step, warnings.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn details(&self) -> Result<ColorReport> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?;
        run.trace.report(&self.phrase, self.color, &run.gold)
    }

    /// Masks of the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn masks(&self) -> Result<Tensor> {
        self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace.masks()
    }

    /// Saliency at the forced steps, [steps, n, h, w] f32 (kept in f16).
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn saliency_maps(&self) -> Result<Tensor> {
        self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace.saliency()
    }

    /// The latent of the color in the last run, [1, 4, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn gold_latent(&self) -> Result<&Tensor> {
        Ok(&self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.gold.latent)
    }

    /// Is this step forced?
    fn covers(&self, timestep: f64) -> bool {
        (self.window.0..=self.window.1).contains(&timestep)
    }

    /// w = V/c, the force's precision relative to the step's.
    fn weight(&self, step: &Step) -> Result<f64> {
        let (from, to) = (step.from.min(LARGEST_LEVEL), step.to.min(LARGEST_LEVEL));
        let variance = match &self.step_variance {
            StepVariance::NoiseLevel => from * from,
            StepVariance::NextLevel => to * to,
            StepVariance::Sampling => to * to * (from * from - to * to) / (from * from),
            StepVariance::Custom(variance) => variance(step),
        };
        if !(variance.is_finite() && variance >= 0.0) {
            return Err(Error::parameter("step_variance", variance, "a finite number of 0 or more"));
        }
        let weight = variance / self.color_var;
        Ok(match self.reference_steps {
            // Strengths 1 − 1/(1+w) compound over steps; the exponent makes the product that of `reference` steps.
            Some(reference) => (1.0 + weight).powf(reference as f64 / step.nominal.max(1) as f64) - 1.0,
            None => weight,
        })
    }

    /// This step's mask and saliency, [n, 1, h, w]; `None` before the saliency knows.
    fn masked(&self, run: &Forcing) -> Result<Option<(Tensor, Tensor)>> {
        let Some(map) = self.saliency.map()? else { return Ok(None) };
        let mask = match self.edge {
            MaskEdge::Hard => map.f_ge(self.cutoff)?.f_to_kind(Kind::Float)?,
            MaskEdge::Soft(half) => {
                let u = map.f_sub_scalar(self.cutoff - half)?.f_div_scalar(2.0 * half)?.f_clamp(0.0, 1.0)?;
                // u²·(3 − 2u)
                u.f_square()?.f_mul(&u.f_mul_scalar(-2.0)?.f_add_scalar(3.0)?)?
            }
        };
        let mask = match &run.mask {
            Some(region) => mask.f_mul(region)?,
            None => mask,
        };
        Ok(Some((mask, map)))
    }

    /// The pull of this step: what to add to whose base.
    fn pull(&mut self, step: &Step, record: bool) -> Result<Option<Pull>> {
        if !self.covers(step.timestep) {
            return Ok(None);
        }
        let Some(mut run) = self.run.take() else { return Ok(None) };
        let pulled = self.masked_pull(step, record, &mut run);
        self.run = Some(run);
        pulled
    }

    fn masked_pull(&self, step: &Step, record: bool, run: &mut Forcing) -> Result<Option<Pull>> {
        let Some((mask, saliency)) = self.masked(run)? else { return Ok(None) };
        let weight = self.weight(step)?;
        let areas = mask.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double)?;
        let areas = Vec::<f64>::try_from(&areas).map_err(Error::from)?;
        let empty = areas.iter().all(|area| *area == 0.0);
        if record {
            let flat = is_flat(&saliency)?.f_any()?.f_int64_value(&[])? == 1;
            run.trace.push(step, self.color_var, weight, areas, flat, &mask, &saliency)?;
        }
        let gold = run.gold.latent.shallow_clone();
        Ok((!empty && weight > 0.0).then_some(Pull { gold, weight: mask.f_mul_scalar(weight)?, saliency }))
    }
}

/// A force at one step.
struct Pull {
    gold: Tensor,
    weight: Tensor,
    saliency: Tensor,
}

impl Pull {
    /// w·(gold − base).
    fn shift(&self, base: &Tensor) -> Result<Tensor> {
        Ok(self.gold.f_sub(base)?.f_mul(&self.weight)?)
    }
}

impl Guidance for ColorForce {
    fn check(&self) -> Result<()> {
        if !(self.color_var.is_finite() && self.color_var > 0.0) {
            return Err(Error::parameter("color_var", self.color_var, "a number above 0; 15 to 70 is useful"));
        }
        if !(self.cutoff.is_finite() && self.cutoff >= 0.0) {
            return Err(Error::parameter("saliency_cutoff", self.cutoff, "0 or more; .1 to .3 is useful"));
        }
        if let MaskEdge::Soft(half) = self.edge
            && !(half.is_finite() && half > 0.0)
        {
            return Err(Error::parameter("edge Soft", half, "a half-width above 0; .05 to .1 is useful"));
        }
        let (min, max) = self.window;
        if !(0.0 <= min && min <= max && max <= 999.0) {
            let window = format!("{min}..={max}");
            return Err(Error::parameter("min_timestep..=max_timestep", window, "0..=999, the smaller one first"));
        }
        if self.reference_steps == Some(0) {
            return Err(Error::parameter("reference_steps", 0, "1 or more; 28 is usual"));
        }
        self.saliency.check()
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.saliency.begin(setup)?;
        let gold = self.gold.latent(self.color, setup)?;
        let mask = match &self.mask {
            Some(region) => Some(region.on(setup.grid)?.f_to_device(setup.device)?),
            None => None,
        };
        let mut trace = Trace::new(setup.images, setup.codec.cell());
        if self.cutoff > self.saliency.range() {
            trace.warn(ColorWarning::CutoffOutOfReach { cutoff: self.cutoff, range: self.saliency.range() });
        }
        if !(10.0..=200.0).contains(&self.color_var) {
            trace.warn(ColorWarning::UnusualVariance { color_var: self.color_var });
        }
        if !setup.schedule.steps().any(|step| self.covers(step.timestep)) {
            trace.warn(ColorWarning::NeverActive { min: self.window.0, max: self.window.1 });
        }
        if gold.delta_e > 3.0 {
            trace.warn(ColorWarning::ColorNotRepresentable { delta_e: gold.delta_e });
        }
        self.run = Some(Forcing { gold, mask, trace });
        Ok(())
    }

    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.saliency.condition(branch, conditioning, codec)
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        // Outside the window nobody reads the saliency, so its branches are not worth an evaluation.
        if self.covers(step.timestep) { self.saliency.plan(step, plan) } else { Ok(()) }
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.saliency.hooks()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.saliency.predicted(step, predictions)
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.saliency.denoised(step, denoised)?;
        if self.target == ForceTarget::Denoised
            && let Some(pull) = self.pull(step, step.eval == 0)?
        {
            let shift = pull.shift(&denoised.x0)?;
            match self.overlap {
                Overlap::Blend => denoised.pull(shift, pull.weight),
                Overlap::Winner => denoised.pulls.add_ranked(shift, pull.weight, pull.saliency),
            }
        }
        Ok(())
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.saliency.transition(step, transition)?;
        if self.target != ForceTarget::Denoised
            && let Some(pull) = self.pull(step, true)?
        {
            let base = if self.target == ForceTarget::Mean { &transition.mean } else { &transition.x0 };
            let shift = pull.shift(base)?;
            match self.overlap {
                Overlap::Blend => transition.pull(shift, pull.weight),
                Overlap::Winner => transition.pulls.add_ranked(shift, pull.weight, pull.saliency),
            }
        }
        Ok(())
    }

    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        self.saliency.finish(latent, codec)
    }

    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        self.saliency.decoded(picture)?;
        match &mut self.run {
            Some(run) => run.trace.measure(picture, self.color),
            None => Ok(()),
        }
    }

    fn notes(&self) -> Vec<String> {
        let own = self.run.iter().flat_map(|run| run.trace.warnings().iter().map(ToString::to_string));
        own.chain(self.saliency.notes()).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        match &self.run {
            Some(run) => Ok(Some(run.trace.summary(&self.phrase, self.color, &run.gold)?)),
            None => Ok(None),
        }
    }

    fn name(&self) -> &'static str {
        "ColorForce"
    }
}
