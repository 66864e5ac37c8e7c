//! Heun's method.

use super::axis::Axis;
use super::{Eval, Solver, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Heun's method: an Euler step, then the same step with the mean of the slopes at both ends. The method is of second
/// order, with two model calls per step, and one in a step that ends at 0.
///
/// A pull on the mean acts once per step, at the end of the whole step. Guidance methods that act on x0 see both calls
/// ([`Step::eval`]).
///
/// Source: Karras et al. (2022), algorithm 1 without churn; k-diffusion's `sample_heun`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heun;

impl Solver for Heun {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (from, to) = (step.from, step.to);
        let x0 = eval.x0(x, from)?;
        let mut mean = euler_step(x, &x0, from, to)?;
        if to > 0.0 {
            // x + (to − from)·(e(x) + e(y))/2, e(x) = (x − x0)/σ, y = the end of Euler's step
            let there = eval.x0(&mean, to)?;
            let axis = Axis::of(step);
            let slopes = axis.slope(&mean, &there, to)?.f_add(&axis.slope(x, &x0, from)?)?;
            let change = slopes.f_mul_scalar((axis.place(to) - axis.place(from)) / 2.0)?;
            mean = axis.latent(axis.coordinates(x, from)?.f_add(&change)?, to)?;
        }
        Ok(Transition::new(mean, 0.0, to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Heun"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Heun", self)
    }
}
