//! [`ReferenceColor`]: pictures in the colors of another picture.

mod join;

use super::changed_attention::no_self_attention;
use crate::attention::{AttentionSite, CrossAttentionHook};
use crate::branch::{Branch, BranchInfo};
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Noise, Predictions, Transition};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Picture, Plan, Report, Setup};
use crate::mask::{Region, Resample};
use crate::raster::{Filter, Raster};
use crate::recipe::{Function, Recipe};
use crate::saliency::{Daam, Reference, Saliency, SaliencyRun};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, QUOTED, Remedy, excerpt};
use join::{Join, Pair};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A choice of attention sites.
type Sites = Function<dyn Fn(&AttentionSite) -> bool + Send + Sync>;

/// Seed of the noise that is added to every reference. Users are unlikely to choose this seed, so a reference does not
/// get the noise of the picture itself.
const NOISE_SEED: u64 = 0x7265_6665_7265_6e63;
/// Smallest saliency at which a cell belongs to a part.
const PART: f64 = 0.5;

/// Gives a picture the colors of another picture, on any checkpoint and without training.
///
/// At every step the reference, with noise of that step's level, is evaluated as a branch of its own. The
/// self-attention keys and values of that branch are added to the keys and values of the prompt's branch. Every cell of
/// the picture then attends to the picture and to the reference in one softmax. For example, hair attends to the hair
/// of the reference and takes its colors. The negative prompt's branch does not see the reference, so classifier-free
/// guidance strengthens the effect. The method costs one more branch per step.
///
/// The layout of the picture moves toward the reference's layout as well, unless one of these holds the layout in
/// place:
///
/// - line art by a [`Control`](crate::Control),
/// - a picture to start from,
/// - a [`window`](Self::window) that begins later.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::methods::ReferenceColor;
/// let pipeline = Pipeline::builder().build()?;
/// let sunset = pipeline.request("a house, orange sky, purple ground").seed(1).steps(6).run()?;
/// let colors = ReferenceColor::new(sunset.image(0)?);
/// let output = pipeline.request("a house, sky, ground").seed(7).steps(6).guide(colors).run()?;
/// # Ok(()) }
/// ```
///
/// Source: "reference-only" of the ControlNet extension for the web UI (Zhang 2023); Hertz et al., "Style Aligned Image
/// Generation via Shared Attention" (CVPR 2024).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct ReferenceColor {
    picture: Raster,
    described: Option<String>,
    strength: f64,
    statistics: f64,
    window: Window,
    #[serde(default)]
    sites: Option<Sites>,
    parts: Vec<Part>,
}

/// A part of the picture, and the region of the reference that its cells see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    here: Here,
    there: Region,
}

/// The place of a part in the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Here {
    /// A region that the user gave.
    Region(Region),
    /// The cells where the picture shows the object that a phrase names.
    Phrase { phrase: String, look: Box<Daam> },
}

/// The state of one run.
struct Joining {
    settings: ReferenceColor,
    /// The search for each part's phrase; `None` for a part with a region.
    looks: Vec<Option<Box<dyn SaliencyRun>>>,
    branch: Branch,
    /// Clean latent of the reference, [1, c, h, w]; `noise` has the same shape.
    latent: Tensor,
    noise: Tensor,
    images: i64,
    join: Join,
    /// True if the method acts in at least one step of the schedule.
    acts: bool,
}

impl ReferenceColor {
    /// Takes colors from `picture`, which may have any size and is stretched to the size of the run.
    pub fn new(picture: &Raster) -> Self {
        Self {
            picture: picture.clone(),
            described: None,
            strength: 1.0,
            statistics: 0.0,
            window: Window::WHOLE,
            sites: None,
            parts: Vec::new(),
        }
    }

    /// Sets the prompt of the reference's branch, which describes the reference. Default: the run's prompt, which suits
    /// a reference of the same objects.
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.described = Some(description.into());
        self
    }
}

/// # How strongly it acts
impl ReferenceColor {
    /// Sets the weight of the reference's cells relative to the picture's own cells in the softmax, 0..=8. Default 1.
    /// At 0 the picture does not attend to the reference.
    pub fn strength(mut self, strength: f64) -> Self {
        self.strength = strength;
        self
    }

    /// Sets how far self-attention's output takes over the reference's mean and deviation in every channel (adaptive
    /// instance normalization), 0..=1. Default 0. The whole picture moves toward the reference's palette and style,
    /// even cells that resemble nothing in the reference.
    ///
    /// Source: Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization" (ICCV
    /// 2017).
    pub fn statistics(mut self, share: f64) -> Self {
        self.statistics = share;
        self
    }
}

