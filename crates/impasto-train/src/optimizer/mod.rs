//! Optimizers: Muon for matrices and kernels, AdamW for the rest.

mod adamw;
mod muon;

pub use adamw::AdamW;
pub use muon::Muon;

use crate::Parameters;
use impasto::Result;
use impasto::weights::Tensors;
use std::collections::BTreeMap;
use tch::Tensor;

/// The optimizer that moves a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// [`Muon`]: inner matrices and convolution kernels.
    Muon,
    /// [`AdamW`]: biases, norms, embeddings, first and last layers.
    AdamW,
    /// No optimizer: the tensor stays unchanged.
    Frozen,
}

impl Rule {
    /// Returns Muon for tensors of two or more axes, AdamW for vectors.
    pub fn of_shape(shape: &[i64]) -> Self {
        if shape.len() >= 2 { Self::Muon } else { Self::AdamW }
    }
}

/// Both optimizers and their state, by the parameters' names.
#[derive(Debug)]
pub struct Optimizer {
    muon: Muon,
    adamw: AdamW,
    rules: BTreeMap<String, Rule>,
}

impl Optimizer {
    /// Creates an optimizer without state.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) only, such as out of memory.
    pub fn new(muon: Muon, adamw: AdamW, parameters: &Parameters, rule: impl Fn(&str, &[i64]) -> Rule) -> Result<Self> {
        let mut optimizer = Self { muon, adamw, rules: BTreeMap::new() };
        for (name, x) in parameters.tensors() {
            let rule = rule(name, &x.size());
            match rule {
                Rule::Muon => optimizer.muon.remember(name, x)?,
                Rule::AdamW => optimizer.adamw.remember(name, x)?,
                Rule::Frozen => {}
            }
            optimizer.rules.insert(name.clone(), rule);
        }
        Ok(optimizer)
    }

    /// Moves the parameters in place against `gradients`, which have the order of the parameters' names. `rate` scales
    /// both learning rates; `step` counts from 0.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) only.
    pub fn step(&mut self, parameters: &Parameters, gradients: &[Tensor], step: u64, rate: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let (mut matrices, mut others) = (Vec::new(), Vec::new());
        for ((name, x), gradient) in parameters.tensors().iter().zip(gradients) {
            match self.rules.get(name) {
                Some(Rule::Muon) => matrices.push((name.as_str(), x.shallow_clone(), gradient)),
                Some(Rule::AdamW) => others.push((name.as_str(), x.shallow_clone(), gradient)),
                _ => {}
            }
        }
        self.muon.step(matrices, rate)?;
        self.adamw.step(others, step, rate)
    }

    /// Returns the state by name, for a checkpoint. Its tensors share memory with the optimizer.
    pub fn state(&self) -> Tensors {
        self.muon.state().chain(self.adamw.state()).collect()
    }

    /// Restores the state that [`Optimizer::state`] returned. Tensors that `state` lacks stay zero.
    ///
    /// # Errors
    /// [`Error::Torch`](impasto::Error::Torch) if a shape differs.
    pub fn restore(&mut self, state: &Tensors) -> Result<()> {
        for (name, mut mine) in self.state() {
            if let Some(saved) = state.get(&name) {
                mine.f_copy_(saved)?;
            }
        }
        Ok(())
    }
}

/// Scales gradients down together so that their joint norm is at most `limit`, and returns their norm before the
/// scaling.
///
/// # Errors
/// [`Error::Torch`](impasto::Error::Torch) only.
pub fn clip(gradients: &mut [Tensor], limit: f64) -> Result<f64> {
    let norms = gradients.iter().map(|x| Ok(x.f_norm()?)).collect::<Result<Vec<_>>>()?;
    let norm = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
    if norm > limit {
        for gradient in gradients {
            let _ = gradient.f_mul_scalar_(limit / norm)?;
        }
    }
    Ok(norm)
}
