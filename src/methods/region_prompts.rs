//! Separate prompts for regions of the picture.

use crate::attention::CrossAttentionHook;
use crate::branch::Branch;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning, LoraPlace};
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Plan, Report, Setup};
use crate::mask::Region;
use crate::methods::image_guidance::Guiding;
use crate::methods::paint_with_words::Area;
use crate::methods::paint_with_words::Painting;
use crate::methods::unmerged_lora::{add_to_steps, check_lora, check_strength, steps_in};
use crate::methods::{ImageGuidance, PaintWithWords};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::window::Window;
use crate::wording::{LONG_QUOTE, Note, QUOTED, excerpt};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// Draws each region of the picture from a prompt of its own, all in one run.
///
/// Each region's prompt has a branch of its own, which predicts the whole canvas. Inside the region, that prediction x
/// is mixed into x_cond, the prediction of the run's prompt: x_cond ← x_cond + strength · mask · (x − x_cond). This
/// happens before classifier-free guidance. Regions are mixed one after the other, so later regions cover earlier ones.
/// Every prediction covers the whole canvas, so regions fit together at their edges. A step costs one more call of the
/// network for every region prompt; regions with the same prompt share the call.
///
/// A prompt alone would place its things anywhere on the canvas, and things outside the region are lost.
/// [`thing`](Self::thing) therefore paints a phrase of the prompt in the region, in the prompt's own branch.
///
/// A region may also be guided by a picture or a second text ([`RegionPrompt::guided`]), or drawn with a LoRA of its
/// own ([`RegionPrompt::lora`]).
///
/// The branches of these prompts are independent of the run's prompt. Other guidance methods that edit the run's prompt
/// do not edit these prompts, and look words up only in the run's prompt. A guidance method that compares predictions
/// (`Differential`) must be attached before `RegionPrompts`.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::mask::Region;
/// use impasto::methods::RegionPrompts;
///
/// let regions = RegionPrompts::default()
///     .thing(Region::rect(0.0..0.5, 0.4..1.0), "a red house, ground, sky", "red house", 0.8)
///     .thing(Region::rect(0.5..1.0, 0.4..1.0), "a brown tree, ground, sky", "brown tree", 0.8);
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("green ground, blue sky").seed(7).steps(4).guide(regions).run()?;
/// # Ok(()) }
/// ```
///
/// Source: FlexDiffuse, `composition/guide.py`. FlexDiffuse mixes noise predictions, which gives the same result at one
/// noise level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct RegionPrompts {
    parts: Vec<RegionPrompt>,
    hold: f64,
    window: Window,
}

/// Default strength that holds a thing in its region; see `docs/painting.md`.
pub(crate) const USUAL_HOLD: f64 = 2.0;

/// Largest number of regions of a run.
pub(crate) const MOST_REGIONS: usize = 64;

/// A region and its prompt, for [`RegionPrompts::region`].
///
/// ```
/// use impasto::mask::Region;
/// use impasto::methods::{ImageGuidance, RegionPrompt, RegionPrompts};
///
/// let guide = ImageGuidance::text("teal");
/// let left = RegionPrompt::new(Region::rect(0.0..0.5, 0.0..1.0), "a boat, sea", 0.8).thing("boat").guided(guide);
/// let regions = RegionPrompts::default().region(left);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct RegionPrompt {
    region: Region,
    prompt: String,
    /// Phrase of the prompt that is held in the region.
    thing: Option<String>,
    strength: f64,
    /// Guide of the region's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guide: Option<ImageGuidance>,
    /// Name and strength of the region's LoRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lora: Option<(String, f64)>,
}

impl RegionPrompt {
    /// Creates a region, which may have soft edges. `strength`, 0..=1, is the share of the region's prediction inside
    /// the region. FlexDiffuse uses .8; at 1 the run's prompt is ignored there.
    pub fn new(region: Region, prompt: impl Into<String>, strength: f64) -> Self {
        Self { region, prompt: prompt.into(), thing: None, strength, guide: None, lora: None }
    }

    /// Holds a phrase of the region's prompt in the region.
    pub fn thing(mut self, thing: impl Into<String>) -> Self {
        self.thing = Some(thing.into());
        self
    }

    /// Guides the region's prompt by a picture or a second text.
    pub fn guided(mut self, guide: ImageGuidance) -> Self {
        self.guide = Some(guide);
        self
    }

    /// Draws the region with a LoRA that the model keeps beside its weights
    /// ([`Model::with_unmerged`](crate::Model::with_unmerged)): its name, and its strength, -10..=10. The region's
    /// prediction has the LoRA on the whole canvas, and the predictions of the run's prompt and of the negative prompt
    /// have it inside the region.
    pub fn lora(mut self, name: impl Into<String>, strength: f64) -> Self {
        self.lora = Some((name.into(), strength));
        self
    }

