//! [`UnmergedLora`]: a LoRA in a part of the steps, or in a part of the picture.

use super::place::{PART, Place};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning, LoraPlace, LoraStrengths, UnmergedLoras};
use crate::diffusion::{Denoised, Predictions, Transition};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Plan, Report, Setup};
use crate::mask::Region;
use crate::methods::image_guidance::inside;
use crate::recipe::Recipe;
use crate::saliency::{Saliency, SaliencyRun};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Kind;

/// Lets a LoRA act in a part of the steps, in a part of the picture, or both.
///
/// The model keeps the LoRA beside its weights ([`Model::with_unmerged`](crate::Model::with_unmerged)). The low-rank
/// products are computed at each step of the window, times the strength and, cell by cell, times the share of the
/// place. All branches have the LoRA, as if it were merged. Several methods may name the same LoRA, for example with
/// different strengths in different windows: where they overlap, their strengths add up.
///
/// In a place, convolutions, self-attention and feed-forward layers change in the cells of the place alone. At
/// cross-attention sites these cells attend to the changed keys and values of the prompt. Other methods that read or
/// change the attention to the prompt see the unchanged keys and values. Changes of the time embedding do not act in a
/// place, and neither do changes of the prompt's own layers in joint attention (SD 3, Z-Image). A cell sees its
/// neighbors, so the picture outside the place also changes a little.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::UnmergedLora;
/// use impasto::weights::Lora;
/// use impasto::{Model, Pipeline, Source, Window};
///
/// let model = Model::load(&Source::file("model.safetensors"))?;
/// let pipeline = Pipeline::new(model.with_unmerged(&[Lora::open("knit.safetensors")?])?);
/// let late = UnmergedLora::new("knit", 0.9).window(Window::progress(0.4..=1.0)); // keeps the layout of the model
/// let scarf = UnmergedLora::new("knit", 1.0).on("scarf"); // only where the picture shows the scarf
/// let output = pipeline.request("a fox with a red scarf").guide(scarf).run()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct UnmergedLora {
    lora: String,
    strength: f64,
    #[serde(default)]
    place: Place,
    window: Window,
}

impl UnmergedLora {
    /// Lets the LoRA of this name act at a strength, -10..=10: 1 as trained, 0 not at all. The strength is a factor of
    /// the LoRA's own ([`Lora::scale`](crate::weights::Lora::scale)).
    pub fn new(lora: impl Into<String>, strength: f64) -> Self {
        Self { lora: lora.into(), strength, place: Place::Everywhere, window: Window::WHOLE }
    }

    /// Acts only in this window. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Acts only in the cells of a region, which may have soft edges and may differ from image to image.
    pub fn within(mut self, region: Region) -> Self {
        self.place = Place::Region(region);
        self
    }

    /// Acts only in the cells where the picture shows the object that `phrase` names in the prompt.
    /// [`Daam::competing`](crate::saliency::Daam::competing) finds the object. The map of the object exists from
    /// timestep 850 down; the LoRA does not act before.
    pub fn on(mut self, phrase: impl Into<String>) -> Self {
        self.place = Place::phrase(phrase.into());
        self
    }
}

impl Guidance for UnmergedLora {
    fn check(&self) -> Result<()> {
        check_strength(self.strength)?;
        self.place.check()?;
        self.window.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(Acting::new(self, setup)?))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("UnmergedLora", self)
    }

    fn name(&self) -> &'static str {
        "UnmergedLora"
    }
}

/// Checks the strength of a LoRA.
///
/// # Errors
/// [`Error::Parameter`] for a strength outside -10..=10.
pub(super) fn check_strength(strength: f64) -> Result<()> {
    inside("strength of a LoRA", strength, &(-10.0..=10.0))
}

/// Checks that a model has an unmerged LoRA.
///
/// # Errors
/// [`Error::Parameter`] if not.
pub(super) fn check_lora(name: &str, codec: &dyn Codec) -> Result<()> {
    match codec.capability::<dyn UnmergedLoras>() {
        Some(model) => model.check_lora(name),
        None => Err(Error::parameter("lora", name, "none, because this network takes no LoRAs")),
    }
}

