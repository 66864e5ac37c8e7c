//! The tone of new pixels, matched to the kept ones.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Width of the strip of kept pixels along the mask's border whose colors are compared, in pixels.
const STRIP: i64 = 8;

/// Difference of a channel in -1..=1 from which two pixels show other things, and not the same thing in another tone.
const OTHER_THING: f64 = 0.25;

/// Matches the tone of new pixels to that of the kept ones.
///
/// A VAE changes the colors of a picture a little, and a network changes the tone of what it paints. The decoded
/// picture shows both sides of the border, so the difference between the given and the decoded pixels on the kept side
/// says how the tone changed there. This difference is continued smoothly into the mask and added to the new pixels.
/// The more a pixel differs, the less it counts, because the network may have drawn another thing up to the border.
///
/// `picture` is [1, 3, H, W], `painted` is [n, 3, H, W], and `mask` is [1, 1, H, W]. Pixels of `exact`, [1 or n, 1, H,
/// W] in 0..=1, keep their color by this share.
///
/// Sources: the pull-push algorithm of Gortler et al., "The Lumigraph" (1996), for the continuation, and Tukey's
/// biweight for the counts.
pub(super) fn find_match(picture: &Tensor, painted: &Tensor, mask: &Tensor, exact: Option<&Tensor>) -> Result<Tensor> {
    let inside = mask.f_gt(0.0)?.f_to_kind(Kind::Float)?;
    let near = inside.f_max_pool2d([2 * STRIP + 1; 2], [1; 2], [STRIP; 2], [1; 2], false)?;
    let strip = near.f_sub(&inside)?;
    let difference = picture.f_sub(painted)?;
    let share = difference.f_abs()?.f_amax([1i64].as_slice(), true)?.f_div_scalar(OTHER_THING)?.f_clamp_max(1.0)?;
    let count = share.f_square()?.f_neg()?.f_add_scalar(1.0)?.f_square()?;
    let difference = continued(&difference, &strip.f_mul(&count)?)?;
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
        let matched = find_match(&picture, &painted, &right(), None)?;
        let apart = (&matched - &picture).narrow(3, 20, 20).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{apart}");
        assert_eq!(matched.narrow(3, 0, 20), painted.narrow(3, 0, 20), "the kept side is not changed");
        Ok(())
    }

    #[test]
    fn other_things_beyond_the_border_change_no_tone() -> Result<()> {
        let picture = Tensor::zeros([1, 3, 24, 40], (Kind::Float, Device::Cpu));
        let painted = &picture + 0.1;
        let _ = painted.narrow(2, 8, 8).fill_(0.9);
        let matched = find_match(&picture, &painted, &right(), None)?;
        let change = (&matched - &painted).narrow(3, 20, 20);
        let (least, most) = (change.min().double_value(&[]), change.max().double_value(&[]));
        assert!(-0.11 < least && most < -0.08, "{least} to {most}");
        Ok(())
    }

    #[test]
    fn exact_colors_keep_their_tone() -> Result<()> {
        let picture = Tensor::rand([1, 3, 24, 40], (Kind::Float, Device::Cpu));
        let painted = &picture + 0.1;
        assert_eq!(find_match(&picture, &painted, &right(), Some(&right()))?, painted);
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
