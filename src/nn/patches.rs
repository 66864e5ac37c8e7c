//! Tokens of a picture: patches of 2×2 cells.

use crate::error::{Error, Result};
use crate::step::Grid;
use tch::Tensor;

/// Side of a patch, in cells.
const SIDE: i64 = 2;

/// Splits a latent into patches, row by row: [b, c, h, w] → [b, h/2·w/2, 4·c]. The numbers of a patch have the order
/// channel, row, column.
///
/// # Errors
/// [`Error::Shape`] if the latent has an odd number of rows or columns.
pub(crate) fn split(latent: &Tensor) -> Result<Tensor> {
    check(latent)?;
    let patches = latent.f_unflatten(3, [-1, SIDE])?.f_unflatten(2, [-1, SIDE])?; // [b, c, h/2, 2, w/2, 2]
    Ok(patches.f_permute([0, 2, 4, 1, 3, 5])?.f_flatten(3, 5)?.f_flatten(1, 2)?)
}

/// Checks that a latent, [b, c, h, w], has whole patches.
///
/// # Errors
/// [`Error::Shape`] if the latent has an odd number of rows or columns.
pub(crate) fn check(latent: &Tensor) -> Result<()> {
    let (_, _, h, w) = latent.size4()?;
    if h % SIDE == 0 && w % SIDE == 0 {
        return Ok(());
    }
    let expected = "[b, channels, h, w] with even h and w; sizes in pixels are multiples of 16".into();
    Err(Error::Shape { what: "the transformer's sample", got: latent.size(), expected })
}

/// Joins patches to a prediction of the size `h` × `w`: [b, h/2·w/2, 4·c] → [b, c, h, w]. The numbers of a patch have
/// the order row, column, channel.
pub(crate) fn join(patches: &Tensor, h: i64, w: i64) -> Result<Tensor> {
    // [b, h/2, w/2, 2, 2, c]
    let rows = patches.f_unflatten(2, [SIDE, SIDE, -1])?.f_unflatten(1, [h / SIDE, w / SIDE])?;
    Ok(rows.f_permute([0, 5, 1, 3, 2, 4])?.f_reshape([rows.size().first().copied().unwrap_or(1), -1, h, w])?)
}

/// Returns the grid of the tokens of a latent `grid`.
pub(crate) const fn tokens(grid: Grid) -> Grid {
    Grid::new(grid.h / SIDE, grid.w / SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

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
