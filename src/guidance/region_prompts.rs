//! Prompts of their own for regions of the picture.

use super::{Area, Guidance, PaintWithWords, Picture, Plan, Region, Report, Setup};
use crate::attention::CrossAttentionHook;
use crate::branch::Branch;
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::recipe::{self, Recipe};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Draws regions of the picture after prompts of their own, all in one run.
///
/// Each prompt is predicted over the whole canvas, as one more branch, and its prediction x replaces the prompt's inside its
/// region before the negative prompt is weighed against it: x_cond ← x_cond + strength · mask · (x − x_cond), region after
/// region, so that later ones lie on earlier ones. What is mixed is what the whole canvas would be, so regions fit together at
/// their edges. A step costs one more call for every prompt; regions of the same prompt share it.
///
/// Each prompt alone would put its things anywhere on the canvas, and what lies outside its region is lost. So
/// [`thing`](Self::thing) paints a phrase of it there, in its own branch.
///
/// The prompts are no variations of the run's prompt: what other guidances do to that one is not done to them, and words
/// are looked up in that one alone. A guidance that compares predictions (`Differential`) is attached before this one.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::guidance::{Region, RegionPrompts};
///
/// let regions = RegionPrompts::default()
///     .thing(Region::rect(0.0..0.5, 0.4..1.0), "a red house, ground, sky", "red house", 0.8)
///     .thing(Region::rect(0.5..1.0, 0.4..1.0), "a brown tree, ground, sky", "brown tree", 0.8);
/// let mut pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("green ground, blue sky").seed(7).steps(4).guide(regions).run()?;
/// # Ok(()) }
/// ```
///
/// Source: FlexDiffuse, `composition/guide.py`. It mixes noise predictions, which is the same at one noise level.
#[derive(Serialize, Deserialize)]
pub struct RegionPrompts {
    parts: Vec<Part>,
    hold: f64,
    #[serde(with = "recipe::window")]
    window: (f64, f64),
    #[serde(skip)]
    run: Vec<Placed>,
    /// One for each branch.
    #[serde(skip)]
    paints: Vec<PaintWithWords>,
    #[serde(skip)]
    notes: Vec<String>,
}

/// Of a thing in its region; see `docs/painting.md`.
pub(super) const USUAL_HOLD: f64 = 2.0;

/// A region and its prompt.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    region: Region,
    prompt: String,
    /// What of the prompt is held in the region.
    thing: Option<String>,
    strength: f64,
}

/// The same in one run.
#[derive(Debug)]
struct Placed {
    branch: Branch,
    /// strength · mask, [1 or n, 1, h, w].
    weight: Tensor,
}

