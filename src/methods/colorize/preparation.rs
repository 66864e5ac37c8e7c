//! Preparation of sketches and references for the network.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::hint::standard_line_art;
use crate::raster::{Filter, Raster};
use crate::size::Size;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// The ink and paper of a sketch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Ink {
    /// Dark lines on a light ground.
    #[default]
    Dark,
    /// Light lines on a dark ground, as edge detectors give them.
    Light,
    /// Dark lines of any shade on uneven paper, converted to standard line art ([`standard_line_art`]).
    Uneven,
}

/// Returns the largest size with the aspect of `picture` that fits into `within`. Also returns the number of free
/// columns at the left and of free rows above when the picture is centered.
pub(super) fn placement(picture: Size, within: Size) -> (Size, (u32, u32)) {
    let ratio = |to: u32, from: u32| f64::from(to) / f64::from(from.max(1));
    let scale = ratio(within.height, picture.height).min(ratio(within.width, picture.width));
    let side = |length: u32, most: u32| ((f64::from(length) * scale) as u32).clamp(1, most.max(1));
    let size = Size::new(side(picture.width, within.width), side(picture.height, within.height));
    (size, ((within.width - size.width) / 2, (within.height - size.height) / 2))
}

/// Fits a sketch into a picture's size, [1, 3, H, W]: 1 on lines, -1 on the ground and around the sketch.
pub(super) fn sketch(drawing: &Raster, ink: Ink, within: Size) -> Result<Tensor> {
    if drawing.bytes().is_empty() {
        let expected = "a sketch with at least one pixel";
        return Err(Error::parameter("sketch", format!("{} pixels", drawing.size()), expected));
    }
    let (size, (left, above)) = placement(drawing.size(), within);
    let lines = match ink {
        Ink::Uneven => {
            // The time grows with the drawing's pixels, and a large scan has no more lines for it.
            let most = Size::new(2 * size.width, 2 * size.height);
            let is_large = drawing.size().width > most.width;
            let small = is_large.then(|| drawing.resize(most, Filter::Box)).transpose()?;
            standard_line_art(small.as_ref().unwrap_or(drawing))?.resize(size, Filter::Bicubic)?
        }
        Ink::Dark | Ink::Light => drawing.resize(size, Filter::Bicubic)?,
    };
    let lines = lines.to_tensor(Device::Cpu)?;
    let lines = if ink == Ink::Dark { lines.f_neg()? } else { lines };
    let (h, w) = (i64::from(within.height), i64::from(within.width));
    let whole = Tensor::f_full([1, 3, h, w], -1.0, (Kind::Float, Device::Cpu))?;
    let mut place = whole.f_narrow(2, above.into(), size.height.into())?.f_narrow(3, left.into(), size.width.into())?;
    place.f_copy_(&lines)?;
    Ok(whole)
}

/// Returns a picture's height and width divided by those of a run's pictures, for networks that read a reference's
/// size.
///
/// If a side of the picture is smaller than the run's, the run's longer side is added to the picture's height. The
/// width follows the picture's aspect, so the picture counts as larger than the run's.
///
/// Source: the size embedding of ColorizeDiffusion v2.
pub(super) fn size_ratios(picture: Size, run: Size) -> [f64; 2] {
    let [[height, width], [run_height, run_width]] =
        [picture, run].map(|size| [f64::from(size.height.max(1)), f64::from(size.width.max(1))]);
    let own = if height < run_height || width < run_width { height + run_height.max(run_width) } else { height };
    [own / run_height, width / height * own / run_width]
}

/// Puts a reference between white bars that make it `factor` times as wide.
pub(super) fn pad(reference: &Raster, factor: f64) -> Raster {
    let Size { width, height } = reference.size();
    let wide = (f64::from(width) * factor) as u32;
    if wide <= width {
        return reference.clone();
    }
    let mut whole = Raster::flat(Rgb(255, 255, 255), (wide, height));
    whole.paste(reference, (wide - width) / 2, 0);
    whole
}
