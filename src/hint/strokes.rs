//! [`Strokes`]: strokes of color.

use crate::color::{Lab, Rgb};
use crate::error::{Error, Result};
use crate::mask::{LabelMap, Region};
use crate::raster::Layer;
use crate::size::Size;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// CIEDE2000 difference below which two colors of strokes count as the same.
const SAME: f64 = 1.0;
/// Number of pixels below which a color counts as part of a soft edge.
const LEAST_PIXELS: usize = 8;
/// Largest number of colors in a layer of strokes; each color may become a color force.
const MOST_COLORS: usize = 64;
/// Largest number of pixels of a layer whose colors are found.
const MOST_PIXELS: u64 = 8192 * 8192;

/// Strokes of color on a transparent layer: painted by code, or opened from a file with alpha.
///
/// ```
/// use impasto::Rgb;
/// use impasto::hint::Strokes;
/// let strokes = Strokes::new((64, 64))
///     .line([(10.0, 12.0), (50.0, 12.0)], 2.0, Rgb(255, 99, 71))
///     .line([(32.0, 40.0)], 4.0, Rgb(72, 61, 139)); // a dot
/// assert_eq!(strokes.layer().pixel(30, 12), Some((Rgb(255, 99, 71), 255)));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Strokes {
    layer: Layer,
    /// Deviation in pixels of the Gaussian blur that is applied to the strokes before a network reads them; `None`: no
    /// blur.
    blur: Option<f64>,
}

impl Strokes {
    /// Creates a layer without strokes.
    pub fn new(size: impl Into<Size>) -> Self {
        Self::of(Layer::new(size))
    }

    /// Creates strokes from a layer with straight alpha.
    pub const fn of(layer: Layer) -> Self {
        Self { layer, blur: None }
    }

