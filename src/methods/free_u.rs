//! [`FreeU`]: other weights of the UNet's backbone and of its skip connections.

use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning, FreeUFactors};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// FreeU: in the two smallest blocks of the UNet's expanding half, the features from below count more, and the low
/// frequencies of the skip connections count less. Pictures gain structure, and lose some of their fine patterns. The
/// method needs no further branch. A network that is a transformer has no such connections, and its run ends with an
/// error.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::methods::FreeU;
/// let pipeline = Pipeline::builder().guide(FreeU::sd15()).build()?;
/// let output = pipeline.request("a red boat, blue sky").seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: Si et al. (2023), "FreeU: Free Lunch in Diffusion U-Net" (arXiv 2309.11497); diffusers' `apply_freeu`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct FreeU(FreeUFactors);

impl FreeU {
    /// Creates the method with the factors of the backbone and of the skip connections, 0..=4 each. The first of each
    /// two is that of the smallest grid; 1 changes nothing.
    pub const fn new(backbone: [f64; 2], skip: [f64; 2]) -> Self {
        Self(FreeUFactors { backbone, skip })
    }

    /// Creates the method with the factors that its authors use for Stable Diffusion 1.5.
    pub const fn sd15() -> Self {
        Self::new([1.5, 1.6], [0.9, 0.2])
    }

    /// Creates the method with the factors that its authors use for SDXL.
    pub const fn sdxl() -> Self {
        Self::new([1.3, 1.4], [0.9, 0.2])
    }
}

impl Guidance for FreeU {
    fn check(&self) -> Result<()> {
        let (backbone, skip) = (self.0.backbone, self.0.skip);
        match backbone.into_iter().chain(skip).find(|factor| !(0.0..=4.0).contains(factor)) {
            Some(factor) => Err(Error::parameter("a factor of FreeU", factor, "0..=4; 1 changes nothing")),
            None => Ok(()),
        }
    }

    fn begin(&self, _: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(Box::new(*self))
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("FreeU", self)
    }

    fn name(&self) -> &'static str {
        "FreeU"
    }
}

impl GuidanceRun for FreeU {
    fn condition(&mut self, _: &BranchInfo, conditioning: &mut Conditioning, _: &dyn Codec) -> Result<()> {
        conditioning.during(0..usize::MAX, |part| {
            part.extras.set(self.0);
            Ok(())
        })
    }

    fn name(&self) -> &'static str {
        "FreeU"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_factors_are_errors() {
        for method in [FreeU::new([1.0, -1.0], [1.0; 2]), FreeU::new([1.0; 2], [f64::NAN, 1.0])] {
            assert!(method.check().unwrap_err().to_string().starts_with("a factor of FreeU is"));
        }
        FreeU::sdxl().check().unwrap();
    }
}
