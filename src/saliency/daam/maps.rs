//! Arithmetic of maps: products with self-attention, deviations, thresholds and resizing.

use crate::error::Result;
use crate::step::Grid;
use tch::{Kind, Tensor};

/// Least correlation of a steady map with the same map before a multiplication with self-attention. Of the words in
/// portraits by the embedded networks, .94 of the transformer's maps and .32 of the UNet's are steady at once.
const STEADY: f64 = 0.9;

/// Computes Aᵖ·maps, with maps [n, channels, h, w], `attention` A [n, cells, attended] and `power` p.
pub(super) fn attend(maps: &Tensor, attention: &Tensor, power: u32) -> Result<Tensor> {
    let mut cells = maps.f_flatten(2, 3)?;
    for _ in 0..power {
        cells = cells.f_matmul(&attention.f_transpose(1, 2)?)?;
    }
    Ok(cells.f_reshape(maps.size())?)
}

/// Computes Aᵖ·maps like [`attend`], but multiplies a map only until it is steady: until its correlation with the map
/// before the multiplication is [`STEADY`] or more. A steady map covers its object, and further multiplications would
/// blur a small object.
pub(super) fn attend_until_steady(maps: &Tensor, attention: &Tensor, power: u32) -> Result<Tensor> {
    let mut maps = maps.shallow_clone();
    let mut steady = Tensor::f_zeros([1, 1, 1, 1], (Kind::Bool, maps.device()))?;
    for _ in 0..power {
        let next = maps.f_where_self(&steady, &attend(&maps, attention, 1)?)?;
        let together = deviations(&maps)?.f_mul(&deviations(&next)?)?;
        steady = together.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?.f_ge(STEADY)?;
        maps = next;
    }
    Ok(maps)
}

/// Computes (m − mean) / deviation of every map, over its cells.
pub(super) fn deviations(maps: &Tensor) -> Result<Tensor> {
    let centered = maps.f_sub(&maps.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?)?;
    let deviation = centered.f_square()?.f_mean_dim([2i64, 3].as_slice(), true, Kind::Float)?.f_sqrt()?;
    Ok(centered.f_div(&deviation.f_add_scalar(1e-8)?)?)
}

pub(super) fn resized(maps: &Tensor, to: Grid) -> Result<Tensor> {
    let (_, _, h, w) = maps.size4()?;
    if (h, w) == (to.h, to.w) {
        return Ok(maps.shallow_clone());
    }
    Ok(maps.f_upsample_bicubic2d([to.h, to.w], false, None, None)?)
}

/// Returns Otsu's threshold of one map, [1, 1, h, w] → [1, 1, 1, 1]. Cells below the threshold belong to none of the
/// words.
///
/// Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979), on the sorted values instead of a
/// histogram.
pub(super) fn floor(map: &Tensor) -> Result<Tensor> {
    let (sorted, _) = map.f_flatten(0, -1)?.f_to_kind(Kind::Double)?.f_sort(0, false)?;
    let count = sorted.size1()?;
    if count < 2 {
        return Ok(map.f_zeros_like()?.f_amax([2i64, 3], true)?);
    }
    let sums = sorted.f_cumsum(0, Kind::Double)?;
    let total = sums.f_narrow(0, count - 1, 1)?;
    let below = sums.f_narrow(0, 0, count - 1)?;
    let k = Tensor::f_arange_start(1, count, (Kind::Double, map.device()))?;
    let rest = k.f_neg()?.f_add_scalar(count as f64)?;
    // k·(n − k)·(mean above − mean below)²
    let apart = total.f_sub(&below)?.f_div(&rest)?.f_sub(&below.f_div(&k)?)?;
    let best = k.f_mul(&rest)?.f_mul(&apart.f_square()?)?.f_argmax(0, true)?;
    let (low, high) = (sorted.f_index_select(0, &best)?, sorted.f_index_select(0, &best.f_add_scalar(1)?)?);
    Ok(low.f_add(&high)?.f_mul_scalar(0.5)?.f_to_kind(map.kind())?.f_reshape([1, 1, 1, 1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_multiplied_until_they_are_steady() -> Result<()> {
        // A row of 16 cells. Each cell attends to itself and to its neighbors within its half of the row.
        let near = |i: i64, j: i64| i / 8 == j / 8 && (i - j).abs() <= 1;
        let weights: Vec<f32> = (0..256).map(|at| f32::from(u8::from(near(at / 16, at % 16)))).collect();
        let attention = Tensor::from_slice(&weights).reshape([1, 16, 16]);
        let attention = &attention / attention.sum_dim_intlist([2i64].as_slice(), true, Kind::Float);
        let row = |value: fn(usize) -> f32| Tensor::from_slice(&(0..16).map(value).collect::<Vec<f32>>());
        let whole = row(|cell| if cell < 8 { 1.0 + 0.1 * (cell % 2) as f32 } else { 0.0 });
        let spot = row(|cell| if cell == 4 { 1.0 } else { 0.0 });
        let maps = Tensor::stack(&[&whole, &spot], 0).reshape([1, 2, 1, 16]);
        let apart = |power: u32, want: [u32; 2]| -> Result<f64> {
            let got = attend_until_steady(&maps, &attention, power)?;
            let want = (0..2).map(|map| attend(&maps.narrow(1, map, 1), &attention, want[map as usize]));
            let want = Tensor::cat(&want.collect::<Result<Vec<_>>>()?, 1);
            Ok((got - want).abs().max().double_value(&[]))
        };
        assert_eq!(apart(0, [0, 0])?, 0.0);
        assert!(apart(1, [1, 1])? < 1e-6);
        assert!(apart(2, [1, 2])? < 1e-6, "a map of a whole thing is multiplied once, and a spot twice");
        assert!(apart(2, [2, 2])? > 0.01);
        Ok(())
    }
}
