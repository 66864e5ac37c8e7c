//! Color forcing: pulling what a phrase names toward a flat color.

mod gold;
mod report;

pub use gold::GoldMode;
pub use report::{ColorReport, ColorWarning, ForcedStep, PaintedColor};

use super::saliency::is_flat;
use super::{Daam, Guidance, LARGEST_LEVEL, Plan, Region, Report, Saliency, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Pulls, Transition};
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
/// [`color_var`](Self::color_var): `mean ← (c·mean + V·gold) / (V + c)`, V = σ² of the step. Cells outside the mask
/// keep their bits. Several forces, on whatever phrases, multiply all their Gaussians at once: their order does not
/// matter.
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
pub struct ColorForce {
    settings: Settings,
    saliency: Box<dyn Saliency>,
    /// Is the saliency the one that `new` chose?
    chosen: bool,
    run: Option<Forcing>,
}

/// What the user asked for.
struct Settings {
    phrase: String,
    color: Rgb,
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
}

/// One run's state.
struct Forcing {
    gold: Gold,
    /// The user's mask at latent resolution, [1, 1, h, w].
    mask: Option<Tensor>,
    /// Is the step inside the window? A step is, or is not, with all its evaluations.
    active: bool,
    trace: Trace,
}

/// A force this much surer than the step is a block of color; beyond it f32 overflows.
const LARGEST_WEIGHT: f64 = 1e6;

impl ColorForce {
    /// Forces `phrase` toward `color` with the usual settings: saliency by [`Daam`], color variance 40, cutoff .15,
    /// timesteps 0..=700.
    pub fn new(phrase: impl Into<String>, color: Rgb) -> Self {
        let phrase = phrase.into();
        Self {
            saliency: Box::new(Daam::of(&phrase)),
            chosen: true,
            settings: Settings {
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
            },
            run: None,
        }
    }

    /// c, the variance of the color's Gaussian in squared latent units: small is strong. Above 0; 15 to 70 is useful,
    /// below that regions turn into solid blocks.
    pub fn color_var(mut self, color_var: f64) -> Self {
        self.settings.color_var = color_var;
        self
    }

    /// Saliency from which on a cell is forced, 0..=`range()` of the saliency: .1 to .3 is useful, lower for large
    /// things.
    pub fn saliency_cutoff(mut self, cutoff: f64) -> Self {
        self.settings.cutoff = cutoff;
        self
    }

    /// Another way to find what is to be forced.
    pub fn saliency(mut self, saliency: impl Saliency + 'static) -> Self {
        self.saliency = Box::new(saliency);
        self.chosen = false;
        self
    }

    /// Forces only inside a region: the mask that saliency makes is multiplied by it.
    pub fn mask(mut self, region: Region) -> Self {
        self.settings.mask = Some(region);
        self
    }

    /// How saliency becomes a mask.
    pub fn edge(mut self, edge: MaskEdge) -> Self {
        self.settings.edge = edge;
        self
    }

    /// Who gets a cell that several forces claim.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.settings.overlap = overlap;
        self
    }

    /// Largest training timestep that is forced, inclusive; 0..=999. Above 700 maps say little yet.
    pub fn max_timestep(mut self, timestep: f64) -> Self {
        self.settings.window.1 = timestep;
        self
    }

    /// Smallest training timestep that is forced, inclusive; 0..=999.
    pub fn min_timestep(mut self, timestep: f64) -> Self {
        self.settings.window.0 = timestep;
        self
    }

    /// σ² of a step.
    pub fn step_variance(mut self, variance: StepVariance) -> Self {
        self.settings.step_variance = variance;
        self
    }

    /// What is shifted.
    pub fn target(mut self, target: ForceTarget) -> Self {
        self.settings.target = target;
        self
    }

    /// How the color's latent is made.
    pub fn gold(mut self, gold: GoldMode) -> Self {
        self.settings.gold = gold;
        self
    }

    /// Makes the force as strong at any number of steps as it is at `steps`, 1..=1000. Without it, more steps force
    /// more.
    pub fn reference_steps(mut self, steps: usize) -> Self {
        self.settings.reference_steps = Some(steps);
        self
    }

    /// What the last run did: the color that was painted, the masks and strengths of every forced step, warnings.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn details(&self) -> Result<ColorReport> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?;
        run.trace.report(&self.settings.phrase, self.settings.color, &run.gold)
    }

    /// Masks of the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`] if no step was forced.
    pub fn masks(&self) -> Result<Tensor> {
        self.run.as_ref().ok_or(Error::NoMaps("ColorForce"))?.trace.masks()
    }

    /// Saliency at the forced steps, [steps, n, h, w] f32.
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

    /// The pull of this step; recorded at its first evaluation, or where it acts once per step.
    fn pull(&mut self, step: &Step, record: bool) -> Result<Option<Pull>> {
        let Some(run) = self.run.as_mut().filter(|run| run.active) else { return Ok(None) };
        let Some(map) = self.saliency.map()? else {
            run.trace.warn(ColorWarning::NoSaliency { timestep: step.timestep });
            return Ok(None);
        };
        let mask = self.settings.mask(&map, run.mask.as_ref())?;
        let (variance, weight) = self.settings.weight(step)?;
        let areas = Vec::<f64>::try_from(&mask.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double)?)?;
        let empty = areas.iter().all(|area| *area == 0.0);
        if record {
            let (timestep, color_var) = (step.timestep, self.settings.color_var);
            let flat = is_flat(&map)?;
            let forced = ForcedStep { timestep, variance, color_var, strength: weight / (1.0 + weight), areas, flat };
            run.trace.push(forced, &mask, &map)?;
        }
        if empty || weight == 0.0 {
            return Ok(None);
        }
        let gold = run.gold.latent.shallow_clone();
        Ok(Some(Pull { gold, weight: mask.f_mul_scalar(weight)?, saliency: map }))
    }
}

