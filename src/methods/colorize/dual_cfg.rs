//! [`DualCfg`]: guidance by the reference and by the sketch.

use crate::branch::{Branch, BranchInfo};
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::guidance::{Cfg, Combine};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Role of the branch without the sketch, in a model that colors sketches.
pub(super) const WITHOUT_SKETCH: &str = "without the sketch";

/// Classifier-free guidance away from two branches: `Uncond`, which has no reference, and a branch without the sketch.
///
/// With both scales above 1 the result is the mean of uncond + r·(cond − uncond) and without + s·(cond − without). Here
/// r and s are the scales of reference and sketch, and `without` is the prediction without the sketch. With a scale
/// of 1 or less there is no guidance away from the scale's branch, and this branch is not evaluated.
///
/// # Errors
/// [`Error::Parameter`] at the start of a run if a scale is negative or not finite, or if the sketch scale is above 1
/// and no method adds the branch without the sketch. [`Colorize`](super::Colorize) adds that branch.
///
/// Source: ColorizeDiffusion (arXiv 2401.01456), dual conditioning.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DualCfg {
    /// Scale of the reference; 4 is usual.
    pub reference: f64,
    /// Scale of the sketch; 1 is usual.
    pub sketch: f64,
    /// Branch without the sketch, found when a run begins.
    #[serde(skip)]
    without: Option<Branch>,
}

impl DualCfg {
    /// Creates guidance by the reference and by the sketch, with a scale for each.
    pub const fn new(reference: f64, sketch: f64) -> Self {
        Self { reference, sketch, without: None }
    }
}

impl Combine for DualCfg {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        for scale in [self.reference, self.sketch] {
            Cfg(scale).begin(branches)?;
        }
        self.without = branches.iter().find(|info| info.role == WITHOUT_SKETCH).map(|info| info.branch);
        if self.sketch > 1.0 && self.without.is_none() {
            let expected =
                "1 or less, because no branch without the sketch exists; add the guidance method Colorize for more";
            return Err(Error::parameter("sketch scale", self.sketch, expected));
        }
        Ok(())
    }

    fn branches(&self, _: &Step) -> Vec<Branch> {
        let without = self.without.filter(|_| self.sketch > 1.0);
        let uncond = (self.reference > 1.0).then_some(Branch::Uncond);
        without.into_iter().chain(uncond).chain([Branch::Cond]).collect()
    }

    fn combine(&self, _: &Step, predictions: &Predictions) -> Result<Tensor> {
        let cond = predictions.x0(Branch::Cond)?;
        let away = |from: Branch, scale: f64| -> Result<Tensor> {
            let from = predictions.x0(from)?;
            Ok(from.f_add(&cond.f_sub(from)?.f_mul_scalar(scale)?)?)
        };
        match (self.reference > 1.0, self.without.filter(|_| self.sketch > 1.0)) {
            (false, None) => Ok(cond.shallow_clone()),
            (true, None) => away(Branch::Uncond, self.reference),
            (false, Some(without)) => away(without, self.sketch),
            (true, Some(without)) => {
                let both = away(Branch::Uncond, self.reference)?.f_add(&away(without, self.sketch)?)?;
                Ok(both.f_mul_scalar(0.5)?)
            }
        }
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("DualCfg", self)
    }
}
