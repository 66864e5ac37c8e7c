//! Painting with words: painted areas of a picture attend to phrases of the prompt.

mod area;
mod canvas;
mod context;
mod legend;
mod map_colors;
mod options;
mod recipe;
mod report;
mod weight_fn;
mod weights;

pub use area::{Area, AreaPlace};
pub use map_colors::{ColorShare, MapColors};
pub use options::{AreaBlend, PaintOptions};
pub use report::{PaintReport, PaintWarning, PaintedArea, PaintedStep};
pub use weight_fn::WeightFn;

pub(crate) use legend::tint;

use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Scores};
use crate::branch::{AND, Branch, BranchInfo};
use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Noise, Predictions, region_noise};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Report, Setup};
use crate::mask::Region;
use crate::prompt::{Prompt, TokenSpan};
use crate::raster::Raster;
use crate::recipe::{Function, Recipe};
use crate::size::Size;
use crate::step::{Grid, Step};
use crate::window::Window;
use crate::wording::{Note, Remedy};
use canvas::Canvas;
use report::Trace;
use std::any::Any;
use std::sync::Arc;
use tch::Tensor;
use weights::{Placed, Weights};

/// Places objects where the user paints them: areas of a map are colored, and each color is given a phrase of the
/// prompt.
///
/// Each cross-attention of the prompt computes softmax(s + f(w, σ, s)), where s are the scaled scores and σ is the
/// noise level. The cells of an area attend more to the tokens of its phrase, or less with a strength below 0. The
/// weight w is the strength inside the painted area, at every occurrence of the phrase; f is the [`WeightFn`]. The
/// method needs no training and no additional model calls. Variations of the prompt that other guidance methods add are
/// painted in the same way. The negative prompt is painted only for areas that ask for it ([`Area::negative`]).
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::methods::PaintWithWords;
/// use impasto::methods::paint_with_words::{PaintReport, WeightFn};
/// use impasto::{Pipeline, Raster, Rgb};
///
/// let mut map = Raster::flat(Rgb(255, 255, 255), (128, 128));
/// map.paste(&Raster::flat(Rgb(200, 30, 30), (64, 64)), 0, 64); // the lower left quarter
/// let paint = PaintWithWords::new(&map).color(Rgb(200, 30, 30), "house", 1.5).weight(WeightFn::LogMax(0.4));
/// let pipeline = Pipeline::builder().build()?;
/// let output = pipeline.request("a house, ground, sky").steps(8).seed(7).guide(paint).run()?;
/// assert_eq!(output.details::<PaintReport>("PaintWithWords")?.areas[0].share, 0.25);
/// # Ok(()) }
/// ```
///
/// Source: paint-with-words-sd and Balaji et al., eDiff-I (arXiv 2211.01324); `docs/painting.md` lists the differences.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct PaintWithWords {
    canvas: Canvas,
    weight: WeightFn,
    /// Part of the run in which the paint acts.
    window: Window,
    /// Sites at which the paint acts; `None`: all cross-attention sites.
    sites: Option<Sites>,
}

/// A predicate that selects attention sites.
type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// The state of one run.
pub(super) struct Painting {
    settings: PaintWithWords,
    weights: Weights,
    trace: Trace,
    /// Grid of the latent.
    grid: Grid,
    /// True if the negative prompt was evaluated.
    against: bool,
}

/// An empty painting without a map, for drawn masks only.
impl Default for PaintWithWords {
    fn default() -> Self {
        Self { canvas: Canvas::default(), weight: WeightFn::default(), window: Window::WHOLE, sites: None }
    }
}

impl PaintWithWords {
    /// Creates a painting on a map of the picture's size, or of any size with its aspect (within 1 %).
    pub fn new(map: &Raster) -> Self {
        Self::each([map])
    }

    /// Creates a painting with one map for each image of the batch. A color need not be in all maps.
    pub fn each<'a>(maps: impl IntoIterator<Item = &'a Raster>) -> Self {
        Self { canvas: Canvas::new(maps), ..Self::default() }
    }

    /// Creates a painting on a map with a text that describes its colors, in the form of paint-with-words-sd:
    /// `{(7, 9, 182): "aurora,0.5,-1", "#59b0ff": "boat@2.0@7"}`. Each entry is a phrase, a strength, and optionally a
    /// seed (-1 for none) and a blur in pixels. Numbers are read from the right, so a phrase may contain commas.
    ///
    /// ```
    /// use impasto::methods::PaintWithWords;
    /// use impasto::{Raster, Rgb};
    ///
    /// let map = Raster::flat(Rgb(7, 9, 182), (64, 64));
    /// let paint = PaintWithWords::from_context_text(&map, r#"{(7, 9, 182): "aurora,0.5,-1"}"#)?;
    /// # Ok::<(), impasto::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] for an unreadable text, with a list of all faulty entries. A run checks when it begins
    /// whether the colors are in the map.
    pub fn from_context_text(map: &Raster, text: &str) -> Result<Self> {
        let areas = context::parse(text)?;
        Ok(areas.into_iter().fold(Self::new(map), Self::area))
    }
}

