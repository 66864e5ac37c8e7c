//! Masks of repainting: their gray values, and their cells.

use crate::error::Result;
use crate::mask::distances;
use crate::step::Grid;
use tch::Tensor;

/// Gray below which a pixel is kept, and distance from white up to which a pixel is white. Files in JPEG have such
/// grays where black and white were drawn.
const NOISE: f64 = 1.0 / 32.0;

/// Returns a mask, [n, 1, H, W], whose darkest grays are 0 and whose lightest grays are 1.
pub(crate) fn snap(mask: &Tensor) -> Result<Tensor> {
    let (zero, one) = (mask.f_zeros_like()?, mask.f_ones_like()?);
    Ok(one.f_where_self(&mask.f_gt(1.0 - NOISE)?, &zero.f_where_self(&mask.f_lt(NOISE)?, mask)?)?)
}

/// Returns a mask, [1, 1, H, W], with a soft edge around its lighter half: from 1 to 0 over `by` pixels.
pub(crate) fn soften(mask: &Tensor, by: f64) -> Result<Tensor> {
    if by <= 0.0 {
        return Ok(mask.shallow_clone());
    }
    let (_, _, height, width) = mask.size4()?;
    let white: Vec<bool> = Vec::<f32>::try_from(&mask.f_flatten(0, -1)?)?.iter().map(|gray| *gray >= 0.5).collect();
    let edge = |far: &f64| (1.0 - far / (by + 1.0)).max(0.0) as f32;
    let soft: Vec<f32> = distances(&white, Grid::new(height, width)).iter().map(edge).collect();
    Ok(Tensor::f_from_slice(&soft)?.f_reshape([1, 1, height, width])?.f_maximum(mask)?)
}

/// Returns a mask, [n, 1, H, W], in which every pixel has the largest value of its cell of `cell` × `cell` pixels.
pub(super) fn of_cells(mask: &Tensor, cell: i64) -> Result<Tensor> {
    let (_, _, height, width) = mask.size4()?;
    let cells = mask.f_max_pool2d([cell; 2], [cell; 2], [0; 2], [1; 2], false)?;
    Ok(cells.f_upsample_nearest2d([height, width], None, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).reshape([1, 1, 1, -1])
    }

    #[test]
    fn noise_of_files_is_black_or_white() -> Result<()> {
        let mask = snap(&line(&[0.0, 0.02, 0.04, 0.5, 0.96, 0.98, 1.0]))?;
        assert_eq!(mask, line(&[0.0, 0.0, 0.04, 0.5, 0.96, 1.0, 1.0]));
        Ok(())
    }

    #[test]
    fn soft_edge_lies_around_the_lighter_half() -> Result<()> {
        let soft = soften(&line(&[0.0, 0.0, 0.0, 0.4, 1.0, 0.9]), 3.0)?;
        assert_eq!(soft, line(&[0.0, 0.25, 0.5, 0.75, 1.0, 1.0]));
        assert_eq!(soften(&line(&[0.0, 0.4]), 0.0)?, line(&[0.0, 0.4]));
        assert_eq!(soften(&line(&[0.0, 0.4]), 9.0)?, line(&[0.0, 0.4]), "nothing is light");
        Ok(())
    }

    #[test]
    fn cell_takes_its_largest_gray() -> Result<()> {
        let mask = line(&[0.0, 0.2, 0.0, 0.0]).repeat([1, 1, 2, 1]);
        assert_eq!(of_cells(&mask, 2)?, line(&[0.2, 0.2, 0.0, 0.0]).repeat([1, 1, 2, 1]));
        Ok(())
    }
}