/// No regions yet.
impl Default for RegionPrompts {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            hold: USUAL_HOLD,
            window: (f64::INFINITY, 0.0),
            run: Vec::new(),
            paints: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl RegionPrompts {
    /// Adds a region, soft if need be. `strength` is how much of its prediction counts there, 0..=1: .8 is FlexDiffuse's, 1
    /// forgets the run's prompt inside.
    pub fn add(mut self, region: Region, prompt: impl Into<String>, strength: f64) -> Self {
        self.parts.push(Part { region, prompt: prompt.into(), thing: None, strength });
        self
    }

    /// The same, and `thing`, a phrase of the region's prompt, is held in the region.
    pub fn thing(mut self, region: Region, prompt: impl Into<String>, thing: impl Into<String>, strength: f64) -> Self {
        self.parts.push(Part { region, prompt: prompt.into(), thing: Some(thing.into()), strength });
        self
    }

    /// How strongly things are held in their regions, 0..=10: as by a [`PaintWithWords`] of this strength under its default
    /// law. Default 2; much more fills regions instead of drawing things in them.
    pub fn hold(mut self, strength: f64) -> Self {
        self.hold = strength;
        self
    }

    /// Acts only on evaluations at noise levels `low..=high`; the first are the highest. Default: all.
    pub fn sigmas(mut self, high: f64, low: f64) -> Self {
        self.window = (high, low);
        self
    }

    /// The things of a prompt, painted where they are to be in its branch; `None` if it has none.
    fn held(&self, prompt: &str, branch: Branch, setup: &mut Setup<'_>) -> Result<Option<PaintWithWords>> {
        let mine = self.parts.iter().filter(|part| part.prompt == prompt && part.strength > 0.0);
        let things = mine.filter_map(|part| Some(Area::mask(part.region.again(), part.thing.as_ref()?)));
        let things: Vec<Area> = things.map(|area| area.strength(self.hold)).collect();
        if things.is_empty() || self.hold == 0.0 {
            return Ok(None);
        }
        let (high, low) = self.window;
        let paint = PaintWithWords::default().sigmas(high, low);
        let mut paint = things.into_iter().fold(paint, PaintWithWords::area);
        paint.check()?;
        paint.set_branch(branch);
        let read = setup.codec.prompt_pair(prompt, prompt)?;
        paint.begin(&mut Setup { prompt: &read, branches: &mut *setup.branches, ..*setup })?;
        Ok(Some(paint))
    }

    fn covers(&self, step: &Step) -> bool {
        let (high, low) = self.window;
        (low..=high).contains(&step.sigma)
    }
}

impl Guidance for RegionPrompts {
    fn check(&self) -> Result<()> {
        if self.parts.is_empty() {
            return Err(Error::parameter("regions", "empty", "at least one region with a prompt"));
        }
        let (high, low) = self.window;
        if !(0.0 <= low && low <= high) {
            let window = format!("{high}, {low}");
            return Err(Error::parameter("sigmas", window, "noise levels of 0 or more, the larger one first"));
        }
        if !(0.0..=10.0).contains(&self.hold) {
            return Err(Error::parameter("hold", self.hold, "0..=10; 2 is usual, 0 lets things be anywhere"));
        }
        self.parts.iter().try_for_each(|part| {
            if !(0.0..=1.0).contains(&part.strength) {
                let value = format!("{} for \"{}\"", part.strength, part.prompt);
                return Err(Error::parameter("strength", value, "0..=1; .8 is usual, 1 is the region's prompt alone"));
            }
            part.region.check()
        })
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        (self.run, self.paints, self.notes) = (Vec::new(), Vec::new(), Vec::new());
        for part in &self.parts {
            if part.strength == 0.0 {
                continue;
            }
            // Both encoders of a model with two read the region's prompt.
            let conditioning = setup.codec.text_pair(&part.prompt, &part.prompt)?;
            if let Some(cut) = setup.codec.prompt_pair(&part.prompt, &part.prompt)?.cut() {
                let prompt = &part.prompt;
                self.notes.push(format!("\"{prompt}\" is too long for the text encoder, which does not see \"{cut}\""));
            }
            let branch = setup.add_apart("region", &part.prompt, conditioning)?;
            let known = self.run.iter().any(|placed| placed.branch == branch);
            if !known {
                self.paints.extend(self.held(&part.prompt, branch, setup)?);
            }
            let mask = part.region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?;
            if mask.f_max()?.f_double_value(&[])? == 0.0 {
                self.notes.push(format!("the region of \"{}\" covers no cell", part.prompt));
            }
            self.run.push(Placed { branch, weight: mask.f_mul_scalar(part.strength)? });
        }
        Ok(())
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        if self.covers(step) {
            self.run.iter().for_each(|part| plan.evaluate(part.branch));
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.paints.iter_mut().map(|paint| paint as &mut dyn CrossAttentionHook).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        if !self.covers(step) {
            return Ok(());
        }
        for part in &self.run {
            let x0 = predictions.x0(Branch::Cond)?;
            let change = predictions.x0(part.branch)?.f_sub(x0)?.f_mul(&part.weight)?;
            let mixed = x0.f_add(&change)?;
            *predictions.x0_mut(Branch::Cond)? = mixed;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.iter().cloned().chain(self.paints.iter().flat_map(|paint| paint.notes())).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        if self.run.is_empty() {
            return Ok(None);
        }
        let parts: Vec<&Part> = self.parts.iter().filter(|part| part.strength > 0.0).collect();
        let said = |part: &&Part| serde_json::json!({ "prompt": part.prompt, "strength": part.strength });
        let data = parts.iter().map(said).collect();
        let mut report = Report::new(format!("RegionPrompts, {}", parts.len())).data(data);
        for (part, placed) in parts.iter().zip(&self.run) {
            let count = placed.weight.size4()?.0;
            for image in 0..count {
                let picture = Picture::map(part.prompt.as_str(), &placed.weight.f_get(image)?.f_get(0)?);
                report = report.picture(if count == 1 { picture } else { picture.image(image as usize) });
            }
        }
        Ok(Some(report))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("RegionPrompts", self)
    }

    fn name(&self) -> &'static str {
        "RegionPrompts"
    }
}
