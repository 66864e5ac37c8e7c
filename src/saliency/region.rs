//! A drawn region as saliency.

use super::{Saliency, SaliencyRun};
use crate::error::Result;
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::mask::Region;
use crate::recipe::Recipe;
use tch::Tensor;

impl Guidance for Region {
    fn check(&self) -> Result<()> {
        Self::check(self)
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        Ok(self.find(setup)?)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Region", self)
    }

    fn name(&self) -> &'static str {
        "Region"
    }
}

impl Saliency for Region {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        Ok(Box::new(Fixed(self.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?)))
    }
}

/// The map of a region in one run, [n, 1, h, w].
struct Fixed(Tensor);

impl GuidanceRun for Fixed {}

impl SaliencyRun for Fixed {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(Some(self.0.shallow_clone()))
    }
}
