//! A painting as a recipe.

use super::canvas::Area;
use super::{PaintWithWords, Resample, Sites, WeightFn};
use crate::error::Result;
use crate::raster::Raster;
use crate::recipe::{Recipe, function};
use serde::{Deserialize, Serialize};

/// What makes a painting again, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    map: Option<&'a Raster>,
    areas: &'a [Area],
    tolerance: f64,
    blur: f64,
    weight: &'a WeightFn,
    resample: Resample,
    /// The largest noise level, if there is one (JSON has no infinity), and the smallest.
    window: (Option<f64>, f64),
    #[serde(serialize_with = "function::serialize")]
    sites: &'a Option<Sites>,
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Read {
    map: Option<Raster>,
    areas: Vec<Area>,
    tolerance: f64,
    blur: f64,
    weight: WeightFn,
    resample: Resample,
    window: (Option<f64>, f64),
}

impl PaintWithWords {
    /// Its recipe.
    pub(super) fn written(&self) -> Result<Recipe> {
        let (high, low) = self.window;
        let written = Written {
            map: self.canvas.map.as_ref().map(|(map, _)| map),
            areas: &self.canvas.areas,
            tolerance: self.canvas.tolerance,
            blur: self.canvas.blur,
            weight: &self.weight,
            resample: self.resample,
            window: (Some(high).filter(|high| high.is_finite()), low),
            sites: &self.sites,
        };
        Recipe::of("PaintWithWords", &written)
    }

    /// The painting of a recipe.
    pub(in crate::guidance) fn repeated(recipe: &Recipe) -> Result<Self> {
        let Read { map, areas, tolerance, blur, weight, resample, window: (high, low) } = recipe.read()?;
        let mut paint = map.as_ref().map_or_else(Self::default, Self::new);
        paint.canvas.areas = areas;
        let paint = paint.tolerance(tolerance).blur(blur).weight(weight).resample(resample);
        Ok(paint.sigmas(high.unwrap_or(f64::INFINITY), low))
    }
}
