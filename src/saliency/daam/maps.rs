//! Arithmetic of maps: products with self-attention, deviations, thresholds and resizing.

use crate::error::Result;
use crate::step::Grid;
use tch::{Kind, Tensor};

/// Computes Aᵖ·maps, with maps [n, channels, h, w], `attention` A [n, cells, attended] and `power` p.
pub(super) fn attend(maps: &Tensor, attention: &Tensor, power: u32) -> Result<Tensor> {
    let mut cells = maps.f_flatten(2, 3)?;
    for _ in 0..power {
        cells = cells.f_matmul(&attention.f_transpose(1, 2)?)?;
    }
    Ok(cells.f_reshape(maps.size())?)
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