    /// Opens the strokes in a file with alpha, such as a layer that a painting program exported.
    ///
    /// # Errors
    /// The errors of [`Layer::open`]; [`Error::Parameter`] if every pixel is opaque, as in a file without alpha.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let layer = Layer::open(path)?;
        if layer.bytes().chunks_exact(4).all(|pixel| pixel.last() == Some(&255)) {
            let expected =
                "a picture with alpha, transparent where there is no stroke; export the layer as PNG with transparency";
            return Err(Error::parameter("strokes", format!("{}, opaque everywhere", path.display()), expected));
        }
        Ok(Self::of(layer))
    }

    /// Paints a stroke along `points` (x, y), in pixels from the upper left corner.
    ///
    /// The stroke covers every pixel whose center is within `radius` of the line, and at least one pixel. A single
    /// point makes a dot; later strokes cover earlier ones.
    pub fn line(mut self, points: impl IntoIterator<Item = (f64, f64)>, radius: f64, color: Rgb) -> Self {
        let points: Vec<(f64, f64)> = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        let mut segments: Vec<_> = points.iter().copied().zip(points.iter().copied().skip(1)).collect();
        if let ([only], []) = (points.as_slice(), segments.as_slice()) {
            segments.push((*only, *only));
        }
        // The radius is at least half a pixel's diagonal: a finer line would miss the centers of pixels.
        let least = std::f64::consts::FRAC_1_SQRT_2;
        let radius = if radius.is_finite() { radius.max(least) } else { least };
        let Size { width, height } = self.layer.size();
        for ((ax, ay), (bx, by)) in segments {
            let span = |a: f64, b: f64, side: u32| {
                let begin = (a.min(b) - radius).floor().max(0.0) as u32;
                begin..((a.max(b) + radius).ceil().max(0.0) as u32).saturating_add(1).min(side)
            };
            for y in span(ay, by, height) {
                for x in span(ax, bx, width) {
                    let (px, py) = (f64::from(x) + 0.5 - ax, f64::from(y) + 0.5 - ay);
                    let (dx, dy) = (bx - ax, by - ay);
                    let length = dx * dx + dy * dy;
                    let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
                    if (px - along * dx).hypot(py - along * dy) <= radius {
                        self.layer.set(x, y, color, 255);
                    }
                }
            }
        }
        self
    }

    /// Blurs the strokes for the network by a Gaussian of `sigma` pixels, above 0 and up to 64.
    pub const fn blur(mut self, sigma: f64) -> Self {
        self.blur = Some(sigma);
        self
    }

    /// Returns the colors of the strokes, each with the region of its pixels. The color with the most pixels is the
    /// first. All regions together take one byte for each pixel of the layer.
    ///
    /// A region has the pixels of its color with an alpha of at least 128. Colors of fewer than 8 pixels, such as those
    /// of soft edges, count as the nearest of the other colors. The same holds for colors at a CIEDE2000 difference
    /// below 1 from a color with more pixels, because browsers round the colors of transparent pixels by one.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no strokes, more than 64 colors of 8 pixels or more, or more than 67 million
    /// pixels (8192×8192).
    pub fn colors(&self) -> Result<Vec<(Rgb, Region)>> {
        let Size { width, height } = self.layer.size();
        if u64::from(width) * u64::from(height) > MOST_PIXELS {
            let expected = "at most 8192×8192 pixels; make the layer smaller, such as the picture's own size";
            return Err(Error::parameter("strokes", format!("a layer of {width}×{height} pixels"), expected));
        }
        let painted = || {
            self.layer.bytes().chunks_exact(4).map(|pixel| match *pixel {
                [red, green, blue, alpha] if alpha >= 128 => Some(Rgb(red, green, blue)),
                _ => None,
            })
        };
        let mut counts: HashMap<Rgb, usize> = HashMap::new();
        painted().flatten().for_each(|color| *counts.entry(color).or_default() += 1);
        let mut counts: Vec<(Rgb, usize)> = counts.into_iter().collect();
        // Colors with equal counts are sorted by channel values, so that the order is always the same.
        counts.sort_by_key(|(Rgb(r, g, b), count)| (Reverse(*count), *r, *g, *b));
        let mut kept: Vec<(Rgb, Lab)> = Vec::new();
        for (color, count) in &counts {
            if !kept.is_empty() && (*count < LEAST_PIXELS || kept.len() > MOST_COLORS) {
                break;
            }
            let lab = color.lab();
            if kept.iter().all(|(_, larger)| larger.delta_e(lab) >= SAME) {
                kept.push((*color, lab));
            }
        }
        if kept.is_empty() || kept.len() > MOST_COLORS {
            let expected =
                format!("1 to {MOST_COLORS} colors of {LEAST_PIXELS} pixels or more; paint with a hard brush");
            let more = if kept.is_empty() { "" } else { " or more" };
            return Err(Error::parameter("strokes", format!("painted in {}{more} colors", kept.len()), expected));
        }
        // Noise has as many colors as pixels, so their nearest color is found by the plain distance in Lab.
        let nearest = |color: Rgb| {
            let Lab { l, a, b } = color.lab();
            let distance = |lab: &Lab| (lab.l - l).powi(2) + (lab.a - a).powi(2) + (lab.b - b).powi(2);
            let all = kept.iter().zip(1u8..);
            all.min_by(|((_, one), _), ((_, two), _)| distance(one).total_cmp(&distance(two)))
                .map_or(0, |(_, label)| label)
        };
        let labels: HashMap<Rgb, u8> = counts.iter().map(|(color, _)| (*color, nearest(*color))).collect();
        let labels = painted().map(|color| color.and_then(|color| labels.get(&color).copied()).unwrap_or_default());
        let labels = Array2::from_shape_vec((height as usize, width as usize), labels.collect());
        let regions = Region::of_labels(&Arc::new(LabelMap::new(labels.map_err(Error::custom)?)));
        Ok(kept.into_iter().map(|(color, _)| color).zip(regions).collect())
    }

    /// Returns the strokes before any blur.
    pub const fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Returns premultiplied red, green, blue and alpha of the strokes, [1, 4, H, W] f32 in 0..=1, at `size`. Enlarging
    /// repeats the nearest pixel; a smaller width or height takes the mean.
    pub(super) fn to_tensor(&self, size: Size) -> Result<Tensor> {
        if let Some(sigma) = self.blur
            && !(sigma > 0.0 && sigma <= 64.0)
        {
            return Err(Error::parameter("blur", sigma, "a deviation above 0 and up to 64 pixels; .5 to 2 is usual"));
        }
        let Size { width, height } = self.layer.size();
        let shape = [1, i64::from(height), i64::from(width), 4];
        let bytes = Tensor::f_from_data_size(self.layer.bytes(), &shape, Kind::Uint8)?;
        let unit = bytes.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?.f_div_scalar(255)?;
        let alpha = unit.f_narrow(1, 3, 1)?;
        let color = unit.f_narrow(1, 0, 3)?.f_mul(&alpha)?;
        let mut all = Tensor::f_cat(&[color, alpha], 1)?;
        if let Some(sigma) = self.blur {
            all = blurred(&all, sigma)?;
        }
        if size == self.layer.size() {
            return Ok(all);
        }
        let target = [i64::from(size.height), i64::from(size.width)];
        if size.width >= width && size.height >= height {
            return Ok(all.f_upsample_nearest2d(target, None, None)?);
        }
        Ok(all.f_adaptive_avg_pool2d(target)?)
    }
}