/// # Where and when it acts
impl ReferenceColor {
    /// Lets the cells of `here`, a region of the picture, attend to the cells of `there`, a region of the reference;
    /// may be called several times. Cells of the picture outside every such region do not attend to the reference.
    /// `here` has the aspect of the run's picture; `there` is stretched with the reference.
    pub fn region(mut self, here: Region, there: Region) -> Self {
        self.parts.push(Part { here: Here::Region(here), there });
        self
    }

    /// Lets the object that `phrase` names in the prompt attend to the same object in the reference; may be called
    /// several times. For example, the phrase "hair" colors hair like the reference's hair. Cells outside every such
    /// object do not attend to the reference. [`Daam::competing`] finds the object in the picture; the map of the
    /// object exists from timestep 850 down.
    ///
    /// # Errors
    /// The errors of [`Reference::region`].
    pub fn part(mut self, reference: &Reference, phrase: impl Into<String>) -> Result<Self> {
        let phrase = phrase.into();
        let there = reference.region(&phrase)?;
        let look = Box::new(Daam::competing(&phrase));
        self.parts.push(Part { here: Here::Phrase { phrase, look }, there });
        Ok(self)
    }

    /// Limits the method to the self-attention sites that `select` accepts. Default: all self-attention sites of the
    /// UNet.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.sites = Some(Function(Arc::new(select)));
        self
    }

    /// Acts only in this window; outside of the window the reference is not evaluated. Default: the whole run. A window
    /// that begins at timestep 800 leaves more of the layout to the prompt.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }
}

impl ReferenceColor {
    fn joins(&self, site: &AttentionSite) -> bool {
        !site.is_cross() && site.control.is_none() && self.sites.as_ref().is_none_or(|select| select(site))
    }

    fn acts(&self, step: &Step) -> bool {
        (self.strength > 0.0 || self.statistics > 0.0) && self.window.contains(step)
    }
}

impl Joining {
    /// Returns the searches for phrases.
    fn looks(&mut self) -> impl Iterator<Item = &mut Box<dyn SaliencyRun>> {
        self.looks.iter_mut().flatten()
    }

    /// Returns masks of cells of the picture, each with a mask of the reference's cells that these cells see, at the
    /// latent's size; `None` if all cells see the whole reference.
    fn pairs(&self) -> Result<Option<Vec<Pair>>> {
        let Self { settings: ReferenceColor { parts, .. }, looks, join, images, latent, .. } = self;
        if parts.is_empty() {
            return Ok(None);
        }
        let (grid, device) = (join.grid, latent.device());
        let pair = |(part, look): (&Part, &Option<Box<dyn SaliencyRun>>)| -> Result<Option<Pair>> {
            let here = match (&part.here, look) {
                (Here::Region(region), _) => Some(region.for_images(grid, *images)?.f_to_device(device)?),
                (Here::Phrase { .. }, Some(look)) => {
                    look.map()?.map(|map| map.f_ge(PART)?.f_to_kind(Kind::Float)).transpose()?
                }
                (Here::Phrase { .. }, None) => None,
            };
            // The region is stretched like the reference.
            let there = part.there.resample(grid, Resample::Area)?.f_to_device(device)?;
            Ok(here.map(|here| Pair { here, there }))
        };
        Ok(Some(parts.iter().zip(looks).filter_map(|both| pair(both).transpose()).collect::<Result<_>>()?))
    }
}

