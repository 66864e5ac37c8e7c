//! The colors of a whole picture, kept in image to image.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Range of the factor by which the spread of a channel is changed.
const SPREAD: (f64, f64) = (0.5, 2.0);
/// Least spread of a channel, in units of -1..=1. A flat channel has no spread to compare.
const FLAT: f64 = 0.02;

/// Gives pictures the mean and the spread of the given picture's channels, image by image.
///
/// Image to image changes the colors of a picture a little in each round, and many rounds add up. For each channel,
/// x' = (x − mean)·(spread of the given)/(spread) + mean of the given. `picture` is [1, 3, H, W], and `painted` is
/// [n, 3, H, W], both in -1..=1. Pixels of `exact`, [1 or n, 1, H, W] in 0..=1, keep their color by this share.
///
/// Source: Reinhard et al., "Color Transfer between Images" (2001), in the channels of sRGB.
pub(crate) fn with_colors(picture: &Tensor, painted: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
    let over = [2i64, 3];
    let mean = |x: &Tensor| x.f_mean_dim(over.as_slice(), true, Kind::Float);
    let spread = |x: &Tensor| x.f_std_dim(over.as_slice(), false, true);
    let (old, new) = (spread(picture)?, spread(painted)?);
    let factor = old.f_div(&new.f_clamp_min(FLAT)?)?.f_clamp(SPREAD.0, SPREAD.1)?;
    let factor = factor.f_ones_like()?.f_where_self(&old.f_minimum(&new)?.f_lt(FLAT)?, &factor)?;
    let moved = painted.f_sub(&mean(painted)?)?.f_mul(&factor)?.f_add(&mean(picture)?)?;
    match exact {
        Some(exact) => Ok(moved.f_add(&painted.f_sub(&moved)?.f_mul(exact)?)?),
        None => Ok(moved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn colors_have_the_given_mean_and_spread() -> Result<()> {
        let given = Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu)) - 0.5;
        let drifted = Tensor::cat(&[&given * 0.8 + 0.2, &given * 1.3 - 0.1], 0);
        let kept = with_colors(&given, &drifted, None)?;
        assert!((&kept - &given).abs().max().double_value(&[]) < 1e-5);
        let exact = Tensor::zeros([1, 1, 16, 16], (Kind::Float, Device::Cpu));
        let _ = exact.narrow(3, 0, 8).fill_(1.0);
        let kept = with_colors(&given, &drifted, Some(&exact))?;
        assert!((kept.narrow(3, 0, 8) - drifted.narrow(3, 0, 8)).abs().max().double_value(&[]) < 1e-6);
        assert!((kept.narrow(3, 8, 8) - given.narrow(3, 8, 8)).abs().max().double_value(&[]) < 1e-5);
        Ok(())
    }

    #[test]
    fn flat_channel_keeps_its_noise_small() -> Result<()> {
        let flat = Tensor::zeros([1, 3, 8, 8], (Kind::Float, Device::Cpu));
        let noise = Tensor::rand([1, 3, 8, 8], (Kind::Float, Device::Cpu)) * 0.01 + 0.3;
        let kept = with_colors(&flat, &noise, None)?;
        assert!(kept.abs().max().double_value(&[]) < 0.02, "the mean is that of the given picture");
        Ok(())
    }
}
