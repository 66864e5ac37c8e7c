//! Line art for networks that read lines: from drawings with any ink and paper, and from pictures without lines.

use crate::error::{Error, Result};
use crate::raster::Raster;
use tch::{Kind, Tensor};

/// Deviation in pixels of the blur that estimates the brightness of the paper.
const BLUR: f64 = 6.0;
/// Difference from the paper, in 0..=255, above which a pixel counts as ink when the usual darkness of the ink is
/// measured.
const INK: f64 = 8.0;
/// Lower limit of the usual darkness of ink, in 0..=255.
const LEAST: f64 = 16.0;
/// Brightness of lines of usual ink in the result, in 0..=255.
const USUAL: f64 = 127.0;
/// Largest number of pixels of a picture whose lines are drawn.
const MOST_PIXELS: u64 = 8192 * 8192;
/// Number of values that are blurred at once, which stay in a processor's cache.
const BLOCK: i64 = 1 << 16;

/// Converts dark ink on light paper to light lines on black, in shades of gray.
///
/// A line's brightness is its darkness relative to its surroundings, scaled by the usual darkness of the drawing's ink.
/// The shade of the ink and uneven paper thus matter little.
///
/// ```
/// use impasto::hint::standard_line_art;
/// use impasto::{Raster, Rgb};
/// let mut paper = Raster::flat(Rgb(250, 245, 230), (64, 64));
/// (8..56).for_each(|x| paper.set(x, 32, Rgb(90, 90, 110)));
/// let lines = standard_line_art(&paper)?;
/// let [on, off] = [32, 5].map(|y| lines.pixel(20, y).expect("inside").0);
/// assert!(on > 100 && off == 0);
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a picture without pixels.
///
/// Source: "standard" line art of the Stable Diffusion web UI's ControlNet extension, which ColorizeDiffusion offers
/// too.
pub fn standard_line_art(drawing: &Raster) -> Result<Raster> {
    let taps = gaussian(BLUR, usual_reach(BLUR));
    let darker = of_channels(drawing, |channel| Ok(blurred(channel, &taps)?.f_sub(channel)?), Tensor::f_minimum)?;
    let darker = darker.f_clamp(0.0, 255.0)?;
    let ink = darker.f_masked_select(&darker.f_gt(INK)?)?;
    let usual = match ink.numel() as i64 {
        0 => LEAST,
        // The median: the middle value, or the mean of the middle two.
        count => {
            let sorted = ink.f_sort(0, false)?.0;
            let at = |i: i64| sorted.f_double_value(&[i]);
            (0.5 * (at((count - 1) / 2)? + at(count / 2)?)).max(LEAST)
        }
    };
    gray(&darker.f_mul_scalar(USUAL / usual)?, drawing)
}

/// Line art of a picture, drawn without a network.
///
/// Lines run on the darker side of every border between colors, and along every dark line. Areas of one color or of
/// slowly changing color stay white.
///
/// The result is good for drawings and cartoons. [`SketchKeras`](super::SketchKeras) closes faded outlines and leaves
/// out the texture of photographs, but needs a file of weights. `LineArt` follows contrast alone.
///
/// ```
/// use impasto::hint::LineArt;
/// use impasto::{Raster, Rgb};
/// let mut picture = Raster::flat(Rgb(250, 210, 180), (64, 64));
/// picture.paste(&Raster::flat(Rgb(60, 120, 200), (32, 64)), 32, 0);
/// let lines = LineArt::default().of(&picture)?;
/// let at = |x| lines.pixel(x, 32).expect("inside").0;
/// assert!((30..34).map(at).min() < Some(80) && at(10) == 255 && at(50) == 255);
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: differences of Gaussians as in Winnemöller et al. (2012), "XDoG: An eXtended difference-of-Gaussians
/// compendium", with the largest difference of the color channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineArt {
    /// Deviation of the smaller blur in pixels, 0.3..=16: half of a line's width. Default 1.
    pub width: f64,
    /// Difference of the two blurs, in 0..=1, up to which a pixel is blank paper. Default 0.01.
    pub paper: f64,
    /// Difference of the two blurs, in 0..=1, from which on a pixel is full ink. Default 0.04.
    pub ink: f64,
}

impl Default for LineArt {
    fn default() -> Self {
        Self { width: 1.0, paper: 0.01, ink: 0.04 }
    }
}

/// Deviation of the larger blur, as a multiple of the deviation of the smaller blur.
const RATIO: f64 = 1.6;