/// Blurs the channels of `x`, [1, 4, H, W], by a Gaussian of `sigma` pixels, with zeros outside. Computes in f64.
fn blurred(x: &Tensor, sigma: f64) -> Result<Tensor> {
    let reach = (3.0 * sigma).ceil() as i64;
    let weights: Vec<f64> = (-reach..=reach).map(|at| (-0.5 * (at as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.into_iter().map(|weight| weight / sum).collect();
    let kernel = Tensor::f_from_slice(&weights)?.f_repeat([4])?;
    let [down, across] = [[4, 1, 2 * reach + 1, 1], [4, 1, 1, 2 * reach + 1]];
    let convolved = |x: &Tensor, shape: [i64; 4], padding: [i64; 2]| {
        x.f_conv2d(
            &kernel.f_reshape(shape)?,
            None::<&Tensor>,
            [1, 1].as_slice(),
            padding.as_slice(),
            [1, 1].as_slice(),
            4,
        )
    };
    let x = convolved(&x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?, down, [reach, 0])?;
    Ok(convolved(&x, across, [0, reach])?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Grid;

    #[test]
    fn soft_edges_count_as_the_nearest_color() -> Result<()> {
        let mut strokes = Strokes::new((16, 16)).line([(2.0, 4.0), (12.0, 4.0)], 2.0, Rgb(200, 0, 0));
        strokes = strokes.line([(2.0, 12.0), (8.0, 12.0)], 1.0, Rgb(0, 0, 200));
        strokes.layer.set(15, 4, Rgb(180, 10, 10), 255);
        strokes.layer.set(15, 12, Rgb(10, 10, 180), 200);
        strokes.layer.set(15, 15, Rgb(0, 200, 0), 100); // alpha below 128
        (0..16).for_each(|x| strokes.layer.set(x, 0, Rgb(199, 0, 1), 130)); // no visible difference
        let colors = strokes.colors()?;
        assert_eq!(colors.iter().map(|(color, _)| *color).collect::<Vec<_>>(), [Rgb(200, 0, 0), Rgb(0, 0, 200)]);
        let pixels = |color: usize| colors[color].1.for_images(Grid::new(16, 16), 1);
        let at = |color: usize, y, x| pixels(color).map(|pixels| pixels.double_value(&[0, 0, y, x]));
        assert_eq!([at(0, 4, 15)?, at(1, 12, 15)?, at(0, 15, 15)?, at(1, 15, 15)?], [1.0, 1.0, 0.0, 0.0]);
        assert!(Strokes::new((4, 4)).colors().unwrap_err().to_string().contains("in 0 colors"));
        let mut many = Strokes::new((64, 64));
        for i in 0..65u8 {
            many = many.line(
                [(f64::from(i % 13) * 4.0 + 2.0, f64::from(i / 13) * 8.0 + 4.0)],
                2.0,
                Rgb(i.wrapping_mul(37), i.wrapping_mul(91), i.wrapping_mul(151)),
            );
        }
        assert!(many.colors().unwrap_err().to_string().contains("in 65 or more colors"));
        Ok(())
    }

    #[test]
    fn line_covers_pixels_within_its_radius() {
        let strokes = Strokes::new((16, 16)).line([(2.0, 4.5), (12.0, 4.5)], 1.5, Rgb(9, 8, 7));
        let painted = |x, y| strokes.layer().pixel(x, y).unwrap().1 == 255;
        assert!(painted(2, 4) && painted(11, 4) && painted(6, 3) && painted(6, 5));
        assert!(!painted(6, 2) && !painted(6, 6) && !painted(14, 4));
        let odd = Strokes::new((8, 8)).line([(f64::NAN, 1.0), (-40.0, 900.0)], f64::INFINITY, Rgb(1, 1, 1));
        assert!(odd.layer().bytes().iter().all(|value| *value == 0), "nothing is inside");
        let dot = Strokes::new((8, 8)).line([(4.0, 4.0)], 0.0, Rgb(1, 1, 1));
        assert!(dot.layer().bytes().chunks(4).any(|pixel| pixel[3] > 0), "the finest dot is there");
    }
}
