//! [`Magnitude`]: the trained lengths of a weight's rows or columns (DoRA).

use super::product::float;
use crate::error::Result;
use tch::Tensor;

/// The trained lengths m of a changed weight V, which becomes V · m / ‖V‖. The norm is that of each row, over inputs
/// and kernel, or that of each column, over outputs and kernel.
///
/// Source: Liu et al. (2024), "DoRA: Weight-Decomposed Low-Rank Adaptation".
#[derive(Debug)]
pub(super) enum Magnitude {
    /// LyCORIS' tensor: [outputs, 1, …] or [1, inputs, …].
    DoraScale(Tensor),
    /// PEFT's tensor, which always holds the lengths of rows: [outputs] or [1, outputs, 1, 1].
    Vector(Tensor),
}

/// The vectors of a weight that have a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Rows,
    Columns,
}

impl Magnitude {
    const fn tensor(&self) -> &Tensor {
        let (Self::DoraScale(x) | Self::Vector(x)) = self;
        x
    }

    /// Returns the axis of the lengths in a weight, by the tensor's name and then by its shape; `None` if the lengths
    /// fit no axis.
    pub(super) fn axis(&self, weight: &[i64]) -> Option<Axis> {
        let &[outputs, inputs, ..] = weight else { return None };
        let size = self.tensor().size();
        let are_ones = |sizes: &[i64]| sizes.iter().all(|&size| size == 1);
        match (self, size.as_slice()) {
            (_, &[rows, ref rest @ ..]) if rows == outputs && are_ones(rest) => Some(Axis::Rows),
            (Self::Vector(_), &[1, rows, ref rest @ ..]) if rows == outputs && are_ones(rest) => Some(Axis::Rows),
            (Self::DoraScale(_), &[1, columns, ref rest @ ..]) if columns == inputs && are_ones(rest) => {
                Some(Axis::Columns)
            }
            _ => None,
        }
    }

    /// Gives the rows or columns of a changed weight their lengths.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the lengths have another [axis](Self::axis).
    pub(super) fn rescale(&self, v: &Tensor, axis: Axis) -> Result<Tensor> {
        let (shape, others) = match axis {
            Axis::Rows => ([-1, 1, 1], [1, 2]),
            Axis::Columns => ([1, -1, 1], [0, 2]),
        };
        let cells = v.f_unsqueeze(-1)?.f_flatten(2, -1)?; // [o, i, h·w]
        let norm = cells.f_square()?.f_sum_dim_intlist(&others[..], true, None)?.f_sqrt()?;
        let norm = norm.f_clamp_min(f64::from(f32::MIN_POSITIVE))?; // a row of zeros stays one
        let m = float(self.tensor(), v.device())?.f_reshape(shape)?;
        Ok(cells.f_mul(&m.f_div(&norm)?)?.f_reshape(v.size())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn wave(shape: &[i64]) -> Tensor {
        let count: i64 = shape.iter().product();
        (Tensor::arange(count, (Kind::Float, Device::Cpu)) + 1.0).sin().reshape(shape)
    }

    #[test]
    fn name_and_then_shape_decide_the_axis() {
        let axis = |m: fn(Tensor) -> Magnitude, shape: &[i64], weight: &[i64]| m(wave(shape)).axis(weight);
        let (dora, vector) = (Magnitude::DoraScale as fn(_) -> _, Magnitude::Vector as fn(_) -> _);
        for (shape, weight) in [(&[6, 1][..], &[6, 4][..]), (&[6, 1, 1, 1], &[6, 4, 3, 3]), (&[6], &[6, 4])] {
            assert_eq!(axis(dora, shape, weight), Some(Axis::Rows));
        }
        for (shape, weight) in [(&[1, 4][..], &[6, 4][..]), (&[1, 4, 1, 1], &[6, 4, 3, 3]), (&[1, 4], &[4, 4])] {
            assert_eq!(axis(dora, shape, weight), Some(Axis::Columns));
        }
        for (shape, weight) in [(&[6][..], &[6, 4][..]), (&[1, 6, 1, 1], &[6, 4, 3, 3]), (&[1, 4], &[4, 4])] {
            assert_eq!(axis(vector, shape, weight), Some(Axis::Rows));
        }
        for (m, shape) in [(dora, &[1, 6][..]), (dora, &[4, 1]), (dora, &[6, 4]), (vector, &[4]), (vector, &[1, 4])] {
            assert_eq!(axis(m, shape, &[6, 4]), None, "{shape:?}");
        }
        assert_eq!(axis(dora, &[6], &[6]), None, "a norm has no rows");
    }

    #[test]
    fn rows_or_columns_get_their_lengths() -> Result<()> {
        let v = wave(&[6, 4, 3, 3]);
        for (axis, m, others) in
            [(Axis::Rows, wave(&[6, 1, 1, 1]), [1, 2, 3]), (Axis::Columns, wave(&[1, 4, 1, 1]), [0, 2, 3])]
        {
            let scaled = Magnitude::DoraScale(m.shallow_clone()).rescale(&v, axis)?;
            let lengths = scaled.square().sum_dim_intlist(&others[..], true, None).sqrt();
            assert!((lengths - m.abs()).abs().max().double_value(&[]) < 1e-6);
            let turned = (&scaled * &v * m.sign()).min().double_value(&[]);
            assert!(turned >= 0.0, "directions stay");
        }
        let zeros = Magnitude::Vector(wave(&[6])).rescale(&Tensor::zeros_like(&v), Axis::Rows)?;
        assert_eq!(zeros.abs().max().double_value(&[]), 0.0);
        Ok(())
    }
}
