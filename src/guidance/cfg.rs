//! Classifier-free guidance: combines the predictions of several branches into one.

use crate::branch::{Branch, BranchInfo};
use crate::diffusion::{Predictions, Transition};
use crate::error::{Error, Result};
use crate::recipe::{Kind, Recipe};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// All axes of a prediction except that of the images.
pub(super) const OF_IMAGE: [i64; 3] = [1, 2, 3];

/// Way to combine the predictions of several branches into one.
///
/// ```
/// use impasto::diffusion::Predictions;
/// use impasto::guidance::Combine;
/// use impasto::{Branch, Pipeline, Result, Step};
/// use tch::Tensor;
///
/// /// Classifier-free guidance whose scale falls from 9 to 3 during the run.
/// struct Falling;
///
/// impl Combine for Falling {
///     fn branches(&self, _: &Step) -> Vec<Branch> {
///         vec![Branch::Uncond, Branch::Cond]
///     }
///     fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
///         let scale = 9.0 - 6.0 * step.index as f64 / step.count as f64;
///         let (cond, uncond) = (predictions.x0(Branch::Cond)?, predictions.x0(Branch::Uncond)?);
///         Ok(uncond.f_lerp(cond, scale)?) // uncond + scale·(cond − uncond)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(2).combine(Falling).run()?;
/// # Ok(()) }
/// ```
pub trait Combine: Send {
    /// Validates the settings, and finds the branches to combine by their role. Called before the first step.
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        let _ = branches;
        Ok(())
    }

    /// Returns the branches that the combination needs at this step.
    fn branches(&self, step: &Step) -> Vec<Branch>;

    /// Returns the combined x0, [n, c, h, w] f32.
    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor>;

    /// Moves the Gaussian that the next latent is drawn from. Called once per step, before the guidance methods.
    /// Default: no change.
    ///
    /// # Errors
    /// Any error that ends the run.
    fn transition(&self, step: &Step, transition: &mut Transition) -> Result<()> {
        let _ = (step, transition);
        Ok(())
    }

    /// Returns a recipe that is stored in files, and from which this value can be made again, like
    /// [`Guidance::recipe`](crate::guidance::Guidance::recipe).
    ///
    /// # Errors
    /// [`Error::NotRepeatable`], which this default returns.
    fn recipe(&self) -> Result<Recipe> {
        Err(Error::NotRepeatable { what: format!("the combination {}", std::any::type_name::<Self>()) })
    }
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
    fn transition(&self, step: &Step, transition: &mut Transition) -> Result<()> {
        (**self).transition(step, transition)
    }
    fn recipe(&self) -> Result<Recipe> {
        (**self).recipe()
    }
}

/// Classifier-free guidance with a scale: uncond + scale · (cond − uncond). At 1 and below, as in diffusers, there is
/// no guidance, and the negative prompt is not evaluated.
///
/// # Errors
/// [`Error::Parameter`] at the start of a run if the scale is negative or not finite.
///
/// Source: Ho and Salimans, Classifier-Free Diffusion Guidance (2022). The weights sum to one, so combining x0 equals
/// combining ε.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cfg(
    /// Guidance scale; 4 to 9 is usual.
    pub f64,
);

impl Combine for Cfg {
    fn begin(&mut self, _: &[BranchInfo]) -> Result<()> {
        if self.0.is_finite() && self.0 >= 0.0 {
            return Ok(());
        }
        Err(Error::parameter("guidance_scale", self.0, "a number of 0 or more; 4 to 9 is usual, 1 is no guidance"))
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

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Cfg", self)
    }
}

/// Classifier-free guidance with the contrast scaled back to that of the unguided prediction. Large scales overexpose
/// pictures of models with zero terminal SNR; this rescaling reduces the overexposure.
///
/// The result is o' = φ·o·std(o_cond)/std(o) + (1 − φ)·o, where o_cond is the network's output for the prompt, and o
/// the guided output. Standard deviations are per image. At a scale of 1 and below there is no guidance, as with
/// [`Cfg`].
///
/// # Errors
/// [`Error::Parameter`] at the start of a run if φ is not in 0..=1, or for a scale that [`Cfg`] rejects.
///
/// Source: Lin et al. (2023), "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4; diffusers'
/// `guidance_rescale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RescaledCfg {
    /// Guidance scale, as in [`Cfg`]; 7.5 is usual.
    pub scale: f64,
    /// Share φ of the rescaled output, from 0 (plain [`Cfg`]) to 1; 0.7 is usual.
    pub rescale: f64,
}

