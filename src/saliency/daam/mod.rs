//! DAAM: maps of the picture's attention to a phrase.

mod compete;
mod maps;
mod occurrence;
mod options;
mod pairs;
mod recording;
mod refine;
mod spread;
mod words;

pub use occurrence::Occurrence;
pub use options::DaamOptions;
pub use refine::Refine;
pub use spread::{Spread, SpreadRun};
pub use words::{WordMaps, WordMapsRun};

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Plan, Report, Setup};
use crate::prompt::{Named, Prompt, TokenSpan};
use crate::recipe::{Function, Recipe};
use crate::saliency::heat_map::HeatMap;
use crate::saliency::series::Accumulate;
use crate::saliency::{Competition, Differential, Normalize, Saliency, SaliencyRun, Varied, is_flat};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use compete::Roles;
use recording::{Merge, Recorder, Recording, Subjects};
use refine::Refining;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use tch::Tensor;

/// Saliency of a phrase: the phrase's share of the cross-attention in the prompt's branch, as the mean over heads,
/// sites and the phrase's tokens. Reading attention does not change a bit of the picture.
///
/// In each attention call, the columns of the phrase's tokens are summed over heads, and added to one sum per grid. A
/// reading resizes these sums (bicubic) to the latent's size. So memory does not grow with the number of tokens, heads,
/// sites or steps: SD 1.5 at 512×512 needs 43 kB.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::saliency::{Daam, DaamRun};
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(4).guide(Daam::of("eyes")).run()?;
/// let overlay = output.details::<DaamRun>("eyes")?.heat_map(0)?.overlay(output.image(0)?, 0.6)?;
/// # Ok(()) }
/// ```
///
/// Source: Tang et al., "What the DAAM" (ACL 2023). Results differ from the authors' package where the package is
/// wrong: for batches, pictures that are not square, runs without guidance and long prompts. The hook
/// `tests/conformance/package_daam.rs` reproduces the package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Daam {
    phrase: String,
    recorder: Recorder,
    #[serde(flatten)]
    options: DaamOptions,
}
/// Attention of the heads of one site, from [`DaamRun::head_maps`].
#[derive(Debug)]
#[non_exhaustive]
pub struct HeadMaps {
    /// Site of the heads.
    pub site: AttentionSite,
    /// Mean share of attention over all recorded evaluations, [n, heads, h, w] f32 on the site's own grid.
    pub maps: Tensor,
}

impl Daam {
    /// Creates saliency from the picture's attention to `phrase`. Every place of the phrase in the prompt counts.
    pub fn of(phrase: impl Into<String>) -> Self {
        Self { phrase: phrase.into(), recorder: Recorder::default(), options: DaamOptions::default() }
    }

    /// Creates saliency of the cells where `phrase` leads over the other words of the prompt, as in
    /// [`ColorForce::exact`](crate::methods::ColorForce::exact). The map is the mean over the run from timestep 850 on,
    /// with [`Refine::contrast`]. Cells of .5 and more belong to the phrase.
    pub fn competing(phrase: impl Into<String>) -> Self {
        let look = Self::of(phrase).window(Window::timesteps(0..=850)).or_whole_run();
        look.tune(|options| (options.accumulate, options.refine) = (Accumulate::Mean, Refine::contrast()))
    }
}

/// # Sites, steps and settings
impl Daam {
    /// Reads only cross-attention sites that `select` accepts. Default: the sites that find
    /// words ([`AttentionSite::finds_words`]).
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.recorder.sites = Some(Function(Arc::new(select)));
        self
    }

    /// Records only in this window. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.recorder.window = window;
        self
    }

    /// Records the whole run if the schedule has no step in the window, as in runs of one or two steps.
    pub(crate) fn or_whole_run(mut self) -> Self {
        self.recorder.or_whole_run = true;
        self
    }

    /// Changes the settings that seldom need to change; see [`DaamOptions`].
    ///
    /// ```
    /// use impasto::saliency::{Daam, Normalize};
    /// let raw = Daam::of("hair").tune(|options| options.normalize = Normalize::Raw);
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut DaamOptions)) -> Self {
        change(&mut self.options);
        self
    }
}

