//! Calls of every guidance method in turn, and checks of the latents that they return.

use crate::error::{Error, Result, blame};
use crate::guidance::{Attached, GuidanceRun};
use tch::Tensor;

/// Calls every guidance method in turn. Errors carry the name of the method, the phase and, if there is one, the step.
pub(super) fn each(
    guidances: &mut [Attached<'_>],
    (phase, step): (&'static str, Option<usize>),
    mut call: impl FnMut(&mut dyn GuidanceRun) -> Result<()>,
) -> Result<()> {
    every(guidances, (phase, step), |guidance| guidance.run_mut().map_or(Ok(()), &mut call))
}

/// Calls everything that is attached to a run in turn, as [`each`] does.
pub(super) fn every(
    guidances: &mut [Attached<'_>],
    (phase, step): (&'static str, Option<usize>),
    mut call: impl FnMut(&mut Attached<'_>) -> Result<()>,
) -> Result<()> {
    guidances.iter_mut().try_for_each(|guidance| blame(call(guidance), guidance.name(), phase, step))
}

/// Checks that a guidance method kept the shape of a latent. Methods may change values, but not the shape.
pub(super) fn keeps(what: &'static str, latent: &Tensor, shape: &[i64]) -> Result<()> {
    if latent.size() == shape {
        return Ok(());
    }
    Err(Error::Shape { what, got: latent.size(), expected: format!("{shape:?}, the shape of the run's latent") })
}
