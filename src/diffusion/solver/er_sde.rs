//! ER-SDE: extended reverse-time stochastic differential equations.

use super::history::History;
use super::{Eval, Solver, euler_step};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// ER-SDE: a multistep solver whose fresh noise follows a function φ of the noise level. The usual φ renews less noise
/// than [`EulerAncestral`](super::EulerAncestral), so that few steps give clear pictures. One model call per step.
///
/// The share φ(to)/φ(from) of the latent stays in a step. Differences of the x0 of earlier steps correct the rest. The
/// equations for latents that keep their variance and for latents that gain variance are the same in sigma space.
///
/// ```
/// use impasto::diffusion::solver::{ErSde, NoiseScale, Solver};
///
/// let without_noise = ErSde { scale: NoiseScale::Linear, ..ErSde::default() };
/// assert_eq!(without_noise.name(), "ErSde");
/// ```
///
/// The solver remembers x0 as [`Eval`] returned it. Pulls on [`Transition::mean`] affect later steps only through the
/// latent.
///
/// Source: Cui et al. (2023), "Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion Models" (arXiv
/// 2309.06169); ComfyUI's `er_sde`. ComfyUI sums 200 values for the integrals, which are exact here by default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct ErSde {
    /// Number of values of x0 that a step uses, 1..=3; 3 is usual.
    pub order: usize,
    /// The function φ, which decides how much noise is renewed.
    pub scale: NoiseScale,
    /// Factor on the fresh noise, 0 or more; 1 is the right amount.
    pub s_noise: f64,
    /// Number of values that each integral is summed from, 1 to 10000; 200 gives ComfyUI's pictures, as the name
    /// `er_sde` does. `None`, the default, computes exact integrals.
    #[serde(default)]
    pub summed: Option<usize>,
    /// Memory of a run: (noise level, x0) of earlier steps.
    #[serde(skip)]
    pub history: History,
}

/// The function φ of [`ErSde`]. The steeper the function, the more noise is renewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NoiseScale {
    /// φ(σ) = σ·(e^(σ^0.3) + 10), the function that the paper recommends (ER SDE 5).
    #[default]
    Exponential,
    /// φ(σ) = σ^0.9·log₁₀(1 + 100·σ^1.5), the second best function of the paper (ER SDE 4).
    Logarithmic,
    /// φ(σ) = σ: no fresh noise.
    Linear,
    /// φ(σ) = σ²: as much fresh noise as in [`EulerAncestral`](super::EulerAncestral) with η = 1.
    Square,
}

impl NoiseScale {
    /// The value of φ.
    fn at(self, sigma: f64) -> f64 {
        match self {
            Self::Exponential => sigma * (sigma.powf(0.3).exp() + 10.0),
            Self::Logarithmic => sigma.powf(0.9) * (1.0 + 100.0 * sigma.powf(1.5)).log10(),
            Self::Linear => sigma,
            Self::Square => sigma * sigma,
        }
    }

    /// The integrals of 1/φ and of (σ − from)/φ over σ in to..from, as sums of `count` values from `to` up.
    fn sums(self, from: f64, to: f64, count: usize) -> (f64, f64) {
        let width = (from - to) / count as f64;
        (0..count).map(|k| to + k as f64 * width).fold((0.0, 0.0), |(zeroth, first), sigma| {
            let part = width / self.at(sigma);
            (zeroth + part, first + part * (sigma - from))
        })
    }

    /// The integrals of 1/φ and of (σ − from)/φ over σ in to..from.
    fn integrals(self, from: f64, to: f64) -> (f64, f64) {
        // Gauss and Legendre's rule with eight points in ln σ, where 1/φ is smooth
        let (middle, half) = ((from * to).ln() / 2.0, (from / to).ln() / 2.0);
        let points = GAUSS.into_iter().flat_map(|(place, weight)| [(place, weight), (-place, weight)]);
        points.fold((0.0, 0.0), |(zeroth, first), (place, weight)| {
            let sigma = (middle + half * place).exp();
            let part = weight * half * sigma / self.at(sigma);
            (zeroth + part, first + part * (sigma - from))
        })
    }
}

/// Largest number of values that an integral is summed from.
const MOST_SUMMED: usize = 10_000;

/// Positive places and weights of Gauss and Legendre's rule with eight points over −1..=1.
const GAUSS: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

/// Number of earlier steps that the highest order uses.
const REMEMBERED: usize = 2;

impl Default for ErSde {
    fn default() -> Self {
        Self { order: 3, scale: NoiseScale::default(), s_noise: 1.0, summed: None, history: History::new() }
    }
}

impl ErSde {
    /// The mean of a step in which the share `r` of the latent stays.
    fn mean(&self, step: &Step, x: &Tensor, x0: &Tensor, r: f64) -> Result<Tensor> {
        let (from, to) = (step.from, step.to);
        let mean = euler_step(x, x0, 1.0, r)?;
        let Some((sigma1, x1)) = self.history.ago(0).filter(|_| self.order > 1 && to > 0.0) else { return Ok(mean) };
        if from <= to * (1.0 + 1e-5) {
            return Ok(mean); // between equal levels there is nothing to extrapolate over
        }
        // d = Δx0/Δσ of the last two values; + (to − from + φ(to)·∫ 1/φ)·d
        let (zeroth, first) = match self.summed {
            Some(count) => self.scale.sums(from, to, count),
            None => self.scale.integrals(from, to),
        };
        let (length, end) = (to - from, self.scale.at(to));
        let slope = |newer: &Tensor, older: &Tensor, change: f64| newer.f_sub(older)?.f_div_scalar(change);
        let d = slope(x0, x1, from - sigma1)?;
        let mean = mean.f_add(&d.f_mul_scalar(length + end * zeroth)?)?;
        let Some((sigma2, x2)) = self.history.ago(1).filter(|_| self.order > 2) else { return Ok(mean) };
        // + ((to − from)²/2 + φ(to)·∫ (σ − from)/φ)·2Δd/Δσ
        let change = slope(&d, &slope(x1, x2, sigma1 - sigma2)?, (from - sigma2) / 2.0)?;
        Ok(mean.f_add(&change.f_mul_scalar(length * length / 2.0 + end * first)?)?)
    }
}

impl Solver for ErSde {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=REMEMBERED + 1).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 3; 3 is usual"));
        }
        if let Some(count) = self.summed.filter(|count| !(1..=MOST_SUMMED).contains(count)) {
            return Err(Error::parameter("summed", count, format!("1 to {MOST_SUMMED}; 200 is ComfyUI's number")));
        }
        if !(0.0..f64::INFINITY).contains(&self.s_noise) {
            return Err(Error::parameter("s_noise", self.s_noise, "0 or more; 1 is usual"));
        }
        let (from, to) = (step.from, step.to);
        let x0 = eval.x0(x, from)?;
        let r = if to > 0.0 { self.scale.at(to) / self.scale.at(from) } else { 0.0 };
        let mean = self.mean(step, x, &x0, r)?;
        self.history.push(from, x0.shallow_clone(), REMEMBERED);
        // down = from·r, std² = to² − down²
        let down = (from * r).min(to);
        let std = self.s_noise * (to * to - down * down).max(0.0).sqrt();
        Ok(Transition::new(mean, std, down, x.shallow_clone(), x0))
    }

    fn needs_finite_start(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "ErSde"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("ErSde", self)
    }
}
