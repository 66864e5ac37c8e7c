//! Painting with words: areas of a picture that attend to phrases of the prompt.

mod canvas;
mod law;
mod palette;
mod repeated;
mod report;
mod resample;
mod weights;

pub use law::{CustomLaw, WeightFn};
pub use palette::{ColorShare, Palette};
pub use report::{PaintReport, PaintWarning, PaintedArea, PaintedStep};
pub use resample::Resample;

use super::{Guidance, Region, Report, Setup};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Scores};
use crate::branch::{Branch, BranchInfo};
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::error::{Error, Result};
use crate::prompt::TokenSpan;
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::step::{Grid, Step};
use canvas::{Area, Canvas, Paint};
use ndarray::Array2;
use report::Trace;
use tch::Tensor;
use weights::Weights;

/// Puts things where they are painted: the user colors areas of a map and gives each color a phrase of the prompt.
///
/// At every cross-attention of the prompt, softmax(s + f(w, σ, s)): cells of an area look more, or with a strength
/// below 0 less, at the tokens of its phrase. w is the strength where the area is painted, at every place where the
/// phrase stands; f is the [`WeightFn`]. No training and no further call of the model. Variations of the prompt that
/// other guidances add are painted alike, the negative prompt is not.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::guidance::{PaintWithWords, WeightFn};
/// use impasto::{Pipeline, Raster, Rgb};
///
/// let mut map = Raster::flat(Rgb(255, 255, 255), 128, 128);
/// map.paste(&Raster::flat(Rgb(200, 30, 30), 64, 64), 0, 64); // the lower left quarter
/// let mut paint =
///     PaintWithWords::new(&map).color(Rgb(200, 30, 30), "house", 1.5).weight(WeightFn::LogMax(0.4));
/// let mut pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("a house, ground, sky").steps(8).seed(7).guide(&mut paint).run()?;
/// assert_eq!(paint.details()?.areas[0].share, 0.25);
/// # Ok(()) }
/// ```
///
/// Source: paint-with-words-sd and Balaji et al., eDiff-I (arXiv 2211.01324); `docs/painting.md` says what differs.
pub struct PaintWithWords {
    canvas: Canvas,
    weight: WeightFn,
    resample: Resample,
    /// Noise levels, the largest first.
    window: (f64, f64),
    /// `None`: all.
    sites: Option<Sites>,
    run: Option<Painting>,
}

/// A choice of attention sites.
type Sites = Box<dyn Fn(&AttentionSite) -> bool + Send>;

/// One run's state.
struct Painting {
    weights: Weights,
    trace: Trace,
}

/// Nothing painted yet, and no map: for drawn masks only.
impl Default for PaintWithWords {
    fn default() -> Self {
        Self {
            canvas: Canvas::default(),
            weight: WeightFn::default(),
            resample: Resample::default(),
            window: (f64::INFINITY, 0.0),
            sites: None,
            run: None,
        }
    }
}

impl PaintWithWords {
    /// On a map of the picture's size, or of any size with its aspect (within 1 %).
    pub fn new(map: &Raster) -> Self {
        let canvas = Canvas { map: Some((map.clone(), Palette::of(map))), ..Canvas::default() };
        Self { canvas, ..Self::default() }
    }

    /// Says what the areas of a color stand for. `strength` is -10..=10: .2 to 2 is usual, below 0 keeps the phrase
    /// away. A color may have several phrases; where several areas weigh the same word, their weights add up.
    pub fn color(mut self, color: Rgb, phrase: impl Into<String>, strength: f64) -> Self {
        self.canvas.areas.push(Area { paint: Paint::Color(color), phrase: phrase.into(), strength });
        self
    }

    /// The same for a mask drawn apart from the map, soft if need be.
    pub fn mask(mut self, mask: Region, phrase: impl Into<String>, strength: f64) -> Self {
        self.canvas.areas.push(Area { paint: Paint::Mask(mask), phrase: phrase.into(), strength });
        self
    }

    /// How strongly weights pull. Default: [`WeightFn::LogMax`] of .1.
    pub fn weight(mut self, weight: WeightFn) -> Self {
        self.weight = weight;
        self
    }

    /// How masks are brought to the sites' grids.
    pub fn resample(mut self, resample: Resample) -> Self {
        self.resample = resample;
        self
    }