impl Daam {
    /// Returns the places of the phrase that count: whole names, if there are any.
    fn places(&self, prompt: &Prompt) -> Result<Vec<Range<usize>>> {
        let chosen = self.options.occurrence.of(&self.phrase, prompt)?;
        Ok(prompt.whole(chosen.map_or_else(|| prompt.places(&self.phrase), Ok)?))
    }

    /// Adds the branches that show where the prediction of `branch` changes, and chooses the steps at which they are
    /// evaluated.
    fn changes(&self, branch: Branch, setup: &mut Setup<'_>) -> Result<Changes> {
        let places = |prompt: &Prompt| self.places(prompt);
        let mut all = Vec::with_capacity(self.options.changes.len());
        for change in &self.options.changes {
            match change.vary(branch, places, setup) {
                // A phrase that only a second text encoder reads cannot be varied, so its attention alone is used.
                Err(Error::PhraseNotFound { .. } | Error::PhraseTruncated { .. }) => return Ok(Changes::default()),
                varied => all.push(varied?),
            }
        }
        let steps = setup.schedule.steps().filter(|step| CHANGES.contains(&step.sd_timestep));
        let steps: Vec<usize> = steps.map(|step| step.index).collect();
        let count = steps.len().min(MOST_CHANGES);
        let asks = (0..count).filter_map(|at| steps.get(at * steps.len() / count).copied()).collect();
        Ok(Changes { all, asks, asked: None })
    }

    /// Returns the words to tell apart: the phrase first, then the words with a role, then the other words.
    fn things(&self, setup: &Setup<'_>) -> Result<(Vec<Named>, Roles)> {
        let prompt = setup.prompt;
        let own = match self.options.occurrence.of(&self.phrase, prompt)? {
            Some(places) => prompt.thing_at(&self.phrase, &places)?,
            None => prompt.thing(&self.phrase)?,
        };
        let meet =
            |a: &[TokenSpan], b: &[TokenSpan]| a.iter().any(|a| b.iter().any(|b| a.start < b.end && b.start < a.end));
        let named = |phrase: &String| Ok((phrase.clone(), prompt.thing(phrase)?));
        let is_other = |phrase: &&String| !phrase.eq_ignore_ascii_case(&self.phrase);
        let chosen = self.options.among.iter().chain(&self.options.against).filter(is_other);
        let mut certain: Vec<Named> = chosen.map(named).collect::<Result<_>>()?;
        let mut others = if self.options.among.is_empty() { prompt.rivals(&own) } else { Vec::new() };
        if self.options.occurrence != Occurrence::All {
            // Other places of the same name ("hat" and another "hat") compete with the chosen place.
            let places = prompt.find_at(&self.phrase, &prompt.whole(prompt.places(&self.phrase)?))?;
            certain.extend(others.extract_if(.., |(_, spans)| meet(spans, &places)));
        }
        others.retain(|(_, spans)| certain.iter().all(|(_, known)| !meet(spans, known)));
        let mut spared = Vec::new();
        for phrase in &self.options.except {
            let places = prompt.find(phrase)?;
            spared.extend(others.extract_if(.., |(_, spans)| meet(spans, &places)));
        }
        let compounds = prompt.compounds(&self.phrase);
        let compound: Vec<Named> = others.extract_if(.., |(_, spans)| meet(spans, &compounds)).collect();
        let roles = Roles { certain: certain.len(), compound: compound.len(), spared: spared.len() };
        let words =
            std::iter::once((self.phrase.clone(), own)).chain(certain).chain(compound).chain(spared).chain(others);
        Ok((words.collect(), roles))
    }
}

/// A [`Daam`] in one run, from [`Output::details`](crate::pipeline::Output::details) with the phrase as label.
pub struct DaamRun {
    settings: Daam,
    /// Branch of the prompt that has the phrase.
    branch: Branch,
    recorder: Recorder,
    recording: Recording,
    refining: Option<Refining>,
    changes: Changes,
}

