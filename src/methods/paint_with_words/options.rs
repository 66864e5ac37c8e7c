//! [`PaintOptions`] and [`AreaBlend`]: the settings of a painting beyond its areas, weight law, window and sites.

use crate::branch::Branch;
use crate::diffusion::NoiseEdges;
use crate::error::{Error, Result};
use crate::mask::Resample;
use serde::{Deserialize, Serialize};

/// The less common settings of a painting; [`PaintWithWords::tune`](super::PaintWithWords::tune) changes them in place.
///
/// ```
/// use impasto::methods::PaintWithWords;
/// use impasto::methods::paint_with_words::AreaBlend;
/// use impasto::{Raster, Rgb};
///
/// let map = Raster::flat(Rgb(200, 30, 30), (64, 64));
/// let paint = PaintWithWords::new(&map).color(Rgb(200, 30, 30), "house", 1.5).tune(|options| {
///     options.blend = AreaBlend::TopMost;
///     options.tolerance = 12.0;
/// });
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PaintOptions {
    /// Largest distance between a pixel and the color that the pixel counts as, Euclidean in RGB, 0..=100. Default 0,
    /// which requires equal colors. With a larger value, each pixel counts as the nearest color of an area within that
    /// distance; this suits maps with smooth edges, or from JPEG files.
    pub tolerance: f64,
    /// Standard deviation of the Gaussian that softens the edges of the map's areas, in pixels of the map. The range is
    /// 0 to a quarter of the map's shorter side. Default 0.
    pub blur: f64,
    /// Method that resamples masks to the grids of the attention sites.
    pub resample: Resample,
    /// Weight of a word in cells that several areas with this word cover. Default: the sum.
    pub blend: AreaBlend,
    /// Noise of cells that areas with their own seeds cover only in part. Default: the noise of the area that covers
    /// the cell most if the area covers half of the cell or more; otherwise the run's noise.
    #[serde(rename = "edges")]
    pub noise_edges: NoiseEdges,
    /// Share of the weight, 0..=1, with which the prompt's phrases are also painted where they occur in the negative
    /// prompt. Default 0.
    pub on_uncond: f64,
    /// Branch whose prompt is painted. Default: the run's own prompt. Another branch is added by a custom guidance
    /// method, which calls `begin` of the painting with that branch's prompt
    /// ([`Setup::for_prompt`](crate::guidance::Setup::for_prompt)). Recipes do not store this field.
    #[serde(skip, default = "cond")]
    pub branch: Branch,
}

/// Rule for the weight of a token in cells that several areas with this token cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum AreaBlend {
    /// The sum of their weights.
    #[default]
    Sum,
    /// The weight that is farthest from 0.
    Strongest,
    /// The weight of the area added last, in proportion to its coverage of the cell; earlier areas keep the rest.
    TopMost,
}

/// The branch of the run's prompt.
const fn cond() -> Branch {
    Branch::Cond
}

impl Default for PaintOptions {
    fn default() -> Self {
        Self {
            tolerance: 0.0,
            blur: 0.0,
            resample: Resample::default(),
            blend: AreaBlend::default(),
            noise_edges: NoiseEdges::default(),
            on_uncond: 0.0,
            branch: cond(),
        }
    }
}

impl PaintOptions {
    /// Checks the numbers that do not depend on the maps.
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.on_uncond) {
            let expected = "0..=1; at 0 the phrases are painted only in their own prompt";
            return Err(Error::parameter("on_uncond", self.on_uncond, expected));
        }
        if !(0.0..=100.0).contains(&self.tolerance) {
            let expected = "0..=100; 0 accepts only equal colors, 30 also accepts smooth edges";
            return Err(Error::parameter("tolerance", self.tolerance, expected));
        }
        Ok(())
    }
}
