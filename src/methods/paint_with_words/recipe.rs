//! The recipe of a painting.

use super::{Area, PaintOptions, PaintWithWords, Sites, WeightFn};
use crate::error::Result;
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::window::Window;
use serde::{Deserialize, Serialize};

/// The serialized form of a painting.
#[derive(Serialize)]
struct Written<'a> {
    maps: Vec<&'a Raster>,
    areas: &'a [Area],
    weight: &'a WeightFn,
    window: Window,
    #[serde(flatten)]
    options: &'a PaintOptions,
    sites: &'a Option<Sites>,
}

/// The deserialized form of a painting.
#[derive(Deserialize)]
struct Read {
    maps: Vec<Raster>,
    areas: Vec<Area>,
    weight: WeightFn,
    window: Window,
    #[serde(flatten)]
    options: PaintOptions,
}

impl PaintWithWords {
    /// Returns the recipe of the painting.
    pub(super) fn to_recipe(&self) -> Result<Recipe> {
        let written = Written {
            maps: self.canvas.maps.iter().map(|(map, _)| map).collect(),
            areas: &self.canvas.areas,
            weight: &self.weight,
            window: self.window,
            options: &self.canvas.options,
            sites: &self.sites,
        };
        Recipe::of("PaintWithWords", &written)
    }

    /// Creates the painting of a recipe.
    pub(crate) fn from_recipe(recipe: &Recipe) -> Result<Self> {
        let read: Read = recipe.read()?;
        let mut paint = Self::each(&read.maps);
        paint.canvas.areas = read.areas;
        paint.canvas.options = read.options;
        Ok(paint.weight(read.weight).window(read.window))
    }
}
