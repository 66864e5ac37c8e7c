//! DAAM: where the picture attends to a phrase.

mod heat_map;
mod package;
mod recording;
mod refine;
mod series;
mod words;

pub use heat_map::HeatMap;
pub use package::{KeyFilter, PackageDaam, PackageKey};
pub use refine::Refine;
pub use words::WordMaps;

use super::saliency::is_flat;
use super::{Guidance, Normalize, Report, Saliency, Setup};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::prompt::{Prompt, TokenSpan};
use crate::recipe::Recipe;
use crate::step::Step;
use recording::{Merge, Recorder, Recording, Subjects};
use refine::Refining;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// What [`Daam::map`](Saliency::map) shows of the steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Accumulate {
    /// This step only.
    #[default]
    Step,
    /// The mean of all recorded steps, this one included.
    Mean,
    /// M ← β·M + (1 − β)·this step, starting with the first; β in 0..1, 0.5 is usual.
    Ema(f64),
}

/// Which of a phrase's places in the prompt count. Where a second text encoder reads another prompt, its places count under `All`
/// alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Occurrence {
    /// Every place.
    #[default]
    All,
    /// The nth, counted from 0.
    Nth(usize),
    /// Those within bytes `start..end` of [`Prompt::text`].
    Within {
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
}

impl Occurrence {
    /// The bytes of the places that count; `None`: of all.
    fn of(self, phrase: &str, prompt: &Prompt) -> Result<Option<Vec<Range<usize>>>> {
        let places = || prompt.places(phrase);
        match self {
            Self::All => Ok(None),
            Self::Nth(n) => {
                let places = places()?;
                let place = places.get(n).cloned().ok_or_else(|| {
                    let expected = format!("less than {}, the times that \"{phrase}\" is in the prompt", places.len());
                    Error::parameter("occurrence Nth", n, expected)
                })?;
                Ok(Some(vec![place]))
            }
            Self::Within { start, end } => {
                let inside = |place: &Range<usize>| start <= place.start && place.end <= end;
                let chosen: Vec<Range<usize>> = places()?.into_iter().filter(inside).collect();
                if chosen.is_empty() {
                    let expected = format!("bytes of \"{}\" that \"{phrase}\" lies in", prompt.text());
                    return Err(Error::parameter("occurrence Within", format!("{start}..{end}"), expected));
                }
                Ok(Some(chosen))
            }
        }
    }
}

/// Saliency of a phrase: its share of the prompt branch's cross-attention, mean over heads, sites and the phrase's
/// tokens, read beside the output (the picture keeps every bit).
///
/// Per call the columns of the phrase are summed over heads and added up per grid; a reading resizes one sum per grid
/// (bicubic) to the latent's size. So nothing grows with the number of heads, sites or steps: two tokens or twenty,
/// SD 1.5 at 512×512 holds 43 kB.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::{Pipeline, guidance::Daam};
/// let mut pipeline = Pipeline::builder().build()?;
/// let mut look = Daam::of("eyes");
/// let output = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(4).guide(&mut look).run()?;
/// let overlay = look.heat_map(0)?.overlay(output.image(0)?, 0.6)?;
/// # Ok(()) }
/// ```
///
/// Source: Tang et al., "What the DAAM" (ACL 2023). It differs from the authors' package where that is wrong for
/// batches, pictures that are not square, runs without guidance and long prompts; [`PackageDaam`] reproduces the
/// package.
#[derive(Serialize, Deserialize)]
pub struct Daam {
    phrase: String,
    occurrence: Occurrence,
    recorder: Recorder,
    per_head: bool,
    accumulate: Accumulate,
    normalize: Normalize,
    refine: Refine,
    among: Vec<String>,
    #[serde(skip)]
    run: Option<Recording>,
    #[serde(skip)]
    refining: Option<Refining>,
}

/// Attention of the heads of one site: [`Daam::head_maps`].
#[derive(Debug)]
pub struct HeadMaps {
    /// The site.
    pub site: AttentionSite,
    /// Mean share of attention over all recorded evaluations, [n, heads, h, w] f32 on the site's own grid.
    pub maps: Tensor,
}

