//! [`Residuals`]: tensors that ControlNets add to the skip connections of a UNet.

use crate::error::{Error, Result};
use tch::Tensor;

/// Tensors that ControlNets add to a UNet: one for each skip connection, and one for the smallest grid.
#[derive(Debug)]
#[non_exhaustive]
pub struct Residuals {
    /// Residuals of the skip connections, in the order of the contracting half, [b, channels, h, w] each, or [b,
    /// channels, 1, 1] if a network pools the residuals.
    pub skips: Vec<Tensor>,
    /// Residual of the smallest grid, [b, channels, h, w], or [b, channels, 1, 1] if a network pools the residuals.
    pub mid: Tensor,
}

impl Residuals {
    /// Applies `change` to each residual. `change` also receives the index of the residual; the smallest grid comes
    /// last.
    ///
    /// # Errors
    /// The errors of `change`.
    pub fn map(&self, mut change: impl FnMut(usize, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let skips = self.skips.iter().enumerate().map(|(i, skip)| change(i, skip)).collect::<Result<_>>()?;
        Ok(Self { skips, mid: change(self.skips.len(), &self.mid)? })
    }

    /// Returns a second handle on the same tensors.
    pub(crate) fn share(&self) -> Result<Self> {
        self.map(|_, residual| Ok(residual.shallow_clone()))
    }

    /// Adds the residuals of another network.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the numbers of residuals differ, [`Error::Torch`] if their shapes do.
    pub(crate) fn plus(&self, other: &Self) -> Result<Self> {
        let (x, skips) = other.onto(&self.mid, &self.skips)?;
        Ok(Self { skips, mid: x })
    }

    /// Adds the residuals to `x`, the result of the contracting half, and to its skip connections `skips`. Nothing is
    /// added in place, because other code may use the same tensors.
    pub(super) fn onto(&self, x: &Tensor, skips: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        if self.skips.len() != skips.len() {
            let expected = format!("{}, one for each skip connection", skips.len());
            return Err(Error::parameter("number of residuals", self.skips.len(), expected));
        }
        Ok((add(x, &self.mid)?, self.onto_first(skips)?))
    }

    /// Adds the first residuals to the first skip connections.
    pub(super) fn onto_first(&self, skips: &[Tensor]) -> Result<Vec<Tensor>> {
        skips.iter().zip(&self.skips).map(|(skip, residual)| add(skip, residual)).collect()
    }
}

/// Adds a residual to a tensor of a network.
fn add(x: &Tensor, residual: &Tensor) -> Result<Tensor> {
    Ok(x.f_add(&residual.f_to_device(x.device())?.f_to_kind(x.kind())?)?)
}
