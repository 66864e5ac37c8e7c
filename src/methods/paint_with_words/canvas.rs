//! The canvas of a painting: areas of maps, found by their color, and drawn masks.

use super::area::{Area, AreaPlace};
use super::map_colors::{ColorShare, MapColors, distance, pixels};
use super::options::PaintOptions;
use crate::color::Rgb;
use crate::error::{Error, MissingColor, Result};
use crate::mask::Region;
use crate::raster::Raster;
use crate::size::Size;
use ndarray::Array2;
use std::collections::HashSet;
use tch::Tensor;

/// Largest number of areas of a painting; each area is compared with the colors of its map.
const MOST_AREAS: usize = 128;
/// Largest number of colors of a map; smoothed edges and JPEG files have thousands.
const MOST_COLORS: usize = 1 << 16;
/// Largest distance in RGB at which the noise of JPEG files moves most colors.
const NEAR: f64 = 32.0;
/// Smallest share of a map that is worth a note.
const LEAST_SHARE: f64 = 0.01;

/// The maps, if any, and the areas painted on them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Canvas {
    /// No map, one map for all images, or one map for each image.
    pub maps: Vec<(Raster, MapColors)>,
    pub areas: Vec<Area>,
    /// Settings for reading maps and combining areas.
    pub options: PaintOptions,
}

