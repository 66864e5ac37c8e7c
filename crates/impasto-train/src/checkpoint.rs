//! Everything a training needs to go on, in one file.

use super::{Optimizer, Parameters};
use impasto::weights::{Tensors, read_safetensors, write_safetensors};
use impasto::{Error, Result};
use std::path::Path;
use tch::{Kind, Tensor};

/// Where a training stands after some steps.
#[derive(Debug)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// The weights.
    pub weights: Tensors,
    /// Their running mean, which is what one uses.
    pub ema: Tensors,
    /// What the optimizer remembers.
    pub optimizer: Tensors,
}

impl Checkpoint {
    /// A view of a training that runs.
    pub fn of(step: u64, parameters: &Parameters, ema: &Tensors, optimizer: &Optimizer) -> Self {
        let weights = parameters.tensors().iter().map(|(name, x)| (name.clone(), x.detach())).collect();
        let ema = ema.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        Self { step, weights, ema, optimizer: optimizer.state() }
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Torch`] if the tensors cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let groups = [("weights", &self.weights), ("ema", &self.ema), ("optimizer", &self.optimizer)];
        let named = groups.into_iter().flat_map(|(group, tensors)| {
            tensors.iter().map(move |(name, x)| (format!("{group}/{name}"), x.shallow_clone()))
        });
        let step = Tensor::f_from_slice(&[self.step as i64])?;
        write_safetensors(&named.chain([("step".into(), step)]).collect(), path)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] if it is no such file.
    pub fn load(path: &Path) -> Result<Self> {
        let (mut weights, mut ema, mut optimizer, mut step) = (Tensors::new(), Tensors::new(), Tensors::new(), None);
        for (name, x) in read_safetensors(path)? {
            let (group, name) = match name.split_once('/') {
                Some(("weights", name)) => (&mut weights, name),
                Some(("ema", name)) => (&mut ema, name),
                Some(("optimizer", name)) => (&mut optimizer, name),
                _ => {
                    step = Some(x.f_int64_value(&[0])? as u64);
                    continue;
                }
            };
            group.insert(name.into(), x);
        }
        let missing = || Error::Malformed { file: path.display().to_string(), problem: "it names no step".into() };
        Ok(Self { step: step.ok_or_else(missing)?, weights, ema, optimizer })
    }
}

/// Tensors in half precision, as checkpoints are shared.
///
/// # Errors
/// [`Error::Torch`] only.
pub fn halved(tensors: &Tensors) -> Result<Tensors> {
    tensors.iter().map(|(name, x)| Ok((name.clone(), x.f_to_kind(Kind::Half)?))).collect()
}
