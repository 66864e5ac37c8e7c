//! DPM-Solver++ in its multistep form, which remembers earlier steps.

use super::history::History;
use super::{Euler, EulerAncestral, Eval, Solver, check_noise, euler_step};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// DPM-Solver++ multistep: the change of x0 over earlier steps corrects the next step. One model call per step thus
/// gives second order.
///
/// 15 to 30 steps with [`Spacing::Karras`](crate::diffusion::Spacing::Karras) are usual. Four known solvers are
/// settings of `Multistep`; [`by_name`](super::by_name) knows their names:
///
/// | name | settings |
/// |---|---|
/// | DPM++ 2M | the default |
/// | DPM++ 2M SDE | `eta: 1.0` |
/// | DPM++ 3M | `order: 3` |
/// | DPM++ 3M SDE | `order: 3, eta: 1.0, correction: Correction::Heun`, as in k-diffusion |
///
/// ```
/// use impasto::diffusion::solver::{Correction, Multistep, Solver};
///
/// let solver = Multistep { eta: 0.5, correction: Correction::Heun, ..Multistep::default() };
/// assert_eq!(solver.name(), "Dpmpp2MSdeHeun");
/// ```
///
/// The solver remembers x0 as [`Eval`] returned it. Pulls on [`Transition::mean`] affect later steps only through the
/// latent.
///
/// Source: Lu et al. (2022), "DPM-Solver++", algorithm 2; k-diffusion's `sample_dpmpp_2m`, `_2m_sde` and `_3m_sde`;
/// diffusers' `DPMSolverMultistepScheduler`, also for the order of the last steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct Multistep {
    /// Number of values of x0 that a step uses, 1..=3. Order 1 is [`Euler`] for η = 0 and [`EulerAncestral`] for η = 1.
    pub order: usize,
    /// Rate at which noise is renewed, 0 (never) or more; 1 is usual. The scale differs from [`EulerAncestral`]: for
    /// short steps, η here corresponds to √η there.
    pub eta: f64,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
    /// Form of the correction in steps of second order.
    pub correction: Correction,
    /// Factor of the second difference in steps of third order.
    pub taylor: Taylor,
    /// Lowers the order at the end of runs of fewer than 15 steps. The last step is then of first order, and the step
    /// before it of second order at most. On by default, because lower orders keep short runs stable.
    pub lower_order_final: bool,
    /// Makes the last step first order in every run. A step that ends at noise level 0 is always of first order.
    pub euler_at_final: bool,
    /// Memory of a run: (noise level, x0) of earlier steps.
    #[serde(skip)]
    pub history: History,
}

/// The part of the last change of x0 that a step of second order adds (diffusers' `solver_type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Correction {
    /// The change at the middle of the step.
    #[default]
    Midpoint,
    /// The change integrated over the step.
    Heun,
}

/// The factor of the second difference in a step of third order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Taylor {
    /// Half of Taylor's factor, as in k-diffusion and diffusers; DPM++ 3M is then of second order too.
    #[default]
    Library,
    /// Taylor's factor: third order. The pictures differ from k-diffusion's and diffusers'.
    Exact,
}

/// Number of earlier steps that the highest order uses.
const REMEMBERED: usize = 2;

/// Number of steps below which a run ends with lower orders.
const FEW: usize = 15;

/// DPM++ 2M: second order, without fresh noise.
impl Default for Multistep {
    fn default() -> Self {
        Self {
            order: 2,
            eta: 0.0,
            s_noise: 1.0,
            correction: Correction::Midpoint,
            taylor: Taylor::Library,
            lower_order_final: true,
            euler_at_final: false,
            history: History::new(),
        }
    }
}

impl Multistep {
    /// DPM++ 3M SDE, as in k-diffusion.
    pub(super) fn dpmpp_3m_sde() -> Self {
        Self { order: 3, eta: 1.0, correction: Correction::Heun, ..Self::default() }
    }

    /// The order of a step: the setting, limited by the memory and by stability at the end of a run.
    fn order_of(&self, step: &Step) -> usize {
        let few = self.lower_order_final && step.nominal < FEW;
        // Between equal levels there is nothing to extrapolate over.
        let bare = step.to == 0.0 || step.from <= step.to * (1.0 + 1e-5);
        let most = match step.left() {
            _ if bare => 1,
            1 if self.euler_at_final || few => 1,
            2 if few => 2,
            _ => self.order,
        };
        self.order.min(most).min(self.history.len() + 1)
    }

