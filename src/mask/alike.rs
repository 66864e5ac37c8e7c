//! Reduction of a map in cells with other colors than the map's surest cells.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Minimum value of a sure cell, as a share of the map's largest value.
const SURE: f64 = 0.95;
/// Quantile that measures the object's own variety of colors. The quantile is taken of the distances between the sure
/// cells' colors and the median of these colors.
const VARIETY: f64 = 0.75;
/// Minimum variety: a distance of colors, in channels of 0..=1.
const LEAST: f64 = 0.08;

/// Reduces `map`, [n, 1, h, w], where the colors of `picture`, [n, 3, H, W] in -1..=1, differ from the colors of the
/// surest cells.
///
/// Distances are measured from the median color of the surest cells, in units of those cells' own variety. Up to a
/// distance of 1.5 a cell keeps its value; from a distance of 3 on, the cell becomes 0. The surest cells keep their
/// values at any color. An object of one color loses cells of other colors. An object with sure cells of many colors
/// loses little.
pub(crate) fn alike(map: &Tensor, picture: &Tensor) -> Result<Tensor> {
    let (n, _, h, w) = map.size4()?;
    let cells = picture.f_to_kind(Kind::Float)?.f_adaptive_avg_pool2d([h, w])?.f_mul_scalar(0.5)?;
    let pictures = cells.size4()?.0;
    let mut kept = Vec::new();
    for image in 0..n {
        let own = map.f_narrow(0, image, 1)?;
        let found = own.f_flatten(0, -1)?.f_to_kind(Kind::Float)?;
        // A single picture is used for every image.
        let colors =
            cells.f_narrow(0, image.min(pictures - 1), 1)?.f_reshape([3, h * w])?.f_to_device(found.device())?;
        let is_sure = found.f_ge_tensor(&found.f_max()?.f_mul_scalar(SURE)?)?;
        let sure = is_sure.f_nonzero()?.f_flatten(0, -1)?;
        let middle = colors.f_index_select(1, &sure)?.f_median_dim(1, true)?.0;
        let off = colors.f_sub(&middle)?.f_square()?;
        let distance = off.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?.f_sqrt()?;
        let variety = distance.f_index_select(0, &sure)?.f_quantile_scalar(VARIETY, None, false, "linear")?;
        let far = distance.f_div(&variety.f_clamp_min(LEAST)?)?;
        let share = far.f_mul_scalar(-1.0 / 1.5)?.f_add_scalar(2.0)?.f_clamp(0.0, 1.0)?;
        let share = share.f_ones_like()?.f_where_self(&is_sure, &share)?;
        kept.push(own.f_mul(&share.f_reshape([1, 1, h, w])?)?);
    }
    Ok(Tensor::f_cat(&kept, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Returns a picture of 8×8 cells of 4 pixels. The halves of the picture have different colors, with `noise` over
    /// both.
    fn halves(noise: f64) -> Tensor {
        let picture = Tensor::full([1, 3, 32, 32], -0.5, (Kind::Float, Device::Cpu));
        let _ = picture.narrow(3, 16, 16).fill_(0.5);
        let wave = (Tensor::arange(3 * 32 * 32, (Kind::Float, Device::Cpu)) * 7.3).sin().reshape([1, 3, 32, 32]);
        picture + wave.upsample_nearest2d([32, 32], None, None) * noise
    }

    /// Returns a map that is sure on the left, and spills over a quarter of the right half.
    fn spilled() -> Tensor {
        let map = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        let _ = map.narrow(3, 0, 4).fill_(1.0);
        let _ = map.narrow(3, 4, 1).fill_(0.6);
        map
    }

    #[test]
    fn cells_of_another_color_are_lost() -> Result<()> {
        let kept = alike(&spilled(), &halves(0.02))?;
        assert_eq!(kept.narrow(3, 4, 1).max().double_value(&[]), 0.0);
        assert!(kept.narrow(3, 0, 4).min().double_value(&[]) > 0.95);
        Ok(())
    }

    #[test]
    fn sure_cells_stay_in_any_color() -> Result<()> {
        let map = spilled();
        let _ = map.narrow(2, 3, 1).narrow(3, 4, 1).fill_(1.0);
        let kept = alike(&map, &halves(0.02))?;
        assert_eq!(kept.double_value(&[0, 0, 3, 4]), 1.0);
        assert_eq!(kept.double_value(&[0, 0, 4, 4]), 0.0, "its neighbor of the same color is not sure");
        Ok(())
    }

    #[test]
    fn object_of_many_colors_keeps_all_cells() -> Result<()> {
        // Both colors are surely found, so neither belongs to another object.
        let map = Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu));
        assert_eq!(alike(&map, &halves(0.02))?, map);
        Ok(())
    }

    #[test]
    fn one_picture_serves_all_images_of_a_batch() -> Result<()> {
        let maps = Tensor::cat(&[spilled(), Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu))], 0);
        let kept = alike(&maps, &halves(0.02))?;
        assert_eq!(kept.narrow(0, 0, 1), alike(&spilled(), &halves(0.02))?);
        assert_eq!(kept.size(), maps.size());
        Ok(())
    }
}
