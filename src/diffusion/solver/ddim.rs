//! DDIM and DDPM, which are forms of Euler's method in sigma space.

use super::{EulerAncestral, Eval, Solver};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DDIM: [`EulerAncestral`] with the same η; 0 is usual.
///
/// Source: Song et al. (2021), equations 12 and 16; diffusers' `DDIMScheduler`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ddim {
    /// Strength of the fresh noise, 0..=1; 1 equals [`Ddpm`].
    pub eta: f64,
}

impl Solver for Ddim {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(Error::parameter("eta", self.eta, "0 (no fresh noise) to 1 (DDPM)"));
        }
        EulerAncestral { eta: self.eta, ..EulerAncestral::default() }.step(step, x, eval)
    }

    fn name(&self) -> &'static str {
        "Ddim"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Ddim", self)
    }
}

/// DDPM over any number of steps: the posterior of the forward process, which is [`EulerAncestral`] with η = 1.
///
/// Source: Ho et al. (2020), equations 6 and 7; diffusers' `DDPMScheduler`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ddpm {
    /// Variance of the fresh noise.
    pub variance: Variance,
}

/// The variance of a DDPM step (Ho et al., section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Variance {
    /// The variance of the posterior (`fixed_small`).
    #[default]
    Small,
    /// The variance of the forward step (`fixed_large`): too much noise except with very many steps. Every step adds
    /// noise, except a step from timestep 0.
    Large,
}

impl Ddpm {
    /// Creates DDPM with the settings of `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        let variance = match config.variance_type.as_deref() {
            None | Some("fixed_small") => Variance::Small,
            Some("fixed_large") => Variance::Large,
            Some(other) => return Err(refuse("variance_type", other, "expected fixed_small or fixed_large")),
        };
        Ok(Box::new(Self { variance }))
    }
}

impl Solver for Ddpm {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let mut transition = EulerAncestral::default().step(step, x, eval)?;
        if self.variance == Variance::Large {
            // std² = (from² − to²)(1 + to²)/(1 + from²)
            let (from, to) = (step.from * step.from, step.to * step.to);
            let variance = (from - to).max(0.0) * (1.0 + to) / (1.0 + from);
            transition.std = if step.timestep > 0.0 { variance.sqrt() } else { 0.0 };
        }
        Ok(transition)
    }

    fn name(&self) -> &'static str {
        "Ddpm"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Ddpm", self)
    }
}