/// # What is painted where
impl PaintWithWords {
    /// Paints a phrase in the areas of a color: short for `Area { strength, ..Area::color(color, phrase) }`. A color
    /// may have several phrases.
    pub fn color(self, color: Rgb, phrase: impl Into<String>, strength: f64) -> Self {
        self.area(Area { strength, ..Area::color(color, phrase) })
    }

    /// Paints a phrase in a mask that is drawn apart from the map: short for
    /// `Area { strength, ..Area::mask(mask, phrase) }`. The mask may be soft.
    pub fn mask(self, mask: Region, phrase: impl Into<String>, strength: f64) -> Self {
        self.area(Area { strength, ..Area::mask(mask, phrase) })
    }

    /// Adds a painted area.
    pub fn area(mut self, area: Area) -> Self {
        self.canvas.areas.push(area);
        self
    }

    /// Returns the region where `phrase` is painted at any strength, for use as saliency or mask of another guidance
    /// method.
    ///
    /// # Errors
    /// [`Error::Parameter`] if no area has the phrase; the errors of [`Guidance::check`].
    pub fn region(&self, phrase: &str) -> Result<Region> {
        self.check()?;
        let painted = self.canvas.areas.iter().filter(|area| area.phrase == phrase);
        let union = painted.map(|area| self.canvas.region(area)).reduce(|all, one| Ok(all?.or(one?)));
        union.unwrap_or_else(|| {
            let phrases: Vec<&str> = self.canvas.areas.iter().map(|area| area.phrase.as_str()).collect();
            let expected = format!("one of the painted phrases: {}", phrases.join(", "));
            Err(Error::parameter("phrase", format!("{phrase:?}"), expected))
        })
    }

    /// Draws small pictures that explain the painting: each map, then each area in its color, captioned with phrase and
    /// strength. Without a map the pictures have the aspect of `size`.
    ///
    /// # Errors
    /// The errors of [`Guidance::check`].
    pub fn legend(&self, size: impl Into<Size>) -> Result<Vec<Picture>> {
        self.check()?;
        let size = size.into();
        legend::legend(&self.canvas, Grid::new(size.height.into(), size.width.into()))
    }
}

/// # How strongly and when it acts
impl PaintWithWords {
    /// Sets the law by which weights act on attention. Default: [`WeightFn::LogMax`] of .1.
    pub fn weight(mut self, weight: WeightFn) -> Self {
        self.weight = weight;
        self
    }

    /// Limits the paint to a window of the run. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Limits the paint to the cross-attention sites that `select` accepts. Default: all.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.sites = Some(Function(Arc::new(select)));
        self
    }

    /// Changes the less common settings in place; [`PaintOptions`] describes them.
    ///
    /// ```
    /// use impasto::mask::Region;
    /// use impasto::methods::PaintWithWords;
    /// let paint = PaintWithWords::default().mask(Region::rect(0.0..0.5, 0.0..1.0), "boat", 1.5);
    /// let paint = paint.tune(|options| options.on_uncond = 0.5);
    /// ```
    pub fn tune(mut self, change: impl FnOnce(&mut PaintOptions)) -> Self {
        change(&mut self.canvas.options);
        self
    }
}

impl PaintWithWords {
    /// Returns true if the paint can change attention.
    fn acts(&self) -> bool {
        self.weight.acts() && self.canvas.areas.iter().any(Area::weighs)
    }

    fn reads(&self, site: &AttentionSite) -> bool {
        site.is_cross() && self.sites.as_ref().is_none_or(|select| select(site))
    }
}

impl CrossAttentionHook for Painting {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        let paints = self.weights.reach(branch) && self.settings.acts() && self.settings.reads(site);
        if paints { Interest::BIAS } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        self.settings.window.contains(step)
    }

    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        let Some(w) = self.weights.of(at.grid, at.branch, scores.tokens().len())? else { return Ok(None) };
        let w = match w.size4()?.0 {
            1 => w,
            _ => w.f_narrow(0, at.images.start, at.images.end - at.images.start)?,
        };
        let made = self.settings.weight.bias(&w, at.step.sigma, scores)?;
        self.trace.record(at, made.per_weight);
        Ok(Some(made.bias))
    }
}

impl Guidance for PaintWithWords {
    fn check(&self) -> Result<()> {
        self.weight.check()?;
        self.window.check()?;
        self.canvas.options.check()?;
        self.canvas.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(self.painting(setup)?))
    }

    fn recipe(&self) -> Result<Recipe> {
        self.to_recipe()
    }

    fn name(&self) -> &'static str {
        "PaintWithWords"
    }
}

