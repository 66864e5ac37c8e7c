//! DPM-Solver-2, without and with fresh noise.

use super::axis::Axis;
use super::{Eval, Solver, ancestral, check_noise, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DPM-Solver-2: half a step in ln σ, then the whole step with the slope at the middle. The solver is of second order.
/// A step calls the model twice, or once if the step ends at 0. An `eta` above 0 gives DPM2 a, which adds fresh noise
/// and is of first order.
///
/// A pull on the mean acts once per step, at the end of the whole step.
///
/// Source: Lu et al. (2022), "DPM-Solver"; Karras et al. (2022); k-diffusion's `sample_dpm_2` and
/// `sample_dpm_2_ancestral`; diffusers' `KDPM2DiscreteScheduler` and `KDPM2AncestralDiscreteScheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dpm2 {
    /// Strength of the fresh noise, 0 (DPM2) or more; 1 is DPM2 a.
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
}

impl Default for Dpm2 {
    fn default() -> Self {
        Self { eta: 0.0, s_noise: 1.0 }
    }
}

impl Solver for Dpm2 {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        check_noise(self.eta, self.s_noise)?;
        let from = step.from;
        let x0 = eval.x0(x, from)?;
        let (down, up) = ancestral(step, self.eta);
        let mut mean = euler_step(x, &x0, from, down)?;
        if down > 0.0 {
            // x + (down − from)·(y − x0(y))/m, y = the end of Euler's step to m = √(from·down)
            let axis = Axis::of(step);
            let (begin, end) = (axis.place(from), axis.place(down));
            let middle = axis.level((begin * end).sqrt());
            let y = euler_step(x, &x0, from, middle)?;
            let slope = axis.slope(&y, &eval.x0_between(&y, middle)?, middle)?;
            mean = axis.latent(axis.coordinates(x, from)?.f_add(&slope.f_mul_scalar(end - begin)?)?, down)?;
        }
        Ok(Transition::new(mean, self.s_noise * up, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        if self.eta > 0.0 { "Dpm2Ancestral" } else { "Dpm2" }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Dpm2", self)
    }
}
