//! [`Transition`]: a step, as the Gaussian the next latent is drawn from.

use super::noise::Noise;
use super::pulls::Pulls;
use crate::error::Result;
use tch::Tensor;

/// The Gaussian the next latent is drawn from, and who wants to move its mean.
///
/// A guidance edits `mean`, or better pulls on it: pulls of several guidances are combined whatever their order.
#[derive(Debug)]
#[non_exhaustive]
pub struct Transition {
    /// Its mean, [n, 4, h, w] f32, before pulls.
    pub mean: Tensor,
    /// Its standard deviation; 0 for deterministic solvers and for a last step that ends at 0.
    pub std: f64,
    /// Noise level left in `mean`. `down`² + `std`² = `step.to`², but for solvers that say otherwise.
    pub down: f64,
    /// The latent the step came from.
    pub x: Tensor,
    /// The clean image the step was based on.
    pub x0: Tensor,
    /// Pulls on `mean`.
    pub(crate) pulls: Pulls,
}

impl Transition {
    /// A transition that nobody pulls on.
    pub const fn new(mean: Tensor, std: f64, down: f64, x: Tensor, x0: Tensor) -> Self {
        Self { mean, std, down, x, x0, pulls: Pulls::none() }
    }

    /// Pulls the mean toward a target: a product of Gaussians (a product of experts), whatever the order of the pulls.
    ///
    /// `weight` is the variance of the mean over that of the target, w ≥ 0 and finite (up to 1e6 is exact enough), 0 where
    /// nothing is pulled: these cells keep their bits. `shift` is w·(target − base). With `base` = `mean` the noise in the
    /// mean shrinks along, with `base` = `x0` it does not. Both have the shape of the mean or broadcast to it: usually
    /// [n, 1, h, w] and [n, 4, h, w]. Together, mean′ = mean + Σ shift/(1 + Σ w).
    pub fn pull(&mut self, shift: Tensor, weight: Tensor) {
        self.pulls.add(shift, weight);
    }

    /// The mean after all pulls; the same tensor if there are none.
    pub fn resolve(&self) -> Result<Tensor> {
        self.pulls.apply(&self.mean)
    }

    /// Draws the next latent: the mean after all pulls + `std`·noise. Takes nothing from `noise` if `std` is 0.
    pub fn sample(self, noise: &mut Noise) -> Result<Tensor> {
        let mean = self.resolve()?;
        if self.std == 0.0 {
            return Ok(mean);
        }
        let noise = noise.draw(&mean.size())?.f_to_device(mean.device())?;
        Ok(mean.f_add(&noise.f_mul_scalar(self.std)?)?)
    }
}

/// The combined clean image of an evaluation, before the solver sees it, and who wants to move it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Denoised {
    /// The clean image, [n, 4, h, w] f32, before pulls.
    pub x0: Tensor,
    /// Pulls on `x0`.
    pub(crate) pulls: Pulls,
}

impl Denoised {
    /// A clean image that nobody pulls on.
    pub const fn new(x0: Tensor) -> Self {
        Self { x0, pulls: Pulls::none() }
    }

    /// Pulls the image toward a target, as [`Transition::pull`] does.
    ///
    /// ```
    /// use impasto::diffusion::Denoised;
    /// use tch::Tensor;
    ///
    /// let (x0, weight) = (Tensor::from(1.0), Tensor::from(1.0));
    /// let mut denoised = Denoised::new(x0.shallow_clone());
    /// denoised.pull(&weight * (3.0 - &x0), weight); // toward 3, as sure of it as the image is of 1
    /// assert_eq!(denoised.resolve()?, Tensor::from(2.0));
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn pull(&mut self, shift: Tensor, weight: Tensor) {
        self.pulls.add(shift, weight);
    }

    /// The image after all pulls; the same tensor if there are none.
    pub fn resolve(&self) -> Result<Tensor> {
        self.pulls.apply(&self.x0)
    }
}