/// Adds a LoRA to a conditioning at the steps of the ranges.
pub(super) fn add_to_steps(
    ranges: &[Range<usize>],
    conditioning: &mut Conditioning,
    (lora, strength, place): (&str, f64, Option<&LoraPlace>),
) -> Result<()> {
    ranges.iter().try_for_each(|steps| {
        conditioning.during(steps.clone(), |part| {
            LoraStrengths::add(part, lora, strength, place);
            Ok(())
        })
    })
}

/// Returns the ranges of a run's steps that are in a window.
pub(super) fn steps_in(window: &Window, setup: &Setup<'_>) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for step in setup.schedule.steps().filter(|step| window.contains(step)) {
        match ranges.last_mut() {
            Some(last) if last.end == step.index => last.end += 1,
            _ => ranges.push(step.index..step.index + 1),
        }
    }
    ranges
}

/// The state of one run.
struct Acting {
    settings: UnmergedLora,
    /// Steps in which the LoRA acts.
    steps: Vec<Range<usize>>,
    /// Cells in which the LoRA acts; `None`: all cells.
    place: Option<LoraPlace>,
    /// The search for the place's phrase.
    look: Option<Box<dyn SaliencyRun>>,
}

impl Acting {
    fn new(settings: &UnmergedLora, setup: &mut Setup<'_>) -> Result<Self> {
        check_lora(&settings.lora, setup.codec)?;
        let (mut place, mut look) = (None, None);
        match &settings.place {
            Place::Everywhere => {}
            Place::Region(region) => {
                let shares = region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?;
                place.insert(LoraPlace::new()).set(Some(shares))?;
            }
            Place::Phrase { look: daam, .. } => {
                place = Some(LoraPlace::new());
                look = (settings.strength != 0.0).then(|| daam.find(setup)).transpose()?;
            }
        }
        Ok(Self { settings: settings.clone(), steps: steps_in(&settings.window, setup), place, look })
    }

    /// Returns true if a phrase was searched for, and no cell shows its object.
    fn is_lost(&self) -> bool {
        let map = self.look.as_ref().and_then(|look| look.map().ok().flatten());
        let found = map.and_then(|map| map.f_ge(PART).and_then(|part| part.f_any()?.f_int64_value(&[])).ok());
        self.look.is_some() && found.is_none_or(|found| found == 0)
    }
}

impl GuidanceRun for Acting {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        let UnmergedLora { lora, strength, .. } = &self.settings;
        add_to_steps(&self.steps, conditioning, (lora, *strength, self.place.as_ref()))?;
        self.look.iter_mut().try_for_each(|look| look.condition(branch, conditioning, codec))
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let (Some(look), Some(place)) = (&mut self.look, &self.place) else { return Ok(()) };
        look.plan(step, plan)?;
        place.set(look.map()?.map(|map| map.f_ge(PART)?.f_to_kind(Kind::Float)).transpose()?)
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.look.iter_mut().flat_map(|look| look.hooks()).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.look.iter_mut().try_for_each(|look| look.predicted(step, predictions))
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.look.iter_mut().try_for_each(|look| look.denoised(step, denoised))
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.look.iter_mut().try_for_each(|look| look.transition(step, transition))
    }

    fn notes(&self) -> Vec<Note> {
        let UnmergedLora { lora, strength, window, place } = &self.settings;
        let lora = excerpt(lora, QUOTED);
        if *strength == 0.0 {
            return vec![
                format!("the LoRA \"{lora}\" has the strength 0, so it did nothing; raise the strength").into(),
            ];
        }
        if self.steps.is_empty() {
            let idle = format!("no step of this run is in the window ({window}), so the LoRA \"{lora}\" did nothing");
            return vec![Remedy::Window.after(idle)];
        }
        match place {
            Place::Phrase { phrase, .. } if self.is_lost() => {
                let phrase = excerpt(phrase, QUOTED);
                let lost = format!("\"{phrase}\" was not found in the picture, so the LoRA \"{lora}\" did nothing");
                vec![Remedy::Phrase.after(lost)]
            }
            _ => Vec::new(),
        }
    }

    fn report(&self) -> Result<Option<Report>> {
        let UnmergedLora { lora, strength, window, .. } = &self.settings;
        let data = serde_json::json!({ "lora": lora, "strength": strength, "window": window });
        Ok(Some(Report { data, ..Report::new(format!("UnmergedLora {lora}")) }))
    }
}
