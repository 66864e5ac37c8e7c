//! UniPC: predictor and corrector.

use super::history::{History, Past, lagrange};
use super::{Eval, Solver, euler_step};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// UniPC: a multistep prediction of the next latent, which the next step corrects with the model's prediction at that
/// latent. With one model call per step, the correction adds one order.
///
/// The correction starts again from the previous latent. It then adds the edits that guidance methods made to the
/// predicted latent.
///
/// ```
/// use impasto::diffusion::solver::{Solver, UniPc};
///
/// assert_eq!((UniPc { order: 3, ..UniPc::default() }).name(), "UniPcBh2");
/// ```
///
/// Source: Zhao et al. (2023), "UniPC: A Unified Predictor-Corrector Framework"; diffusers' `UniPCMultistepScheduler`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct UniPc {
    /// Number of values of x0 that a prediction uses, 1..=3; 2 is usual with classifier-free guidance, 3 without.
    pub order: usize,
    /// Sets B(h) to e^h − 1, the default, as in diffusers. False sets B(h) to h, as in A1111 and ComfyUI.
    pub bh2: bool,
    /// Limits the order to the number of steps that remain; on by default, because lower orders keep short runs stable.
    pub lower_order_final: bool,
    /// Indices of the steps that are not corrected (`disable_corrector`); none by default.
    pub uncorrected: Vec<usize>,
    /// Memory of a run: (noise level, x0) of earlier steps, and the step that is not yet corrected.
    #[serde(skip)]
    pub history: History,
}

/// Largest number of remembered steps.
const MOST: usize = 3;

/// UniPC of second order with B(h) = e^h − 1, as in diffusers.
impl Default for UniPc {
    fn default() -> Self {
        Self { order: 2, bh2: true, lower_order_final: true, uncorrected: Vec::new(), history: History::new() }
    }
}

impl UniPc {
    /// The end of a step over `levels` = (from, to): e^(−h)·x + (1 − e^(−h))·x0 − B·Σ ρⱼ·(xⱼ − x0)/rⱼ, where h =
    /// ln(from/to) and xⱼ are the x0 of `others`, the other noise levels.
    fn over(&self, levels: (f64, f64), x: &Tensor, x0: &Tensor, others: &[(f64, &Tensor)]) -> Result<Tensor> {
        let (from, to) = levels;
        let h = (from / to).ln();
        let b = if self.bh2 { (-h).exp_m1() } else { -h };
        // rⱼ = ln(from/σⱼ)/h
        let places: Vec<f64> = others.iter().map(|(level, _)| (from / level).ln() / h).collect();
        let mut end = euler_step(x, x0, from, to)?;
        for ((weight, place), (_, other)) in weights(&places, -h, b).iter().zip(&places).zip(others) {
            end = end.f_sub(&other.f_sub(x0)?.f_mul_scalar(b * weight / place)?)?;
        }
        Ok(end)
    }

    /// Corrects `x`, the latent that the previous step predicted, with `x0`, the model's prediction at `x`.
    fn correct(&self, step: &Step, x: &Tensor, x0: &Tensor) -> Result<Tensor> {
        let (Some(Past { x: before, mean, order, .. }), Some((from, known))) =
            (&self.history.past, self.history.ago(0))
        else {
            return Ok(x.shallow_clone());
        };
        if step.place().checked_sub(1).is_none_or(|before| self.uncorrected.contains(&before)) {
            return Ok(x.shallow_clone());
        }
        let earlier = self.history.iter().take(*order).skip(1);
        let others: Vec<(f64, &Tensor)> = earlier.chain([(step.from, x0)]).collect();
        let edit = x.f_sub(mean)?;
        Ok(self.over((from, step.from), before, known, &others)?.f_add(&edit)?)
    }
}

/// The weights ρ with Σⱼ ρⱼ·rⱼ^(i − 1) = φᵢ·i!/B for i = 1, 2, …; a single weight is ½.
fn weights(places: &[f64], hh: f64, b: f64) -> Vec<f64> {
    if places.len() == 1 {
        return vec![0.5];
    }
    // φ₁ = (e^hh − 1)/hh − 1, φᵢ₊₁ = φᵢ/hh − 1/(i + 1)!
    let rights: Vec<f64> = (1..=places.len())
        .scan((hh.exp_m1() / hh - 1.0, 1.0), |(phi, factorial), i| {
            let right = *phi * *factorial / b;
            *factorial *= (i + 1) as f64;
            *phi = *phi / hh - 1.0 / *factorial;
            Some(right)
        })
        .collect();
    // The coefficients of Lagrange's polynomials are the inverse of a matrix of powers.
    lagrange(places).map(|basis| basis.iter().zip(&rights).map(|(c, right)| c * right).sum()).collect()
}

impl UniPc {
    /// Creates UniPC with the settings of `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        if !config.predict_x0 {
            return Err(refuse("predict_x0", "false", Remedy::Solver.after("expected true")));
        }
        let bh2 = match config.solver_type.as_deref() {
            Some("bh1") => false,
            None | Some("bh2" | "midpoint" | "heun" | "logrho") => true, // as in diffusers
            Some(other) => return Err(refuse("solver_type", other, "expected bh1 or bh2")),
        };
        Ok(Box::new(Self {
            order: config.order()?,
            bh2,
            lower_order_final: config.lower_order_final,
            uncorrected: config.disable_corrector.clone(),
            ..Self::default()
        }))
    }
}

impl Solver for UniPc {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=MOST).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 3; 2 is usual"));
        }
        let (from, to) = (step.from, step.to);
        let x0 = eval.x0(x, from)?;
        let corrected = self.correct(step, x, &x0)?;
        self.history.push(from, x0.shallow_clone(), MOST);
        let left = if self.lower_order_final { step.left().max(1) } else { MOST };
        let order = self.order.min(left).min(self.history.len());
        let mean = if to == 0.0 {
            x0.shallow_clone()
        } else if from <= to * (1.0 + 1e-5) {
            corrected.shallow_clone() // the step is between equal levels
        } else {
            let others: Vec<(f64, &Tensor)> = self.history.iter().take(order).skip(1).collect();
            self.over((from, to), &corrected, &x0, &others)?
        };
        self.history.past = Some(Past { x: corrected, mean: mean.shallow_clone(), order, rate: 1.0 });
        Ok(Transition::new(mean, 0.0, to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        if self.bh2 { "UniPcBh2" } else { "UniPc" }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("UniPc", self)
    }
}
