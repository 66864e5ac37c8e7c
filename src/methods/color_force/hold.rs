//! Holding: cells without anything of a forced object keep the first pass's content.

use crate::diffusion::Pulls;
use crate::error::Result;
use crate::saliency::Seen;
use tch::{Device, Tensor};

/// Share of a cell below which the cell has nothing of the object's material.
const NOTHING: f64 = 0.03;
/// Largest difference of two clean latents of one run, in latent units. A GPU may add numbers in another order.
const SAME: f64 = 0.01;

/// The content that a run holds.
pub(super) struct Hold {
    seen: Seen,
    /// True if the run was the same as the first pass at the force's first step; `None` before that step.
    same: Option<bool>,
}

impl Hold {
    /// Holds what a first pass has seen, on the device of the run.
    pub(super) fn new(seen: &Seen, device: Device) -> Result<Self> {
        Ok(Self { seen: seen.on(device)?, same: None })
    }

    /// Returns the latents if cells were held.
    pub(super) fn used(&self) -> Option<&Seen> {
        Some(&self.seen).filter(|_| self.same == Some(true))
    }

    /// Holds the cells with less than .03 of the object's material, in images with a forced cell.
    ///
    /// `x0` is the clean latent before the force, and `base` is what the pulls move. `share` has the share of material
    /// in each cell, and `mask` has the forced cells.
    ///
    /// Nothing is held if the run differs from the first pass at the force's first step, as after a force that began
    /// earlier.
    pub(super) fn add_to(
        &mut self,
        pulls: &mut Pulls,
        x0: &Tensor,
        base: &Tensor,
        share: &Tensor,
        mask: &Tensor,
    ) -> Result<()> {
        let same = match self.same {
            Some(same) => same,
            None => is_same(x0, &self.seen.first)?,
        };
        self.same = Some(same);
        if same {
            let forced = mask.f_amax([1i64, 2, 3], true)?.f_gt(0.0)?;
            pulls.hold(self.seen.last.f_sub(base)?, share.f_lt(NOTHING)?.f_logical_and(&forced)?);
        }
        Ok(())
    }
}

/// Returns true if two clean latents belong to the same run.
fn is_same(x0: &Tensor, other: &Tensor) -> Result<bool> {
    Ok(x0.size() == other.size() && x0.f_sub(other)?.f_abs()?.f_max()?.f_double_value(&[])? <= SAME)
}
