//! The weights of a network in training.

use crate::error::Result;
use crate::weights::{Tensors, Weights};
use tch::{Device, Kind, Tensor};

/// Named f32 tensors that gradients arrive at. A network is made of [`Parameters::weights`] anew at every step; that is cheap
/// (no value is copied but for a change of kind), and gradients find their way back through the change.
#[derive(Debug)]
pub struct Parameters {
    tensors: Tensors,
    device: Device,
}

impl Parameters {
    /// Leaves of the autograd graph over copies of `tensors`, in f32.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only, such as out of memory.
    pub fn new(tensors: &Tensors, device: Device) -> Result<Self> {
        let leaf = |x: &Tensor| -> Result<Tensor> {
            let mut copy = Tensor::f_zeros(x.size(), (Kind::Float, device))?;
            copy.f_copy_(&x.f_detach()?)?;
            Ok(copy.f_set_requires_grad(true)?)
        };
        let tensors = tensors.iter().map(|(name, x)| Ok((name.clone(), leaf(x)?))).collect::<Result<_>>()?;
        Ok(Self { tensors, device })
    }

    /// The weights that `build` asks random weights for, such as a network's constructor.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn random<T>(seed: u64, build: impl FnOnce(&Weights) -> Result<T>) -> Result<Tensors> {
        let weights = Weights::random(seed, Kind::Float, Device::Cpu);
        build(&weights)?;
        weights.drawn()
    }

    /// The same memory as other leaves: gradients of their own, for a worker of its own.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only.
    pub fn share(&self) -> Result<Self> {
        let leaf = |x: &Tensor| -> Result<Tensor> { Ok(x.f_detach()?.f_set_requires_grad(true)?) };
        let tensors = self.tensors.iter().map(|(name, x)| Ok((name.clone(), leaf(x)?))).collect::<Result<_>>()?;
        Ok(Self { tensors, device: self.device })
    }

    /// What networks are made of, in `kind`; `prefix` picks one network of several, `unet` of `unet.conv_in.weight`.
    pub fn weights(&self, prefix: &str, kind: Kind) -> Weights {
        let copies = self.tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        let weights = Weights::new("the parameters in training", copies, kind, self.device);
        if prefix.is_empty() { weights } else { weights.at(prefix) }
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The gradients of the scalar `loss`, in the order of the names: zeros where none arrive. The graph behind `loss` is used up.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only.
    pub fn gradients(&self, loss: &Tensor) -> Result<Vec<Tensor>> {
        let leaves: Vec<&Tensor> = self.tensors.values().collect();
        let gradients = Tensor::f_run_backward(&[loss], &leaves, false, false)?;
        let defined = |(gradient, leaf): (Tensor, &&Tensor)| match gradient.defined() {
            true => Ok(gradient),
            false => Ok(leaf.f_zeros_like()?.f_detach()?),
        };
        gradients.into_iter().zip(&leaves).map(defined).collect()
    }
}