impl Settings {
    /// Is a step that starts at this timestep forced?
    fn covers(&self, timestep: f64) -> bool {
        (self.window.0..=self.window.1).contains(&timestep)
    }

    /// V, and w = V/c, the force's precision relative to the step's.
    fn weight(&self, step: &Step) -> Result<(f64, f64)> {
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
        let weight = match self.reference_steps {
            // Strengths 1 − 1/(1+w) compound over steps; the exponent makes the product that of `reference` steps.
            Some(reference) => (1.0 + weight).powf(reference as f64 / step.nominal.max(1) as f64) - 1.0,
            None => weight,
        };
        Ok((variance, weight.min(LARGEST_WEIGHT)))
    }

    /// The mask that a saliency map makes, both [n, 1, h, w]; `region` is the user's.
    fn mask(&self, map: &Tensor, region: Option<&Tensor>) -> Result<Tensor> {
        let mask = match self.edge {
            MaskEdge::Hard => map.f_ge(self.cutoff)?.f_to_kind(Kind::Float)?,
            MaskEdge::Soft(half) => {
                let u = map.f_sub_scalar(self.cutoff - half)?.f_div_scalar(2.0 * half)?.f_clamp(0.0, 1.0)?;
                // u²·(3 − 2u)
                u.f_square()?.f_mul(&u.f_mul_scalar(-2.0)?.f_add_scalar(3.0)?)?
            }
        };
        Ok(match region {
            Some(region) => mask.f_mul(region)?,
            None => mask,
        })
    }

    /// Is every number in its range?
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
        match self.reference_steps {
            Some(steps) if !(1..=1000).contains(&steps) => {
                Err(Error::parameter("reference_steps", steps, "1 to 1000; 28 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// What is doubtful before the run.
    fn doubts(&self, setup: &Setup<'_>, range: f64, gold: &Gold) -> Vec<ColorWarning> {
        let (min, max) = self.window;
        let doubts = [
            (self.cutoff > range, ColorWarning::CutoffOutOfReach { cutoff: self.cutoff, range }),
            (!(10.0..=200.0).contains(&self.color_var), ColorWarning::UnusualVariance { color_var: self.color_var }),
            (!setup.schedule.steps().any(|step| self.covers(step.timestep)), ColorWarning::NeverActive { min, max }),
            (gold.delta_e > 3.0, ColorWarning::ColorNotRepresentable { delta_e: gold.delta_e }),
        ];
        doubts.into_iter().filter_map(|(holds, doubt)| holds.then_some(doubt)).collect()
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

    fn add_to(self, pulls: &mut Pulls, shift: Tensor, overlap: Overlap) {
        match overlap {
            Overlap::Blend => pulls.add(shift, self.weight),
            Overlap::Winner => pulls.add_ranked(shift, self.weight, self.saliency),
        }
    }
}

impl Guidance for ColorForce {
    fn check(&self) -> Result<()> {
        self.settings.check()?;
        self.saliency.check()
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        let settings = &self.settings;
        if self.chosen {
            // Nobody reads the attention outside the window.
            let (min, max) = settings.window;
            self.saliency = Box::new(Daam::of(&settings.phrase).window(min, max));
        }
        self.saliency.begin(setup)?;
        let gold = settings.gold.latent(settings.color, setup)?;
        let mask = match &settings.mask {
            Some(region) => Some(region.on(setup.grid)?.f_to_device(setup.device)?),
            None => None,
        };
        let mut trace = Trace::new(setup.images, setup.codec.cell());
        settings.doubts(setup, self.saliency.range(), &gold).into_iter().for_each(|doubt| trace.warn(doubt));
        self.run = Some(Forcing { gold, mask, active: false, trace });
        Ok(())
    }

    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.saliency.condition(branch, conditioning, codec)
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if step.eval == 0 {
            run.active = self.settings.covers(step.timestep);
        }
        // Outside the window nobody reads the saliency, so its branches are not worth an evaluation.
        if run.active { self.saliency.plan(step, plan) } else { Ok(()) }
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.saliency.hooks()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        match &self.run {
            Some(run) if run.active => self.saliency.predicted(step, predictions),
            _ => Ok(()),
        }
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.saliency.denoised(step, denoised)?;
        if self.settings.target == ForceTarget::Denoised
            && let Some(pull) = self.pull(step, step.eval == 0)?
        {
            let shift = pull.shift(&denoised.x0)?;
            pull.add_to(&mut denoised.pulls, shift, self.settings.overlap);
        }
        Ok(())
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.saliency.transition(step, transition)?;
        let target = self.settings.target;
        if target != ForceTarget::Denoised
            && let Some(pull) = self.pull(step, true)?
        {
            let base = if target == ForceTarget::Mean { &transition.mean } else { &transition.x0 };
            let shift = pull.shift(base)?;
            pull.add_to(&mut transition.pulls, shift, self.settings.overlap);
        }
        Ok(())
    }

    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        self.saliency.finish(latent, codec)
    }

    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        self.saliency.decoded(picture)?;
        match &mut self.run {
            Some(run) => run.trace.measure(picture, self.settings.color),
            None => Ok(()),
        }
    }

    fn notes(&self) -> Vec<String> {
        let phrase = &self.settings.phrase;
        let own = self.run.iter().flat_map(|run| run.trace.warnings());
        own.map(|warning| format!("\"{phrase}\": {warning}")).chain(self.saliency.notes()).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Settings { phrase, color, .. } = &self.settings;
        self.run.as_ref().map(|run| run.trace.summary(phrase, *color, &run.gold)).transpose()
    }

    fn name(&self) -> &'static str {
        "ColorForce"
    }
}
