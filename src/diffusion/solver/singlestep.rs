//! DPM-Solver++ in its singlestep form, one call per step.

use super::history::{History, Past};
use super::{Correction, Eval, Solver, euler_step};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DPM-Solver++ singlestep: steps come in blocks of `order`. The second and third step of a block start again from the
/// block's first latent, with all predictions of the block so far. One model call per step.
///
/// DPM++ 2S is the default; DPM++ 3S is `Singlestep { order: 3, ..Singlestep::default() }`.
/// [`Dpmpp2SAncestral`](super::Dpmpp2SAncestral) uses the same idea, with a block inside each step.
///
/// Edits that guidance methods make to a mean inside a block are added to the next mean.
///
/// Source: Lu et al. (2022), "DPM-Solver++", algorithm 1; diffusers' `DPMSolverSinglestepScheduler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct Singlestep {
    /// Number of steps in a block, 1..=3; 1 is Euler's method.
    pub order: usize,
    /// Form of the correction in steps of second and third order.
    pub correction: Correction,
    /// Makes the last step first order if the number of steps is a multiple of the order; on by default.
    pub lower_order_final: bool,
    /// Memory of a run: (noise level, x0) of earlier steps, and the step that began the block.
    #[serde(skip)]
    pub history: History,
}

/// DPM++ 2S: blocks of two steps.
impl Default for Singlestep {
    fn default() -> Self {
        Self { order: 2, correction: Correction::Midpoint, lower_order_final: true, history: History::new() }
    }
}

impl Singlestep {
    /// The place of a step in its block, counted from 1.
    fn place(&self, step: &Step) -> usize {
        if step.left() == 1 && (step.to == 0.0 || self.lower_order_final && step.nominal.is_multiple_of(self.order)) {
            return 1;
        }
        // Blocks are counted in the whole schedule, even if only part of the schedule is run.
        step.place() % self.order + 1
    }

    /// The mean at the end of the `order`th step of a block.
    fn mean(&self, order: usize, step: &Step, x: &Tensor, x0: &Tensor) -> Result<Tensor> {
        let known = (order > 1).then(|| self.history.ago(order - 1)).flatten();
        let (Some(block), Some((begin, first))) = (&self.history.past, known) else {
            return euler_step(x, x0, step.from, step.to);
        };
        // h = ln(begin/to), r = ln(begin/from)/h, d = (x0 − first)/r, a = 1 − e^(−h), φ₂ = 1 − a/h, φ₃ = φ₂/h − ½
        let h = (begin / step.to).ln();
        let slope = |level: f64, x0: &Tensor| -> Result<(f64, Tensor)> {
            let r = (begin / level).ln() / h;
            Ok((r, x0.f_sub(first)?.f_div_scalar(r)?))
        };
        let (r, d) = slope(step.from, x0)?;
        let a = -(-h).exp_m1();
        let phi2 = 1.0 - a / h;
        let added = match (order, self.correction, self.history.ago(1)) {
            (2, Correction::Midpoint, _) => d.f_mul_scalar(a / 2.0)?,
            (3, Correction::Heun, Some((level, second))) => {
                // φ₂·(r·d' − r'·d)/(r − r') − 2φ₃·(d − d')/(r − r'), r', d' of the block's second step
                let (r1, d1) = slope(level, second)?;
                let (even, change) = (d1.f_mul_scalar(r)?.f_sub(&d.f_mul_scalar(r1)?)?, d.f_sub(&d1)?);
                let phi3 = phi2 / h - 0.5;
                even.f_mul_scalar(phi2)?.f_sub(&change.f_mul_scalar(2.0 * phi3)?)?.f_div_scalar(r - r1)?
            }
            _ => d.f_mul_scalar(phi2)?,
        };
        let edit = x.f_sub(&block.mean)?;
        Ok(euler_step(&block.x, first, begin, step.to)?.f_add(&added)?.f_add(&edit)?)
    }
}

impl Singlestep {
    /// Creates DPM++ singlestep with the settings of `scheduler_config.json`. Diffusers always lowers the order of a
    /// last step that ends at 0.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        if let Some(other) = config.algorithm_type.as_deref().filter(|algorithm| *algorithm != "dpmsolver++") {
            return Err(refuse("algorithm_type", other, Remedy::Solver.after("expected dpmsolver++")));
        }
        Ok(Box::new(Self {
            order: config.order()?,
            correction: Correction::from_config(config)?,
            lower_order_final: config.lower_order_final,
            ..Self::default()
        }))
    }
}

impl Solver for Singlestep {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=3).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 3; 2 is usual"));
        }
        let x0 = eval.x0(x, step.from)?;
        self.history.push(step.from, x0.shallow_clone(), 3);
        let order = self.place(step).min(self.history.len());
        let mean = self.mean(order, step, x, &x0)?;
        let began = self.history.past.take().filter(|_| order > 1).map_or_else(|| x.shallow_clone(), |block| block.x);
        self.history.past = Some(Past { x: began, mean: mean.shallow_clone(), order, rate: 1.0 });
        Ok(Transition::new(mean, 0.0, step.to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        match self.order {
            1 => "Dpmpp1S",
            2 => "Dpmpp2S",
            _ => "Dpmpp3S",
        }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Singlestep", self)
    }
}