/// The changes of the prediction that confirm the attention.
#[derive(Default)]
struct Changes {
    all: Vec<Varied>,
    /// Steps at which a change is evaluated, by their index.
    asks: Vec<usize>,
    /// Number of the change that is evaluated at this step.
    asked: Option<usize>,
}

impl fmt::Debug for DaamRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaamRun").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl DaamRun {
    /// Returns the mean share of attention over all recorded steps for image `image` of the batch. The values are raw,
    /// and [`DaamOptions::accumulate`] does not change them.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image,
    /// [`Error::NonFinite`] if the attention was not finite.
    pub fn heat_map(&self, image: usize) -> Result<HeatMap> {
        self.recording.heat_map(PHRASE, image)
    }

    /// Returns the phrase's maps of every head, one item per site in the order in which the sites run. The mean of
    /// these maps over all heads, resized to the latent, is [`heat_map`](Self::heat_map).
    ///
    /// # Errors
    /// [`Error::NoMaps`] without [`DaamOptions::per_head`].
    pub fn head_maps(&self) -> Result<Vec<HeadMaps>> {
        let heads = self.recording.heads()?.ok_or(Error::NoMaps("Daam with DaamOptions::per_head"))?;
        let of_phrase =
            |(site, maps): (AttentionSite, Tensor)| Ok(HeadMaps { site, maps: maps.f_select(2, PHRASE as i64)? });
        heads.into_iter().map(of_phrase).collect()
    }

    /// Returns the sum of the changes of the prediction, [n, 1, h, w], each the mean over its steps; `None` before the
    /// first. A word that changes little counts little, such as "red" for a red bow.
    fn change(&self) -> Result<Option<Tensor>> {
        let mut all: Option<Tensor> = None;
        for change in &self.changes.all {
            all = match (all, change.change()?) {
                (Some(sum), Some(one)) => Some(sum.f_add(&one)?),
                (sum, one) => sum.or(one),
            };
        }
        Ok(all)
    }

    /// Returns the change that is evaluated at this step.
    fn asked_change(&mut self) -> Option<&mut Varied> {
        self.changes.all.get_mut(self.changes.asked?)
    }
}

/// Training timesteps at which a change is evaluated. At these timesteps the picture has its shapes, but its colors can
/// still change.
const CHANGES: RangeInclusive<f64> = 400.0..=850.0;
/// Maximum number of steps at which a change is evaluated, because each step with a change costs half as much again.
const MOST_CHANGES: usize = 4;
/// Index of the phrase among the recorded subjects; its map is the mean over the phrase's tokens. For
/// [`Normalize::TokenShare`], two more subjects follow: the sum over the phrase's tokens, and the sum over all words.
const PHRASE: usize = 0;
const PHRASE_SUM: i64 = 1;
const WORDS_SUM: i64 = 2;

impl CrossAttentionHook for DaamRun {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if branch != self.branch {
            return Interest::NONE;
        }
        let looks = self.refining.as_ref().is_some_and(|refining| refining.looks_at(site));
        if looks { Interest::PROBS } else { self.recorder.interest(site) }
    }

    fn active(&self, step: &Step) -> bool {
        self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if let Some(refining) = &mut self.refining {
            refining.add(at, probs)?;
        }
        let reads = at.site.is_cross() && self.recorder.reads(at.site);
        if reads { self.recording.add(at, probs) } else { Ok(()) }
    }
}

