//! [`Ia3`]: a factor for each input or output of a layer.

use super::product::float;
use crate::error::Result;
use tch::Tensor;

/// A change ΔW = W ∘ w, where w is a factor for each row of W, or for each column.
///
/// Source: Liu et al. (2022), "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
/// Learning"; LyCORIS.
#[derive(Debug)]
pub(super) struct Ia3 {
    pub scale: Tensor,
    /// True if the factors are those of the inputs, which are the columns.
    pub on_input: bool,
}

impl Ia3 {
    /// Returns the number of inputs, if the factors are those of the inputs.
    pub(super) fn inputs(&self) -> Option<i64> {
        self.on_input.then(|| self.scale.numel() as i64)
    }

    /// Returns true if a weight has as many inputs or outputs as there are factors.
    pub(super) fn fits(&self, weight: &[i64]) -> bool {
        let (size, side) = (self.scale.size(), weight.get(usize::from(self.on_input)));
        // The factors of a convolution are stored as [1, n, 1, 1].
        let count = self.scale.numel() as i64;
        side == Some(&count) && size.iter().all(|&size| size == count || size == 1)
    }

    /// Computes the change of a weight that [fits](Self::fits).
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the weight has another width.
    pub(super) fn compute(&self, w: &Tensor) -> Result<Tensor> {
        let mut shape = vec![1; w.dim()];
        if let Some(side) = shape.get_mut(usize::from(self.on_input)) {
            *side = -1;
        }
        Ok(w.f_mul(&float(&self.scale, w.device())?.f_reshape(shape)?)?)
    }
}