impl Daam {
    /// Where the picture attends to `phrase`; every place where it stands in the prompt counts.
    pub fn of(phrase: impl Into<String>) -> Self {
        Self {
            phrase: phrase.into(),
            occurrence: Occurrence::default(),
            recorder: Recorder::default(),
            per_head: false,
            accumulate: Accumulate::default(),
            normalize: Normalize::default(),
            refine: Refine::default(),
            among: Vec::new(),
            run: None,
            refining: None,
        }
    }

    /// Which of the phrase's places in the prompt count. Default: all.
    pub fn occurrence(mut self, occurrence: Occurrence) -> Self {
        self.occurrence = occurrence;
        self
    }

    /// Reads only cross-attention sites that `select` accepts. Default: all but the middle block's, as the package does.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + 'static) -> Self {
        self.recorder.sites = Some(Box::new(select));
        self
    }

    /// Also keeps the maps of every head of every site, for [`Daam::head_maps`].
    pub fn per_head(mut self) -> Self {
        self.per_head = true;
        self
    }

    /// What [`Saliency::map`] shows of the steps so far.
    pub fn accumulate(mut self, accumulate: Accumulate) -> Self {
        self.accumulate = accumulate;
        self
    }

    /// How [`Saliency::map`] is brought to 0..=1.
    pub fn normalize(mut self, normalize: Normalize) -> Self {
        self.normalize = normalize;
        self
    }

    /// How [`Saliency::map`] is brought to the shape of the thing. With anything but `Off`, `normalize` has no say.
    pub fn refine(mut self, refine: Refine) -> Self {
        self.refine = refine;
        self
    }

    /// What the phrase competes with under [`Refine::Compete`], if not with everything else that the prompt names.
    pub fn among<P: Into<String>>(mut self, phrases: impl IntoIterator<Item = P>) -> Self {
        self.among = phrases.into_iter().map(Into::into).collect();
        self
    }

    /// Records only at training timesteps `min..=max`, 0..=999.
    pub fn window(mut self, min: f64, max: f64) -> Self {
        self.recorder.window = (min, max);
        self
    }

    /// The mean share of attention over all recorded steps for image `image` of the batch, raw, whatever `accumulate` says.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image,
    /// [`Error::NonFinite`] if the attention was.
    pub fn heat_map(&self, image: usize) -> Result<HeatMap> {
        self.run.as_ref().ok_or(Error::NoMaps("Daam"))?.heat_map(PHRASE, image)
    }

    /// The phrase's maps of every head, a row per site in the order they run. Their mean over all heads, resized to the
    /// latent, is [`Daam::heat_map`].
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run or without [`Daam::per_head`].
    pub fn head_maps(&self) -> Result<Vec<HeadMaps>> {
        let heads = self.run.as_ref().map(Recording::heads).transpose()?.flatten();
        let heads = heads.ok_or(Error::NoMaps("Daam without per_head()"))?;
        let of_phrase =
            |(site, maps): (AttentionSite, Tensor)| Ok(HeadMaps { site, maps: maps.f_select(2, PHRASE as i64)? });
        heads.into_iter().map(of_phrase).collect()
    }

    /// The things that are told apart, the phrase's first.
    fn things(&self, setup: &Setup<'_>) -> Result<Vec<(String, Vec<TokenSpan>)>> {
        let own = match self.occurrence.of(&self.phrase, setup.prompt)? {
            Some(places) => setup.prompt.thing_at(&self.phrase, &places)?,
            None => setup.prompt.thing(&self.phrase)?,
        };
        let apart =
            |spans: &[TokenSpan]| spans.iter().all(|a| own.iter().all(|b| a.end <= b.start || b.end <= a.start));
        let others: Vec<(String, Vec<TokenSpan>)> = if self.among.is_empty() {
            let others = setup.prompt.things().into_iter().map(|(name, spans)| {
                // Another hat competes with this one.
                (name, spans.into_iter().filter(|span| apart(&[*span])).collect::<Vec<_>>())
            });
            others.filter(|(_, spans)| !spans.is_empty()).collect()
        } else {
            let others = self.among.iter().filter(|other| !other.eq_ignore_ascii_case(&self.phrase));
            others.map(|other| Ok((other.clone(), setup.prompt.thing(other)?))).collect::<Result<_>>()?
        };
        Ok(std::iter::once((self.phrase.clone(), own)).chain(others).collect())
    }
}

