//! LCM and TCD, for models distilled to a few steps.

use super::{Eval, Solver, euler_step};
use crate::diffusion::spacing::SchedulerFamily;
use crate::diffusion::training_schedule::TrainingSchedule;
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// LCM: every step predicts a clean picture, and the next step begins with that picture noised again. The solver is for
/// latent consistency models and LCM LoRAs; 2 to 8 steps and a guidance scale of 1 to 2 are usual.
///
/// LCM needs the timesteps that the model was distilled at. Requests choose these timesteps; schedules made by hand
/// need [`SchedulerFamily::Lcm`] in [`SpacingOptions`](crate::diffusion::SpacingOptions).
///
/// A pull on the mean moves the clean picture, because practically no noise is left in the mean.
///
/// Source: Luo et al. (2023), "Latent Consistency Models"; diffusers' `LCMScheduler`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lcm {
    /// Factor on the timestep in the weights of the latent and of x0, positive; models are distilled with 10. A larger
    /// factor lowers the weight of the latent.
    pub scaling: f64,
}

/// Factor with which the weight of the latent is below what f64 can show.
const RENEWING: f64 = 1e12;

impl Default for Lcm {
    fn default() -> Self {
        Self { scaling: 10.0 }
    }
}

impl Lcm {
    /// Creates the solver of flow-matching classes, in which a step keeps nothing of the latent.
    pub(super) const fn without_memory() -> Self {
        Self { scaling: RENEWING }
    }
}

impl Solver for Lcm {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(self.scaling > 0.0 && self.scaling.is_finite()) {
            return Err(Error::parameter("scaling", self.scaling, "a positive number; 10 is usual"));
        }
        // c_skip = ¼/(q² + ¼), c_out = q/√(q² + ¼), q = scaling·t; c_skip is the weight of the variance-preserving
        // x/√(1 + σ²)
        let q = self.scaling * step.timestep;
        let total = q * q + 0.25;
        let x0 = eval.x0(x, step.from)?;
        let kept = x.f_mul_scalar(0.25 / total / step.process.size(step.from))?;
        let mean = x0.f_mul_scalar(q / total.sqrt())?.f_add(&kept)?;
        Ok(Transition::new(mean, step.to, 0.0, x.shallow_clone(), x0))
    }

    fn family(&self) -> SchedulerFamily {
        SchedulerFamily::Lcm
    }

    fn name(&self) -> &'static str {
        "Lcm"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Lcm", self)
    }
}

/// TCD: like [`Lcm`], but a step goes down to a noise level below the next level, and fresh noise then raises the
/// latent to the next level. The solver is for trajectory consistency models and TCD LoRAs; 2 to 8 steps are usual,
/// more do no harm. TCD needs the same timesteps as [`Lcm`]. The last step ends at the lowest level or at 0, as the
/// schedule says.
///
/// Source: Zheng et al. (2024), "Trajectory Consistency Distillation"; diffusers' `TCDScheduler`.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Tcd {
    /// Share γ of the timestep by which a step goes below its end t: the step goes down to timestep (1 − γ)·t, and
    /// fresh noise raises the latent to t. In 0..=1; 0 adds no noise (Euler's method), and 1 goes down to the lowest
    /// level. 0.3 is usual; with more steps, use a smaller share.
    pub gamma: f64,
    /// Training schedule of the model; by default Stable Diffusion's.
    pub table: TrainingSchedule,
}

impl Default for Tcd {
    fn default() -> Self {
        Self { gamma: 0.3, table: TrainingSchedule::stable_diffusion() }
    }
}

impl Solver for Tcd {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        if !(0.0..=1.0).contains(&self.gamma) {
            return Err(Error::parameter("gamma", self.gamma, "0 (no fresh noise) to 1; 0.3 is usual"));
        }
        // down = σ[⌊(1 − γ)·t⌋], t = the timestep of the step's end
        let next = self.table.timestep_of(step.to).round();
        let down = self.table.level(((1.0 - self.gamma) * next).floor());
        let down = if self.gamma > 0.0 { down.min(step.to) } else { step.to };
        let x0 = eval.x0(x, step.from)?;
        let std = (step.to * step.to - down * down).max(0.0).sqrt();
        Ok(Transition::new(euler_step(x, &x0, step.from, down)?, std, down, x.shallow_clone(), x0))
    }

    fn family(&self) -> SchedulerFamily {
        SchedulerFamily::Lcm
    }

    fn name(&self) -> &'static str {
        "Tcd"
    }

    fn recipe(&self) -> Result<Recipe> {
        if self.table == TrainingSchedule::stable_diffusion() {
            return Recipe::of("Tcd", &self.gamma);
        }
        Err(Error::NotRepeatable {
            what: "the solver Tcd with a training schedule other than Stable Diffusion's".into(),
        })
    }
}