    /// Returns true if the region has a branch that it shares with no other region.
    const fn is_apart(&self) -> bool {
        self.guide.is_some() || self.lora.is_some()
    }

    /// Returns true if the region changes the picture.
    fn counts(&self) -> bool {
        self.strength > 0.0
    }
}

/// The state of one run.
struct Placing {
    settings: RegionPrompts,
    /// The regions that count.
    run: Vec<Placed>,
    /// Painting of things, one entry for each branch that holds things.
    paints: Vec<Painting>,
    notes: Vec<Note>,
    /// Steps of the window.
    steps: Vec<Range<usize>>,
}

/// A region in one run.
#[derive(Debug)]
struct Placed {
    branch: Branch,
    prompt: String,
    strength: f64,
    guide: Option<Guiding>,
    /// Name, strength and place of the region's LoRA.
    lora: Option<(String, f64, LoraPlace)>,
    /// strength · mask, [1 or n, 1, h, w].
    weight: Tensor,
}

/// Starts without regions.
impl Default for RegionPrompts {
    fn default() -> Self {
        Self { parts: Vec::new(), hold: USUAL_HOLD, window: Window::WHOLE }
    }
}

impl RegionPrompts {
    /// Adds a region: short for `.region(RegionPrompt::new(region, prompt, strength))`.
    pub fn add(self, region: Region, prompt: impl Into<String>, strength: f64) -> Self {
        self.region(RegionPrompt::new(region, prompt, strength))
    }

    /// Adds a region as [`add`](Self::add) does, and holds `thing`, a phrase of the region's prompt, in the region.
    pub fn thing(self, region: Region, prompt: impl Into<String>, thing: impl Into<String>, strength: f64) -> Self {
        self.region(RegionPrompt::new(region, prompt, strength).thing(thing))
    }

    /// Adds a region.
    pub fn region(mut self, region: RegionPrompt) -> Self {
        self.parts.push(region);
        self
    }

    /// Sets how strongly things are held in their regions, 0..=10. `strength` means the same as the strength of an area
    /// of [`PaintWithWords`] under the default law. Default 2; much larger values fill regions instead of drawing
    /// things in them.
    pub fn hold(mut self, strength: f64) -> Self {
        self.hold = strength;
        self
    }

    /// Acts only in this window. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Returns the painting of the things of regions that share one prompt; `None` if nothing is to be painted. `parts`
    /// are these regions, and `branch` is the branch of their prompt.
    fn held(&self, parts: &[&RegionPrompt], branch: Branch, setup: &mut Setup<'_>) -> Result<Option<Painting>> {
        let things = parts.iter().filter_map(|part| Some(Area::mask(part.region.clone(), part.thing.as_ref()?)));
        let things: Vec<Area> = things.map(|area| Area { strength: self.hold, ..area }).collect();
        let Some(prompt) = parts.first().map(|part| part.prompt.as_str()) else { return Ok(None) };
        if things.is_empty() || self.hold == 0.0 {
            return Ok(None);
        }
        let paint = PaintWithWords::default().window(self.window).tune(|options| options.branch = branch);
        let paint = things.into_iter().fold(paint, PaintWithWords::area);
        paint.check()?;
        let read = setup.codec.prompt(prompt.into())?;
        paint.painting(&setup.for_prompt(&read)).map(Some)
    }
}

impl Placing {
    /// Adds a branch for each prompt, and a branch for each region with a guide.
    fn new(settings: &RegionPrompts, setup: &mut Setup<'_>) -> Result<Self> {
        let mut placing = Self {
            settings: settings.clone(),
            run: Vec::new(),
            paints: Vec::new(),
            notes: Vec::new(),
            steps: steps_in(&settings.window, setup),
        };
        let parts: Vec<&RegionPrompt> = settings.parts.iter().filter(|part| part.counts()).collect();
        for part in &parts {
            let prompt = &part.prompt;
            let read = setup.codec.prompt(prompt.into())?;
            let guide = part.guide.as_ref().map(|guide| guide.guiding(&setup.for_prompt(&read))).transpose()?;
            // In a model with two text encoders, both read the region's prompt.
            let conditioning = setup.codec.text(prompt.into())?;
            if let Some(cut) = read.cut() {
                let (prompt, cut) = (excerpt(prompt, QUOTED), excerpt(cut, LONG_QUOTE));
                placing.notes.push(Note::from(format!(
                    "\"{prompt}\" is too long for the text encoder, which does not see \"{cut}\"; shorten the prompt"
                )));
            }
            let (branch, mine) = match part.is_apart() {
                true => (setup.add_alone("region", prompt, conditioning)?, vec![*part]),
                false => {
                    let mine = parts.iter().filter(|other| other.prompt == *prompt && !other.is_apart());
                    (setup.add_apart("region", prompt, conditioning)?, mine.copied().collect())
                }
            };
            if !placing.run.iter().any(|placed| placed.branch == branch) {
                placing.paints.extend(settings.held(&mine, branch, setup)?);
            }
            let mask = part.region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?;
            if mask.f_max()?.f_double_value(&[])? == 0.0 {
                let prompt = excerpt(prompt, QUOTED);
                placing.notes.push(Note::from(format!(
                    "the region of \"{prompt}\" covers no cell, so the prompt has no effect; enlarge the region"
                )));
            }
            let lora = match &part.lora {
                Some((name, strength)) => {
                    check_lora(name, setup.codec)?;
                    let place = LoraPlace::new();
                    place.set(Some(mask.shallow_clone()))?;
                    Some((name.clone(), *strength, place))
                }
                None => None,
            };
            let (prompt, strength, weight) = (prompt.clone(), part.strength, mask.f_mul_scalar(part.strength)?);
            placing.run.push(Placed { branch, prompt, strength, guide, lora, weight });
        }
        Ok(placing)
    }
}