/// What is recorded: the phrase's mean token; and, if its share of all words is wanted, the sums of both.
const PHRASE: usize = 0;
const PHRASE_SUM: i64 = 1;
const WORDS_SUM: i64 = 2;

impl CrossAttentionHook for Daam {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let looks = branch == Branch::Cond && self.refining.as_ref().is_some_and(|refining| refining.looks_at(site));
        if looks { Interest::PROBS } else { self.recorder.interest(site, branch) }
    }

    fn active(&self, step: &Step) -> bool {
        self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if let Some(refining) = &mut self.refining {
            refining.add(at, probs)?;
        }
        match &mut self.run {
            Some(run) if at.site.is_cross() && self.recorder.reads(at.site) => run.add(at, probs),
            _ => Ok(()),
        }
    }
}

impl Guidance for Daam {
    fn check(&self) -> Result<()> {
        self.normalize.check()?;
        self.refine.check()?;
        self.recorder.check()?;
        match self.accumulate {
            Accumulate::Ema(beta) if !(beta > 0.0 && beta < 1.0) => {
                Err(Error::parameter("accumulate Ema", beta, "more than 0 and less than 1; .5 is usual"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        (self.run, self.refining) = (None, None);
        self.recorder.check_sites(setup.sites)?;
        let places = match self.occurrence.of(&self.phrase, setup.prompt)? {
            Some(places) => setup.prompt.find_at(&self.phrase, &places)?,
            None => setup.prompt.find(&self.phrase)?,
        };
        let places = TokenSpan::union(places);
        let mut subjects = vec![(self.phrase.clone(), places.clone(), Merge::Mean)];
        if self.normalize == Normalize::TokenShare {
            subjects.push((self.phrase.clone(), places, Merge::Sum));
            subjects.push(("all words".into(), setup.prompt.content(), Merge::Sum));
        }
        let subjects = Subjects::new(subjects, setup.device)?;
        self.run = Some(Recording::new(setup.grid, setup.images, subjects, self.accumulate, self.per_head));
        let things = if let Refine::Compete { .. } = self.refine { self.things(setup)? } else { Vec::new() };
        let refining = || Refining::new(self.refine, setup, self.accumulate, &self.recorder, things);
        self.refining = self.refine.looks().then(refining).transpose()?;
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn notes(&self) -> Vec<String> {
        let map = self.run.as_ref().and_then(|run| run.maps.mean().ok()?);
        match map.map(|map| is_flat(&map.f_narrow(1, PHRASE as i64, 1)?)) {
            Some(Ok(true)) => vec![format!("the attention to \"{}\" is the same everywhere", self.phrase)],
            _ => Vec::new(),
        }
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = self.run.as_ref().filter(|run| run.maps.last().is_some()) else { return Ok(None) };
        let maps: Vec<HeatMap> = (0..run.images as usize).map(|image| self.heat_map(image)).collect::<Result<_>>()?;
        let peaks: Vec<f64> = maps.iter().map(HeatMap::max).collect::<Result<_>>()?;
        let mut report = Report::new(format!("Daam \"{}\"", self.phrase))
            .data(serde_json::json!({ "phrase": self.phrase, "largest_share": peaks }));
        for (image, map) in maps.iter().enumerate() {
            report = report.picture(map.picture()?.image(image));
        }
        Ok(Some(report))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Daam", self)
    }

    fn name(&self) -> &'static str {
        "Daam"
    }
}

impl Saliency for Daam {
    fn map(&self) -> Result<Option<Tensor>> {
        let Some(run) = &self.run else { return Ok(None) };
        let Some(raw) = run.maps.read()? else { return Ok(None) };
        if let Some(refining) = &self.refining {
            return refining.map(&raw.f_narrow(1, PHRASE as i64, 1)?, run.maps.grid());
        }
        let map = match self.normalize {
            Normalize::TokenShare => {
                raw.f_narrow(1, PHRASE_SUM, 1)?.f_div(&raw.f_narrow(1, WORDS_SUM, 1)?.f_add_scalar(1e-6)?)?
            }
            _ => raw.f_narrow(1, PHRASE as i64, 1)?,
        };
        self.normalize.apply(&map).map(Some)
    }
}
