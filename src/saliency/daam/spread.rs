//! [`Spread`]: finds the object that a drawn region lies on.

use super::recording::Recorder;
use super::refine::{Refine, Refining};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use crate::branch::Branch;
use crate::error::Result;
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::mask::{Region, distances};
use crate::recipe::Recipe;
use crate::saliency::series::Accumulate;
use crate::saliency::{Saliency, SaliencyRun};
use crate::step::{Grid, Step};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::{Device, Kind, Tensor};

/// Distance from a region at which the region's claim to a cell is halved, in shares of the map's larger side.
const NEAR: f64 = 0.25;

/// A drawn region, spread along the picture's self-attention over the object that the region lies on. The map is the
/// larger of the region and of Aᵖ·region scaled to 0..=1, where A is the self-attention and p is the
/// [`power`](Self::power). In cells that the region covers by half or more, the map is 1, unless the cells go to other
/// regions ([`among`](Self::among)). A few scribbles inside an object find the whole object.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::mask::Region;
/// use impasto::saliency::{SaliencyRun, Spread, SpreadRun};
/// let pipeline = impasto::Pipeline::builder().build()?;
/// let under = Spread::of(Region::rect(0.4..0.6, 0.1..0.2));
/// let output = pipeline.request("1girl, hair, shirt").seed(7).steps(4).guide(under).run()?;
/// assert!(output.details::<SpreadRun>("Spread")?.map()?.is_some());
/// # Ok(()) }
/// ```
///
/// Self-attention is read at the finest grid of at most 1024 cells, and averaged over the steps from timestep 850 down
/// to 0. Before the first such step the map is the region itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Spread {
    region: Region,
    #[serde(default, skip_serializing_if = "Rivals::is_empty")]
    rivals: Rivals,
    power: u32,
    recorder: Recorder,
}

/// The regions that compete with a spread region for cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Rivals {
    Regions(Vec<Region>),
    Named(NamedRivals),
}

/// Regions that a recipe names, and does not hold again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum NamedRivals {
    /// The other regions of the region's label map.
    OtherLabels,
}

impl Rivals {
    const fn is_empty(&self) -> bool {
        matches!(self, Self::Regions(regions) if regions.is_empty())
    }
}

impl Default for Rivals {
    fn default() -> Self {
        Self::Regions(Vec::new())
    }
}

/// A [`Spread`] in one run. [`map`](SaliencyRun::map) returns what was found.
pub struct SpreadRun {
    recorder: Recorder,
    /// The region at latent resolution, [n, 1, h, w].
    region: Tensor,
    refining: Refining,
    grid: Grid,
    /// Rivals at latent resolution, [n, rivals, h, w]; `None` if there are none.
    rivals: Option<Tensor>,
}

impl fmt::Debug for SpreadRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpreadRun").field("grid", &self.grid).finish_non_exhaustive()
    }
}
impl Spread {
    /// Spreads `region` by four powers of self-attention.
    pub fn of(region: Region) -> Self {
        let recorder = Recorder { window: Window::timesteps(0..=850), or_whole_run: true, ..Recorder::default() };
        Self { region, rivals: Rivals::default(), power: 4, recorder }
    }

    /// Names other drawn regions, which compete for cells:
    ///
    /// * A cell goes to the region that spreads there most; distant regions count less.
    /// * Of regions that spread there equally, the nearest gets the cell.
    /// * Cells that a region was drawn on go to that region.
    ///
    /// In cells of other regions the map is 0. A cell to which two regions have an equal claim stays with both. By
    /// default there are no other regions, and the region keeps every cell that it reaches.
    pub fn among(mut self, rivals: impl IntoIterator<Item = Region>) -> Self {
        self.rivals = Rivals::Regions(rivals.into_iter().collect());
        self
    }

    /// Makes the other regions of the same drawing compete, as [`among`](Self::among) does. The regions of a drawing
    /// are those that [`Strokes::colors`](crate::hint::Strokes::colors) returns together. A recipe holds the drawing
    /// once, and not once for each region.
    pub fn among_drawing(mut self) -> Self {
        self.rivals = Rivals::Named(NamedRivals::OtherLabels);
        self
    }

