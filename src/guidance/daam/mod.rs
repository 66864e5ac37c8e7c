//! DAAM: where the picture attends to a phrase.

mod heat_map;
mod package;

pub use heat_map::HeatMap;
pub use package::{KeyFilter, PackageDaam, PackageKey};

use super::saliency::is_flat;
use super::{Guidance, Normalize, Report, Saliency, Setup};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Place, Probs};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::prompt::TokenSpan;
use crate::step::{Grid, Step};
use tch::{Kind, Tensor};

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
    sites: Box<dyn Fn(&AttentionSite) -> bool + Send>,
    accumulate: Accumulate,
    normalize: Normalize,
    window: (f64, f64),
    run: Option<Recording>,
}

/// What one run has shown.
struct Recording {
    grid: Grid,
    images: i64,
    /// Tokens of the phrase, each once.
    tokens: Vec<TokenSpan>,
    /// Tokens of all words of the prompt, if their attention is recorded too.
    words: Option<TokenSpan>,
    /// The step being recorded.
    step: Sums,
    step_index: Option<usize>,
    /// Earlier steps, each divided by its own weight.
    past: Sums,
    /// The moving average of earlier steps' maps.
    average: Option<Tensor>,
}

/// Attention summed per grid, each [n, 1 or 2, h, w] f32: the phrase's, mean over its tokens; and all words', if asked for.
#[derive(Default)]
struct Sums {
    grids: Vec<(Grid, Tensor)>,
    /// What to divide by: heads × calls, or steps.
    weight: f64,
}

impl Sums {
    fn add(&mut self, grid: Grid, images: i64, rows: (i64, i64), heat: &Tensor) -> Result<()> {
        let position = match self.grids.iter().position(|(known, _)| *known == grid) {
            Some(position) => position,
            None => {
                let shape = [images, heat.size4()?.1, grid.h, grid.w];
                let zeros = Tensor::f_zeros(shape, (Kind::Float, heat.device()))?;
                self.grids.push((grid, zeros));
                self.grids.len() - 1
            }
        };
        if let Some((_, sum)) = self.grids.get(position) {
            let _ = sum.f_narrow(0, rows.0, rows.1)?.f_add_(heat)?;
        }
        Ok(())
    }

    /// Σ over grids at `size`, divided by the weight and at least 0; `None` before anything was added.
    fn map(&self, size: Grid) -> Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for (grid, sum) in &self.grids {
            let here = if *grid == size {
                sum.shallow_clone()
            } else {
                sum.f_upsample_bicubic2d([size.h, size.w], false, None, None)?
            };
            total = Some(match total {
                Some(total) => total.f_add(&here)?,
                None => here,
            });
        }
        Ok(total.map(|total| total.f_clamp_min(0.0)?.f_div_scalar(self.weight)).transpose()?)
    }
}

impl Daam {
    /// Where the picture attends to `phrase`; every place where it stands in the prompt counts.
    pub fn of(phrase: impl Into<String>) -> Self {
        Self {
            phrase: phrase.into(),
            occurrence: Occurrence::default(),
            sites: Box::new(|site| matches!(site.place, Place::Down | Place::Up)),
            accumulate: Accumulate::default(),
            normalize: Normalize::default(),
            window: (0.0, 999.0),
            run: None,
        }
    }

    /// Which of the phrase's places in the prompt count. Default: all.
    pub fn occurrence(mut self, occurrence: Occurrence) -> Self {
        self.occurrence = occurrence;
        self
    }

    /// Reads only cross-attention sites that `select` accepts. Default: all but the middle block's, as the package
    /// does.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + 'static) -> Self {
        self.sites = Box::new(select);
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
        self.window = (min, max);
        self
    }

    /// The mean share of attention over all recorded steps for image `image` of the batch, raw, whatever `accumulate`
    /// says.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first recorded step, [`Error::Parameter`] if there is no such image,
    /// [`Error::NonFinite`] if the attention was.
    pub fn heat_map(&self, image: usize) -> Result<HeatMap> {
        let run = self.run.as_ref().ok_or(Error::NoMaps("Daam"))?;
        let Some(index) = run.step_index else { return Err(Error::NoMaps("Daam")) };
        if image as i64 >= run.images {
            return Err(Error::parameter("image", image, "the index of an image of the run"));
        }
        let map = run.closed()?.map(run.grid)?.ok_or(Error::NoMaps("Daam"))?;
        if !map.f_isfinite()?.f_all()?.f_int64_value(&[])?.eq(&1) {
            return Err(Error::NonFinite { what: format!("the attention to \"{}\"", self.phrase), step: index });
        }
        HeatMap::new(
            &self.phrase,
            &map.f_narrow(0, image as i64, 1)?.f_narrow(1, 0, 1)?.f_reshape([run.grid.h, run.grid.w])?,
        )
    }
}

impl Recording {
    /// Number of the phrase's tokens.
    fn phrase_length(&self) -> i64 {
        self.tokens.iter().map(|span| span.len()).sum()
    }

