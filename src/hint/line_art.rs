//! Line art of any ink and paper, as networks for lines read it.

use crate::error::{Error, Result};
use crate::raster::Raster;
use tch::{Device, Kind, Tensor};

/// Deviation of the blur that is taken for the paper, in pixels.
const BLUR: f64 = 6.0;
/// Taps of the blur on either side.
const REACH: i64 = 24;
/// Differences from the paper, of 255, from which on a pixel counts as ink where its usual darkness is measured.
const INK: f64 = 8.0;
/// Darkness that ink has at least.
const LEAST: f64 = 16.0;
/// Brightness of usual ink in the result.
const USUAL: f64 = 127.0;

/// The lines of dark ink on light paper, light on black in shades of gray, whatever the ink and however uneven the paper: what is darker
/// than its surroundings, measured by how dark the drawing's ink usually is.
///
/// ```
/// use impasto::hint::standard_line_art;
/// use impasto::{Raster, Rgb};
/// let mut paper = Raster::flat(Rgb(250, 245, 230), (64, 64));
/// (8..56).for_each(|x| paper.set(x, 32, Rgb(90, 90, 110)));
/// let lines = standard_line_art(&paper)?;
/// assert!(lines.pixel(20, 32) > Some(Rgb(100, 100, 100)) && lines.pixel(20, 5) == Some(Rgb(0, 0, 0)));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a picture without pixels.
///
/// Source: "standard" line art of the Stable Diffusion web UI's ControlNet extension, which ColorizeDiffusion offers too.
pub fn standard_line_art(drawing: &Raster) -> Result<Raster> {
    let size = drawing.size();
    if size.width == 0 || size.height == 0 {
        return Err(Error::parameter("line art", format!("{size} pixels"), "a picture with pixels"));
    }
    let picture = Tensor::f_from_data_size(drawing.bytes(), &[size.height.into(), size.width.into(), 3], Kind::Uint8)?;
    let picture = picture.f_permute([2, 0, 1])?.f_to_kind(Kind::Double)?.f_unsqueeze(1)?; // [3, 1, h, w]
    let darker = blurred(&blurred(&picture, 2)?, 3)?.f_sub(&picture)?.f_amin([0i64], false)?.f_clamp(0.0, 255.0)?;
    let ink = darker.f_masked_select(&darker.f_gt(INK)?)?;
    let usual = match ink.numel() as i64 {
        0 => LEAST,
        // The middle one, or the mean of the middle two.
        count => {
            let sorted = ink.f_sort(0, false)?.0;
            let at = |i: i64| sorted.f_double_value(&[i]);
            (0.5 * (at((count - 1) / 2)? + at(count / 2)?)).max(LEAST)
        }
    };
    let lines = darker.f_mul_scalar(USUAL / usual)?.f_clamp(0.0, 255.0)?.f_floor()?.f_to_kind(Kind::Uint8)?;
    let bytes = Vec::<u8>::try_from(lines.f_to_device(Device::Cpu)?.f_contiguous()?.f_view([-1])?)?;
    Raster::from_bytes(bytes.into_iter().flat_map(|gray| [gray; 3]).collect(), size)
}

/// A Gaussian blur along an axis of [n, 1, h, w], whose borders are mirrored without repeating the edge.
fn blurred(x: &Tensor, axis: i64) -> Result<Tensor> {
    let length = x.size().get(axis as usize).copied().unwrap_or_default();
    let mirrored = |i: i64| {
        let period = (2 * (length - 1)).max(1);
        let i = i.rem_euclid(period);
        i.min(period - i).min(length - 1)
    };
    let index: Vec<i64> = (-REACH..length + REACH).map(mirrored).collect();
    let padded = x.f_index_select(axis, &Tensor::f_from_slice(&index)?)?;
    let taps: Vec<f64> = (-REACH..=REACH).map(|i| (-((i * i) as f64) / (2.0 * BLUR * BLUR)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    let taps = Tensor::f_from_slice(&taps)?.f_div_scalar(sum)?;
    let shape = if axis == 2 { [1, 1, -1, 1] } else { [1, 1, 1, -1] };
    Ok(padded.f_conv2d(&taps.f_view(shape)?, None::<Tensor>, [1, 1], [0, 0], [1, 1], 1)?)
}
