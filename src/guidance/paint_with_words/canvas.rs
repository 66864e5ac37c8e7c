//! What is painted where: areas of a map, found by their color, and drawn masks.

use super::palette::{ColorShare, Palette, distance, pixels};
use crate::color::Rgb;
use crate::error::{Error, MissingColor, Result};
use crate::guidance::Region;
use crate::raster::Raster;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tch::Tensor;

/// Something painted, and the phrase it stands for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Area {
    pub paint: Paint,
    pub phrase: String,
    pub strength: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Paint {
    /// Where the map has this color.
    Color(Rgb),
    Mask(Region),
}

impl Area {
    pub fn color(&self) -> Option<Rgb> {
        match self.paint {
            Paint::Color(color) => Some(color),
            Paint::Mask(_) => None,
        }
    }
}

/// The map, if there is one, and everything on it.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    pub map: Option<(Raster, Palette)>,
    pub areas: Vec<Area>,
    /// Largest distance in RGB of a pixel from the color it counts as.
    pub tolerance: f64,
    /// Standard deviation in pixels of the map.
    pub blur: f64,
}

impl Canvas {
    /// The mask of an area at its own size, [1, 1, rows, columns] f32 in 0..=1.
    pub fn mask(&self, area: &Area) -> Result<Tensor> {
        let color = match &area.paint {
            Paint::Mask(region) => return region.drawn(),
            Paint::Color(color) => *color,
        };
        let Some((map, palette)) = &self.map else { return Err(no_map(color)) };
        let mine: HashSet<Rgb> = palette
            .colors()
            .iter()
            .map(|entry| entry.color)
            .filter(|pixel| self.owner(*pixel) == Some(color))
            .collect();
        let mask: Vec<f32> = pixels(map).map(|pixel| if mine.contains(&pixel) { 1.0 } else { 0.0 }).collect();
        let mask = Tensor::f_from_slice(&mask)?.f_reshape([1, 1, map.height().into(), map.width().into()])?;
        if self.blur == 0.0 { Ok(mask) } else { blurred(&mask, self.blur) }
    }

    /// The color with a phrase that a pixel counts as: the nearest one within the tolerance, the first on a tie.
    fn owner(&self, pixel: Rgb) -> Option<Rgb> {
        let near = self.areas.iter().filter_map(Area::color).map(|color| (color, distance(color, pixel)));
        near.filter(|(_, apart)| *apart <= self.tolerance).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(color, _)| color)
    }

    /// The colors of the map that count as nobody's.
    pub fn unused(&self) -> Vec<ColorShare> {
        let colors = self.map.iter().flat_map(|(_, palette)| palette.colors());
        colors.filter(|entry| self.owner(entry.color).is_none()).copied().collect()
    }

    /// Is everything there and in its range?
    pub fn check(&self) -> Result<()> {
        if self.areas.is_empty() {
            return Err(Error::parameter("paint", "empty", "at least one area; add it with color or mask"));
        }
        if !(0.0..=100.0).contains(&self.tolerance) {
            return Err(Error::parameter("tolerance", self.tolerance, "0..=100; 0 is exact, 30 takes smooth edges in"));
        }
        let side = self.map.as_ref().map_or(0, |(map, _)| map.height().min(map.width()));
        if !(0.0..=f64::from(side) / 4.0).contains(&self.blur) && self.blur != 0.0 {
            let expected = format!("0..={}, a quarter of the map's shorter side", f64::from(side) / 4.0);
            return Err(Error::parameter("blur", self.blur, expected));
        }
        for area in &self.areas {
            if !area.phrase.contains(char::is_alphanumeric) {
                return Err(Error::EmptyPhrase);
            }
            if !(-10.0..=10.0).contains(&area.strength) {
                let value = format!("{} for \"{}\"", area.strength, area.phrase);
                return Err(Error::parameter("strength", value, "-10..=10; .2 to 2 is usual, below 0 keeps away"));
            }
            if let Paint::Mask(region) = &area.paint {
                drop(region.drawn()?);
            }
        }
        self.check_colors()
    }

    /// Is every color in the map, and painted with a phrase only once?
    fn check_colors(&self) -> Result<()> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for area in &self.areas {
            let Some(color) = area.color() else { continue };
            let Some((_, palette)) = &self.map else { return Err(no_map(color)) };
            if !seen.insert((color, area.phrase.to_lowercase())) {
                let value = format!("{color} \"{}\" twice", area.phrase);
                return Err(Error::parameter("color", value, "each phrase once for a color; give it one strength"));
            }
            match palette.nearest(color) {
                Some((_, apart)) if apart <= self.tolerance => {}
                nearest => missing.push(MissingColor { asked: color, nearest }),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let palette = self.map.iter().flat_map(|(_, palette)| palette.colors());
        Err(Error::ColorNotInMap { missing, palette: palette.map(|entry| (entry.color, entry.share)).collect() })
    }
}

fn no_map(color: Rgb) -> Error {
    Error::parameter("color", color, "a map to find it in; begin with PaintWithWords::new, or give a mask")
}

/// A Gaussian of standard deviation `sigma` pixels, cut off at 4 of them, over a mask continued by reflection.
fn blurred(mask: &Tensor, sigma: f64) -> Result<Tensor> {
    let (_, _, rows, columns) = mask.size4()?;
    // Reflection reaches as far as the picture.
    let radius = ((4.0 * sigma).ceil() as i64).min(rows.min(columns) - 1);
    let bell: Vec<f64> = (-radius..=radius).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = bell.iter().sum();
    let bell: Vec<f32> = bell.iter().map(|weight| (weight / sum) as f32).collect();
    let (bell, size) = (Tensor::f_from_slice(&bell)?, 2 * radius + 1);
    let blur =
        |x: &Tensor, shape: [i64; 4]| x.f_conv2d(&bell.f_reshape(shape)?, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
    let padded = mask.f_reflection_pad2d([radius; 4])?;
    Ok(blur(&blur(&padded, [1, 1, size, 1])?, [1, 1, 1, size])?.f_clamp(0.0, 1.0)?)
}