impl Canvas {
    pub(super) fn new<'a>(maps: impl IntoIterator<Item = &'a Raster>) -> Self {
        Self { maps: maps.into_iter().map(|map| (map.clone(), MapColors::of(map))).collect(), ..Self::default() }
    }

    /// Returns the region of an area with softened edges.
    pub(super) fn region(&self, area: &Area) -> Result<Region> {
        let blur = self.blur_of(area);
        match &area.place {
            AreaPlace::Region(region) => match region.values() {
                Some(values) if blur > 0.0 => Ok(Region::new(blurred(values, blur)?)),
                _ => Ok(region.clone()),
            },
            AreaPlace::Color(color) => {
                let found = self.maps.iter().map(|map| self.found(map, *color, blur));
                let mut found: Vec<Region> = found.collect::<Result<_>>()?;
                match (found.pop(), found.is_empty()) {
                    (None, _) => Err(no_map(*color)),
                    (Some(only), true) => Ok(only),
                    (Some(last), false) => Ok(Region::each(found.into_iter().chain([last]))),
                }
            }
        }
    }

    /// Returns the blur of an area in pixels. The painting's blur applies only to colors of the map; a mask or box has
    /// only the blur of its own area.
    fn blur_of(&self, area: &Area) -> f64 {
        area.blur.unwrap_or(if area.rgb().is_some() { self.options.blur } else { 0.0 })
    }

    /// Returns the region of a map's pixels that count as an area's color. A Gaussian with a standard deviation of
    /// `blur` pixels softens the region.
    fn found(&self, (map, colors): &(Raster, MapColors), color: Rgb, blur: f64) -> Result<Region> {
        let all = colors.colors().iter().map(|entry| entry.color);
        let near = all.filter(|pixel| distance(*pixel, color) <= self.options.tolerance);
        let mine: HashSet<Rgb> = near.filter(|pixel| self.owner(*pixel) == Some(color)).collect();
        let mask: Vec<f32> = pixels(map).map(|pixel| if mine.contains(&pixel) { 1.0 } else { 0.0 }).collect();
        let Size { width, height } = map.size();
        let mask = drawing(mask, (height as usize, width as usize))?;
        Ok(Region::named(if blur == 0.0 { mask } else { blurred(&mask, blur)? }, "the painted map"))
    }

    /// Returns the area color that a pixel counts as: the nearest area color within the tolerance, or `None` if no area
    /// color is so near. Of equally near colors, the color added first counts.
    fn owner(&self, pixel: Rgb) -> Option<Rgb> {
        let near = self.areas.iter().filter_map(Area::rgb).map(|color| (color, distance(color, pixel)));
        near.filter(|(_, apart)| *apart <= self.options.tolerance)
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(color, _)| color)
    }

    /// Returns the colors of all maps together, the most frequent first.
    pub(super) fn colors(&self) -> MapColors {
        MapColors::join(self.maps.iter().map(|(_, colors)| colors))
    }

    /// Returns the colors of the maps that belong to no area.
    pub(super) fn unused(&self) -> Vec<ColorShare> {
        self.colors().colors().iter().filter(|entry| self.owner(entry.color).is_none()).copied().collect()
    }

    /// Returns the share of the maps whose colors belong to no area but are near an area's color, and the tolerance at
    /// which they belong to the area; `None` for a share that does not matter. `unused` are all colors that belong to
    /// no area.
    pub(super) fn nearly_used(&self, unused: &[ColorShare]) -> Option<(f64, f64)> {
        let apart =
            |pixel| self.areas.iter().filter_map(Area::rgb).map(|color| distance(color, pixel)).min_by(f64::total_cmp);
        let unused = unused.iter().filter_map(|entry| Some((entry.share, apart(entry.color)?)));
        let near = unused.filter(|(_, apart)| *apart <= NEAR);
        let (share, tolerance) = near.fold((0.0, 0.0), |(sum, most), (share, apart)| (sum + share, apart.max(most)));
        (share >= LEAST_SHARE).then(|| (share, tolerance.ceil()))
    }

    /// Checks that the painting is complete and all numbers are in range.
    pub(super) fn check(&self) -> Result<()> {
        if self.areas.is_empty() {
            return Err(Error::parameter("paint", "empty", "at least one area; add an area with color, mask or area"));
        }
        if self.areas.len() > MOST_AREAS {
            let expected = format!("at most {MOST_AREAS} areas; remove or join some of them");
            return Err(Error::parameter("areas", self.areas.len(), expected));
        }
        if let Some(count) =
            self.maps.iter().map(|(_, colors)| colors.colors().len()).find(|count| *count > MOST_COLORS)
        {
            let expected = format!("a drawn map of at most {MOST_COLORS} colors; use flat colors, not a photograph");
            return Err(Error::parameter("map", format!("a picture of {count} colors"), expected));
        }
        self.areas.iter().try_for_each(Area::check)?;
        let sides = self.maps.iter().map(|(map, _)| map.size()).map(|Size { width, height }| height.min(width));
        let side = sides.min().unwrap_or_default();
        check_blur(self.options.blur, side, "the map")?;
        for area in &self.areas {
            let Some(blur) = area.blur else { continue };
            match &area.place {
                AreaPlace::Color(_) => check_blur(blur, side, "the map")?,
                AreaPlace::Region(region) => match region.values() {
                    Some(values) => check_blur(blur, values.nrows().min(values.ncols()) as u32, "the mask")?,
                    None => {
                        let value = format!("{blur} for \"{}\"", area.phrase);
                        return Err(Error::parameter(
                            "blur",
                            value,
                            "no blur for this area; only a color or one drawn mask has pixels to blur",
                        ));
                    }
                },
            }
        }
        self.check_colors()
    }

    /// Checks that every color is in a map, and that no color is painted twice with the same phrase.
    fn check_colors(&self) -> Result<()> {
        let colors = self.colors();
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for area in &self.areas {
            let Some(color) = area.rgb() else { continue };
            if self.maps.is_empty() {
                return Err(no_map(color));
            }
            if !seen.insert((color, area.phrase.to_lowercase(), area.negative)) {
                let value = format!("{color} with the phrase \"{}\" twice", area.phrase);
                return Err(Error::parameter(
                    "color",
                    value,
                    "each phrase once for a color; give the phrase one strength",
                ));
            }
            match colors.nearest(color) {
                Some((_, apart)) if apart <= self.options.tolerance => {}
                nearest => missing.push(MissingColor { asked: color, nearest }),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let palette = colors.colors().iter().map(|entry| (entry.color, entry.share)).collect();
        let apart = missing.iter().map(|color| color.nearest.map(|(_, apart)| apart).filter(|apart| *apart <= NEAR));
        let tolerance = apart.collect::<Option<Vec<f64>>>().and_then(|apart| apart.into_iter().reduce(f64::max));
        let tolerance = tolerance.map(f64::ceil);
        Err(Error::ColorNotInMap { missing, palette, tolerance })
    }
}

fn no_map(color: Rgb) -> Error {
    let expected = "no color, because there is no map; begin with PaintWithWords::new, or give a mask";
    Error::parameter("color", color, expected)
}

fn check_blur(sigma: f64, side: u32, of: &str) -> Result<()> {
    let most = f64::from(side) / 4.0;
    if (0.0..=most).contains(&sigma) {
        return Ok(());
    }
    Err(Error::parameter("blur", sigma, format!("0..={most}, a quarter of the shorter side of {of}")))
}

fn drawing(values: Vec<f32>, (rows, columns): (usize, usize)) -> Result<Array2<f32>> {
    let got = vec![values.len() as i64];
    let misfit = |_| Error::Shape { what: "mask", got, expected: format!("{rows} rows × {columns} columns") };
    Array2::from_shape_vec((rows, columns), values).map_err(misfit)
}

/// Blurs a mask, which is continued by reflection at its edges, by a Gaussian of standard deviation `sigma` pixels, cut
/// off at 4 `sigma`.
fn blurred(mask: &Array2<f32>, sigma: f64) -> Result<Array2<f32>> {
    let (rows, columns) = mask.dim();
    // Reflection padding must be smaller than the picture.
    let radius = ((4.0 * sigma).ceil() as i64).min(rows.min(columns) as i64 - 1);
    let bell: Vec<f64> = (-radius..=radius).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = bell.iter().sum();
    let bell: Vec<f32> = bell.iter().map(|weight| (weight / sum) as f32).collect();
    let (bell, size) = (Tensor::f_from_slice(&bell)?, 2 * radius + 1);
    let blur =
        |x: &Tensor, shape: [i64; 4]| x.f_conv2d(&bell.f_reshape(shape)?, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1);
    let flat: Vec<f32> = mask.iter().copied().collect();
    let padded = Tensor::f_from_slice(&flat)?.f_reshape([1, 1, rows as i64, columns as i64])?;
    let padded = padded.f_reflection_pad2d([radius; 4])?;
    let blurred = blur(&blur(&padded, [1, 1, size, 1])?, [1, 1, 1, size])?.f_clamp(0.0, 1.0)?;
    drawing(Vec::try_from(&blurred.f_flatten(0, -1)?)?, (rows, columns))
}
