//! DEIS: a multistep solver that integrates a polynomial in ln σ.

use super::history::{History, lagrange};
use super::{Eval, Solver, euler_step};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DEIS: lays a polynomial in ln σ through the slopes (x − x0)/σ of the last steps, and integrates the polynomial over
/// the next step. One model call per step.
///
/// The last steps of runs of fewer than 15 steps are of lower order. A step that ends at noise level 0 is a step of
/// Euler's method.
///
/// Source: Zhang and Chen (2023), "Fast Sampling of Diffusion Models with Exponential Integrator"; diffusers'
/// `DEISMultistepScheduler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct Deis {
    /// Number of slopes that a step uses, 1..=3; 2 is usual, 1 is Euler's method.
    pub order: usize,
    /// Lowers the order at the end of runs of fewer than 15 steps. The last step is then of first order, and the step
    /// before it of second order at most. On by default, because lower orders keep short runs stable.
    pub lower_order_final: bool,
    /// Memory of a run: (noise level, slope) of earlier steps.
    #[serde(skip)]
    pub history: History,
}

/// Number of steps below which a run ends with lower orders.
const FEW: usize = 15;

impl Deis {
    /// The order of a step: the setting, lowered for stability at the end of a run.
    fn order_of(&self, step: &Step) -> usize {
        let few = self.lower_order_final && step.nominal < FEW;
        match step.left() {
            _ if step.to == 0.0 => 1,
            1 if few => 1,
            2 if few => self.order.min(2),
            _ => self.order,
        }
    }
}

impl Default for Deis {
    fn default() -> Self {
        Self { order: 2, lower_order_final: true, history: History::new() }
    }
}

impl Deis {
    /// Creates DEIS with the settings of `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        match (config.algorithm_type.as_deref(), config.solver_type.as_deref()) {
            (Some(other), _) if !["deis", "dpmsolver", "dpmsolver++"].contains(&other) => {
                Err(refuse("algorithm_type", other, Remedy::Solver.after("expected deis")))
            }
            (_, Some(other)) if !["logrho", "midpoint", "heun", "bh1", "bh2"].contains(&other) => {
                Err(refuse("solver_type", other, "expected logrho"))
            }
            _ => Ok(Box::new(Self {
                order: config.order()?,
                lower_order_final: config.lower_order_final,
                ..Self::default()
            })),
        }
    }
}

impl Solver for Deis {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=3).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 3; 2 is usual"));
        }
        let x0 = eval.x0(x, step.from)?;
        self.history.push(step.from, x.f_sub(&x0)?.f_div_scalar(step.from)?, self.order);
        let logs: Vec<f64> = self.history.iter().take(self.order_of(step)).map(|(level, _)| level.ln()).collect();
        // ∫ (ln σ)ᵏ dσ = σ, σ·(L − 1), σ·(L² − 2L + 2), L = ln σ
        let integrals = |sigma: f64| {
            let log = if sigma > 0.0 { sigma.ln() } else { 0.0 };
            [sigma, sigma * (log - 1.0), sigma * (log * log - 2.0 * log + 2.0)]
        };
        // A step of one slope is a step of Euler's method. Its formula does not subtract nearly equal numbers, as those
        // at the start of a flow are.
        if logs.len() == 1 {
            return Ok(Transition::new(euler_step(x, &x0, step.from, step.to)?, 0.0, step.to, x.shallow_clone(), x0));
        }
        let (begin, end) = (integrals(step.from), integrals(step.to));
        let mut mean = x.shallow_clone();
        for (basis, (_, slope)) in lagrange(&logs).zip(self.history.iter()) {
            let weight: f64 = basis.iter().zip(end.iter().zip(begin)).map(|(c, (end, begin))| c * (end - begin)).sum();
            mean = mean.f_add(&slope.f_mul_scalar(weight)?)?;
        }
        Ok(Transition::new(mean, 0.0, step.to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Deis"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Deis", self)
    }
}
