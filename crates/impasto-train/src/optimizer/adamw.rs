//! AdamW (Loshchilov & Hutter 2019).

use impasto::Result;
use impasto::weights::Tensors;
use tch::{Kind, Tensor};

/// The AdamW optimizer. Its steps have the size of the learning rate: the mean gradient is divided by its spread.
#[derive(Debug)]
pub struct AdamW {
    /// Learning rate, about 1e-3.
    pub rate: f64,
    /// Decay rates of the running means of gradients and of their squares.
    pub betas: (f64, f64),
    /// Share of the learning rate by which weights shrink.
    pub decay: f64,
    means: Tensors,
    squares: Tensors,
}

impl AdamW {
    /// Creates an optimizer with the betas (0.9, 0.99), which suit short training runs.
    pub fn new(rate: f64, decay: f64) -> Self {
        Self { rate, betas: (0.9, 0.99), decay, means: Tensors::new(), squares: Tensors::new() }
    }

    pub(super) fn remember(&mut self, name: &str, x: &Tensor) -> Result<()> {
        for memory in [&mut self.means, &mut self.squares] {
            memory.insert(name.into(), Tensor::f_zeros(x.size(), (Kind::Float, x.device()))?);
        }
        Ok(())
    }

    pub(super) fn step(&mut self, moved: Vec<(&str, Tensor, &Tensor)>, step: u64, rate: f64) -> Result<()> {
        let (rate, count) = (self.rate * rate, step as f64 + 1.0);
        let (slow, slower) = self.betas;
        // Both means start at zero; these factors correct the bias.
        let (short, shorter) = (1.0 - slow.powf(count), 1.0 - slower.powf(count));
        for (name, mut x, gradient) in moved {
            let (Some(mean), Some(square)) = (self.means.get_mut(name), self.squares.get_mut(name)) else { continue };
            let _ = mean.f_lerp_(gradient, 1.0 - slow)?;
            let _ = square.f_lerp_(&gradient.f_square()?, 1.0 - slower)?;
            let spread = square.f_div_scalar(shorter)?.f_sqrt()?.f_add_scalar(1e-8)?;
            let _ = x.f_mul_scalar_(1.0 - rate * self.decay)?;
            let _ = x.f_sub_(&mean.f_div(&spread)?.f_mul_scalar(rate / short)?)?;
        }
        Ok(())
    }

    pub(super) fn state(&self) -> impl Iterator<Item = (String, Tensor)> {
        let named = |kind: &'static str, memory: &Tensors| -> Vec<_> {
            memory.iter().map(|(name, x)| (format!("adamw.{kind}.{name}"), x.shallow_clone())).collect()
        };
        named("mean", &self.means).into_iter().chain(named("square", &self.squares))
    }
}
