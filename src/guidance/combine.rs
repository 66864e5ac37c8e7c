//! Making one prediction of several.

use crate::branch::{Branch, BranchInfo};
use crate::diffusion::Predictions;
use crate::error::{Error, Result};
use crate::step::Step;
use tch::Tensor;

/// Makes one prediction of several.
pub trait Combine: Send {
    /// Before the first step: validates, and finds the branches it combines by role.
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        let _ = branches;
        Ok(())
    }

    /// The branches it needs at this step.
    fn branches(&self, step: &Step) -> Vec<Branch>;

    /// One x0, [n, 4, h, w] f32.
    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor>;
}

impl<C: Combine + ?Sized> Combine for Box<C> {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        (**self).begin(branches)
    }
    fn branches(&self, step: &Step) -> Vec<Branch> {
        (**self).branches(step)
    }
    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
        (**self).combine(step, predictions)
    }
}

/// Classifier-free guidance with a scale: uncond + scale · (cond − uncond). At 1 and below, as in diffusers, there is
/// no guidance and the negative prompt is not evaluated.
///
/// # Errors
/// [`Error::Parameter`] at the start of a run if the scale is negative or not finite.
///
/// Source: Ho and Salimans, Classifier-Free Diffusion Guidance (2022). The weights sum to one, so combining x0 equals
/// combining ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cfg(
    /// 4 to 9 is usual.
    pub f64,
);

impl Combine for Cfg {
    fn begin(&mut self, _: &[BranchInfo]) -> Result<()> {
        if self.0.is_finite() && self.0 >= 0.0 {
            return Ok(());
        }
        Err(Error::parameter("guidance scale", self.0, "a number of 0 or more; 4 to 9 is usual, 1 is no guidance"))
    }

    fn branches(&self, _: &Step) -> Vec<Branch> {
        if self.0 > 1.0 { vec![Branch::Uncond, Branch::Cond] } else { vec![Branch::Cond] }
    }

    fn combine(&self, _: &Step, predictions: &Predictions) -> Result<Tensor> {
        let cond = predictions.x0(Branch::Cond)?;
        if self.0 <= 1.0 {
            return Ok(cond.shallow_clone());
        }
        let uncond = predictions.x0(Branch::Uncond)?;
        Ok(uncond.f_add(&cond.f_sub(uncond)?.f_mul_scalar(self.0)?)?)
    }
}
