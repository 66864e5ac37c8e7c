//! [`Strokes`]: strokes of color.

use super::splitmix::SplitMix64;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::{Layer, Raster};
use crate::size::Size;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// CIEDE2000 difference below which two colors of strokes count as the same.
const SAME: f64 = 1.0;
/// Number of pixels below which a color counts as part of a soft edge.
const LEAST_PIXELS: usize = 8;
/// Largest number of pixels that scribbles paint, about a second of work. A pixel that is painted twice counts twice.
const MOST_WORK: u64 = 1 << 26;
/// Largest number of colors in a layer of strokes; each color may become a color force.
const MOST_COLORS: usize = 64;

/// Strokes of color on a transparent layer: painted by code, opened from a file with alpha, or scribbled at random for
/// training.
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

    /// Scribbles random strokes over a picture in the picture's own colors, as training data for a ControlNet. A seed
    /// makes the same strokes on every machine.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a setting out of its range, or a picture without pixels.
    ///
    /// Source: "Coloring with ControlNet" (2024); number, length and blur of strokes are this crate's own.
    pub fn scribbled(picture: &Raster, scribble: &Scribble, seed: u64) -> Result<Self> {
        scribble.check(picture.size())?;
        let Size { width, height } = picture.size();
        let mut random = SplitMix64::new(seed);
        let between = |random: &mut SplitMix64, range: &RangeInclusive<u32>| {
            range.start() + random.below(range.end() - range.start() + 1)
        };
        let mut layer = Layer::new(picture.size());
        for _ in 0..between(&mut random, &scribble.strokes) {
            let walk = walk(&mut random, picture.size(), &scribble.length);
            let number = random.below(scribble.thickness.len() as u32) as usize;
            let thickness = scribble.thickness.get(number).copied().unwrap_or(1).max(1);
            // A square with an even side reaches one pixel further down and to the right.
            let (before, after) = (thickness - 1 - thickness / 2, thickness / 2);
            for (x, y) in walk {
                for y in y.saturating_sub(before)..(y + after + 1).min(height) {
                    for x in x.saturating_sub(before)..(x + after + 1).min(width) {
                        picture.pixel(x, y).into_iter().for_each(|color| layer.set(x, y, color, 255));
                    }
                }
            }
        }
        let (low, high) = scribble.blur;
        let blur = (random.unit() < scribble.blurred).then(|| low + (high - low) * random.unit());
        Ok(Self { layer, blur })
    }

    /// Blurs the strokes for the network by a Gaussian of `sigma` pixels, above 0 and up to 64.
    pub const fn blur(mut self, sigma: f64) -> Self {
        self.blur = Some(sigma);
        self
    }

    /// Returns the colors of the strokes, each with a map of its pixels. The color with the most pixels is the first.
    ///
    /// A map is rows × columns: 1 in pixels of the color with an alpha of at least 128, and 0 elsewhere. Colors of
    /// fewer than 8 pixels, such as those of soft edges, count as the nearest of the other colors. The same
    /// holds for colors at a CIEDE2000 difference below 1 from a color with more pixels, because browsers round the
    /// colors of transparent pixels by one.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are no strokes, or more than 64 colors of 8 pixels or more.
    pub fn colors(&self) -> Result<Vec<(Rgb, Array2<f32>)>> {
        let Size { width, height } = self.layer.size();
        let pixels = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let painted = || {
            pixels().filter_map(|(x, y)| match self.layer.pixel(x, y) {
                Some((color, 128..)) => Some(((x, y), color)),
                _ => None,
            })
        };
        let mut counts: HashMap<Rgb, usize> = HashMap::new();
        painted().for_each(|(_, color)| *counts.entry(color).or_default() += 1);
        let mut counts: Vec<(Rgb, usize)> = counts.into_iter().collect();
        // Colors with equal counts are sorted by channel values, so that the order is always the same.
        counts.sort_by_key(|(Rgb(r, g, b), count)| (Reverse(*count), *r, *g, *b));
        let mut kept: Vec<(Rgb, usize)> = Vec::new();
        for (color, count) in counts {
            if !kept.is_empty() && (count < LEAST_PIXELS || kept.len() > MOST_COLORS) {
                break;
            }
            if kept.iter().all(|(larger, _)| larger.delta_e(color) >= SAME) {
                kept.push((color, count));
            }
        }
        if kept.is_empty() || kept.len() > MOST_COLORS {
            let expected =
                format!("1 to {MOST_COLORS} colors of {LEAST_PIXELS} pixels or more; paint with a hard brush");
            let more = if kept.is_empty() { "" } else { " or more" };
            return Err(Error::parameter("strokes", format!("painted in {}{more} colors", kept.len()), expected));
        }
        let mut maps = vec![Array2::zeros((height as usize, width as usize)); kept.len()];
        let mut nearest: HashMap<Rgb, usize> = kept.iter().enumerate().map(|(at, (color, _))| (*color, at)).collect();
        for ((x, y), color) in painted() {
            let at = *nearest.entry(color).or_insert_with(|| {
                let distance = |(_, (one, _)): &(usize, &(Rgb, usize))| one.delta_e(color);
                let all = kept.iter().enumerate();
                all.min_by(|a, b| distance(a).total_cmp(&distance(b))).map_or(0, |(at, _)| at)
            });
            if let Some(pixel) = maps.get_mut(at).and_then(|map| map.get_mut((y as usize, x as usize))) {
                *pixel = 1.0;
            }
        }
        Ok(kept.into_iter().map(|(color, _)| color).zip(maps).collect())
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

/// Settings of [`Strokes::scribbled`], in which each stroke is a random walk through the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scribble {
    /// Range of the number of strokes, up to 10,000.
    pub strokes: RangeInclusive<u32>,
    /// Range of the number of steps of a stroke, 1 to 1,000,000. A stroke ends at the border of the picture.
    pub length: RangeInclusive<u32>,
    /// Thicknesses in pixels, up to 64; each stroke gets one of them at random. 0 and 1 are the same.
    pub thickness: Vec<u32>,
    /// Probability that the strokes are blurred, 0..=1.
    pub blurred: f64,
    /// Smallest and largest deviation of the blur in pixels, above 0 and up to 64.
    pub blur: (f64, f64),
}

