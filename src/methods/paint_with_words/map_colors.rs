//! The colors of a map.

use crate::color::Rgb;
use crate::raster::Raster;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashMap;

/// The colors of a picture, the most frequent first. These include mixed colors that
/// an image editor added at edges.
///
/// ```
/// use impasto::methods::paint_with_words::MapColors;
/// use impasto::{Raster, Rgb};
/// let mut map = Raster::flat(Rgb(128, 128, 128), (4, 4));
/// map.set(0, 0, Rgb(255, 0, 0));
/// let colors = MapColors::of(&map);
/// assert_eq!(colors.colors()[1].share, 1.0 / 16.0);
/// assert_eq!(colors.nearest(Rgb(250, 10, 0)).map(|(color, _)| color), Some(Rgb(255, 0, 0)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct MapColors(Vec<ColorShare>);

/// One color of a map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ColorShare {
    /// The color.
    pub color: Rgb,
    /// Number of pixels of this color.
    pub pixels: usize,
    /// Share of these pixels in the picture, 0..=1.
    pub share: f64,
}

impl MapColors {
    /// Counts the colors of a picture.
    pub fn of(map: &Raster) -> Self {
        Self::count(pixels(map).map(|color| (color, 1)))
    }

    /// Merges the colors of several pictures.
    pub(super) fn join<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        Self::count(all.flat_map(|colors| &colors.0).map(|entry| (entry.color, entry.pixels)))
    }

    fn count(pixels: impl Iterator<Item = (Rgb, usize)>) -> Self {
        let mut counts: HashMap<Rgb, usize> = HashMap::new();
        for (color, pixels) in pixels {
            *counts.entry(color).or_default() += pixels;
        }
        let all = counts.values().sum::<usize>() as f64;
        let share = |(color, pixels)| ColorShare { color, pixels, share: pixels as f64 / all };
        let mut colors: Vec<ColorShare> = counts.into_iter().map(share).collect();
        colors.sort_by_key(|entry| (Reverse(entry.pixels), entry.color.0, entry.color.1, entry.color.2));
        Self(colors)
    }

    /// Returns all colors, the most frequent first. Colors of a small share are often the mixed colors of smoothed
    /// edges.
    pub fn colors(&self) -> &[ColorShare] {
        &self.0
    }

    /// Returns the map's nearest color to `color`, and their Euclidean distance in RGB; `None` for a map without
    /// pixels.
    pub fn nearest(&self, color: Rgb) -> Option<(Rgb, f64)> {
        let apart = self.0.iter().map(|entry| (entry.color, distance(entry.color, color)));
        apart.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Returns the Euclidean distance in RGB, 0..=441.7.
pub(super) fn distance(a: Rgb, b: Rgb) -> f64 {
    let square = |a: u8, b: u8| f64::from(a.abs_diff(b)).powi(2);
    (square(a.0, b.0) + square(a.1, b.1) + square(a.2, b.2)).sqrt()
}

/// Iterates over the colors of a picture's pixels, row by row.
pub(super) fn pixels(map: &Raster) -> impl Iterator<Item = Rgb> + '_ {
    let (pixels, _) = map.bytes().as_chunks::<3>();
    pixels.iter().map(|&[red, green, blue]| Rgb(red, green, blue))
}
