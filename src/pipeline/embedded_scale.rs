//! A guidance scale that the network embeds.

use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};

/// Passes the guidance scale to a distilled network. The network imitates guidance of that scale, so the sampler
/// applies no guidance of its own.
///
/// Source: Luo et al., "Latent Consistency Models" (2023), section 4.3: the embedded number w is the scale minus 1.
#[derive(Clone, Copy)]
pub(super) struct EmbeddedScale(pub f64);

impl Guidance for EmbeddedScale {
    fn check(&self) -> Result<()> {
        if self.0.is_finite() && self.0 >= 0.0 {
            return Ok(());
        }
        Err(Error::parameter("guidance_scale", self.0, "0 or more; 8 is usual for a network that embeds the scale"))
    }

    fn begin(&self, _: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(*self))
    }
}

impl GuidanceRun for EmbeddedScale {
    fn condition(&mut self, _: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        conditioning.during(0..usize::MAX, |part| {
            part.guidance = Some(self.0 - 1.0);
            Ok(())
        })
    }
}