impl Scribble {
    /// Returns settings for pictures whose shorter side is `side` pixels: 1 to 8 strokes. Strokes have 200 to 1000
    /// steps for a side of 512 pixels or more, and 35 to 177 steps for a side of 128 pixels.
    pub fn for_side(side: u32) -> Self {
        // The area of a random walk grows with its length.
        let share = (f64::from(side) / 512.0).powf(1.25).min(1.0);
        let steps = |most: f64| ((most * share).round() as u32).max(1);
        Self {
            strokes: 1..=8,
            length: steps(200.0)..=steps(1000.0),
            thickness: vec![0, 1, 2, 3],
            blurred: 0.3,
            blur: (0.5, 2.0),
        }
    }

    fn check(&self, size: Size) -> Result<()> {
        let Self { strokes, length, thickness, blurred, blur: (low, high) } = self;
        if size.width == 0 || size.height == 0 {
            return Err(Error::parameter("the picture's size", size, "at least one pixel"));
        }
        if strokes.is_empty() || *strokes.end() > 10_000 {
            let expected = "a range of counts that is not empty and ends at 10,000 or less";
            return Err(Error::parameter("strokes", format!("{strokes:?}"), expected));
        }
        if length.is_empty() || *length.start() == 0 || *length.end() > 1_000_000 {
            let expected = "a range of steps that is not empty, begins at 1 or more and ends at 1,000,000 or less";
            return Err(Error::parameter("length", format!("{length:?}"), expected));
        }
        if thickness.is_empty() || thickness.iter().any(|pixels| *pixels > 64) {
            return Err(Error::parameter(
                "thickness",
                format!("{thickness:?}"),
                "at least one thickness, each 0 to 64 pixels",
            ));
        }
        // Each pixel of a walk is painted as a square.
        let square = thickness.iter().max().map_or(1, |pixels| u64::from(*pixels).pow(2).max(1));
        let work = u64::from(*strokes.end()) * u64::from(*length.end()) * square;
        if work > MOST_WORK {
            let value = format!("{strokes:?} of {length:?} steps, {square} pixels each");
            let expected = format!("at most {MOST_WORK} pixels to paint in all; lower strokes, length or thickness");
            return Err(Error::parameter("strokes", value, expected));
        }
        if !(0.0..=1.0).contains(blurred) {
            return Err(Error::parameter("blurred", blurred, "a probability in 0..=1; .3 is usual"));
        }
        if !(*low > 0.0 && low <= high && *high <= 64.0) {
            let expected = "two deviations above 0 and up to 64 pixels, the smaller one first; .5 and 2 are usual";
            return Err(Error::parameter("blur", format!("{low} to {high}"), expected));
        }
        Ok(())
    }
}

