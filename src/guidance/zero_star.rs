//! [`CfgZeroStar`]: guidance whose negative prediction has the best scale.

use super::cfg::OF_IMAGE;
use super::{Cfg, Combine};
use crate::branch::{Branch, BranchInfo};
use crate::diffusion::Predictions;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Number that keeps the division by an output of zeros finite.
const LEAST: f64 = 1e-8;

/// CFG-Zero*: classifier-free guidance away from s·uncond, where s brings the network's output for the negative prompt
/// as near as possible to the output for the prompt: s = ⟨cond, uncond⟩ / ‖uncond‖², for each image. The result is
/// s·uncond + scale · (cond − s·uncond). At a scale of 1 and below there is no guidance, as with [`Cfg`].
///
/// ```
/// use impasto::Pipeline;
/// use impasto::guidance::CfgZeroStar;
///
/// # fn main() -> impasto::Result<()> {
/// let pipeline = Pipeline::builder().build()?;
/// let guidance = CfgZeroStar { scale: 7.5, zero_steps: 0 };
/// pipeline.request("a red boat").seed(7).steps(2).combine(guidance).run()?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::Parameter`](crate::Error::Parameter) at the start of a run for a scale that [`Cfg`] rejects.
///
/// Source: Fan et al., "CFG-Zero*: Improved Classifier-Free Guidance for Flow Matching Models" (arXiv 2503.18886).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CfgZeroStar {
    /// Guidance scale, as in [`Cfg`]; 7.5 is usual.
    pub scale: f64,
    /// Number of steps at the beginning in which the network's output is replaced by zeros. The paper has it for models
    /// of flow matching, in which a zero leaves the latent as it is; other models need 0.
    pub zero_steps: usize,
}

impl Combine for CfgZeroStar {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        Cfg(self.scale).begin(branches)
    }

    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(self.scale).branches(step)
    }

    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
        let output = |branch| predictions.output(branch, predictions.x0(branch)?);
        if step.index < self.zero_steps {
            return predictions.meaning(Branch::Cond, &output(Branch::Cond)?.f_zeros_like()?);
        }
        if self.scale <= 1.0 {
            return Ok(predictions.x0(Branch::Cond)?.shallow_clone());
        }
        let (cond, uncond) = (output(Branch::Cond)?, output(Branch::Uncond)?);
        let sum = |x: &Tensor| x.f_sum_dim_intlist(&OF_IMAGE[..], true, Kind::Double);
        let best = sum(&cond.f_mul(&uncond)?)?.f_div(&sum(&uncond.f_square()?)?.f_add_scalar(LEAST)?)?;
        let from = uncond.f_mul(&best.f_to_kind(uncond.f_kind()?)?)?;
        predictions.meaning(Branch::Cond, &from.f_add(&cond.f_sub(&from)?.f_mul_scalar(self.scale)?)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("CfgZeroStar", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guidance::guiders;

    #[test]
    fn outputs_are_those_of_the_reference() -> Result<()> {
        guiders::compare("zero_star", CfgZeroStar { scale: 7.5, zero_steps: 0 })?;
        guiders::compare("zero_star_zeros", CfgZeroStar { scale: 4.0, zero_steps: 1 })
    }

    #[test]
    fn wrong_scale_is_an_error() {
        let error = CfgZeroStar { scale: f64::NAN, zero_steps: 0 }.begin(&[]).unwrap_err();
        assert!(error.to_string().starts_with("guidance_scale is"), "{error}");
    }
}
