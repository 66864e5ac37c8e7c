//! PNDM, also called PLMS.

use super::axis::Axis;
use super::history::History;
use super::{Eval, Solver, euler_step};
use crate::diffusion::scheduler_config::{SchedulerConfig, refuse};
use crate::diffusion::transition::Transition;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// PNDM without Runge-Kutta steps (PLMS): Adams-Bashforth with fixed weights on the slopes of up to four steps, as if
/// all steps had the same length in σ. The first step is a step of Heun's method, with two model calls; every other
/// step has one call. The files of Stable Diffusion 1.x name this solver.
///
/// Source: Liu et al. (2022), "Pseudo Numerical Methods for Diffusion Models on Manifolds", equation 12; diffusers'
/// `PNDMScheduler` with `skip_prk_steps`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pndm {
    /// Memory of a run: (noise level, slope) of earlier steps.
    #[serde(skip)]
    history: History,
}

impl Pndm {
    /// Creates PLMS with the settings of `scheduler_config.json`.
    pub(super) fn from_config(config: &SchedulerConfig) -> Result<Box<dyn Solver>> {
        if !config.skip_prk_steps {
            return Err(refuse("skip_prk_steps", "false", Remedy::Solver.after("expected true")));
        }
        Ok(Box::new(Self::default()))
    }
}

impl Solver for Pndm {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (from, to) = (step.from, step.to);
        let axis = Axis::of(step);
        let length = axis.place(to) - axis.place(from);
        let x0 = eval.x0(x, from)?;
        self.history.push(from, axis.slope(x, &x0, from)?, 4);
        let mut mean = axis.coordinates(x, from)?;
        let mut add = |slope: &Tensor, weight: f64| -> Result<()> {
            mean = mean.f_add(&slope.f_mul_scalar(weight * length)?)?;
            Ok(())
        };
        let weights: &[f64] = match self.history.len() {
            1 if step.count > 1 && to > 0.0 => {
                let y = euler_step(x, &x0, from, to)?;
                add(&axis.slope(&y, &eval.x0(&y, to)?, to)?, 0.5)?;
                &[0.5]
            }
            1 => &[1.0],
            2 => &[3.0 / 2.0, -1.0 / 2.0],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        for (weight, (_, slope)) in weights.iter().zip(self.history.iter()) {
            add(slope, *weight)?;
        }
        let mean = axis.latent(mean, to)?;
        Ok(Transition::new(mean, 0.0, to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Pndm"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Pndm", self)
    }
}
