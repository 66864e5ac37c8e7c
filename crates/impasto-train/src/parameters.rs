//! The weights of a network in training.

use impasto::weights::{Tensors, Weights};
use impasto::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Named f32 tensors that receive gradients.
///
/// A network is built anew from [`Parameters::weights`] at every training step. This is cheap, because values are
/// copied only for a change of kind. Gradients flow back through the change.
#[derive(Debug)]
pub struct Parameters {
    tensors: Tensors,
    device: Device,
}

impl Parameters {
    /// Creates leaves of the autograd graph over copies of `tensors`, in f32.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) only, such as out of memory.
    pub fn new(tensors: &Tensors, device: Device) -> Result<Self> {
        let leaf = |x: &Tensor| -> Result<Tensor> {
            let mut copy = Tensor::f_zeros(x.size(), (Kind::Float, device))?;
            copy.f_copy_(&x.f_detach()?)?;
            Ok(copy.f_set_requires_grad(true)?)
        };
        let tensors = tensors.iter().map(|(name, x)| Ok((name.clone(), leaf(x)?))).collect::<Result<_>>()?;
        Ok(Self { tensors, device })
    }

    /// Returns the random weights that `build` asks for; `build` is a network's constructor, for example.
    ///
    /// # Errors
    /// The errors of `build`.
    pub fn random<T>(seed: u64, build: impl FnOnce(&Weights) -> Result<T>) -> Result<Tensors> {
        let weights = Weights::random(seed, Kind::Float, Device::Cpu);
        build(&weights)?;
        weights.drawn()
    }

    /// Returns other leaves over the same memory, so that a worker has gradients of its own.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) only.
    pub fn share(&self) -> Result<Self> {
        let leaf = |x: &Tensor| -> Result<Tensor> { Ok(x.f_detach()?.f_set_requires_grad(true)?) };
        let tensors = self.tensors.iter().map(|(name, x)| Ok((name.clone(), leaf(x)?))).collect::<Result<_>>()?;
        Ok(Self { tensors, device: self.device })
    }

    /// Returns the weights to build networks from, in `kind`. `prefix` picks one network of several, such as `unet` for
    /// `unet.conv_in.weight`.
    pub fn weights(&self, prefix: &str, kind: Kind) -> Weights {
        let copies = self.tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        let weights = Weights::new("the parameters in training", copies, kind, self.device);
        if prefix.is_empty() { weights } else { weights.at(prefix) }
    }

    /// Returns the tensors by name.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Returns the gradients of the scalar `loss`, in the order of the names; tensors that no gradient reaches have
    /// zeros. The graph behind `loss` is used up.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) only.
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

/// Returns the mean of the weights of runs that began alike, in f32. The mean is often better than each run (Wortsman
/// et al. 2022, "model soups").
///
/// # Errors
/// [`Error::Parameter`] for no run, and for a tensor that a run lacks or has in another shape.
pub fn averaged(runs: &[Tensors]) -> Result<Tensors> {
    let (first, others) = runs.split_first().ok_or_else(|| Error::parameter("runs", "none", "at least one run"))?;
    let names = others.iter().flat_map(|run| run.keys()).chain(first.keys());
    let unlike =
        |name: &str| Error::parameter("a tensor to average", name, "a tensor that every run has in the same shape");
    let mut mean = Tensors::new();
    for name in names {
        if mean.contains_key(name) {
            continue;
        }
        let each = runs.iter().map(|run| run.get(name)).collect::<Option<Vec<_>>>().ok_or_else(|| unlike(name))?;
        if each.iter().any(|x| each.first().is_some_and(|first| first.size() != x.size())) {
            return Err(unlike(name));
        }
        let each = each.iter().map(|x| x.f_to_kind(Kind::Float)).collect::<std::result::Result<Vec<_>, _>>()?;
        mean.insert(name.clone(), Tensor::f_stack(&each, 0)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?);
    }
    Ok(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_averaged_if_they_have_the_same_tensors() {
        let run = |x: &[f32]| Tensors::from([("w".to_owned(), Tensor::from_slice(x))]);
        let mean = averaged(&[run(&[1.0, 2.0]), run(&[3.0, -2.0])]).unwrap();
        assert_eq!(mean["w"], Tensor::from_slice(&[2.0f32, 0.0]));
        let message = averaged(&[run(&[1.0, 2.0]), run(&[3.0])]).unwrap_err().to_string();
        assert!(message.contains("a tensor to average is w; expected a tensor that every run has"), "{message}");
        assert!(averaged(&[run(&[1.0]), Tensors::new()]).is_err() && averaged(&[]).is_err());
    }
}
