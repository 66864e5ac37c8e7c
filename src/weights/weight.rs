//! [`Weight`]: a matrix or kernel of a layer.

use super::beside::Factors;
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
    /// Changes that the layer computes beside the weight, each with the index of its LoRA.
    beside: Box<[(usize, Factors)]>,
}

impl Weight {
    /// Creates a weight that stays in memory as `tensor`.
    pub(crate) fn held(tensor: Tensor) -> Self {
        Self { stored: tensor, computes: None, beside: Box::default() }
    }

    /// Creates a weight that is converted to `kind`, moved to `device` and arranged for the kernels at each use.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) for a kind that `tch` does not know.
    pub(crate) fn offload(stored: Tensor, kind: Kind, device: Device) -> Result<Self> {
        let arranged = device == Device::Cpu && impasto_kernels::arranges(kind);
        let same = stored.f_kind()? == kind && stored.device() == device && !arranged;
        Ok(Self { stored, computes: (!same).then_some((kind, device)), beside: Box::default() })
    }

    /// Returns the weight with changes beside it, each with the index of its LoRA.
    pub(super) fn beside(self, beside: Box<[(usize, Factors)]>) -> Self {
        Self { beside, ..self }
    }

    /// Returns the changes beside the weight, each with the index of its LoRA.
    pub(crate) fn loras(&self) -> &[(usize, Factors)] {
        &self.beside
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

    /// Returns the weight of some outputs of the layer, as a view.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) if the weight has fewer outputs.
    pub(crate) fn outputs(&self, start: i64, length: i64) -> Result<Self> {
        let stored = self.stored.f_narrow(0, start, length)?;
        let beside = self.each(|factors| factors.outputs(start, length))?;
        Ok(Self { stored, computes: self.computes, beside })
    }

    /// Returns the weight for some inputs of the layer, ready for use.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub(crate) fn inputs(&self, start: i64, length: i64) -> Result<Self> {
        let beside = self.each(|factors| factors.inputs(start, length))?;
        Ok(Self { stored: self.get()?.f_narrow(1, start, length)?, computes: None, beside })
    }

    /// Returns the weight of a 1×1 convolution, [outputs, inputs, 1, 1], as that of a linear layer.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) for a weight of another shape.
    pub(crate) fn matrix(&self) -> Result<Self> {
        let stored = self.stored.f_squeeze_dim(3)?.f_squeeze_dim(2)?;
        Ok(Self { stored, computes: self.computes, beside: self.each(Factors::matrix)? })
    }

    /// Returns the changes beside the weight, each changed by `view`.
    fn each(&self, view: impl Fn(&Factors) -> Result<Factors>) -> Result<Box<[(usize, Factors)]>> {
        self.beside.iter().map(|(lora, factors)| Ok((*lora, view(factors)?))).collect()
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
        let rows = weight.outputs(2, 3)?;
        assert_eq!((rows.size(), rows.get()?), (vec![3, 4], stored.narrow(0, 2, 3).to_kind(Kind::Float)));
        assert_eq!(rows.outputs(0, 1)?.get()?.kind(), Kind::Float);
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
