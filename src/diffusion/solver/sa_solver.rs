//! SA-Solver: stochastic Adams steps with predictor and corrector.

use super::history::{History, Past, lagrange};
use super::{Eval, Solver};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::window::Window;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// SA-Solver: a multistep prediction with fresh noise, which the next step corrects with the model's prediction at the
/// noisy latent. One model call per step. By default, fresh noise is added in the middle of the run alone.
///
/// The correction starts again from the previous latent. It then adds the same fresh noise, and the edits that guidance
/// methods made to the predicted latent.
///
/// ```
/// use impasto::diffusion::solver::{SaSolver, Solver};
///
/// let without_noise = SaSolver { tau: 0.0, ..SaSolver::default() };
/// assert_eq!(without_noise.name(), "SaSolver");
/// ```
///
/// Source: Xue et al. (2023), "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models"; diffusers'
/// `SASolverScheduler`, also for the weights of second order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct SaSolver {
    /// Number of values of x0 that a prediction uses, 1..=4; 2 is usual with classifier-free guidance, 3 without.
    pub predictor_order: usize,
    /// Number of values of x0 that a correction uses, 0..=4, the newest included; 2 is usual with classifier-free
    /// guidance, 3 without, and 0 corrects nothing.
    pub corrector_order: usize,
    /// Strength τ of the fresh noise inside the window, 0 or more; 1 is usual. For short steps, the noise is that of
    /// [`EulerAncestral`](super::EulerAncestral) with η = τ.
    pub tau: f64,
    /// Steps with fresh noise; by default those from timesteps 200 to 800.
    pub window: Window,
    /// Limits the orders to the number of steps that remain; on by default, because lower orders keep short runs
    /// stable.
    pub lower_order_final: bool,
    /// Memory of a run: (noise level, x0) of earlier steps, and the step that is not yet corrected.
    #[serde(skip)]
    pub history: History,
}

/// Largest number of remembered steps.
const MOST: usize = 4;

/// SA-Solver of second order with corrections of second order, as in diffusers.
impl Default for SaSolver {
    fn default() -> Self {
        Self {
            predictor_order: 2,
            corrector_order: 2,
            tau: 1.0,
            window: Window::timesteps(200..=800),
            lower_order_final: true,
            history: History::new(),
        }
    }
}

impl SaSolver {
    /// Creates SA-Solver with the settings of `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        if let Some(other) = config.algorithm_type.as_deref().filter(|algorithm| *algorithm != "data_prediction") {
            return Err(refuse("algorithm_type", other, Remedy::Solver.after("expected data_prediction")));
        }
        for (name, order) in [("predictor_order", config.predictor_order), ("corrector_order", config.corrector_order)]
        {
            if !(1..=MOST).contains(&order) {
                return Err(refuse(name, &order.to_string(), "expected 1 to 4"));
            }
        }
        Ok(Box::new(Self {
            predictor_order: config.predictor_order,
            corrector_order: config.corrector_order,
            lower_order_final: config.lower_order_final,
            ..Self::default()
        }))
    }

    /// Corrects `x`, the latent that the previous step predicted, with `x0`, the model's prediction at `x`.
    fn correct(&self, step: &Step, x: &Tensor, x0: &Tensor) -> Result<Tensor> {
        let (Some(past), Some((before, _))) = (&self.history.past, self.history.ago(0)) else {
            return Ok(x.shallow_clone());
        };
        if past.order == 0 || before <= step.from * (1.0 + 1e-5) {
            return Ok(x.shallow_clone());
        }
        let nodes: Vec<(f64, &Tensor)> =
            [(step.from, x0)].into_iter().chain(self.history.iter()).take(past.order).collect();
        let fresh_and_edits = x.f_sub(&past.mean)?;
        Ok(over((before, step.from), past.rate, &past.x, &nodes)?.f_add(&fresh_and_edits)?)
    }
}

/// The mean at the end of a step over `levels` = (from, to): e^(−kh)·x + k·∫ e^(−ku)·x0(u) du over u in 0..h. Here h =
/// ln(from/to), k is the `rate`, and x0(u) is the polynomial through the x0 of `nodes` at u = ln(σ/to).
fn over(levels: (f64, f64), rate: f64, x: &Tensor, nodes: &[(f64, &Tensor)]) -> Result<Tensor> {
    let (from, to) = levels;
    let h = (from / to).ln();
    let left = (-rate * h).exp();
    // mₚ = k·∫ e^(−ku)·uᵖ du = p/k·mₚ₋₁ − hᵖ·e^(−kh)
    let m0 = -(-rate * h).exp_m1();
    // Steps of second order weight the slope by kh²/2, which improves short runs and keeps the order.
    let m1 = if nodes.len() == 2 { h * m0 - rate * h * h / 2.0 } else { m0 / rate - h * left };
    let m2 = 2.0 / rate * m1 - h.powi(2) * left;
    let m3 = 3.0 / rate * m2 - h.powi(3) * left;
    let places: Vec<f64> = nodes.iter().map(|(level, _)| (level / to).ln()).collect();
    let mut mean = x.f_mul_scalar(left)?;
    for (basis, (_, x0)) in lagrange(&places).zip(nodes) {
        let weight: f64 = basis.iter().zip([m0, m1, m2, m3]).map(|(c, moment)| c * moment).sum();
        mean = mean.f_add(&x0.f_mul_scalar(weight)?)?;
    }
    Ok(mean)
}

impl Solver for SaSolver {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=MOST).contains(&self.predictor_order) {
            return Err(Error::parameter("predictor_order", self.predictor_order, "1 to 4; 2 is usual"));
        }
        if self.corrector_order > MOST {
            return Err(Error::parameter("corrector_order", self.corrector_order, "0 (none) to 4; 2 is usual"));
        }
        if !(0.0..f64::INFINITY).contains(&self.tau) {
            return Err(Error::parameter("tau", self.tau, "0 (no fresh noise) or more; 1 is usual"));
        }
        self.window.check()?;
        let (from, to) = (step.from, step.to);
        let x0 = eval.x0(x, from)?;
        let corrected = self.correct(step, x, &x0)?;
        self.history.push(from, x0.shallow_clone(), MOST);
        let left = if self.lower_order_final { step.left().max(1) } else { MOST };
        let order = self.predictor_order.min(left).min(self.history.len());
        let tau = if self.window.contains(step) { self.tau } else { 0.0 };
        let rate = 1.0 + tau * tau;
        let mean = if to == 0.0 {
            x0.shallow_clone()
        } else if from <= to * (1.0 + 1e-5) {
            corrected.shallow_clone() // the step is between equal levels
        } else {
            let nodes: Vec<(f64, &Tensor)> = self.history.iter().take(order).collect();
            over((from, to), rate, &corrected, &nodes)?
        };
        let order = self.corrector_order.min(left + 1).min(self.history.len() + 1);
        self.history.past = Some(Past { x: corrected, mean: mean.shallow_clone(), order, rate });
        // down = to·e^(−τ²h), std² = to² − down²
        let kept = (to / from).powf(tau * tau);
        let std = to * (1.0 - kept * kept).max(0.0).sqrt();
        Ok(Transition::new(mean, std, to * kept, x.shallow_clone(), x0))
    }

    fn needs_finite_start(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "SaSolver"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("SaSolver", self)
    }
}
