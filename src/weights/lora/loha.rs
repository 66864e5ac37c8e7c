//! [`LoHa`]: the elementwise product of two products of small matrices.

use super::product::{Product, unflatten};
use crate::error::Result;
use tch::{Device, Tensor};

/// A change ΔW = (w1_a · w1_b) ∘ (w2_a · w2_b). Both products may be in Tucker form.
///
/// Source: Hyeon-Woo, Ye-Bin and Oh (2022), "FedPara"; LyCORIS.
#[derive(Debug)]
pub(super) struct LoHa {
    pub first: Product,
    pub second: Product,
}

impl LoHa {
    /// Returns the shape of the change of a weight; `None` if the tensors do not fit together.
    pub(super) fn shape(&self, weight: &[i64]) -> Option<Vec<i64>> {
        let (first, second) = (self.first.shape()?, self.second.shape()?);
        (first == second).then(|| unflatten(first, weight))
    }

    /// Computes the change.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the tensors do not fit together.
    pub(super) fn compute(&self, device: Device) -> Result<Tensor> {
        Ok(self.first.compute(device)?.f_mul(&self.second.compute(device)?)?)
    }
}