    /// The mean of a step, before fresh noise.
    fn mean(&self, step: &Step, x: &Tensor, x0: &Tensor) -> Result<Tensor> {
        let (from, to) = (step.from, step.to);
        // h = ln(from/to), H = (1 + η)h, a = 1 − e^(−H), φ₂ = 1 − a/H, φ₃ = φ₂/H − ½
        let h = (from / to).ln();
        let stretched = (1.0 + self.eta) * h;
        let a = -(-stretched).exp_m1();
        let phi2 = 1.0 - a / stretched;
        let phi3 = phi2 / stretched - 0.5;
        // m = e^(−H)·x + a·x0
        let mean = euler_step(x, x0, 1.0, (to / from).powf(1.0 + self.eta))?;
        // (x0 − x0 before)/r, r = ln(σ before/σ)/h
        let slope = |x0: &Tensor, before: &Tensor, r: f64| x0.f_sub(before)?.f_div_scalar(r);
        match (self.order_of(step), self.history.ago(0), self.history.ago(1)) {
            (2, Some((sigma1, x1)), _) => {
                let slope = slope(x0, x1, (sigma1 / from).ln() / h)?;
                let weight = if self.correction == Correction::Heun { phi2 } else { a / 2.0 };
                Ok(mean.f_add(&slope.f_mul_scalar(weight)?)?)
            }
            (3, Some((sigma1, x1)), Some((sigma2, x2))) => {
                let (r0, r1) = ((sigma1 / from).ln() / h, (sigma2 / sigma1).ln() / h);
                let (d0, d1) = (slope(x0, x1, r0)?, slope(x1, x2, r1)?);
                // q = (d₀ − d₁)/(r₀ + r₁), m + φ₂·(d₀ + r₀·q) − φ₃·q
                let q = d0.f_sub(&d1)?.f_div_scalar(r0 + r1)?;
                let whole = if self.taylor == Taylor::Exact { 2.0 } else { 1.0 };
                let mean = mean.f_add(&d0.f_mul_scalar(phi2)?)?;
                Ok(mean.f_add(&q.f_mul_scalar(phi2 * r0 - whole * phi3)?)?)
            }
            _ => Ok(mean),
        }
    }
}

impl Correction {
    /// Reads `solver_type` of DPM++ from `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Self> {
        match config.solver_type.as_deref() {
            None | Some("midpoint" | "logrho" | "bh1" | "bh2") => Ok(Self::Midpoint), // as in diffusers
            Some("heun") => Ok(Self::Heun),
            Some(other) => Err(refuse("solver_type", other, "expected midpoint or heun")),
        }
    }
}

impl Multistep {
    /// Creates DPM++ multistep with the settings of `scheduler_config.json`. First order gives Euler's method.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        let eta = match config.algorithm_type.as_deref() {
            None | Some("dpmsolver++") => 0.0,
            Some("sde-dpmsolver++") => 1.0,
            Some(other) => return Err(refuse("algorithm_type", other, "expected dpmsolver++ or sde-dpmsolver++")),
        };
        match config.order()? {
            1 if eta == 0.0 => Ok(Box::new(Euler)),
            1 if !config.is_flow() => Ok(Box::new(EulerAncestral { eta, ..EulerAncestral::default() })),
            order => Ok(Box::new(Self {
                order,
                eta,
                correction: Correction::from_config(config)?,
                lower_order_final: config.lower_order_final,
                euler_at_final: config.euler_at_final,
                ..Self::default()
            })),
        }
    }
}

impl Solver for Multistep {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(1..=REMEMBERED + 1).contains(&self.order) {
            return Err(Error::parameter("order", self.order, "1 to 3; 2 is usual"));
        }
        check_noise(self.eta, self.s_noise)?;
        let x0 = eval.x0(x, step.from)?;
        let mean = self.mean(step, x, &x0)?;
        self.history.push(step.from, x0.shallow_clone(), REMEMBERED);
        // down = to·e^(−ηh), std² = to² − down²
        let left = (step.to / step.from).powf(self.eta);
        let std = self.s_noise * step.to * (1.0 - left * left).max(0.0).sqrt();
        Ok(Transition::new(mean, std, step.to * left, x.shallow_clone(), x0))
    }

    fn needs_finite_start(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        match (self.order, self.eta > 0.0, self.correction) {
            (1, false, _) => "Dpmpp1M",
            (1, true, _) => "Dpmpp1MSde",
            (2, false, _) => "Dpmpp2M",
            (2, true, Correction::Midpoint) => "Dpmpp2MSde",
            (2, true, Correction::Heun) => "Dpmpp2MSdeHeun",
            (_, false, _) => "Dpmpp3M",
            (_, true, _) => "Dpmpp3MSde",
        }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Multistep", self)
    }
}
