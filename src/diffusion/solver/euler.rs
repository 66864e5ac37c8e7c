//! Euler's method, without and with fresh noise.

use super::{Eval, Solver, ancestral, check_noise, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Euler's method: one model call and a straight line per step, equal to DDIM without fresh noise.
///
/// Source: Karras et al. (2022), algorithm 2 without churn; k-diffusion's `sample_euler`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Euler;

impl Solver for Euler {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        EulerAncestral { eta: 0.0, ..EulerAncestral::default() }.step(step, x, eval)
    }

    fn name(&self) -> &'static str {
        "Euler"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Euler", self)
    }
}

/// Euler's method, but every step removes more noise than needed and then adds fresh noise.
///
/// `eta` = 1 equals DDPM, 0 equals [`Euler`], and values between 0 and 1 equal DDIM with the same η. For a flow, the
/// noise is split as in ComfyUI.
///
/// Source: k-diffusion's `sample_euler_ancestral`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EulerAncestral {
    /// Strength of the fresh noise, 0 or more; 1 is usual. Above 1, the fresh noise is capped at the noise level of the
    /// step's end.
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount, slightly more gives more detail.
    pub s_noise: f64,
}

impl Default for EulerAncestral {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0 }
    }
}

impl Solver for EulerAncestral {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        check_noise(self.eta, self.s_noise)?;
        let x0 = eval.x0(x, step.from)?;
        let (down, up) = ancestral(step, self.eta);
        Ok(Transition::new(euler_step(x, &x0, step.from, down)?, self.s_noise * up, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "EulerAncestral"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("EulerAncestral", self)
    }
}