    fn rivals(&self) -> Vec<Region> {
        match &self.rivals {
            Rivals::Regions(regions) => regions.clone(),
            Rivals::Named(NamedRivals::OtherLabels) => self.region.other_labels(),
        }
    }

    /// Sets the power p of self-attention, 0..=8: the number of times that the region spreads from cell to cell. A
    /// larger power reaches further; 2 to 6 is useful. Default 4.
    pub const fn power(mut self, power: u32) -> Self {
        self.power = power;
        self
    }
}

impl CrossAttentionHook for SpreadRun {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if self.refining.looks_at(site) && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }

    fn active(&self, step: &Step) -> bool {
        self.recorder.active(step)
    }

    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        self.refining.add(at, probs)
    }
}

impl Guidance for Spread {
    fn check(&self) -> Result<()> {
        self.region.check()?;
        if let Rivals::Regions(regions) = &self.rivals {
            regions.iter().try_for_each(Region::check)?;
        }
        Refine::SelfAttention { power: self.power }.check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Spread", self)
    }

    fn name(&self) -> &'static str {
        "Spread"
    }
}

impl Saliency for Spread {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        let region = self.region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?;
        let rivals = self.rivals().into_iter().map(|rival| rival.for_images(setup.grid, setup.images));
        let rivals = rivals.collect::<Result<Vec<_>>>()?;
        let joined = (!rivals.is_empty()).then(|| Tensor::f_cat(&rivals, 1)?.f_to_device(setup.device)).transpose()?;
        let recorder = self.recorder.on(setup.schedule);
        let refine = Refine::SelfAttention { power: self.power };
        let refining = Refining::new(refine, setup, Accumulate::Mean, &recorder, Default::default())?;
        Ok(Box::new(SpreadRun { recorder, region, refining, grid: setup.grid, rivals: joined }))
    }
}

impl GuidanceRun for SpreadRun {
    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        vec![self]
    }
}

impl SaliencyRun for SpreadRun {
    fn map(&self) -> Result<Option<Tensor>> {
        let Self { region, refining, grid, rivals, .. } = self;
        let spread = |regions: &Tensor| refining.map(regions, None, *grid);
        let Some(own) = spread(region)? else { return Ok(Some(region.shallow_clone())) };
        // Cells that the region covers by half or more are always found, even where the region's spread is weak.
        let found = own.f_maximum(region)?.f_add(&covered(region)?)?.f_clamp_max(1.0)?;
        let Some(rivals) = rivals else { return Ok(Some(found)) };
        let Some(reached) = spread(rivals)? else { return Ok(Some(found)) };
        let kept = claim(&own, region)?.f_ge_tensor(&claim(&reached, rivals)?)?.f_all_dim(1, true)?;
        Ok(Some(found.f_mul(&kept)?))
    }
}

/// Returns 1 where a region covers half a cell or more, else 0.
fn covered(region: &Tensor) -> Result<Tensor> {
    Ok(region.f_ge(0.5)?.f_to_kind(Kind::Float)?)
}

/// Returns how strongly regions claim each cell, [n, regions, h, w], at least 0. `reached` has the maps of the spread
/// regions, and `drawn` has the regions. Several strokes on one object reach equally far, so the nearest stroke gets a
/// cell. The drawn region is added, so that a thin stroke keeps its own cells.
fn claim(reached: &Tensor, drawn: &Tensor) -> Result<Tensor> {
    let (n, regions, h, w) = drawn.size4()?;
    // If no cell is covered by half, the best covered cell counts.
    let places = drawn.f_ge_tensor(&drawn.f_amax([2i64, 3], true)?.f_clamp_max(0.5)?)?;
    let places = Vec::<bool>::try_from(&places.f_to_device(Device::Cpu)?.f_flatten(0, -1)?)?;
    let distances: Vec<f64> =
        places.chunks((h * w).max(1) as usize).flat_map(|places| distances(places, Grid::new(h, w))).collect();
    let distances = Tensor::f_from_slice(&distances)?.f_to_kind(Kind::Float)?.f_to_device(drawn.device())?;
    let half = NEAR * h.max(w) as f64;
    let nearness = distances.f_div_scalar(half)?.f_add_scalar(1.0)?.f_reciprocal()?;
    Ok(reached.f_mul(&nearness.f_reshape([n, regions, h, w])?)?.f_add(drawn)?)
}