    /// All steps, the one being recorded included, each with weight one.
    fn closed(&self) -> Result<Sums> {
        let mut all = Sums { weight: self.past.weight, ..Sums::default() };
        for (grid, sum) in &self.past.grids {
            all.add(*grid, self.images, (0, self.images), sum)?;
        }
        if self.step.weight > 0.0 {
            for (grid, sum) in &self.step.grids {
                all.add(*grid, self.images, (0, self.images), &sum.f_div_scalar(self.step.weight)?)?;
            }
            all.weight += 1.0;
        }
        Ok(all)
    }

    /// Puts the recorded step among the earlier ones.
    fn close(&mut self, accumulate: Accumulate) -> Result<()> {
        if let Accumulate::Ema(beta) = accumulate {
            self.average = self.averaged(beta)?;
        }
        self.past = self.closed()?;
        self.step = Sums::default();
        Ok(())
    }

    /// The moving average with the recorded step.
    fn averaged(&self, beta: f64) -> Result<Option<Tensor>> {
        let here = self.step.map(self.grid)?;
        Ok(match (&self.average, here) {
            (Some(before), Some(here)) => Some(before.f_mul_scalar(beta)?.f_add(&here.f_mul_scalar(1.0 - beta)?)?),
            (before, here) => here.or_else(|| before.as_ref().map(Tensor::shallow_clone)),
        })
    }
}

impl CrossAttentionHook for Daam {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond && (self.sites)(site) { Interest::PROBS } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        (self.window.0..=self.window.1).contains(&step.timestep)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if run.step_index != Some(at.step.index) {
            run.close(self.accumulate)?;
            run.step_index = Some(at.step.index);
        }
        let rows = (at.images.start, at.images.end - at.images.start);
        // [n, heads, queries, span] → [n, 1, h, w]
        let sum = |span: TokenSpan| -> Result<Tensor> {
            let heat = probs.columns(span)?.f_sum_dim_intlist([1i64, 3].as_slice(), false, Kind::Float)?;
            Ok(heat.f_reshape([-1, 1, at.grid.h, at.grid.w])?)
        };
        let sums: Vec<Tensor> = run.tokens.iter().map(|span| sum(*span)).collect::<Result<_>>()?;
        let mut heat = Tensor::f_cat(&sums, 1)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        heat = heat.f_div_scalar(run.phrase_length() as f64)?;
        if let Some(words) = run.words {
            heat = Tensor::f_cat(&[heat, sum(words)?], 1)?;
        }
        run.step.add(at.grid, run.images, rows, &heat)?;
        // Every image adds the same weight; one of them is counted.
        if rows.0 == 0 {
            run.step.weight += at.site.heads as f64;
        }
        Ok(())
    }
}

impl Guidance for Daam {
    fn check(&self) -> Result<()> {
        self.normalize.check()?;
        match self.accumulate {
            Accumulate::Ema(beta) if !(beta > 0.0 && beta < 1.0) => {
                return Err(Error::parameter("accumulate Ema", beta, "more than 0 and less than 1; .5 is usual"));
            }
            _ => {}
        }
        let (min, max) = self.window;
        if 0.0 <= min && min <= max && max <= 999.0 {
            return Ok(());
        }
        let window = format!("{min}..={max}");
        Err(Error::parameter("window", window, "training timesteps in 0..=999, the smaller one first"))
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        if !setup.sites.iter().any(|site| site.is_cross() && (self.sites)(site)) {
            let cross = setup.sites.iter().filter(|site| site.is_cross());
            return Err(Error::NoSites { names: cross.map(|site| site.name.clone()).collect() });
        }
        let places = setup.prompt.find(&self.phrase)?;
        self.run = Some(Recording {
            grid: setup.grid,
            images: setup.images,
            tokens: TokenSpan::union(self.occurrence.of(&self.phrase, places)?),
            words: (self.normalize == Normalize::TokenShare).then(|| setup.prompt.content()),
            step: Sums::default(),
            step_index: None,
            past: Sums::default(),
            average: None,
        });
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn notes(&self) -> Vec<String> {
        let map = self.run.as_ref().and_then(|run| run.closed().ok()?.map(run.grid).ok()?);
        match map.map(|map| is_flat(&map.f_narrow(1, 0, 1)?)) {
            Some(Ok(true)) => vec![format!("the attention to \"{}\" is the same everywhere", self.phrase)],
            _ => Vec::new(),
        }
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = self.run.as_ref().filter(|run| run.step_index.is_some()) else { return Ok(None) };
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
            Accumulate::Step => run.step.map(run.grid)?,
            Accumulate::Mean => run.closed()?.map(run.grid)?,
            Accumulate::Ema(beta) => run.averaged(beta)?,
        };
        let Some(raw) = raw else { return Ok(None) };
        let phrase = raw.f_narrow(1, 0, 1)?;
        let map = match run.words {
            Some(_) => {
                let words = raw.f_narrow(1, 1, 1)?.f_add_scalar(1e-6)?;
                phrase.f_mul_scalar(run.phrase_length() as f64)?.f_div(&words)?
            }
            None => phrase,
        };
        self.normalize.apply(&map).map(Some)
    }
}
