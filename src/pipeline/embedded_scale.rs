//! A guidance scale that the network embeds.

use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::error::{Error, Result};
use crate::guidance::Guidance;

/// Passes the guidance scale to a distilled network. The network imitates guidance of that scale, so no guidance is
/// applied to it.
///
/// Source: Luo et al., "Latent Consistency Models" (2023), w of 4.3: one less than the scale.
pub(super) struct EmbeddedScale(pub f64);

impl Guidance for EmbeddedScale {
    fn check(&self) -> Result<()> {
        if self.0.is_finite() && self.0 >= 0.0 {
            return Ok(());
        }
        Err(Error::parameter("guidance scale", self.0, "0 or more; 8 is usual for a network that embeds it"))
    }

    fn condition(&mut self, _: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        conditioning.during(0..usize::MAX, |part| {
            part.guidance = Some(self.0 - 1.0);
            Ok(())
        })
    }
}
