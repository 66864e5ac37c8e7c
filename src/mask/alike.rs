//! What of a map has the colors of its surest cells.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Share of the map's largest value from which on a cell is surely found, and from which on it may be.
const SURE: f64 = 0.95;
const POSSIBLE: f64 = 0.35;
/// Of the distances of possible cells to the sure ones' color, the quantile that is taken for the thing's own variety.
const VARIETY: f64 = 0.75;
/// Distance of colors, in channels of 0..=1, that is always taken for variety.
const LEAST: f64 = 0.06;

/// Lessens `map`, [n, 1, h, w], where the colors of `picture`, [n, 3, H, W] in -1..=1, are further from those of the surest cells than
/// most of the map's cells are: at 1.5 times as far it keeps what it is, at 3 times nothing. A thing of one color loses what is not of
/// that color; of a thing of many colors, most cells are far from each other, and it loses nothing.
pub(crate) fn alike(map: &Tensor, picture: &Tensor) -> Result<Tensor> {
    let (n, _, h, w) = map.size4()?;
    let colors = picture.f_to_kind(Kind::Float)?.f_adaptive_avg_pool2d([h, w])?.f_mul_scalar(0.5)?;
    let mut rows = Vec::new();
    for image in 0..n {
        let own = map.f_narrow(0, image, 1)?;
        let flat = own.f_flatten(0, -1)?.f_to_kind(Kind::Float)?;
        let colors = colors
            .f_narrow(0, image.min(colors.size4()?.0 - 1), 1)?
            .f_reshape([3, h * w])?
            .f_to_device(flat.device())?;
        let most = flat.f_max()?;
        let at_least = |share: f64| -> Result<Tensor> { Ok(flat.f_ge_tensor(&most.f_mul_scalar(share)?)?) };
        let sure = colors.f_index_select(1, &at_least(SURE)?.f_nonzero()?.f_flatten(0, -1)?)?;
        let middle = sure.f_median_dim(1, true)?.0;
        let distance =
            colors.f_sub(&middle)?.f_square()?.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?.f_sqrt()?;
        let possible = distance.f_masked_select(&at_least(POSSIBLE)?)?;
        let variety = possible.f_quantile_scalar(VARIETY, None, false, "linear")?.f_clamp_min(LEAST)?;
        let kept = distance.f_div(&variety)?.f_mul_scalar(-1.0 / 1.5)?.f_add_scalar(2.0)?.f_clamp(0.0, 1.0)?;
        rows.push(own.f_mul(&kept.f_reshape([1, 1, h, w])?)?);
    }
    Ok(Tensor::f_cat(&rows, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A picture of 8×8 cells of 4 pixels whose left half is of one color and right half of another, with `noise` over both.
    fn halves(noise: f64) -> Tensor {
        let picture = Tensor::full([1, 3, 32, 32], -0.5, (Kind::Float, Device::Cpu));
        let _ = picture.narrow(3, 16, 16).fill_(0.5);
        let wave = (Tensor::arange(3 * 32 * 32, (Kind::Float, Device::Cpu)) * 7.3).sin().reshape([1, 3, 32, 32]);
        picture + wave.upsample_nearest2d([32, 32], None, None) * noise
    }

    /// Sure on the left, and spilled over a quarter of the right half.
    fn spilled() -> Tensor {
        let map = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        let _ = map.narrow(3, 0, 4).fill_(1.0);
        let _ = map.narrow(3, 4, 1).fill_(0.6);
        map
    }

    #[test]
    fn what_has_another_color_is_lost() -> Result<()> {
        let kept = alike(&spilled(), &halves(0.02))?;
        assert_eq!(kept.narrow(3, 4, 1).max().double_value(&[]), 0.0);
        assert!(kept.narrow(3, 0, 4).min().double_value(&[]) > 0.95);
        Ok(())
    }

    #[test]
    fn a_thing_of_many_colors_keeps_all() -> Result<()> {
        // Both colors are surely found, so neither is another thing's.
        let map = Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        assert_eq!(alike(&map, &halves(0.02))?, map);
        Ok(())
    }

    #[test]
    fn images_of_a_batch_and_one_picture_for_all() -> Result<()> {
        let maps = Tensor::cat(&[spilled(), Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu))], 0);
        let kept = alike(&maps, &halves(0.02))?;
        assert_eq!(kept.narrow(0, 0, 1), alike(&spilled(), &halves(0.02))?);
        assert_eq!(kept.size(), maps.size());
        Ok(())
    }
}