impl Guidance for ReferenceColor {
    fn check(&self) -> Result<()> {
        if !(0.0..=8.0).contains(&self.strength) {
            return Err(Error::parameter("strength", self.strength, "0..=8; 1 is usual"));
        }
        if !(0.0..=1.0).contains(&self.statistics) {
            return Err(Error::parameter("statistics", self.statistics, "a share in 0..=1"));
        }
        if self.picture.bytes().is_empty() {
            return Err(Error::parameter("picture", "without pixels", "a picture of at least one pixel"));
        }
        for part in &self.parts {
            part.there.check()?;
            match &part.here {
                Here::Region(region) => region.check()?,
                Here::Phrase { look, .. } => look.check()?,
            }
        }
        self.window.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        let joined: Vec<usize> = setup.sites.iter().filter(|site| self.joins(site)).map(|site| site.index).collect();
        if joined.is_empty() {
            let names: Vec<_> =
                setup.sites.iter().filter(|site| !site.is_cross()).map(|site| site.name.clone()).collect();
            if names.is_empty() {
                return Err(no_self_attention("ReferenceColor"));
            }
            return Err(Error::NoSites { names });
        }
        for part in &self.parts {
            if part.there.resample(setup.grid, Resample::Area)?.size4()?.0 != 1 {
                return Err(Error::parameter(
                    "region",
                    "different for each image",
                    "one region of the reference for all images, because there is one reference",
                ));
            }
            if let Here::Region(region) = &part.here {
                let _ = region.for_images(setup.grid, setup.images)?;
            }
        }
        let mut looks = Vec::new();
        for part in &self.parts {
            looks.push(match &part.here {
                Here::Phrase { look, .. } => Some(look.find(setup)?),
                Here::Region(_) => None,
            });
        }
        let (description, conditioning) = match &self.described {
            Some(own) => (own.clone(), setup.codec.text(own.into())?),
            None => setup.conditioning_of(Branch::Cond)?,
        };
        let branch = setup.add_alone("reference", &description, conditioning)?;
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let picture = self.picture.resize(((grid.w * cell) as u32, (grid.h * cell) as u32), Filter::Lanczos)?;
        let latent = setup.codec.encode(&picture.to_tensor(setup.device)?)?.f_to_device(setup.device)?;
        let noise = Noise::seeded(NOISE_SEED).draw(&latent.size())?.f_to_device(setup.device)?;
        let acts = setup.schedule.steps().any(|step| self.acts(&step));
        let join = Join::new(branch, joined, grid, (self.strength, self.statistics), !self.parts.is_empty());
        let (settings, images) = (self.clone(), setup.images);
        Ok(Box::new(Joining { settings, looks, branch, latent, noise, images, join, acts }))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("ReferenceColor", self)
    }

    fn name(&self) -> &'static str {
        "ReferenceColor"
    }
}

impl GuidanceRun for Joining {
    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        if branch.like == Branch::Cond {
            self.join.readers.push(branch.branch);
        }
        self.looks().try_for_each(|look| look.condition(branch, conditioning, codec))
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        self.looks().try_for_each(|look| look.plan(step, plan))?;
        let (acts, pairs) = (self.settings.acts(step), self.pairs()?);
        self.join.begin(pairs, acts);
        if self.join.active {
            let noised = self.latent.f_add(&self.noise.f_mul_scalar(step.sigma)?)?;
            let size = self.latent.size().into_iter().skip(1);
            let rows: Vec<i64> = std::iter::once(self.images).chain(size).collect();
            // An image must be the same to the bit alone and in a batch, but libtorch chooses kernels by strides. The
            // rows are therefore a contiguous copy, not a view.
            plan.evaluate_at(self.branch, noised.f_expand(rows, false)?.f_contiguous()?);
        }
        Ok(())
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        let join = std::iter::once(&mut self.join as &mut dyn CrossAttentionHook);
        join.chain(self.looks.iter_mut().flatten().flat_map(|look| look.hooks())).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        self.looks().try_for_each(|look| look.predicted(step, predictions))
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        self.looks().try_for_each(|look| look.denoised(step, denoised))
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        self.looks().try_for_each(|look| look.transition(step, transition))
    }

    fn notes(&self) -> Vec<Note> {
        let ReferenceColor { strength, statistics, window, parts, .. } = &self.settings;
        if *strength == 0.0 && *statistics == 0.0 {
            return vec!["strength and statistics are 0, so the method did nothing; raise one of them".into()];
        }
        if !self.acts {
            let idle = format!("no step of this run is in the window ({window}), so the method did nothing");
            return vec![Remedy::Window.after(idle)];
        }
        let lost = |(part, look): (&Part, &Option<Box<dyn SaliencyRun>>)| match (&part.here, look) {
            (Here::Phrase { phrase, .. }, Some(look)) => {
                let map = look.map().ok().flatten()?;
                let found = map.f_ge(PART).and_then(|part| part.f_any()?.f_int64_value(&[])).ok()?;
                let phrase = excerpt(phrase, QUOTED);
                let lost = || format!("\"{phrase}\" was not found in the picture, so the phrase took no colors");
                (found == 0).then(|| Remedy::Phrase.after(lost()))
            }
            _ => None,
        };
        parts.iter().zip(&self.looks).filter_map(lost).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let ReferenceColor { picture, described, strength, statistics, window, parts, .. } = &self.settings;
        let data = serde_json::json!({
            "described": described,
            "strength": strength,
            "statistics": statistics,
            "window": window,
            "parts": parts.len(),
        });
        let pictures = vec![Picture::new("the reference", picture.clone())];
        Ok(Some(Report { data, pictures, ..Report::new("ReferenceColor") }))
    }
}
