//! [`Axis`]: the quantity that a solver integrates slopes over.

use crate::error::Result;
use crate::step::{Process, Step};
use tch::Tensor;

/// The quantity that a solver integrates slopes over, with its own scale of latents: the noise level σ with slopes
/// (x − x0)/σ, or the time t of a flow with latents x/(1 + σ) and velocities as slopes.
///
/// A straight line over one is a straight line over the other, so that methods of first order need no axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis(Process);

impl Axis {
    /// Returns the axis of a step's model.
    pub(super) const fn of(step: &Step) -> Self {
        Self(step.process)
    }

    /// Returns the place of a noise level on the axis.
    pub(super) fn place(self, sigma: f64) -> f64 {
        match self.0 {
            Process::Diffusion => sigma,
            Process::Flow => sigma / (1.0 + sigma),
        }
    }

    /// Returns the noise level of a place on the axis.
    pub(super) fn level(self, place: f64) -> f64 {
        match self.0 {
            Process::Diffusion => place,
            Process::Flow => place / (1.0 - place),
        }
    }

    /// Returns the slope of the line from x0 through `x` at a noise level.
    pub(super) fn slope(self, x: &Tensor, x0: &Tensor, sigma: f64) -> Result<Tensor> {
        let noise = x.f_sub(x0)?.f_div_scalar(sigma)?;
        match self.0 {
            Process::Diffusion => Ok(noise),
            Process::Flow => Ok(noise.f_sub(x0)?),
        }
    }

    /// Converts a latent of sigma space at a noise level to the axis's scale.
    pub(super) fn coordinates(self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        match self.0 {
            Process::Diffusion => Ok(x.shallow_clone()),
            Process::Flow => Ok(x.f_div_scalar(1.0 + sigma)?),
        }
    }

    /// Converts a latent in the axis's scale to sigma space.
    pub(super) fn latent(self, coordinates: Tensor, sigma: f64) -> Result<Tensor> {
        match self.0 {
            Process::Diffusion => Ok(coordinates),
            Process::Flow => Ok(coordinates.f_mul_scalar(1.0 + sigma)?),
        }
    }
}
