//! DPM++ 2S ancestral.

use super::{Eval, Solver, ancestral, check_noise, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DPM++ 2S a: half a step in ln σ, then the whole step toward the clean picture predicted at the middle, then fresh
/// noise. Two model calls per step, and one in a step that ends at 0. Second order for `eta` = 0, otherwise first
/// order.
///
/// A pull on the mean acts once per step, at the end of the whole step.
///
/// Source: Lu et al. (2022), "DPM-Solver++", algorithm 1; k-diffusion's `sample_dpmpp_2s_ancestral`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dpmpp2SAncestral {
    /// Strength of the fresh noise, 0 or more; 1 is usual.
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
}

impl Default for Dpmpp2SAncestral {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0 }
    }
}

impl Solver for Dpmpp2SAncestral {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        check_noise(self.eta, self.s_noise)?;
        let from = step.from;
        let x0 = eval.x0(x, from)?;
        let (down, up) = ancestral(step, self.eta);
        let mean = if down > 0.0 {
            let middle = (from * down).sqrt();
            let there = eval.x0_between(&euler_step(x, &x0, from, middle)?, middle)?;
            euler_step(x, &there, from, down)?
        } else {
            euler_step(x, &x0, from, down)?
        };
        Ok(Transition::new(mean, self.s_noise * up, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Dpmpp2SAncestral"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Dpmpp2SAncestral", self)
    }
}
