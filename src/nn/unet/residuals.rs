//! [`Residuals`]: what is added to a UNet between its way down and its way up.

use crate::error::{Error, Result};
use tch::Tensor;

/// What ControlNets add to a UNet: a tensor for everything that the way down keeps, and one for the smallest grid.
#[derive(Debug)]
pub struct Residuals {
    /// In the order of the way down, [b, channels, h, w] each; [b, channels, 1, 1] where a network pools them.
    pub skips: Vec<Tensor>,
    /// For the smallest grid, likewise.
    pub mid: Tensor,
}

impl Residuals {
    /// Each one changed. `change` is told its number; the smallest grid's comes last.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn map(&self, mut change: impl FnMut(usize, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let skips = self.skips.iter().enumerate().map(|(i, skip)| change(i, skip)).collect::<Result<_>>()?;
        Ok(Self { skips, mid: change(self.skips.len(), &self.mid)? })
    }

    /// Each one plus that of another network.
    ///
    /// # Errors
    /// [`Error::Parameter`] if they are not as many, [`Error::Torch`] if their shapes differ.
    pub(crate) fn plus(&self, other: &Self) -> Result<Self> {
        let (x, skips) = other.onto(&self.mid, &self.skips)?;
        Ok(Self { skips, mid: x })
    }

    /// AddedConditions to what a way down ended with and kept. Nothing is added in place: what is kept may be used elsewhere.
    pub(super) fn onto(&self, x: &Tensor, skips: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        if self.skips.len() != skips.len() {
            let expected = format!("{}, one for everything that the network keeps on its way down", skips.len());
            return Err(Error::parameter("number of residuals", self.skips.len(), expected));
        }
        let add = |x: &Tensor, residual: &Tensor| -> Result<Tensor> {
            Ok(x.f_add(&residual.f_to_device(x.device())?.f_to_kind(x.kind())?)?)
        };
        let skips = skips.iter().zip(&self.skips).map(|(skip, residual)| add(skip, residual)).collect::<Result<_>>()?;
        Ok((add(x, &self.mid)?, skips))
    }
}
