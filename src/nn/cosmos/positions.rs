//! Learned positions, which some models add to the tokens before every block.

use crate::error::Result;
use crate::step::Grid;
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// Smallest norm of a position.
const EPSILON: f64 = 1e-6;

/// diffusers' `CosmosLearnablePositionalEmbed`: a vector for each row and each column, and one for the first frame.
/// Their sum has a root mean square of 1.
#[derive(Debug)]
pub(super) struct Positions {
    frames: Tensor,
    rows: Tensor,
    columns: Tensor,
}

impl Positions {
    /// Builds the positions of frames, rows and columns; `places` are their numbers.
    pub(super) fn new(w: &Weights, places: [i64; 3], width: i64) -> Result<Self> {
        let [frames, rows, columns] = places;
        Ok(Self {
            frames: w.tensor("pos_emb_t", &[frames, width])?,
            rows: w.tensor("pos_emb_h", &[rows, width])?,
            columns: w.tensor("pos_emb_w", &[columns, width])?,
        })
    }

    /// Returns the positions of the tokens of a grid, f32 [h·w, width]. If the grid has more rows or columns than are
    /// stored, those that are stored are stretched over it.
    pub(super) fn of(&self, Grid { h, w }: Grid) -> Result<Tensor> {
        let rows = along(&self.rows, h)?.f_unsqueeze(1)?;
        let columns = along(&self.columns, w)?.f_unsqueeze(0)?;
        let frame = self.frames.f_narrow(0, 0, 1)?.f_to_kind(Kind::Float)?;
        let sum = rows.f_add(&columns)?.f_add(&frame)?.f_flatten(0, 1)?;
        let size = sum.f_square()?.f_mean_dim([-1].as_slice(), true, Kind::Float)?.f_sqrt()?;
        Ok(sum.f_div(&size.f_add_scalar(EPSILON)?)?)
    }
}

/// Returns `count` vectors of a table, f32 [count, width].
fn along(table: &Tensor, count: i64) -> Result<Tensor> {
    let table = table.f_to_kind(Kind::Float)?;
    if count <= table.size2()?.0 {
        return Ok(table.f_narrow(0, 0, count)?);
    }
    let stretched = table.f_transpose(0, 1)?.f_unsqueeze(0)?.f_upsample_linear1d([count], true, None)?;
    Ok(stretched.f_squeeze_dim(0)?.f_transpose(0, 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn stored_positions_are_stretched_over_larger_grids() -> Result<()> {
        let positions = Positions::new(&Weights::random(1, Kind::Float, Device::Cpu), [1, 3, 2], 8)?;
        let [small, large] = [Grid::new(2, 2), Grid::new(5, 2)].map(|grid| positions.of(grid));
        let (small, large) = (small?, large?);
        let sizes = large.square().mean_dim([-1].as_slice(), false, Kind::Float);
        assert!(sizes.allclose(&Tensor::ones([10], (Kind::Float, Device::Cpu)), 1e-4, 1e-4, false), "{sizes}");
        assert_eq!((small.size(), large.size()), (vec![4, 8], vec![10, 8]));
        assert!(small.narrow(0, 2, 2).allclose(&large.narrow(0, 4, 2), 1e-5, 1e-5, false), "the second of three rows");
        Ok(())
    }
}
