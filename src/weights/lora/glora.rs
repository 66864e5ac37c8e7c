//! [`Glora`]: a change that also depends on the weight.

use super::product::{Product, float, matrix};
use crate::error::Result;
use tch::Tensor;

/// A change ΔW = W · a1 · a2 + b1 · b2. In a convolution, a1 · a2 mixes the input channels at every place of the
/// kernel.
///
/// Source: Chavan et al. (2023), "One-for-All: Generalized LoRA for Parameter-Efficient Fine-tuning"; LyCORIS.
#[derive(Debug)]
pub(super) struct Glora {
    pub a1: Tensor,
    pub a2: Tensor,
    pub b1: Tensor,
    pub b2: Tensor,
}

impl Glora {
    fn product(&self) -> Product {
        Product::new(self.b1.shallow_clone(), None, self.b2.shallow_clone())
    }

    /// Returns the rank by which α is divided.
    pub(super) fn rank(&self) -> Option<i64> {
        self.a2.size().first().copied()
    }

    /// Returns the number of inputs of the layer.
    pub(super) fn inputs(&self) -> Option<i64> {
        self.b2.size().get(1).copied()
    }

    /// Returns the shape of the change; `None` if the tensors do not fit together.
    pub(super) fn shape(&self) -> Option<Vec<i64>> {
        let shape = self.product().shape()?;
        let ([a1, a2], inputs) = ([&self.a1, &self.a2].map(Tensor::size), *shape.get(1)?);
        match (matrix(&a1), matrix(&a2)) {
            (&[from, rank], &[first, to]) if rank == first && from == inputs && to == inputs => Some(shape),
            _ => None,
        }
    }

    /// Returns true if the tensors have the order of LyCORIS before version 2, which computes b2 · b1 and W · a2 · a1.
    pub(super) fn is_old(&self) -> bool {
        let size = |x: &Tensor, side: usize| x.size().get(side).copied();
        let rank = size(&self.b2, 1);
        self.shape().is_none()
            && rank.is_some()
            && [size(&self.b1, 0), size(&self.a1, 0), size(&self.a2, 1)].iter().all(|other| *other == rank)
    }

    /// Computes the change of a weight of the change's [shape](Self::shape), [o, i] or [o, i, h, w].
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the tensors do not fit together.
    pub(super) fn compute(&self, w: &Tensor) -> Result<Tensor> {
        let flat = |x: &Tensor| -> Result<Tensor> { Ok(float(x, w.device())?.f_flatten(1, -1)?) };
        let (a1, a2) = (flat(&self.a1)?, flat(&self.a2)?);
        let rows = w.f_unsqueeze(-1)?.f_flatten(2, -1)?.f_transpose(1, 2)?; // [o, h·w, i]
        let (inputs, rank) = a1.size2()?;
        // The smaller product comes first, so that no factor grows far beyond the weight.
        let mixed = match rank <= inputs {
            true => rows.f_matmul(&a1)?.f_matmul(&a2)?,
            false => rows.f_matmul(&a1.f_matmul(&a2)?)?,
        };
        let mixed = mixed.f_transpose(1, 2)?.f_reshape(w.size())?;
        Ok(mixed.f_add(&self.product().compute(w.device())?.f_reshape(w.size())?)?)
    }
}
