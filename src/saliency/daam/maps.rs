//! Arithmetic of maps: products with self-attention, deviations and resizing.

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
