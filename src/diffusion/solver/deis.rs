//! DEIS: the slope as a polynomial in ln σ.

use super::history::{History, lagrange};
use super::{Eval, Solver};
use crate::diffusion::scheduler_config::{SchedulerConfig, refused};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DEIS: the slope is a polynomial in ln σ through those of the last steps, integrated over the next. One call per
/// step.
///
/// The last steps of runs of fewer than 15 are of lower order, and one that ends at level 0 is Euler's.
///
/// Source: Zhang and Chen (2023), "Fast Sampling of Diffusion Models with Exponential Integrator"; diffusers'
/// `DEISMultistepScheduler`.
#[derive(Debug, Serialize, Deserialize)]
#[must_use]
pub struct Deis {
    /// Number of slopes that a step uses, 1..=3; 2 is usual, 1 is Euler.
    pub order: usize,
    /// Whether the last step is of first order, and the one before of second at most, in runs of fewer than 15 steps. It is
    /// on by default, as it makes few steps stable.
    pub lower_order_final: bool,
    /// Memory of a run: (level, slope) of the steps before.
    #[serde(skip)]
    pub history: History,
}

/// Fewer steps than this end with lower orders.
const FEW: usize = 15;

impl Deis {
    /// The order of a step, of what is wanted and stable at the end.
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
    /// DEIS of `scheduler_config.json`.
    pub(super) fn configured(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        match (config.algorithm_type.as_deref(), config.solver_type.as_deref()) {
            (Some(other), _) if !["deis", "dpmsolver", "dpmsolver++"].contains(&other) => {
                Err(refused("algorithm_type", other, "expected deis"))
            }
            (_, Some(other)) if !["logrho", "midpoint", "heun", "bh1", "bh2"].contains(&other) => {
                Err(refused("solver_type", other, "expected logrho"))
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
