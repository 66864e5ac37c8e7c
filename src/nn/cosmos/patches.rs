//! Tokens of a picture: patches of 2×2 cells.

use crate::error::{Error, Result};
use crate::nn::rotary::{Rotary, angles};
use crate::step::Grid;
use tch::{Device, Tensor};

/// Side of a patch, in cells.
const SIDE: i64 = 2;

/// Splits a latent into patches, row by row: [b, c, h, w] → [b, h/2·w/2, 4·c]. The numbers of a patch have the order
/// channel, row, column.
///
/// # Errors
/// [`Error::Shape`] if the latent has an odd number of rows or columns.
pub(super) fn split(latent: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = latent.size4()?;
    if h % SIDE != 0 || w % SIDE != 0 {
        let expected = "[b, channels, h, w] with even h and w; sizes in pixels are multiples of 16".into();
        return Err(Error::Shape { what: "the transformer's sample", got: latent.size(), expected });
    }
    let patches = latent.f_unflatten(3, [-1, SIDE])?.f_unflatten(2, [-1, SIDE])?; // [b, c, h/2, 2, w/2, 2]
    Ok(patches.f_permute([0, 2, 4, 1, 3, 5])?.f_flatten(3, 5)?.f_flatten(1, 2)?)
}

/// Joins patches to a prediction of the size `h` × `w`: [b, h/2·w/2, 4·c] → [b, c, h, w]. The numbers of a patch have
/// the order row, column, channel.
pub(super) fn join(patches: &Tensor, h: i64, w: i64) -> Result<Tensor> {
    // [b, h/2, w/2, 2, 2, c]
    let rows = patches.f_unflatten(2, [SIDE, SIDE, -1])?.f_unflatten(1, [h / SIDE, w / SIDE])?;
    Ok(rows.f_permute([0, 5, 1, 3, 2, 4])?.f_reshape([rows.size().first().copied().unwrap_or(1), -1, h, w])?)
}

/// Returns the grid of the tokens of a latent `grid`.
pub(super) const fn tokens(grid: Grid) -> Grid {
    Grid::new(grid.h / SIDE, grid.w / SIDE)
}

/// Returns the rotations of the tokens of a latent `grid` by time, row and column, for heads of `width` numbers. The
/// time of a picture is always 0.
pub(super) fn rotary(grid: Grid, width: i64, scale: [f64; 3], device: Device) -> Result<Rotary> {
    let Grid { h, w } = tokens(grid);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn patches_have_their_orders() -> Result<()> {
        let latent = Tensor::arange(2 * 2 * 4, (Kind::Float, Device::Cpu)).reshape([1, 2, 2, 4]);
        let patches = split(&latent)?;
        assert_eq!(Vec::<f32>::try_from(patches.get(0).get(1))?, [2.0, 3.0, 6.0, 7.0, 10.0, 11.0, 14.0, 15.0]);
        let of_output = patches.unflatten(2, [2, 2, 2]).permute([0, 1, 3, 4, 2]).flatten(2, 4); // channels last
        assert_eq!(join(&of_output, 2, 4)?, latent);
        assert!(matches!(split(&latent.narrow(3, 0, 3)), Err(Error::Shape { .. })));
        Ok(())
    }
}
