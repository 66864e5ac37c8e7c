//! A painting as a recipe.

use super::{Area, AreaBlend, PaintWithWords, Sites, WeightFn};
use crate::diffusion::NoiseEdges;
use crate::error::Result;
use crate::mask::Resample;
use crate::raster::Raster;
use crate::recipe::{Recipe, function};
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// What makes a painting again, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    maps: Vec<&'a Raster>,
    areas: &'a [Area],
    tolerance: f64,
    blur: f64,
    weight: &'a WeightFn,
    resample: Resample,
    blend: AreaBlend,
    edges: NoiseEdges,
    on_uncond: f64,
    window: Window,
    #[serde(serialize_with = "function::serialize")]
    sites: &'a Option<Sites>,
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Read {
    maps: Vec<Raster>,
    areas: Vec<Area>,
    tolerance: f64,
    blur: f64,
    weight: WeightFn,
    resample: Resample,
    blend: AreaBlend,
    edges: NoiseEdges,
    on_uncond: f64,
    window: Window,
}

impl PaintWithWords {
    /// Its recipe.
    pub(super) fn written(&self) -> Result<Recipe> {
        let written = Written {
            maps: self.canvas.maps.iter().map(|(map, _)| map).collect(),
            areas: &self.canvas.areas,
            tolerance: self.canvas.tolerance,
            blur: self.canvas.blur,
            weight: &self.weight,
            resample: self.resample,
            blend: self.blend,
            edges: self.edges,
            on_uncond: self.on_uncond,
            window: self.window,
            sites: &self.sites,
        };
        Recipe::of("PaintWithWords", &written)
    }

    /// The painting of a recipe.
    pub(crate) fn repeated(recipe: &Recipe) -> Result<Self> {
        let read: Read = recipe.read()?;
        let mut paint = Self::each(&read.maps);
        paint.canvas.areas = read.areas;
        let paint = paint.tolerance(read.tolerance).blur(read.blur).weight(read.weight).resample(read.resample);
        let paint = paint.blend(read.blend).noise_edges(read.edges).on_uncond(read.on_uncond);
        Ok(paint.window(read.window))
    }
}