/// Steps to the eight neighbors, (dy, dx).
const DIRECTIONS: [(i64, i64); 8] = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)];

/// Returns the pixels (x, y) of a random walk from a random pixel, without the start. The walk ends at the border, or
/// after a random number of steps in `length`. The
/// random numbers for all steps are drawn, even for steps beyond the border. A stroke therefore does not depend on
/// where an earlier stroke ended.
fn walk(random: &mut SplitMix64, size: Size, length: &RangeInclusive<u32>) -> Vec<(u32, u32)> {
    let (mut y, mut x) = (i64::from(random.below(size.height)), i64::from(random.below(size.width)));
    let (mut points, mut inside) = (Vec::new(), true);
    for _ in 0..length.start() + random.below(length.end() - length.start() + 1) {
        let (dy, dx) = DIRECTIONS.get(random.below(8) as usize).copied().unwrap_or_default();
        (y, x) = (y + dy, x + dx);
        inside &= (0..i64::from(size.height)).contains(&y) && (0..i64::from(size.width)).contains(&x);
        if inside {
            points.push((x as u32, y as u32));
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/strokes.json")).unwrap()
    }

    /// A picture with r = 8x, g = 10y, b = 255 − 4x − 3y.
    fn slope() -> Raster {
        let mut picture = Raster::flat(Rgb(0, 0, 0), (32, 24));
        for (x, y) in (0..24).flat_map(|y| (0..32).map(move |x| (x, y))) {
            picture.set(x, y, Rgb(8 * x as u8, (10 * y) as u8, (255 - 4 * x - 3 * y) as u8));
        }
        picture
    }

    fn scribble(params: &Value) -> Scribble {
        let number = |value: &Value| value.as_u64().unwrap() as u32;
        let range = |value: &Value| number(&value[0])..=number(&value[1]);
        Scribble {
            strokes: range(&params["strokes"]),
            length: range(&params["length"]),
            thickness: params["thickness"].as_array().unwrap().iter().map(number).collect(),
            blurred: params["blur_prob"].as_f64().unwrap(),
            blur: (params["blur_sigma"][0].as_f64().unwrap(), params["blur_sigma"][1].as_f64().unwrap()),
        }
    }

    #[test]
    fn scribbles_equal_the_reference() -> Result<()> {
        for case in golden()["cases"].as_array().unwrap() {
            let strokes = Strokes::scribbled(&slope(), &scribble(&case["params"]), case["seed"].as_u64().unwrap())?;
            assert_eq!(strokes.blur, case["blur_sigma"].as_f64());
            for (y, row) in case["alpha_rows"].as_array().unwrap().iter().enumerate() {
                let alpha = |x| if strokes.layer.pixel(x, y as u32).unwrap().1 == 255 { '#' } else { '.' };
                assert_eq!((0..32).map(alpha).collect::<String>(), row.as_str().unwrap(), "row {y}");
            }
            for (channel, sum) in case["rgba_sum"].as_array().unwrap().iter().enumerate() {
                let got: u64 =
                    strokes.layer.bytes().iter().skip(channel).step_by(4).map(|value| u64::from(*value)).sum();
                assert_eq!(got, sum.as_u64().unwrap());
            }
            if case["blur_sigma"].is_null() {
                continue;
            }
            let seen = strokes.to_tensor(Size::new(32, 24))?;
            let near = |got: &Tensor, want: &Value| {
                let got = Vec::<f64>::try_from(got.to_kind(Kind::Double).contiguous().view(-1)).unwrap();
                let want: Vec<f64> = want.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
                assert_eq!(got.len(), want.len());
                got.iter()
                    .zip(&want)
                    .for_each(|(got, want)| assert!((got - want).abs() < 1e-6 * (1.0 + want), "{got} {want}"));
            };
            near(&seen.select(2, 0).permute([0, 2, 1]), &case["blurred_first_row"]);
            near(&seen.select(2, 12).permute([0, 2, 1]), &case["blurred_mid_row"]);
            near(
                &seen.to_kind(Kind::Double).sum_dim_intlist([0i64, 2, 3].as_slice(), false, Kind::Double),
                &case["blurred_sum"],
            );
        }
        Ok(())
    }

    #[test]
    fn walks_equal_the_reference() {
        for case in golden()["cases"].as_array().unwrap() {
            let scribble = scribble(&case["params"]);
            let mut random = SplitMix64::new(case["seed"].as_u64().unwrap());
            let _ = random.below(scribble.strokes.end() - scribble.strokes.start() + 1);
            for stroke in case["strokes"].as_array().unwrap() {
                let walk = walk(&mut random, Size::new(32, 24), &scribble.length);
                assert_eq!(walk.len() as u64, stroke["kept"].as_u64().unwrap());
                for (point, head) in walk.iter().zip(stroke["head"].as_array().unwrap()) {
                    assert_eq!(
                        (u64::from(point.1), u64::from(point.0)),
                        (head[0].as_u64().unwrap(), head[1].as_u64().unwrap())
                    );
                }
                let thickness = scribble.thickness[random.below(scribble.thickness.len() as u32) as usize];
                assert_eq!(u64::from(thickness), stroke["thickness"].as_u64().unwrap());
            }
        }
    }

    #[test]
    fn usual_lengths_follow_the_size() {
        assert_eq!(Scribble::for_side(512).length, 200..=1000);
        assert_eq!(Scribble::for_side(2048).length, 200..=1000);
        let small = Scribble::for_side(128).length;
        assert!((30..=40).contains(small.start()) && (170..=200).contains(small.end()), "{small:?}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let usual = || Scribble::for_side(64);
        let says = |scribble: Scribble, name: &str| {
            let error = Strokes::scribbled(&slope(), &scribble, 1).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        };
        #[allow(clippy::reversed_empty_ranges)]
        says(Scribble { strokes: 3..=2, ..usual() }, "strokes");
        says(Scribble { length: 0..=9, ..usual() }, "length");
        says(Scribble { thickness: vec![], ..usual() }, "thickness");
        says(Scribble { thickness: vec![65], ..usual() }, "thickness");
        says(Scribble { strokes: 1..=9_999, length: 1..=999_999, ..usual() }, "strokes");
        says(Scribble { blurred: 1.5, ..usual() }, "blurred");
        says(Scribble { blur: (0.0, 1.0), ..usual() }, "blur");
        says(Scribble { blur: (2.0, f64::NAN), ..usual() }, "blur");
        let empty = Strokes::scribbled(&Raster::flat(Rgb(0, 0, 0), (0, 4)), &usual(), 1).unwrap_err().to_string();
        assert!(empty.contains("at least one pixel"), "{empty}");
    }

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
        assert_eq!((colors[0].1[(4, 15)], colors[1].1[(12, 15)]), (1.0, 1.0));
        assert_eq!(colors.iter().map(|(_, map)| map[(15, 15)]).sum::<f32>(), 0.0);
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
