//! Rotations of the tokens of a picture.

use crate::error::Result;
use crate::nn::patches;
use crate::nn::rotary::{Rotary, angles};
use crate::step::Grid;
use tch::{Device, Tensor};

/// Returns the rotations of the tokens of a latent `grid` by time, row and column, for heads of `width` numbers. The
/// time of a picture is always 0.
pub(super) fn rotations(grid: Grid, width: i64, scale: [f64; 3], device: Device) -> Result<Rotary> {
    let Grid { h, w } = patches::tokens(grid);
    let along = width / 6 * 2;
    let [_, row, column] = scale;
    // Longest wavelengths grow by the scale (NTK-aware scaling).
    let base = |scale: f64| 10000.0 * scale.powf(along as f64 / (along - 2).max(1) as f64);
    let shape = [h, w, along / 2];
    let rows = angles(h, along, base(row), device)?.f_unsqueeze(1)?.f_expand(shape, false)?;
    let columns = angles(w, along, base(column), device)?.f_unsqueeze(0)?.f_expand(shape, false)?;
    let time = rows.f_new_zeros([h, w, width / 2 - along], (rows.f_kind()?, device))?;
    Rotary::new(&Tensor::f_cat(&[time, rows, columns], 2)?.f_flatten(0, 1)?)
}
