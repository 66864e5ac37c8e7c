//! DAAM: where the picture attends to a phrase.

mod heat_map;
mod package;
mod recording;
mod words;

pub use heat_map::HeatMap;
pub use package::{KeyFilter, PackageDaam, PackageKey};
pub use words::WordMaps;

use super::saliency::is_flat;
use super::{Guidance, Normalize, Report, Saliency, Setup};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::prompt::TokenSpan;
use crate::step::Step;
use recording::{Merge, Recorder, Recording, Subjects};
use tch::Tensor;

/// What [`Daam::map`](Saliency::map) shows of the steps so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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

/// Which of a phrase's places in the prompt count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Occurrence {
    /// Every place.
    #[default]
    All,
    /// The nth, counted from 0.
    Nth(usize),
}

impl Occurrence {
    fn of(self, phrase: &str, places: Vec<TokenSpan>) -> Result<Vec<TokenSpan>> {
        match self {
            Self::All => Ok(places),
            Self::Nth(n) => places.get(n).map(|place| vec![*place]).ok_or_else(|| {
                let expected = format!("less than {}, the times that \"{phrase}\" is in the prompt", places.len());
                Error::parameter("occurrence Nth", n, expected)
            }),
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
pub struct Daam {
    phrase: String,
    occurrence: Occurrence,
    recorder: Recorder,
    per_head: bool,
    accumulate: Accumulate,
    normalize: Normalize,
    run: Option<Recording>,
    /// The moving average of earlier steps' maps, [n, subjects, h, w].
    average: Option<Tensor>,
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
            run: None,
            average: None,
        }
    }

    /// Which of the phrase's places in the prompt count. Default: all.
    pub fn occurrence(mut self, occurrence: Occurrence) -> Self {
        self.occurrence = occurrence;
        self
    }

    /// Reads only cross-attention sites that `select` accepts. Default: all but the middle block's, as the package does.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + 'static) -> Self {
        self.recorder.sites = Box::new(select);
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

    /// The moving average of the steps' maps, this one included.
    fn averaged(&self, run: &Recording, beta: f64) -> Result<Option<Tensor>> {
        Ok(match (&self.average, run.this_step()?) {
            (Some(before), Some(here)) => Some(before.f_mul_scalar(beta)?.f_add(&here.f_mul_scalar(1.0 - beta)?)?),
            (before, here) => here.or_else(|| before.as_ref().map(Tensor::shallow_clone)),
        })
    }
}

/// What is recorded: the phrase's mean token; and, if its share of all words is wanted, the sums of both.
const PHRASE: usize = 0;
const PHRASE_SUM: i64 = 1;
const WORDS_SUM: i64 = 2;

impl CrossAttentionHook for Daam {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        self.recorder.interest(site, branch)
    }

    fn active(&self, step: &Step) -> bool {
        self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        if let (Accumulate::Ema(beta), Some(run)) = (self.accumulate, &self.run)
            && run.last != Some(at.step.index)
        {
            self.average = self.averaged(run, beta)?;
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        run.turn_to(at.step.index)?;
        run.add(at, probs)
    }
}

impl Guidance for Daam {
    fn check(&self) -> Result<()> {
        self.normalize.check()?;
        self.recorder.check()?;
        match self.accumulate {
            Accumulate::Ema(beta) if !(beta > 0.0 && beta < 1.0) => {
                Err(Error::parameter("accumulate Ema", beta, "more than 0 and less than 1; .5 is usual"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        (self.run, self.average) = (None, None);
        self.recorder.check_sites(setup.sites)?;
        let places = self.occurrence.of(&self.phrase, setup.prompt.find(&self.phrase)?)?;
        let places = TokenSpan::union(places);
        let mut subjects = vec![(self.phrase.clone(), places.clone(), Merge::Mean)];
        if self.normalize == Normalize::TokenShare {
            subjects.push((self.phrase.clone(), places, Merge::Sum));
            subjects.push(("all words".into(), setup.prompt.content(), Merge::Sum));
        }
        self.run = Some(Recording::new(setup, Subjects::new(subjects, setup.device)?, self.per_head));
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn notes(&self) -> Vec<String> {
        let map = self.run.as_ref().and_then(|run| run.mean().ok()?);
        match map.map(|map| is_flat(&map.f_narrow(1, PHRASE as i64, 1)?)) {
            Some(Ok(true)) => vec![format!("the attention to \"{}\" is the same everywhere", self.phrase)],
            _ => Vec::new(),
        }
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = self.run.as_ref().filter(|run| run.last.is_some()) else { return Ok(None) };
        let maps: Vec<HeatMap> = (0..run.images as usize).map(|image| self.heat_map(image)).collect::<Result<_>>()?;
        let peaks: Vec<f64> = maps.iter().map(HeatMap::max).collect::<Result<_>>()?;
        let images = maps.iter().enumerate().map(|(image, map)| Ok((format!("image {image}"), map.raster()?)));
        Ok(Some(Report {
            name: format!("Daam \"{}\"", self.phrase),
            data: serde_json::json!({ "phrase": self.phrase, "largest_share": peaks }),
            images: images.collect::<Result<_>>()?,
        }))
    }

    fn name(&self) -> &'static str {
        "Daam"
    }
}

impl Saliency for Daam {
    fn map(&self) -> Result<Option<Tensor>> {
        let Some(run) = &self.run else { return Ok(None) };
        let raw = match self.accumulate {
            Accumulate::Step => run.this_step()?,
            Accumulate::Mean => run.mean()?,
            Accumulate::Ema(beta) => self.averaged(run, beta)?,
        };
        let Some(raw) = raw else { return Ok(None) };
        let map = match self.normalize {
            Normalize::TokenShare => {
                raw.f_narrow(1, PHRASE_SUM, 1)?.f_div(&raw.f_narrow(1, WORDS_SUM, 1)?.f_add_scalar(1e-6)?)?
            }
            _ => raw.f_narrow(1, PHRASE as i64, 1)?,
        };
        self.normalize.apply(&map).map(Some)
    }
}