impl Guidance for Daam {
    fn check(&self) -> Result<()> {
        self.options.normalize.check()?;
        self.options.refine.check()?;
        self.recorder.check()?;
        self.options.changes.iter().try_for_each(Differential::check)?;
        match self.options.accumulate {
            Accumulate::Ema(beta) if !(beta > 0.0 && beta < 1.0) => {
                Err(Error::parameter("accumulate.Ema", beta, "more than 0 and less than 1; .5 is usual"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Daam", self)
    }

    fn name(&self) -> &'static str {
        "Daam"
    }

    fn label(&self) -> String {
        self.phrase.clone()
    }
}

impl Saliency for Daam {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        self.recorder.check_sites(setup.sites)?;
        let (branch, prompt) = setup.part_with(&self.phrase);
        let setup = &mut setup.for_prompt(prompt);
        let recorder = self.recorder.on(setup.schedule);
        let places = match self.options.occurrence.of(&self.phrase, setup.prompt)? {
            Some(places) => setup.prompt.find_at(&self.phrase, &places)?,
            None => setup.prompt.find(&self.phrase)?,
        };
        let places = TokenSpan::union(places);
        let mut subjects = vec![(self.phrase.clone(), places.clone(), Merge::Mean)];
        if self.options.normalize == Normalize::TokenShare {
            subjects.push((self.phrase.clone(), places, Merge::Sum));
            subjects.push(("all words".into(), setup.prompt.content(), Merge::Sum));
        }
        let subjects = Subjects::new(subjects, setup.prompt, setup.schedule, setup.device)?;
        let DaamOptions { accumulate, per_head, refine, .. } = self.options;
        let recording = Recording::new(setup.grid, setup.images, subjects, accumulate, per_head);
        let competes = matches!(refine, Refine::Contrast { .. });
        let things = if competes { self.things(setup)? } else { Default::default() };
        let refining = || Refining::new(refine, setup, accumulate, &recorder, things);
        let refining = refine.looks().then(refining).transpose()?;
        let changes = if competes { self.changes(branch, setup)? } else { Changes::default() };
        Ok(Box::new(DaamRun { settings: self.clone(), branch, recorder, recording, refining, changes }))
    }
}

impl GuidanceRun for DaamRun {
    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        if step.eval == 0 {
            let Changes { all, asks, asked } = &mut self.changes;
            let turn = asks.iter().position(|index| *index == step.index);
            *asked = turn.and_then(|turn| turn.checked_rem(all.len()));
        }
        self.asked_change().map_or(Ok(()), |change| change.plan(step, plan))
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.asked_change().map_or(Ok(()), |change| change.predicted(step, predictions))
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn notes(&self) -> Vec<Note> {
        let map = self.recording.maps.mean().ok().flatten();
        match map.map(|map| is_flat(&map.f_narrow(1, PHRASE as i64, 1)?)) {
            Some(Ok(true)) => {
                let phrase = excerpt(&self.settings.phrase, QUOTED);
                let flat = format!("the attention to \"{phrase}\" is the same everywhere");
                vec![Remedy::Phrase.after(flat)]
            }
            _ => Vec::new(),
        }
    }

    fn report(&self) -> Result<Option<Report>> {
        if self.recording.maps.last().is_none() {
            return Ok(None);
        }
        let phrase = &self.settings.phrase;
        let maps: Vec<HeatMap> =
            (0..self.recording.images as usize).map(|image| self.heat_map(image)).collect::<Result<_>>()?;
        let peaks: Vec<f64> = maps.iter().map(HeatMap::max).collect::<Result<_>>()?;
        let data = serde_json::json!({ "phrase": phrase, "largest_share": peaks });
        let pictures = maps.iter().enumerate().map(|(image, map)| Ok(map.picture()?.image(image)));
        let pictures = pictures.collect::<Result<_>>()?;
        Ok(Some(Report { data, pictures, ..Report::new(format!("Daam \"{phrase}\"")) }))
    }
}

impl SaliencyRun for DaamRun {
    fn map(&self) -> Result<Option<Tensor>> {
        let Some(raw) = self.recording.maps.read()? else { return Ok(None) };
        if let Some(refining) = &self.refining {
            let change = self.change()?;
            return refining.map(&raw.f_narrow(1, PHRASE as i64, 1)?, change.as_ref(), self.recording.maps.grid());
        }
        let normalize = self.settings.options.normalize;
        let map = match normalize {
            Normalize::TokenShare => {
                raw.f_narrow(1, PHRASE_SUM, 1)?.f_div(&raw.f_narrow(1, WORDS_SUM, 1)?.f_add_scalar(1e-6)?)?
            }
            _ => raw, // the phrase is the only subject
        };
        normalize.apply(&map).map(Some)
    }

    fn competitions(&self) -> Result<Vec<Competition>> {
        self.refining.as_ref().map_or(Ok(Vec::new()), Refining::competitions)
    }
}
