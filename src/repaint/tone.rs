//! The tone of new pixels, matched to the kept ones.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Width of the strip of kept pixels along the mask's border whose colors are compared, in pixels.
const STRIP: i64 = 8;

/// Matches the tone of new pixels to that of the kept ones.
///
/// A VAE changes the colors of a picture a little, and a network changes the tone of what it paints. The decoded
/// picture shows both sides of the border, so the difference between the given and the decoded pixels on the kept side
/// says how the tone changed there. This difference is continued smoothly into the mask and added to the new pixels.
///
/// `picture` is [1, 3, H, W], `painted` is [n, 3, H, W], and `mask` is [1, 1, H, W]. Pixels of `exact`, [1 or n, 1, H,
/// W] in 0..=1, keep their color by this share.
///
/// Source of the continuation: the pull-push algorithm of Gortler et al., "The Lumigraph" (1996).
pub(super) fn matched(picture: &Tensor, painted: &Tensor, mask: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
    let inside = mask.f_gt(0.0)?.f_to_kind(Kind::Float)?;
    let near = inside.f_max_pool2d([2 * STRIP + 1; 2], [1; 2], [STRIP; 2], [1; 2], false)?;
    let strip = near.f_sub(&inside)?;
    let difference = continued(&picture.f_sub(painted)?, &strip)?;
    let free = match exact {
        Some(exact) => inside.f_mul(&exact.f_neg()?.f_add_scalar(1.0)?)?,
        None => inside,
    };
    Ok(painted.f_add(&difference.f_mul(&free)?)?)
}

/// Continues values, [n, c, H, W], from the pixels where `known`, [1, 1, H, W] in 0..=1, is 1 to all others. Values are
/// averaged over squares that grow until each contains known pixels, and then interpolated back.
fn continued(values: &Tensor, known: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = values.size4()?;
    let sum = |x: &Tensor| x.f_avg_pool2d([2; 2], [2; 2], [0; 2], true, false, None::<i64>);
    let weighted = values.f_mul(known)?;
    if height == 1 && width == 1 {
        return Ok(weighted.f_div(&known.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?);
    }
    let weight = sum(known)?;
    let means = sum(&weighted)?.f_div(&weight.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
    // A square with one known pixel of four is known.
    let coarse = continued(&means, &weight.f_mul_scalar(4.0)?.f_clamp_max(1.0)?)?;
    let coarse = coarse.f_upsample_bilinear2d([height, width], false, None, None)?;
    Ok(coarse.f_add(&values.f_sub(&coarse)?.f_mul(known)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A mask that repaints the right half.
    fn right() -> Tensor {
        let mask = Tensor::zeros([1, 1, 24, 40], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(3, 20, 20).fill_(1.0);
        mask
    }

    #[test]
    fn shift_of_the_kept_side_is_taken_back() -> Result<()> {
        let picture = Tensor::rand([1, 3, 24, 40], (Kind::Float, Device::Cpu));
        let painted = &picture + 0.1;
        let matched = matched(&picture, &painted, &right(), None)?;
        let apart = (&matched - &picture).narrow(3, 20, 20).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
        assert_eq!(matched.narrow(3, 0, 20), painted.narrow(3, 0, 20), "the kept side is not changed");
        Ok(())
    }

    #[test]
    fn exact_colors_keep_their_tone() -> Result<()> {
        let picture = Tensor::rand([1, 3, 24, 40], (Kind::Float, Device::Cpu));
        let painted = &picture + 0.1;
        assert_eq!(matched(&picture, &painted, &right(), Some(&right()))?, painted);
        Ok(())
    }

    #[test]
    fn known_values_continue_smoothly() -> Result<()> {
        let mask = Tensor::zeros([1, 1, 16, 16], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(3, 0, 1).fill_(1.0);
        let _ = mask.narrow(3, 15, 1).fill_(1.0);
        let ramp = Tensor::arange(16, (Kind::Float, Device::Cpu)).reshape([1, 1, 1, 16]).repeat([1, 1, 16, 1]);
        let row: Vec<f32> = Vec::try_from(continued(&ramp, &mask)?.get(0).get(0).get(8)).unwrap();
        assert!((row[0], row[15]) == (0.0, 15.0) && row.windows(2).all(|pair| pair[0] <= pair[1]), "{row:?}");
        Ok(())
    }
}
