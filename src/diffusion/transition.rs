//! [`Transition`]: the Gaussian that a step draws the next latent from.

use super::noise::Noise;
use super::pulls::Pulls;
use crate::error::Result;
use tch::Tensor;

/// The Gaussian that the next latent is drawn from, with the pulls on its mean.
///
/// A guidance method edits `mean`, or preferably calls [`Transition::pull`]: pulls of several guidance methods are
/// combined independently of their order.
#[derive(Debug)]
#[non_exhaustive]
pub struct Transition {
    /// Mean of the Gaussian, [n, c, h, w] f32, before pulls.
    pub mean: Tensor,
    /// Standard deviation of the Gaussian; 0 for deterministic solvers and for a last step that ends at 0.
    pub std: f64,
    /// Noise level left in `mean`. `down`² + `std`² = `step.to`², except for solvers that document otherwise.
    pub down: f64,
    /// The latent that the step started from.
    pub x: Tensor,
    /// The clean picture x0 that the solver computed the step from, [n, c, h, w] f32.
    pub x0: Tensor,
    /// Pulls on `mean`.
    pub(crate) pulls: Pulls,
}

impl Transition {
    /// Creates a transition without pulls.
    pub const fn new(mean: Tensor, std: f64, down: f64, x: Tensor, x0: Tensor) -> Self {
        Self { mean, std, down, x, x0, pulls: Pulls::none() }
    }

    /// Pulls the mean toward a target, as a product of Gaussians (a product of experts). The order of pulls does not
    /// matter.
    ///
    /// `weight` is w, the variance of the mean divided by the variance of the target. w is 0 or more and finite; values
    /// up to 1e6 are exact enough. Cells with weight 0 stay the same, bit for bit. `shift` is w·(target − base). With
    /// `base` = `mean`, the pull also shrinks the noise in the mean; with `base` = `x0`, the pull leaves that noise as
    /// it is. Both tensors have the shape of the mean or broadcast to that shape: usually `weight` is [n, 1, h, w] and
    /// `shift` is [n, c, h, w]. All pulls together give mean′ = mean + (Σ shift)/(1 + Σ w).
    pub fn pull(&mut self, shift: Tensor, weight: Tensor) {
        self.pulls.add(shift, weight);
    }

    /// The mean after all pulls; the same tensor if there are no pulls.
    pub fn resolve(&self) -> Result<Tensor> {
        self.pulls.apply(&self.mean)
    }

    /// Draws the next latent: the mean after all pulls + `std`·noise. Draws nothing from `noise` if `std` is 0.
    pub fn sample(self, noise: &mut Noise) -> Result<Tensor> {
        let mean = self.resolve()?;
        if self.std == 0.0 {
            return Ok(mean);
        }
        let noise = noise.draw(&mean.size())?.f_to_device(mean.device())?;
        Ok(mean.f_add(&noise.f_mul_scalar(self.std)?)?)
    }
}

/// The clean picture x0 of an evaluation, combined from all branches, before the solver sees it; and the pulls on x0.
#[derive(Debug)]
#[non_exhaustive]
pub struct Denoised {
    /// The clean picture x0, [n, c, h, w] f32, before pulls.
    pub x0: Tensor,
    /// Pulls on `x0`.
    pub(crate) pulls: Pulls,
}

impl Denoised {
    /// Creates a clean picture without pulls.
    pub const fn new(x0: Tensor) -> Self {
        Self { x0, pulls: Pulls::none() }
    }

    /// Pulls x0 toward a target, as [`Transition::pull`] does with the mean.
    ///
    /// ```
    /// use impasto::diffusion::Denoised;
    /// use tch::Tensor;
    ///
    /// let (x0, weight) = (Tensor::from(1.0), Tensor::from(1.0));
    /// let mut denoised = Denoised::new(x0.shallow_clone());
    /// denoised.pull(&weight * (3.0 - &x0), weight); // toward 3, with equal variances
    /// assert_eq!(denoised.resolve()?, Tensor::from(2.0));
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn pull(&mut self, shift: Tensor, weight: Tensor) {
        self.pulls.add(shift, weight);
    }

    /// The clean picture after all pulls; the same tensor if there are no pulls.
    pub fn resolve(&self) -> Result<Tensor> {
        self.pulls.apply(&self.x0)
    }
}
