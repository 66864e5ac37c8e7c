//! A drawn region as saliency.

use super::Saliency;
use crate::error::Result;
use crate::guidance::{Guidance, Setup};
use crate::mask::Region;
use crate::recipe::Recipe;
use tch::Tensor;

impl Guidance for Region {
    fn check(&self) -> Result<()> {
        Self::check(self)
    }
    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        self.map = Some(self.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?);
        Ok(())
    }
    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Region", self)
    }
    fn name(&self) -> &'static str {
        "Region"
    }
}

impl Saliency for Region {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(self.map.as_ref().map(Tensor::shallow_clone))
    }
}
