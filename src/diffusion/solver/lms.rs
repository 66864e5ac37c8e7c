//! LMS: linear multistep.

use super::axis::Axis;
use super::history::{History, lagrange};
use super::{Eval, Solver};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// LMS: lays a polynomial in σ through the slopes (x − x0)/σ of the last steps, and integrates the polynomial over the
/// next step. For a flow, the polynomial is in the time, through the velocities. One model call per step.
///
/// Source: k-diffusion's `sample_lms`; diffusers' `LMSDiscreteScheduler`. Both integrate numerically; this solver
/// integrates exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lms {
    /// Number of slopes that a step uses, 1..=4; 4 is usual, 1 is Euler's method.
    pub order: usize,
    /// Memory of a run: (noise level, slope) of earlier steps.
    #[serde(skip)]
    pub history: History,
}

impl Default for Lms {
    fn default() -> Self {
        Self { order: 4, history: History::new() }
    }
}

impl Solver for Lms {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=4).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 4; 4 is usual"));
        }
        let x0 = eval.x0(x, step.from)?;
        let axis = Axis::of(step);
        let (begin, end) = (axis.place(step.from), axis.place(step.to));
        self.history.push(begin, axis.slope(x, &x0, step.from)?, self.order);
        let levels: Vec<f64> = self.history.iter().map(|(level, _)| level).collect();
        let mut mean = axis.coordinates(x, step.from)?;
        for (basis, (_, slope)) in lagrange(&levels).zip(self.history.iter()) {
            // ∫ Σₖ cₖ·σᵏ dσ = Σₖ cₖ·(toᵏ⁺¹ − fromᵏ⁺¹)/(k + 1)
            let powers = basis.iter().zip(1..);
            let weight: f64 = powers.map(|(c, k)| c * (end.powi(k) - begin.powi(k)) / f64::from(k)).sum();
            mean = mean.f_add(&slope.f_mul_scalar(weight)?)?;
        }
        let mean = axis.latent(mean, step.to)?;
        Ok(Transition::new(mean, 0.0, step.to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Lms"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Lms", self)
    }
}