impl LineArt {
    /// Draws the lines of a picture, black on white in shades of gray, at the picture's size.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a picture without pixels, for a width out of range, and unless 0 ≤ `paper` < `ink`.
    pub fn of(self, picture: &Raster) -> Result<Raster> {
        if !(0.3..=16.0).contains(&self.width) {
            return Err(Error::parameter("width", self.width, "0.3..=16 pixels; 1 is usual"));
        }
        if !(self.paper >= 0.0 && self.paper < self.ink && self.ink.is_finite()) {
            let value = format!("{} for paper and {} for ink", self.paper, self.ink);
            return Err(Error::parameter(
                "contrast",
                value,
                "0 or more, and larger for ink than for paper; .01 and .04 are usual",
            ));
        }
        let taps = |deviation: f64| gaussian(deviation, usual_reach(deviation));
        let (fine, coarse) = (taps(self.width), taps(RATIO * self.width));
        let difference = |channel: &Tensor| Ok(blurred(channel, &coarse)?.f_sub(&blurred(channel, &fine)?)?);
        let contrast = of_channels(picture, difference, Tensor::f_maximum)?;
        let ink = contrast.f_div_scalar(255.0)?.f_sub_scalar(self.paper)?.f_div_scalar(self.ink - self.paper)?;
        gray(&ink.f_clamp(0.0, 1.0)?.f_mul_scalar(-255.0)?.f_add_scalar(255.0)?, picture)
    }
}

/// Joins what `one` makes of each channel, from [1, 1, h, w] to [1, 1, h, w]. One channel after the other takes a third
/// of the memory.
fn of_channels<E>(
    picture: &Raster,
    one: impl Fn(&Tensor) -> Result<Tensor>,
    join: impl Fn(&Tensor, &Tensor) -> std::result::Result<Tensor, E>,
) -> Result<Tensor>
where
    Error: From<E>,
{
    let channels = channels(picture)?;
    let of = |channel: i64| one(&channels.f_narrow(0, channel, 1)?.f_to_kind(Kind::Double)?);
    (1..3).try_fold(of(0)?, |joined, channel| Ok(join(&joined, &of(channel)?)?))
}

/// Returns the channels of a picture, [3, 1, h, w] u8.
///
/// # Errors
/// [`Error::Parameter`] for a picture without pixels, or of more than 67 million pixels.
pub(super) fn channels(picture: &Raster) -> Result<Tensor> {
    let size = picture.size();
    if u64::from(size.width) * u64::from(size.height) > MOST_PIXELS {
        return Err(Error::parameter("picture", format!("{size} pixels"), "at most 8192×8192 pixels; make it smaller"));
    }
    if size.width == 0 || size.height == 0 {
        return Err(Error::parameter("picture", format!("{size} pixels"), "a picture with at least one pixel"));
    }
    let bytes = Tensor::f_from_data_size(picture.bytes(), &[size.height.into(), size.width.into(), 3], Kind::Uint8)?;
    Ok(bytes.f_permute([2, 0, 1])?.f_unsqueeze(1)?)
}

/// Converts shades of gray, [1, h, w] in 0..=255, to a picture of the size of `like`.
pub(super) fn gray(shades: &Tensor, like: &Raster) -> Result<Raster> {
    let shades = shades.f_clamp(0.0, 255.0)?.f_floor()?.f_to_kind(Kind::Uint8)?;
    let bytes = Vec::<u8>::try_from(shades.f_contiguous()?.f_view([-1])?)?;
    Raster::from_bytes(bytes.into_iter().flat_map(|gray| [gray; 3]).collect(), like.size())
}

/// Returns the 2·`reach` + 1 weights of a Gaussian blur, with the sum 1.
pub(super) fn gaussian(deviation: f64, reach: i64) -> Vec<f64> {
    let weight = |i: i64| (-((i * i) as f64) / (2.0 * deviation * deviation)).exp();
    let sum: f64 = (-reach..=reach).map(weight).sum();
    (-reach..=reach).map(|i| weight(i) / sum).collect()
}

/// Returns the reach of OpenCV's Gaussian to either side in pixels, for pictures of floating-point numbers.
fn usual_reach(deviation: f64) -> i64 {
    (8.0 * deviation + 1.0).round() as i64 / 2
}

/// Blurs [n, 1, h, w] by the weights `taps`, across and down. Borders are mirrored without repeating the edge.
pub(super) fn blurred(x: &Tensor, taps: &[f64]) -> Result<Tensor> {
    blurred_along(&blurred_along(x, 2, taps)?, 3, taps)
}

fn blurred_along(x: &Tensor, axis: i64, taps: &[f64]) -> Result<Tensor> {
    let reach = taps.len() as i64 / 2;
    let length = x.size().get(axis as usize).copied().unwrap_or_default();
    let mirrored = |i: i64| {
        let period = (2 * (length - 1)).max(1);
        let i = i.rem_euclid(period);
        i.min(period - i).min(length - 1)
    };
    let index: Vec<i64> = (-reach..length + reach).map(mirrored).collect();
    let padded = x.f_index_select(axis, &Tensor::f_from_slice(&index)?)?;
    // libtorch's convolution of f64 would copy every value once for each weight.
    let sum = x.f_zeros_like()?;
    let (n, _, h, w) = x.size4()?;
    let rows = (BLOCK / (n * w).max(1)).max(1);
    for start in (0..h).step_by(rows as usize) {
        let count = rows.min(h - start);
        let mut block = sum.f_narrow(2, start, count)?;
        for (tap, at) in taps.iter().zip(0..) {
            let (row, column) = if axis == 2 { (start + at, 0) } else { (start, at) };
            let shifted = padded.f_narrow(2, row, count)?.f_narrow(3, column, w)?;
            drop(block.f_add_(&shifted.f_mul_scalar(*tap)?)?);
        }
    }
    Ok(sum)
}
