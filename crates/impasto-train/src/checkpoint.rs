//! Checkpoints: everything that a training run needs to continue, in one file.

use super::{Optimizer, Parameters};
use impasto::weights::{Tensors, read_safetensors, write_safetensors};
use impasto::{Error, Result};
use std::path::Path;
use tch::{Kind, Tensor};

/// The state of a training run after some steps.
#[derive(Debug)]
pub struct Checkpoint {
    /// Number of training steps done.
    pub step: u64,
    /// Weights of the network.
    pub weights: Tensors,
    /// Exponential moving average of the weights, for use after the training run.
    pub ema: Tensors,
    /// State of the optimizer.
    pub optimizer: Tensors,
}

impl Checkpoint {
    /// Returns the state of a training run in progress. Its tensors share memory with the run.
    pub fn of(step: u64, parameters: &Parameters, ema: &Tensors, optimizer: &Optimizer) -> Self {
        let weights = parameters.tensors().iter().map(|(name, x)| (name.clone(), x.detach())).collect();
        let ema = ema.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        Self { step, weights, ema, optimizer: optimizer.state() }
    }

    /// Writes the checkpoint completely or not at all.
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

    /// Reads a checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Malformed`] if the file is no checkpoint.
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
        let missing = || Error::Malformed {
            file: path.display().to_string(),
            problem: "the checkpoint has no number of steps".into(),
        };
        Ok(Self { step: step.ok_or_else(missing)?, weights, ema, optimizer })
    }
}

/// Converts tensors to half precision, the precision of shared checkpoints.
///
/// # Errors
/// [`Error::Torch`] only.
pub fn halved(tensors: &Tensors) -> Result<Tensors> {
    tensors.iter().map(|(name, x)| Ok((name.clone(), x.f_to_kind(Kind::Half)?))).collect()
}
