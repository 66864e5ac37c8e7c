//! [`CfgPlusPlus`]: guidance of the clean picture alone, with the noise of the negative prompt.

use super::{Cfg, Combine};
use crate::branch::{Branch, BranchInfo};
use crate::diffusion::{Predictions, Transition};
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use tch::Tensor;

/// CFG++: the clean picture is uncond + scale · (cond − uncond), and the noise that is left after a step is the noise
/// that the network predicted for the negative prompt. The scale is 0 to 1, because the latent stays nearer to the
/// latents that the model knows.
///
/// The solvers of the source take one Euler step: [`Euler`](crate::diffusion::solver::Euler),
/// [`EulerAncestral`](crate::diffusion::solver::EulerAncestral) and [`Ddim`](crate::diffusion::solver::Ddim). The means
/// of other solvers are moved by the same rule, which the source does not try.
///
/// ```
/// use impasto::Pipeline;
/// use impasto::guidance::CfgPlusPlus;
///
/// # fn main() -> impasto::Result<()> {
/// let pipeline = Pipeline::builder().build()?;
/// pipeline.request("a red boat").seed(7).steps(2).solver_named("Euler").combine(CfgPlusPlus::new(0.8)).run()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Parameter`] at the start of a run if the scale is outside 0..=2.
///
/// Source: Chung et al., "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models" (2024, arXiv
/// 2406.08070), algorithm 2; ComfyUI's `euler_cfg_pp` and `euler_ancestral_cfg_pp`.
#[derive(Debug, Serialize, Deserialize)]
pub struct CfgPlusPlus {
    scale: f64,
    /// Combined x0 − uncond of the last evaluation.
    #[serde(skip)]
    change: RefCell<Option<Tensor>>,
}

impl CfgPlusPlus {
    /// Creates guidance with a scale; 0.6 to 1 is usual, and 0 follows the negative prompt alone.
    #[must_use]
    pub const fn new(scale: f64) -> Self {
        Self { scale, change: RefCell::new(None) }
    }
}

impl Combine for CfgPlusPlus {
    fn begin(&mut self, _: &[BranchInfo]) -> Result<()> {
        self.change.replace(None);
        if (0.0..=2.0).contains(&self.scale) {
            return Ok(());
        }
        Err(Error::parameter("CfgPlusPlus::scale", self.scale, "0 to 2; 0.6 to 1 is usual"))
    }

    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(2.0).branches(step)
    }

    fn combine(&self, _: &Step, predictions: &Predictions) -> Result<Tensor> {
        let (cond, uncond) = (predictions.x0(Branch::Cond)?, predictions.x0(Branch::Uncond)?);
        let change = cond.f_sub(uncond)?.f_mul_scalar(self.scale)?;
        let combined = uncond.f_add(&change)?;
        self.change.replace(Some(change));
        Ok(combined)
    }

    fn transition(&self, step: &Step, transition: &mut Transition) -> Result<()> {
        if let Some(change) = self.change.take() {
            // x0 + (x − uncond)·down/from instead of x0 + (x − x0)·down/from
            let left = transition.down / step.from;
            transition.mean = transition.mean.f_add(&change.f_mul_scalar(left)?)?;
        }
        Ok(())
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("CfgPlusPlus", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::Conditioning;
    use crate::diffusion::solver::{Euler, EulerAncestral, Eval, Solver};
    use crate::diffusion::{Input, Schedule, TrainingSchedule};
    use serde_json::Value;

    /// A model with a picture for each branch, combined by CFG++.
    struct Both<'a> {
        combine: &'a CfgPlusPlus,
        step: Step,
    }

    impl Eval for Both<'_> {
        fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
            let conditioning = Conditioning::new(Tensor::from(0.0));
            let inputs = [Branch::Uncond, Branch::Cond].map(|branch| Input::new(branch, x, &conditioning));
            let cond = (x / (1.0 + sigma)).tanh();
            let x0 = [&cond * 0.5 - 0.1, cond];
            self.combine.combine(&self.step, &Predictions::new(&self.step, &inputs, x0))
        }
        fn noise(&mut self) -> Result<Tensor> {
            panic!("nothing is drawn inside these steps")
        }
    }

    #[test]
    fn latents_are_those_of_the_paper() -> Result<()> {
        let golden: Value = crate::json::parse(include_str!("../../tests/golden/specs/guiders.json")).unwrap();
        let numbers = |value: &Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
        };
        let golden = &golden["cfg_plus_plus"];
        let schedule = Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &numbers(&golden["levels"]))?;
        let solvers: [(&str, Box<dyn Solver>); 2] =
            [("euler", Box::new(Euler)), ("euler_a", Box::new(EulerAncestral::default()))];
        for (name, mut solver) in solvers {
            let combine = CfgPlusPlus::new(golden["scale"].as_f64().unwrap());
            let mut x = Tensor::from_slice(&numbers(&golden["begin"])).reshape([1, 4, 1, 1]);
            for step in schedule.steps() {
                let mut transition = solver.step(&step, &x, &mut Both { combine: &combine, step })?;
                combine.transition(&step, &mut transition)?;
                x = transition.mean;
                let want = Tensor::from_slice(&numbers(&golden[name][step.index])).reshape([1, 4, 1, 1]);
                assert!(x.allclose(&want, 1e-9, 1e-9, false), "{name} step {}: {x} instead of {want}", step.index);
            }
        }
        Ok(())
    }

    #[test]
    fn wrong_scale_is_an_error() {
        for scale in [-0.1, 7.5, f64::NAN] {
            let error = CfgPlusPlus::new(scale).begin(&[]).unwrap_err().to_string();
            assert!(error.starts_with("CfgPlusPlus::scale is"), "{error}");
        }
    }
}
