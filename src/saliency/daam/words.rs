//! [`WordMaps`]: DAAM of all words of the prompt at once.

use super::Daam;
use super::recording::{Merge, Recorder, Recording, Subjects};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Report, Setup};
use crate::prompt::{TokenSpan, folded};
use crate::recipe::{Function, Recipe};
use crate::saliency::heat_map::HeatMap;
use crate::saliency::series::Accumulate;
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Attention to every word of the prompt, from [`Daam::words`]. Each attention call is read once for all words.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::saliency::{Daam, WordMapsRun};
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("a red boat, blue sky").seed(7).steps(4).guide(Daam::words()).run()?;
/// for map in output.details::<WordMapsRun>("Daam::words")?.heat_maps(0)? {
///     println!("{}: {:.3} at most", map.label, map.max()?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct WordMaps {
    recorder: Recorder,
}

/// A [`WordMaps`] in one run, from [`Output::details`](crate::pipeline::Output::details) with the label "Daam::words".
pub struct WordMapsRun {
    recorder: Recorder,
    recording: Recording,
}

impl fmt::Debug for WordMapsRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WordMapsRun").field("words", &self.recording.subjects.labels).finish_non_exhaustive()
    }
}
impl Daam {
    /// Creates a recorder of the attention to every word of the prompt. A prompt without words has no maps.
    pub fn words() -> WordMaps {
        WordMaps::default()
    }
}

impl WordMaps {
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
}

impl WordMapsRun {
    /// Returns the mean share of attention over all recorded steps for image `image` of the batch: a map per word, in
    /// the prompt's order. A word with several places has one map, the mean over its places.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image,
    /// [`Error::NonFinite`] if the attention was not finite.
    pub fn heat_maps(&self, image: usize) -> Result<Vec<HeatMap>> {
        let subjects = 0..self.recording.subjects.labels.len();
        subjects.map(|subject| self.recording.heat_map(subject, image)).collect()
    }

    /// Returns the map of one word; letter case does not matter.
    ///
    /// # Errors
    /// The errors of [`heat_maps`](Self::heat_maps); [`Error::PhraseNotFound`] if the prompt has no such word.
    pub fn heat_map(&self, word: &str, image: usize) -> Result<HeatMap> {
        let wanted = folded(word);
        let labels = &self.recording.subjects.labels;
        let subject = labels.iter().position(|label| *label == wanted).ok_or_else(|| Error::PhraseNotFound {
            phrase: word.into(),
            prompt: labels.join(" "),
            nearest: Vec::new(),
        })?;
        self.recording.heat_map(subject, image)
    }
}

impl CrossAttentionHook for WordMapsRun {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if branch == Branch::Cond { self.recorder.interest(site) } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        !self.recording.subjects.labels.is_empty() && self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        self.recording.add(at, probs)
    }
}

impl Guidance for WordMaps {
    fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        self.recorder.check_sites(setup.sites)?;
        let words = setup.prompt.words();
        let subjects = words.into_iter().map(|(word, spans)| (word, TokenSpan::union(spans), Merge::Mean)).collect();
        let subjects = Subjects::new(subjects, setup.prompt, setup.schedule, setup.device)?;
        let recording = Recording::new(setup.grid, setup.images, subjects, Accumulate::Mean, false);
        Ok(Box::new(WordMapsRun { recorder: self.recorder.clone(), recording }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("WordMaps", self)
    }

    fn name(&self) -> &'static str {
        "Daam::words"
    }
}

impl GuidanceRun for WordMapsRun {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn report(&self) -> Result<Option<Report>> {
        let run = &self.recording;
        if run.maps.last().is_none() {
            return Ok(None);
        }
        let data = serde_json::json!({ "words": run.subjects.labels });
        let mut pictures = Vec::new();
        for image in 0..run.images as usize {
            for map in self.heat_maps(image)? {
                pictures.push(map.picture()?.image(image));
            }
        }
        Ok(Some(Report { data, pictures, ..Report::new("Daam words") }))
    }
}
