//! DPM++ SDE.

use super::{Eval, Solver, ancestral_step, check_noise, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DPM++ SDE: a noisy step to an intermediate noise level, then the whole step with the clean pictures predicted at
/// both levels. Two model calls per step, and one in a step that ends at 0.
///
/// The solver draws noise inside a step. Guidance methods see the Gaussian after that draw: with
/// `SdeNoise::Correlated`, part of the drawn noise is already in the mean.
///
/// Source: Lu et al. (2022), "DPM-Solver++"; k-diffusion's `sample_dpmpp_sde`. Draws with the same correlation replace
/// its Brownian tree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DpmppSde {
    /// Strength of the fresh noise, 0 or more; 1 is usual. The scale is the same as in
    /// [`EulerAncestral`](super::EulerAncestral).
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
    /// Position of the intermediate level within the step, measured in ln σ: above 0 and at most 1 (the step's end); ½
    /// is usual.
    pub r: f64,
    /// Relation between the two draws of a step.
    pub noise: SdeNoise,
}

/// The relation between the two draws of a [`DpmppSde`] step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SdeNoise {
    /// Two draws from one Brownian path, as in k-diffusion.
    #[default]
    Correlated,
    /// Two independent draws.
    Independent,
}

impl Default for DpmppSde {
    fn default() -> Self {
        Self { eta: 1.0, s_noise: 1.0, r: 0.5, noise: SdeNoise::Correlated }
    }
}

impl Solver for DpmppSde {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        check_noise(self.eta, self.s_noise)?;
        if !(self.r > 0.0 && self.r <= 1.0) {
            return Err(Error::parameter("r", self.r, "a number above 0 and at most 1; 0.5 is usual"));
        }
        let (from, to) = (step.from, step.to);
        let x0 = eval.x0(x, from)?;
        if to == 0.0 {
            return Ok(Transition::new(x0.shallow_clone(), 0.0, 0.0, x.shallow_clone(), x0));
        }
        // m = from·(to/from)^r, y = a noisy step to m
        let middle = from * (to / from).powf(self.r);
        let (down, up) = ancestral_step(from, middle, self.eta);
        let mut y = euler_step(x, &x0, from, down)?;
        let inner = if up > 0.0 { Some(eval.noise()?) } else { None };
        if let Some(noise) = &inner {
            y = y.f_add(&noise.f_mul_scalar(self.s_noise * up)?)?;
        }
        // x0' = (1 − f)·x0 + f·x0(y), f = 1/(2r)
        let both = euler_step(&x0, &eval.x0_between(&y, middle)?, 1.0, 1.0 - 0.5 / self.r)?;
        let (down, up) = ancestral_step(from, to, self.eta);
        let (mut mean, mut std) = (euler_step(x, &both, from, down)?, self.s_noise * up);
        if let (Some(noise), SdeNoise::Correlated) = (inner, self.noise) {
            // The Brownian path from `from` to `to` is the known path to m plus an independent rest.
            let known = ((from - middle) / (from - to)).sqrt();
            mean = mean.f_add(&noise.f_mul_scalar(std * known)?)?;
            std *= ((middle - to) / (from - to)).sqrt();
        }
        Ok(Transition::new(mean, std, down, x.shallow_clone(), x0))
    }

    fn needs_finite_start(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "DpmppSde"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("DpmppSde", self)
    }
}
