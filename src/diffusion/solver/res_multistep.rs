//! RES in its multistep form.

use super::history::History;
use super::{Eval, Solver, ancestral_step, check_noise, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// RES multistep: an exponential integrator of second order, with the clean picture of the step before. One model call
/// per step.
///
/// With `eta` = 0, the steps are those of DPM++ 2M with [`Correction::Heun`](super::Correction::Heun), and with `eta` =
/// 1 those of its SDE, but the order does not fall at the end of short runs. Between 0 and 1, the fresh noise is that
/// of [`EulerAncestral`](super::EulerAncestral).
///
/// The solver remembers x0 as [`Eval`] returned it. Pulls on [`Transition::mean`] affect later steps only through the
/// latent.
///
/// Source: Zhang et al. (2023), "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models
/// Sampling" (arXiv 2308.02157); ComfyUI's `res_multistep` and `res_multistep_ancestral`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct ResMultistep {
    /// Strength of the fresh noise, 0 (none, the default) or more; 1 is usual for the ancestral form.
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
    /// Memory of a run: (noise level, x0) of the step before.
    #[serde(skip)]
    pub history: History,
}

impl Default for ResMultistep {
    fn default() -> Self {
        Self { eta: 0.0, s_noise: 1.0, history: History::new() }
    }
}

impl ResMultistep {
    /// The mean of a step that ends with the noise level `down`.
    fn mean(&self, step: &Step, x: &Tensor, x0: &Tensor, down: f64) -> Result<Tensor> {
        let mean = euler_step(x, x0, step.from, down)?;
        let Some((before, earlier)) = self.history.ago(0).filter(|_| down > 0.0) else { return Ok(mean) };
        // h = ln(from/down), H = h of the step before, φ = 1 − (1 − e^(−h))/h, m + φ·h/H·(x0 − x0 before)
        let h = (step.from / down).ln();
        let earlier_h = (before / ancestral_step(before, step.from, self.eta).0).ln();
        if h < 1e-5 || earlier_h.abs() < 1e-5 {
            return Ok(mean); // a step between equal levels gives no slope
        }
        let phi = 1.0 + (-h).exp_m1() / h;
        Ok(mean.f_add(&x0.f_sub(earlier)?.f_mul_scalar(phi * h / earlier_h)?)?)
    }
}

impl Solver for ResMultistep {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        check_noise(self.eta, self.s_noise)?;
        let x0 = eval.x0(x, step.from)?;
        let (down, up) = ancestral_step(step.from, step.to, self.eta);
        let mean = self.mean(step, x, &x0, down)?;
        self.history.push(step.from, x0.shallow_clone(), 1);
        Ok(Transition::new(mean, self.s_noise * up, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        if self.eta > 0.0 { "ResMultistepAncestral" } else { "ResMultistep" }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("ResMultistep", self)
    }
}
