//! [`WordMaps`]: DAAM of all words of the prompt at once.

use super::Daam;
use super::heat_map::HeatMap;
use super::recording::{Merge, Recorder, Recording, Subjects};
use super::series::Accumulate;
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Report, Setup};
use crate::prompt::{TokenSpan, folded};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Attention to every word of the prompt, from [`Daam::words`]. Each attention call is read once for all words.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::saliency::Daam;
/// let mut pipeline = Pipeline::builder().build()?;
/// let mut words = Daam::words();
/// let output = pipeline.request("a red boat, blue sky").seed(7).steps(4).guide(&mut words).run()?;
/// for map in words.heat_maps(0)? {
///     println!("{}: {:.3} at most", map.label, map.max()?);
/// }
/// # Ok(()) }
/// ```
#[derive(Default, Serialize, Deserialize)]
#[must_use]
pub struct WordMaps {
    recorder: Recorder,
    #[serde(skip)]
    run: Option<Recording>,
}

impl fmt::Debug for WordMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WordMaps").field("window", &self.recorder.window).finish_non_exhaustive()
    }
}

impl Daam {
    /// Creates a recorder of the attention to every word of the prompt. A prompt without words has no maps.
    pub fn words() -> WordMaps {
        WordMaps::default()
    }
}

impl WordMaps {
    /// Reads only cross-attention sites that `select` accepts. Default: all sites but those of the middle block, as in
    /// the package of DAAM's authors.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + 'static) -> Self {
        self.recorder.sites = Some(Box::new(select));
        self
    }

    /// Records only in this window. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.recorder.window = window;
        self
    }

    /// Returns the mean share of attention over all recorded steps for image `image` of the batch: a map per word, in
    /// the prompt's order. A word with several places has one map, the mean over its places.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image,
    /// [`Error::NonFinite`] if the attention was not finite.
    pub fn heat_maps(&self, image: usize) -> Result<Vec<HeatMap>> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("Daam::words"))?;
        (0..run.subjects.labels.len()).map(|subject| run.heat_map(subject, image)).collect()
    }

    /// Returns the map of one word; letter case does not matter.
    ///
    /// # Errors
    /// The errors of [`WordMaps::heat_maps`]; [`Error::PhraseNotFound`] if the prompt has no such word.
    pub fn heat_map(&self, word: &str, image: usize) -> Result<HeatMap> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("Daam::words"))?;
        let wanted = folded(word);
        let labels = &run.subjects.labels;
        let subject = labels.iter().position(|label| *label == wanted).ok_or_else(|| Error::PhraseNotFound {
            phrase: word.into(),
            prompt: labels.join(" "),
            nearest: Vec::new(),
        })?;
        run.heat_map(subject, image)
    }
}

impl CrossAttentionHook for WordMaps {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        self.recorder.interest(site, branch)
    }

    fn active(&self, step: &Step) -> bool {
        let is_wordless = self.run.as_ref().is_some_and(|run| run.subjects.labels.is_empty());
        !is_wordless && self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        run.add(at, probs)
    }
}

impl Guidance for WordMaps {
    fn check(&self) -> Result<()> {
        self.recorder.check()
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        self.recorder.check_sites(setup.sites)?;
        let words = setup.prompt.words();
        let subjects = words.into_iter().map(|(word, spans)| (word, TokenSpan::union(spans), Merge::Mean)).collect();
        let subjects = Subjects::new(subjects, setup.device)?;
        self.run = Some(Recording::new(setup.grid, setup.images, subjects, Accumulate::Mean, false));
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = self.run.as_ref().filter(|run| run.maps.last().is_some()) else { return Ok(None) };
        let data = serde_json::json!({ "words": run.subjects.labels });
        let mut pictures = Vec::new();
        for image in 0..run.images as usize {
            for map in self.heat_maps(image)? {
                pictures.push(map.picture()?.image(image));
            }
        }
        Ok(Some(Report { data, pictures, ..Report::new("Daam words") }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("WordMaps", self)
    }

    fn name(&self) -> &'static str {
        "Daam::words"
    }
}
