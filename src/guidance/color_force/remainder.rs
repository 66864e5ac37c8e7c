//! The remainder that a mask left of a thing: pixels beside it that still have the thing's old color.

use crate::color::{Lab, Rgb};
use crate::error::Result;
use tch::{Kind, Tensor};

/// Cells around the region in which its thing is looked for.
const REACH: i64 = 2;
/// CIEDE2000 up to which a pixel has the color that the region beside it had.
const ALIKE: f64 = 6.0;
/// CIEDE2000 up to which a pixel is what it was.
const UNCHANGED: f64 = 5.0;
/// CIEDE2000 up to which the old color is the asked one, so that nothing is left to be done.
const NEAR: f64 = 10.0;

/// The pixels around `region` that have, before and after, the color that the nearby part of the region had before, as a share of the
/// region's pixels. 0 where the region is empty.
///
/// `before` and `after` are [3, H, W] in -1..=1, `region` is [H, W] of 0 and 1, `cell` the pixels of a latent cell.
pub(super) fn remainder(before: &Tensor, after: &Tensor, region: &Tensor, cell: i64, asked: Rgb) -> Result<f64> {
    // A quarter of a cell counts as one: outlines and noise are finer.
    let grain = (cell / 4).max(1);
    let small = |x: &Tensor| -> Result<Tensor> {
        Ok(x.f_unsqueeze(0)?.f_avg_pool2d([grain; 2], [grain; 2], [0; 2], true, false, None::<i64>)?)
    };
    let (before, after) = (small(before)?, small(after)?);
    let inside = small(&region.f_unsqueeze(0)?)?.f_ge(0.5)?.f_to_kind(Kind::Float)?; // [1, 1, h, w]
    let radius = (REACH * cell / grain).max(1);
    let window = |x: &Tensor| x.f_avg_pool2d([2 * radius + 1; 2], [1, 1], [radius; 2], false, true, None::<i64>);
    let share = window(&inside)?;
    // The mean old color of the region within reach of each pixel.
    let old = window(&before.f_mul(&inside)?)?.f_div(&share.f_clamp_min(1e-6)?)?;
    let rows = |x: &Tensor| -> Result<Vec<Lab>> {
        let bytes = x.f_add_scalar(1.0)?.f_mul_scalar(127.5)?.f_clamp(0.0, 255.0)?.f_round()?.f_to_kind(Kind::Uint8)?;
        let bytes =
            Vec::<u8>::try_from(&bytes.f_squeeze_dim(0)?.f_permute([1, 2, 0])?.f_contiguous()?.f_flatten(0, -1)?)?;
        let (pixels, _) = bytes.as_chunks::<3>();
        Ok(pixels.iter().map(|[r, g, b]| Rgb(*r, *g, *b).lab()).collect())
    };
    let flat = |x: &Tensor| -> Result<Vec<f32>> { Ok(Vec::try_from(&x.f_flatten(0, -1)?.f_contiguous()?)?) };
    let (before, after, old) = (rows(&before)?, rows(&after)?, rows(&old)?);
    let (inside, share) = (flat(&inside)?, flat(&share)?);
    let asked = asked.lab();
    let (mut area, mut left) = (0usize, 0usize);
    for ((((before, after), old), inside), share) in before.iter().zip(&after).zip(&old).zip(&inside).zip(&share) {
        if *inside > 0.0 {
            area += 1;
        } else if *share > 0.0 && before.delta_e(*after) <= UNCHANGED {
            left += usize::from(before.delta_e(*old) <= ALIKE && before.delta_e(asked) > NEAR);
        }
    }
    Ok(if area == 0 { 0.0 } else { left as f64 / area as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A picture of 64 × 64 pixels: a square of one color from pixel 16 to 48 on another.
    fn square(on: [f32; 3], rows: i64) -> Tensor {
        let off = Tensor::from_slice(&[-0.6f32, -0.6, 0.8]).reshape([3, 1, 1]);
        let picture = off.expand([3, 64, 64], false).contiguous();
        let on = Tensor::from_slice(&on).reshape([3, 1, 1]);
        picture.narrow(1, 16, rows).narrow(2, 16, 32).copy_(&on.expand([3, rows, 32], false));
        picture
    }

    fn mask(rows: i64) -> Tensor {
        let mask = Tensor::zeros([64, 64], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(0, 16, rows).narrow(1, 16, 32).fill_(1.0);
        mask
    }

    #[test]
    fn half_painted_squares_leave_a_remainder() -> Result<()> {
        let before = square([0.2, -0.5, -0.5], 32);
        let gold = Rgb(255, 215, 0);
        let gold_on = [1.0, 0.686, -1.0];
        let whole = square(gold_on, 32);
        assert_eq!(remainder(&before, &whole, &mask(32), 8, gold)?, 0.0);
        let half = before.copy();
        half.narrow(1, 16, 16).copy_(&whole.narrow(1, 16, 16));
        let left = remainder(&before, &half, &mask(16), 8, gold)?;
        assert!(left > 0.5, "{left}");
        // What already has the asked color is no remainder, and an empty region leaves none.
        let red = Rgb(153, 64, 64);
        assert_eq!(remainder(&before, &before, &mask(16), 8, red)?, 0.0);
        assert_eq!(remainder(&before, &half, &Tensor::zeros([64, 64], (Kind::Float, Device::Cpu)), 8, gold)?, 0.0);
        Ok(())
    }
}