/// Checks that a rescale is in its range.
///
/// # Errors
/// [`Error::Parameter`] for a number outside 0..=1.
pub(crate) fn check_rescale(rescale: f64) -> Result<()> {
    if (0.0..=1.0).contains(&rescale) {
        return Ok(());
    }
    Err(Error::parameter("guidance_rescale", rescale, "0 (none) to 1; 0.7 is usual"))
}

impl Combine for RescaledCfg {
    fn begin(&mut self, branches: &[BranchInfo]) -> Result<()> {
        check_rescale(self.rescale)?;
        Cfg(self.scale).begin(branches)
    }

    fn branches(&self, step: &Step) -> Vec<Branch> {
        Cfg(self.scale).branches(step)
    }

    fn combine(&self, step: &Step, predictions: &Predictions) -> Result<Tensor> {
        let combined = Cfg(self.scale).combine(step, predictions)?;
        if self.scale <= 1.0 || self.rescale == 0.0 {
            return Ok(combined);
        }
        let of = |x0: &Tensor| predictions.output(Branch::Cond, x0);
        let (cond, combined) = (of(predictions.x0(Branch::Cond)?)?, of(&combined)?);
        let std = |output: &Tensor| output.f_std_dim(OF_IMAGE.as_slice(), true, true);
        // φ·std(o_cond)/std(o) + 1 − φ
        let factor =
            std(&cond)?.f_div(&std(&combined)?)?.f_mul_scalar(self.rescale)?.f_add_scalar(1.0 - self.rescale)?;
        predictions.meaning(Branch::Cond, &combined.f_mul(&factor)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("RescaledCfg", self)
    }
}

impl Kind for dyn Combine {
    const NAME: &'static str = "combination";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioning::Conditioning;
    use crate::diffusion::{Input, Prediction};
    use serde_json::Value;

    fn combined(scale: f64, rescale: f64, prediction: Prediction) -> (Tensor, Tensor) {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap();
        let golden = &golden["guidance_rescale"];
        let of = |name: &str| {
            let values: Vec<f64> =
                golden[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            Tensor::from_slice(&values).reshape([1, 4, 3, 3])
        };
        let (step, x) = (Step::new(0, 1, 2.0, 0.0, 500.0), of("uncond") * 3.0 + 1.0);
        let conditioning = Conditioning::new(Tensor::from(0.0));
        let inputs = [Branch::Uncond, Branch::Cond].map(|branch| Input::new(branch, &x, &conditioning));
        let x0 = ["uncond", "cond"].map(|name| prediction.x0(&of(name), &x, 2.0).unwrap());
        let predictions = Predictions::new(&step, &inputs, x0).of(prediction);
        let x0 = RescaledCfg { scale, rescale }.combine(&step, &predictions).unwrap();
        (prediction.output(&x0, &x, 2.0).unwrap(), if scale > 1.0 { of("out") } else { of("cond") })
    }

    #[test]
    fn rescaled_outputs_match_the_reference() {
        for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Sample, Prediction::Flow] {
            let (got, want) = combined(7.5, 0.7, prediction);
            assert!(got.allclose(&want, 1e-8, 1e-8, false), "{prediction:?}");
            let (got, want) = combined(1.0, 0.7, prediction);
            assert!(got.allclose(&want, 1e-8, 1e-8, false), "no guidance, {prediction:?}");
        }
    }

    #[test]
    fn rescale_outside_its_range_is_an_error() {
        for rescale in [-0.1, 1.1, f64::NAN] {
            let error = RescaledCfg { scale: 7.5, rescale }.begin(&[]).unwrap_err().to_string();
            assert!(error.starts_with("guidance_rescale is"), "{error}");
        }
        assert!(RescaledCfg { scale: -1.0, rescale: 0.7 }.begin(&[]).is_err());
    }
}
