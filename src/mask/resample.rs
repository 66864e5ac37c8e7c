//! [`Resample`]: resizes a mask from the size of a drawing to the grid of an attention site.

use crate::error::Result;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Method that resizes a mask to the grid of an attention site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Resample {
    /// Mean over the box that each cell covers, exact for any ratio of sizes. A painted area keeps its mean over the
    /// picture at every site, so a thin stroke becomes weak.
    #[default]
    Area,
    /// Bilinear interpolation between the drawing's pixels with aligned corners, as in paint-with-words-sd. For
    /// comparison only: a thin stroke may vanish at one site and grow fourfold at another.
    Corners,
    /// Largest value among the pixels that the box of each cell touches. Thin strokes keep their strength and become
    /// wider.
    Cover,
}

impl Resample {
    /// Resamples a mask, [n, c, rows, columns] f32 → [n, c, h, w].
    ///
    /// # Errors
    /// Only libtorch's own errors, such as for a mask of another shape.
    pub(crate) fn apply(self, mask: &Tensor, grid: Grid) -> Result<Tensor> {
        let Grid { h, w } = grid;
        let (_, _, rows, columns) = mask.size4()?;
        if (rows, columns) == (h, w) {
            return Ok(mask.shallow_clone());
        }
        Ok(match self {
            Self::Area => coverage(rows, h)?.f_matmul(mask)?.f_matmul(&coverage(columns, w)?.f_transpose(0, 1)?)?,
            Self::Corners => mask.f_upsample_bilinear2d([h, w], true, None, None)?,
            Self::Cover => mask.f_adaptive_max_pool2d([h, w])?.0,
        })
    }

    /// Returns the share of each cell that an interval covers. `cells` cells divide a side of the picture, and `shares`
    /// is the interval in shares of that side. Under `Cover` every touched cell counts as 1.
    pub(crate) fn interval(self, shares: &Range<f64>, cells: i64) -> Vec<f32> {
        let (start, end) = (shares.start * cells as f64, shares.end * cells as f64);
        let covered = |cell: f64| (end.min(cell + 1.0) - start.max(cell)).max(0.0);
        let touched = |covered: f64| if covered > 1e-9 { 1.0 } else { 0.0 };
        let rule = |covered: f64| if self == Self::Cover { touched(covered) } else { covered };
        (0..cells).map(|cell| rule(covered(cell as f64)) as f32).collect()
    }
}

/// Returns the share of each of `from` pixels in each of `to` boxes that divide the same length, [to, from]. Rows sum
/// to one.
fn coverage(from: i64, to: i64) -> Result<Tensor> {
    let mut shares = Vec::with_capacity((from * to) as usize);
    // In units of 1/(from·to) of the length, box i is i·from..(i + 1)·from and pixel k is k·to..(k + 1)·to.
    for i in 0..to {
        for k in 0..from {
            let shared = ((i + 1) * from).min((k + 1) * to) - (i * from).max(k * to);
            shares.push(shared.max(0) as f32 / from as f32);
        }
    }
    Ok(Tensor::f_from_slice(&shares)?.f_reshape([to, from])?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(t: &Tensor) -> Vec<f32> {
        Vec::try_from(t.reshape([-1])).unwrap()
    }

    #[test]
    fn boxes_that_do_not_divide_evenly_share_their_pixels() -> Result<()> {
        let line = Tensor::from_slice(&[3f32, 0.0, 0.0, 6.0, 0.0]).reshape([1, 1, 1, 5]);
        // Boxes of 2.5 pixels.
        let halves = values(&Resample::Area.apply(&line, Grid::new(1, 2))?);
        assert!((halves[0] - 1.2).abs() < 1e-6 && (halves[1] - 2.4).abs() < 1e-6, "{halves:?}");
        assert_eq!(values(&Resample::Cover.apply(&line, Grid::new(1, 2))?), [3.0, 6.0]);
        assert_eq!(values(&Resample::Corners.apply(&line, Grid::new(1, 3))?), [3.0, 0.0, 0.0]);
        Ok(())
    }

    #[test]
    fn a_drawing_smaller_than_the_grid_becomes_blocks() -> Result<()> {
        let line = Tensor::from_slice(&[1f32, 0.0]).reshape([1, 1, 1, 2]);
        for resample in [Resample::Area, Resample::Cover] {
            assert_eq!(values(&resample.apply(&line, Grid::new(2, 4))?), [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        }
        Ok(())
    }
}
