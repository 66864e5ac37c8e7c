//! [`Weight`]: a matrix or kernel of a layer.

use super::kernel_layout::of_layer;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A matrix or kernel of a layer: a tensor in the kind in which the network computes, or an offloaded tensor.
///
/// An offloaded tensor stays as its file stores it. Each use converts a copy, which is dropped after the use.
#[derive(Debug)]
pub(crate) struct Weight {
    stored: Tensor,
    /// Kind and device in which the network computes, if the tensor is offloaded and each use converts it: to them, or
    /// to the layout of the kernels.
    computes: Option<(Kind, Device)>,
}

impl Weight {
    /// Creates a weight that stays in memory as `tensor`.
    pub(crate) const fn held(tensor: Tensor) -> Self {
        Self { stored: tensor, computes: None }
    }

    /// Creates a weight that is converted to `kind`, moved to `device` and arranged for the kernels at each use.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) for a kind that `tch` does not know.
    pub(crate) fn offload(stored: Tensor, kind: Kind, device: Device) -> Result<Self> {
        let arranged = device == Device::Cpu && impasto_kernels::arranges(kind);
        let same = stored.f_kind()? == kind && stored.device() == device && !arranged;
        Ok(Self { stored, computes: (!same).then_some((kind, device)) })
    }

    /// Returns true if each use converts the weight.
    pub(crate) const fn is_offloaded(&self) -> bool {
        self.computes.is_some()
    }

    /// Returns the weight for one use: a shallow clone, or the converted copy of an offloaded weight.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only, such as out of memory.
    pub(crate) fn get(&self) -> Result<Tensor> {
        match self.computes {
            Some((kind, device)) => of_layer(&self.stored, kind, device),
            None => Ok(self.stored.shallow_clone()),
        }
    }

    /// Returns the lengths of the weight's axes.
    pub(crate) fn size(&self) -> Vec<i64> {
        self.stored.size()
    }

    /// Returns true if the weight is in training.
    pub(crate) fn requires_grad(&self) -> bool {
        self.stored.requires_grad()
    }

    /// Returns a weight of a view of this tensor, such as some of its rows.
    ///
    /// # Errors
    /// The errors of `view`.
    pub(crate) fn view(&self, view: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { stored: view(&self.stored)?, computes: self.computes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloaded_weight_converts_each_use() -> Result<()> {
        let stored = Tensor::randn([6, 4], (Kind::Float, Device::Cpu)).to_kind(Kind::Half);
        let weight = Weight::offload(stored.shallow_clone(), Kind::Float, Device::Cpu)?;
        assert!(weight.is_offloaded());
        assert_eq!((weight.get()?.kind(), weight.get()?), (Kind::Float, stored.to_kind(Kind::Float)));
        let rows = weight.view(|x| Ok(x.f_narrow(0, 2, 3)?))?;
        assert_eq!((rows.size(), rows.get()?), (vec![3, 4], stored.narrow(0, 2, 3).to_kind(Kind::Float)));
        assert_eq!(rows.view(|x| Ok(x.shallow_clone()))?.get()?.kind(), Kind::Float);
        Ok(())
    }

    #[test]
    fn weight_of_the_networks_kind_is_not_copied() -> Result<()> {
        let stored = Tensor::ones([6, 4], (Kind::Half, Device::Cpu));
        let weight = Weight::offload(stored.shallow_clone(), Kind::Half, Device::Cpu)?;
        assert!(!weight.is_offloaded());
        assert_eq!(weight.get()?.data_ptr(), stored.data_ptr());
        Ok(())
    }
}
