//! [`Product`]: a matrix or kernel that a file stores as small factors.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A matrix as the product of two matrices. With a core, the product is a kernel in CP or Tucker form:
/// m[o, i, y, x] = Σ over p and q of rows[o, p] · core[p, q, y, x] · columns[q, i].
#[derive(Debug)]
pub(super) struct Product {
    rows: Tensor,
    /// True if the file has the rows transposed, as [p, o].
    are_rows_turned: bool,
    core: Option<Tensor>,
    columns: Tensor,
}

impl Product {
    /// Creates the product of rows [o, p], an optional core [p, q, h, w] and columns [q, i]. Without a core, the
    /// columns may be a kernel [p, i, h, w].
    pub(super) const fn new(rows: Tensor, core: Option<Tensor>, columns: Tensor) -> Self {
        Self { rows, are_rows_turned: false, core, columns }
    }

    /// Creates a product in the form of LyCORIS' LoHa and LoKr, whose rows beside a core are [p, o].
    pub(super) const fn of_lycoris(rows: Tensor, core: Option<Tensor>, columns: Tensor) -> Self {
        Self { rows, are_rows_turned: core.is_some(), core, columns }
    }

    /// Returns the rank of the columns.
    pub(super) fn rank(&self) -> Option<i64> {
        self.columns.size().first().copied()
    }

    /// Returns the number of columns of the product's matrix.
    pub(super) fn inputs(&self) -> Option<i64> {
        self.columns.size().get(1).copied()
    }

    /// Returns the shape of the product without computing the product; `None` if the factors do not fit together.
    pub(super) fn shape(&self) -> Option<Vec<i64>> {
        let (rows, columns) = (self.rows.size(), self.columns.size());
        let (&[mut outputs, mut rank], Some((&first, inside))) = (matrix(&rows), columns.split_first()) else {
            return None;
        };
        if self.are_rows_turned {
            (outputs, rank) = (rank, outputs);
        }
        match (self.core.as_ref().map(Tensor::size).as_deref(), inside) {
            (None, [_, ..]) if rank == first => Some([&[outputs], inside].concat()),
            (Some(&[p, q, h, w]), &[inputs, ..]) if p == rank && q == first && matrix(&columns).len() == 2 => {
                Some(vec![outputs, inputs, h, w])
            }
            _ => None,
        }
    }

    /// Returns the product as two factors in f32, rows [o, p] and columns [p, i] or [p, i, h, w], if they take fewer
    /// multiplications than the product; otherwise `None`.
    pub(super) fn factors(&self) -> Result<Option<(Tensor, Tensor)>> {
        let Some(shape) = self.shape() else { return Ok(None) };
        let (cpu, inside) = (Device::Cpu, shape.iter().skip(1).product::<i64>());
        let outputs = shape.first().copied().unwrap_or_default();
        let mut rows = float(&self.rows, cpu)?.f_flatten(1, -1)?;
        if self.are_rows_turned {
            rows = rows.f_transpose(0, 1)?.f_contiguous()?;
        }
        let rank = rows.size2()?.1;
        if rank.saturating_mul(outputs + inside) >= outputs.saturating_mul(inside) {
            return Ok(None);
        }
        let columns = float(&self.columns, cpu)?;
        let Some(core) = &self.core else { return Ok(Some((rows, columns))) };
        let core = float(core, cpu)?.f_permute([0, 2, 3, 1])?; // [p, h, w, q]
        let columns = core.f_matmul(&columns.f_flatten(1, -1)?)?.f_permute([0, 3, 1, 2])?; // [p, i, h, w]
        Ok(Some((rows, columns)))
    }

    /// Computes the product in f32 on a device.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the factors do not fit together.
    pub(super) fn compute(&self, device: Device) -> Result<Tensor> {
        let flat = |x: &Tensor| -> Result<Tensor> { Ok(float(x, device)?.f_flatten(1, -1)?) };
        let (mut rows, columns) = (flat(&self.rows)?, flat(&self.columns)?); // [o, p], [q, i·h·w]
        if self.are_rows_turned {
            rows = rows.f_transpose(0, 1)?;
        }
        let Some(core) = &self.core else {
            let inside = self.columns.size().into_iter().skip(1);
            let shape: Vec<i64> = self.rows.size().into_iter().take(1).chain(inside).collect();
            return Ok(rows.f_matmul(&columns)?.f_reshape(shape)?);
        };
        let core = float(core, device)?.f_permute([2, 3, 0, 1])?; // [h, w, p, q]
        // The smaller product comes first, so that no factor grows far beyond the file.
        let ((o, p), (q, i)) = (rows.size2()?, columns.size2()?);
        let product = match p.saturating_mul(i) <= o.saturating_mul(q) {
            true => rows.f_matmul(&core.f_matmul(&columns)?)?,
            false => rows.f_matmul(&core)?.f_matmul(&columns)?,
        }; // [h, w, o, i]
        Ok(product.f_permute([2, 3, 0, 1])?)
    }
}

/// Returns a tensor in f32 on a device.
pub(super) fn float(x: &Tensor, device: Device) -> Result<Tensor> {
    Ok(x.f_to_device(device)?.f_to_kind(Kind::Float)?)
}

/// Returns [rows, columns] for a matrix that is stored as a 1×1 convolution; other shapes stay as they are.
pub(super) fn matrix(shape: &[i64]) -> &[i64] {
    match shape {
        [_, _, ones @ ..] if ones.iter().all(|&size| size == 1) => shape.get(..2).unwrap_or(shape),
        _ => shape,
    }
}

/// Returns the shape of a weight for a matrix that holds the weight's kernels in its columns, [o, i·h·w]; other shapes
/// stay as they are.
pub(super) fn unflatten(shape: Vec<i64>, weight: &[i64]) -> Vec<i64> {
    match (shape.as_slice(), weight) {
        (&[rows, columns], &[outputs, ref inside @ ..])
            if rows == outputs && columns == inside.iter().product::<i64>() =>
        {
            weight.into()
        }
        _ => shape,
    }
}
