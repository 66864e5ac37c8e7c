//! The color of a region in a finished picture.

use crate::color::{Lab, Rgb, labs, linear_mean};
use crate::error::{Error, Result};
use crate::mask::follow_outlines;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The statistic that stands for the color of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ColorStat {
    /// The mean in linear light.
    #[default]
    Mean,
    /// The mean in linear light without this share of the darkest pixels and the same share of the brightest pixels.
    /// The share is in 0..0.5; .2 is usual.
    Trimmed(f64),
    /// The median of each channel, which outlines, pupils and other small parts of another color hardly change.
    Median,
}

impl ColorStat {
    pub(super) fn check(self) -> Result<()> {
        match self {
            Self::Trimmed(share) if !(0.0..0.5).contains(&share) => {
                Err(Error::parameter("stat.Trimmed", share, "0 or more and less than .5; .2 is usual"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the color of pixels, [3, any] in -1..=1, in linear light.
    pub(super) fn of(self, pixels: &Tensor) -> Result<[f64; 3]> {
        match self {
            Self::Mean => linear_mean(pixels),
            Self::Trimmed(share) => {
                // Weights of Rec. 709. Gamma is ignored because only the order of the pixels matters.
                let weights = Tensor::f_from_slice(&[0.2126f32, 0.7152, 0.0722])?.f_reshape([3, 1])?;
                let light = pixels.f_mul(&weights)?.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?;
                let count = light.size1()?;
                let cut = (share * count as f64).floor() as i64;
                let kept = light.f_argsort(0, false)?.f_narrow(0, cut, count - 2 * cut)?;
                linear_mean(&pixels.f_index_select(1, &kept)?)
            }
            Self::Median => linear_mean(&pixels.f_median_dim(1, true)?.0),
        }
    }
}

/// CIEDE2000 up to which a color counts as met.
pub(super) const MET: f64 = 2.0;
/// CIEDE2000 up to which a pixel counts as having the color.
pub(super) const NEAR: f64 = 10.0;

/// A measured color.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// The color in linear light.
    pub light: [f64; 3],
    /// CIEDE2000 between the measured color and the color asked for.
    pub delta_e: f64,
}

/// Measures the color of `pixels`, [3, any] in -1..=1, by the statistic `stat`, and compares this color with `asked`.
pub(super) fn measure(pixels: &Tensor, stat: ColorStat, asked: Rgb) -> Result<Measured> {
    let light = stat.of(pixels)?;
    Ok(Measured { light, delta_e: Lab::from_linear(light).delta_e(asked.lab()) })
}

/// The pixels in which a picture is measured, and the width in pixels of the border where their color mixes with the
/// surroundings.
pub(super) struct Place {
    /// The pixels, [H, W] of 0 and 1.
    inside: Tensor,
    border: i64,
}

impl Place {
    /// Places a mask of latent cells, [h, w] of 0 and 1, in a picture, [3, H, W] in -1..=1. `cell` is the side of a
    /// latent cell in pixels.
    ///
    /// With `outlines` the pixels follow the outlines of the picture, and the border is narrower, because decoders
    /// hardly blend neighboring cells across an outline. If less than a quarter of the mask would remain, the pixels
    /// are those of the mask as without `outlines`.
    pub(super) fn of(mask: &Tensor, picture: &Tensor, cell: i64, outlines: bool) -> Result<Self> {
        let (_, height, width) = picture.size3()?;
        let mask = mask.f_unsqueeze(0)?.f_unsqueeze(0)?;
        let cells = mask.f_upsample_nearest2d([height, width], None, None)?.f_reshape([height, width])?;
        if outlines {
            let inside = follow_outlines(&mask, &picture.f_unsqueeze(0)?, cell)?.f_ge(0.5)?.f_to_kind(Kind::Float)?;
            // An outline that loses more than three quarters of the mask belongs to another object.
            if area(&inside)? >= 0.25 * area(&cells)? {
                return Ok(Self { inside: inside.f_reshape([height, width])?, border: cell / 4 });
            }
        }
        Ok(Self { inside: cells, border: cell })
    }

    /// Places a share of each pixel, [H, W] in 0..=1.
    pub(super) fn of_share(share: &Tensor, cell: i64) -> Result<Self> {
        Ok(Self { inside: share.f_ge(0.5)?.f_to_kind(Kind::Float)?, border: cell / 4 })
    }

    /// Returns the pixels of the place, [H, W] of 0 and 1.
    pub(super) const fn inside(&self) -> &Tensor {
        &self.inside
    }

    /// Returns the pixels of the place in a picture, [3, H, W] → [3, pixels]; `None` if the place is empty. The border
    /// is left out if at least half of the pixels remain.
    pub(super) fn pixels(&self, picture: &Tensor) -> Result<Option<Tensor>> {
        let all = area(&self.inside)?;
        if all == 0.0 {
            return Ok(None);
        }
        // The region is eroded by dilating its outside; the area beyond the picture does not count as outside.
        let outside = self.inside.f_neg()?.f_add_scalar(1.0)?.f_unsqueeze(0)?;
        let outside = outside.f_max_pool2d([2 * self.border + 1; 2], [1, 1], [self.border; 2], [1, 1], false)?;
        let eroded = outside.f_neg()?.f_add_scalar(1.0)?;
        let inside = if area(&eroded)? >= 0.5 * all { eroded } else { self.inside.shallow_clone() };
        let inside = inside.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
        Ok(Some(picture.f_flatten(1, -1)?.f_index_select(1, &inside)?))
    }
}

fn area(mask: &Tensor) -> Result<f64> {
    Ok(mask.f_sum(Kind::Double)?.f_double_value(&[])?)
}

/// Returns the share of pixels, [3, pixels] in -1..=1, within CIEDE2000 `delta_e` of the color `asked`.
pub(super) fn within(pixels: &Tensor, asked: Rgb, delta_e: f64) -> Result<f64> {
    let asked = asked.lab();
    let colors = labs(&pixels.f_unsqueeze(2)?)?;
    let near = colors.iter().filter(|color| color.delta_e(asked) <= delta_e).count();
    Ok(near as f64 / colors.len().max(1) as f64)
}