    /// How far a pixel may be from the color it counts as, Euclidean in RGB, 0..=100. Default 0, exactly equal; above
    /// it each pixel counts as the nearest color with a phrase. For maps with smooth edges, or from JPEG files.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.canvas.tolerance = tolerance;
        self
    }

    /// Softens the edges of the map's areas by a Gaussian of this standard deviation in pixels of the map, 0 to a
    /// quarter of its shorter side. Default 0.
    pub fn blur(mut self, sigma: f64) -> Self {
        self.canvas.blur = sigma;
        self
    }

    /// Acts only on evaluations at noise levels `low..=high`; the first are the highest. Default: all.
    pub fn sigmas(mut self, high: f64, low: f64) -> Self {
        self.window = (high, low);
        self
    }

    /// Acts only at the cross-attention sites that `select` accepts. Default: all.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + 'static) -> Self {
        self.sites = Some(Box::new(select));
        self
    }

    /// Where `phrase` is painted, whatever its strength: as saliency or mask for another guidance.
    ///
    /// # Errors
    /// [`Error::Parameter`] if nothing is painted for it; what [`Guidance::check`] finds wrong.
    pub fn region(&self, phrase: &str) -> Result<Region> {
        self.check()?;
        let mut all: Option<Tensor> = None;
        for area in self.canvas.areas.iter().filter(|area| area.phrase == phrase) {
            let mask = self.canvas.mask(area)?;
            all = Some(match all {
                Some(all) => {
                    let (_, _, h, w) = all.size4()?;
                    all.f_maximum(&Resample::Area.apply(&mask, Grid::new(h, w))?)?
                }
                None => mask,
            });
        }
        let Some(mask) = all else {
            let phrases: Vec<&str> = self.canvas.areas.iter().map(|area| area.phrase.as_str()).collect();
            return Err(Error::parameter("region", phrase, format!("a painted phrase: {}", phrases.join(", "))));
        };
        let (_, _, h, w) = mask.size4()?;
        let values = Vec::<f32>::try_from(&mask.f_clamp(0.0, 1.0)?.f_flatten(0, -1)?)?;
        let misfit = |_| Error::Shape { what: "mask", got: mask.size(), expected: "[1, 1, rows, columns]".into() };
        Ok(Region::new(Array2::from_shape_vec((h as usize, w as usize), values).map_err(misfit)?))
    }

    /// What was painted in the last run, and how strongly at each step.
    ///
    /// # Errors
    /// [`Error::NoMaps`] before the first run.
    pub fn details(&self) -> Result<PaintReport> {
        self.run.as_ref().ok_or(Error::NoMaps("PaintWithWords"))?.trace.report()
    }

    /// Can it change anything at all?
    fn acts(&self) -> bool {
        self.weight.acts() && self.canvas.areas.iter().any(|area| area.strength != 0.0)
    }

    fn reads(&self, site: &AttentionSite) -> bool {
        site.is_cross() && self.sites.as_ref().is_none_or(|select| select(site))
    }

    fn covers(&self, sigma: f64) -> bool {
        let (high, low) = self.window;
        (low..=high).contains(&sigma)
    }
}

impl CrossAttentionHook for PaintWithWords {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let reaches = self.run.as_ref().is_some_and(|run| run.weights.reach(branch));
        if reaches && self.acts() && self.reads(site) { Interest::BIAS } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        self.covers(step.sigma)
    }

    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        let Some(run) = &mut self.run else { return Ok(None) };
        let Some(w) = run.weights.of(at.grid, at.branch, scores.tokens().len())? else { return Ok(None) };
        let made = self.weight.bias(&w, at.step.sigma, scores)?;
        if at.branch == Branch::Cond {
            run.trace.record(at, made.per_weight.as_ref())?;
        }
        Ok(Some(made.bias))
    }
}

impl Guidance for PaintWithWords {
    fn check(&self) -> Result<()> {
        self.weight.check()?;
        let (high, low) = self.window;
        if !(0.0 <= low && low <= high) {
            let window = format!("{high}, {low}");
            return Err(Error::parameter("sigmas", window, "noise levels of 0 or more, the larger one first"));
        }
        self.canvas.check()
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.run = None;
        let chosen = setup.sites.iter().filter(|site| self.reads(site));
        let grids: Vec<Grid> = chosen.map(|site| setup.grid.halved(site.halvings)).collect();
        if grids.is_empty() {
            let cross = setup.sites.iter().filter(|site| site.is_cross());
            return Err(Error::NoSites { names: cross.map(|site| site.name.clone()).collect() });
        }
        let find = |area: &Area| Ok(TokenSpan::union(setup.prompt.find(&area.phrase)?));
        let tokens: Vec<Vec<TokenSpan>> = self.canvas.areas.iter().map(find).collect::<Result<_>>()?;
        let mut weights = Weights::new(&self.canvas, setup.grid, grids, self.resample, setup.device)?;
        let masks = weights.finest().ok_or(Error::NoMaps("PaintWithWords"))?;
        let mut trace = Trace::new(&self.canvas, &tokens, masks, setup.images)?;
        if !setup.schedule.steps().any(|step| self.covers(step.sigma)) {
            let (high, low) = self.window;
            trace.warnings.push(PaintWarning::NeverActive { high, low });
        }
        weights.place(Branch::Cond, tokens);
        self.run = Some(Painting { weights, trace });
        Ok(())
    }

    /// Finds the phrases again in every variation of the prompt: they may stand elsewhere there, or nowhere.
    fn condition(&mut self, branch: &BranchInfo, _: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        let Some(run) = self.run.as_mut().filter(|_| branch.like == Branch::Cond && branch.branch != Branch::Cond)
        else {
            return Ok(());
        };
        let prompt = codec.prompt(&branch.prompt)?;
        let mut tokens = Vec::with_capacity(self.canvas.areas.len());
        for area in &self.canvas.areas {
            tokens.push(match prompt.find(&area.phrase) {
                Ok(spans) => TokenSpan::union(spans),
                Err(Error::PhraseNotFound { phrase, prompt, .. }) => {
                    run.trace.warnings.push(PaintWarning::NotInBranch { phrase, prompt, role: branch.role });
                    Vec::new()
                }
                Err(Error::PhraseTruncated { .. }) => Vec::new(),
                Err(error) => return Err(error),
            });
        }
        run.weights.place(branch.branch, tokens);
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn notes(&self) -> Vec<String> {
        self.run.iter().flat_map(|run| &run.trace.warnings).map(ToString::to_string).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Some(run) = &self.run else { return Ok(None) };
        run.weights.finest().map(|masks| run.trace.summary(masks)).transpose()
    }

    fn recipe(&self) -> Result<Recipe> {
        self.written()
    }

    fn name(&self) -> &'static str {
        "PaintWithWords"
    }
}