impl PaintWithWords {
    /// Makes the state of a run.
    pub(super) fn painting(&self, setup: &Setup<'_>) -> Result<Painting> {
        let chosen = setup.sites.iter().filter(|site| self.reads(site));
        let grids: Vec<Grid> = chosen.map(|site| setup.grid.halved(site.halvings)).collect();
        if grids.is_empty() {
            let cross = setup.sites.iter().filter(|site| site.is_cross());
            return Err(Error::NoSites { names: cross.map(|site| site.name.clone()).collect() });
        }
        let find = |area: &Area| match area.negative {
            true => Ok(Placed::default()),
            // The branch of another prompt that `AND` combines has the phrase.
            false if setup.part_with(&area.phrase).0 != Branch::Cond => Ok(Placed::default()),
            false => Ok(Placed { tokens: TokenSpan::union(setup.prompt.find(&area.phrase)?), share: 1.0 }),
        };
        let placed: Vec<Placed> = self.canvas.areas.iter().map(find).collect::<Result<_>>()?;
        let (size, rules) = ((setup.grid, setup.images), (self.canvas.options.resample, self.canvas.options.blend));
        let mut weights = Weights::new(&self.canvas, size, grids, rules, setup.device)?;
        let masks = weights.finest().ok_or(Error::NoMaps("PaintWithWords"))?;
        let mut trace = Trace::new(&self.canvas, &placed, masks, setup.images)?;
        if !setup.schedule.steps().any(|step| self.window.contains(&step)) {
            trace.warnings.push(PaintWarning::NeverActive { window: self.window });
        }
        weights.place(self.canvas.options.branch, placed);
        Ok(Painting { settings: self.clone(), weights, trace, grid: setup.grid, against: false })
    }
}

impl GuidanceRun for Painting {
    /// Finds the phrases in the negative prompt and in every variation of either prompt, where a phrase may have
    /// another position or be missing.
    fn condition(&mut self, branch: &BranchInfo, _: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        let PaintWithWords { canvas, .. } = &self.settings;
        let against = branch.like == Branch::Uncond;
        if canvas.options.branch != Branch::Cond {
            return Ok(());
        }
        if branch.branch == Branch::Cond || !(against || branch.like == Branch::Cond) {
            return Ok(());
        }
        let prompt = codec.prompt(branch.into())?;
        let mut placed = vec![Placed::default(); canvas.areas.len()];
        for (index, (area, placed)) in canvas.areas.iter().zip(&mut placed).enumerate() {
            let wanted = if against { area.negative || canvas.options.on_uncond > 0.0 } else { !area.negative };
            if !wanted {
                continue;
            }
            let own = area.negative == against;
            let tokens = match find(&prompt, area, branch) {
                Err(_) if !own => Vec::new(), // the negative prompt need not contain the prompt's phrases
                Ok(tokens) => tokens,
                Err(Error::PhraseNotFound { phrase, prompt, .. }) if branch.branch != Branch::Uncond => {
                    if branch.role != AND {
                        self.trace.warnings.push(PaintWarning::NotInBranch { phrase, prompt, role: branch.role });
                    }
                    Vec::new()
                }
                Err(Error::PhraseTruncated { .. }) if branch.branch != Branch::Uncond => Vec::new(),
                Err(error) => return Err(error),
            };
            if area.negative && branch.branch == Branch::Uncond {
                self.trace.found(index, &tokens);
            }
            *placed = Placed { tokens, share: if own { 1.0 } else { canvas.options.on_uncond } };
        }
        self.weights.place(branch.branch, placed);
        Ok(())
    }

    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        let PaintWithWords { canvas, .. } = &self.settings;
        let mut regions = Vec::new();
        for area in &canvas.areas {
            let Some(seed) = area.seed else { continue };
            let coverage = canvas.region(area)?.on(self.grid)?.f_to_device(noise.device())?;
            regions.push((coverage, Noise::seeded(seed).draw(&noise.size())?.f_to_device(noise.device())?));
        }
        if !regions.is_empty() {
            *noise = region_noise(noise, &regions, canvas.options.noise_edges)?;
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }

    fn predicted(&mut self, _: &Step, predictions: &mut Predictions) -> Result<()> {
        self.against |= predictions.x0(Branch::Uncond).is_ok();
        Ok(())
    }

    fn finish(&mut self, _: &mut Tensor, _: &dyn Codec) -> Result<()> {
        let Canvas { areas, options, .. } = &self.settings.canvas;
        let wanted = options.on_uncond > 0.0 || areas.iter().any(|area| area.negative && area.weighs());
        if wanted && !self.against {
            self.trace.warnings.push(PaintWarning::NoNegative);
        }
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        self.trace.warnings.iter().map(PaintWarning::note).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        self.weights.finest().map(|masks| self.trace.summary(masks)).transpose()
    }

    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        Ok(vec![Box::new(self.trace.report()?)])
    }
}

/// Returns the positions of an area's phrase in the prompt of a branch.
///
/// # Errors
/// The errors of [`Prompt::find`]; [`Error::Parameter`] instead for an area of the negative prompt if that prompt is
/// empty.
fn find(prompt: &Prompt, area: &Area, branch: &BranchInfo) -> Result<Vec<TokenSpan>> {
    if branch.branch == Branch::Uncond && area.negative && branch.prompt.trim().is_empty() {
        let expected = Remedy::NegativePrompt.after(format!("a negative prompt that contains \"{}\"", area.phrase));
        return Err(Error::parameter("negative", "empty", expected));
    }
    Ok(TokenSpan::union(prompt.find(&area.phrase)?))
}