impl Guidance for RegionPrompts {
    fn check(&self) -> Result<()> {
        if self.parts.is_empty() {
            return Err(Error::parameter("regions", "empty", "at least one region with a prompt; call add or thing"));
        }
        if self.parts.len() > MOST_REGIONS {
            let expected =
                format!("at most {MOST_REGIONS} regions, because each prompt adds a call of the network to every step");
            return Err(Error::parameter("regions", self.parts.len(), expected));
        }
        self.window.check()?;
        if !(0.0..=10.0).contains(&self.hold) {
            return Err(Error::parameter("hold", self.hold, "0..=10; 2 is usual, 0 does not hold things in place"));
        }
        self.parts.iter().try_for_each(|part| {
            if !(0.0..=1.0).contains(&part.strength) {
                let value = format!("{} for \"{}\"", part.strength, part.prompt);
                return Err(Error::parameter(
                    "strength",
                    value,
                    "0..=1; .8 is usual, 1 uses the region's prompt alone",
                ));
            }
            part.guide.as_ref().map_or(Ok(()), Guidance::check)?;
            part.lora.as_ref().map_or(Ok(()), |(_, strength)| check_strength(*strength))?;
            part.region.check()
        })
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(Placing::new(self, setup)?))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("RegionPrompts", self)
    }

    fn name(&self) -> &'static str {
        "RegionPrompts"
    }
}

impl GuidanceRun for Placing {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        let is_region = self.run.iter().any(|placed| placed.branch == branch.branch);
        for Placed { branch: own, lora, .. } in &self.run {
            let Some((name, strength, place)) = lora else { continue };
            let place = match (*own == branch.branch, is_region) {
                (true, _) => None,
                (false, false) => Some(place),
                (false, true) => continue, // Another region's prediction is not mixed in here.
            };
            add_to_steps(&self.steps, conditioning, (name, *strength, place))?;
        }
        let mine = self.run.iter_mut().find(|placed| placed.branch == branch.branch);
        let Some(Placed { guide: Some(guide), .. }) = mine else { return Ok(()) };
        // A guide edits only the run's prompt, so it gets the region's prompt under the name of the run's prompt.
        let prompt = BranchInfo { branch: Branch::Cond, like: Branch::Cond, ..branch.clone() };
        guide.condition(&prompt, conditioning, codec)
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        if self.settings.window.contains(step) {
            self.run.iter().for_each(|part| plan.evaluate(part.branch));
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.paints.iter_mut().map(|paint| paint as &mut dyn CrossAttentionHook).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        if !self.settings.window.contains(step) {
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

    fn notes(&self) -> Vec<Note> {
        let guides = self.run.iter().filter_map(|placed| placed.guide.as_ref());
        let paints = self.paints.iter().flat_map(|paint| paint.notes());
        self.notes.iter().cloned().chain(paints).chain(guides.flat_map(|guide| guide.notes())).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        if self.run.is_empty() {
            return Ok(None);
        }
        let said = |placed: &Placed| {
            let guide = placed.guide.as_ref().and_then(|guide| guide.report.as_ref());
            serde_json::json!({ "prompt": placed.prompt, "strength": placed.strength, "guide": guide })
        };
        let data = self.run.iter().map(said).collect();
        let mut pictures = Vec::new();
        for placed in &self.run {
            let count = placed.weight.size4()?.0;
            for image in 0..count {
                let picture = Picture::map(placed.prompt.as_str(), &placed.weight.f_get(image)?.f_get(0)?);
                pictures.push(if count == 1 { picture } else { picture.image(image as usize) });
            }
        }
        Ok(Some(Report { data, pictures, ..Report::new(format!("RegionPrompts, {}", self.run.len())) }))
    }
}
