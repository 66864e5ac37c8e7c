//! Guidances, saliencies and combinations from their recipes.

use super::{
    Cfg, ColorForce, Combine, Daam, Differential, Guidance, ImageGuidance, PackageDaam, PaintWithWords, PromptBlend,
    Recorded, Region, RegionPrompts, RescaledCfg, Saliency, WordMaps,
};
use crate::error::Result;
use crate::recipe::Recipe;

/// The name of a sum of two.
pub(super) const SUM: &str = "Sum";

impl Recipe {
    /// The guidance it is of.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`](crate::error::Error::NotRepeatable) if it is none of this crate,
    /// [`Error::Malformed`](crate::error::Error::Malformed) if its settings are not.
    pub fn guidance(&self) -> Result<Box<dyn Guidance>> {
        self.clone().into_guidance()
    }

    fn into_guidance(self) -> Result<Box<dyn Guidance>> {
        Ok(match self.name.as_str() {
            "ColorForce" => Box::new(ColorForce::repeated(&self)?),
            "PaintWithWords" => Box::new(PaintWithWords::repeated(&self)?),
            "ImageGuidance" => Box::new(self.into_read::<ImageGuidance>()?),
            "PromptBlend" => Box::new(self.into_read::<PromptBlend>()?),
            "PackageDaam" => Box::new(PackageDaam::new(self.read()?)),
            "RegionPrompts" => Box::new(self.into_read::<RegionPrompts>()?),
            "WordMaps" => Box::new(self.into_read::<WordMaps>()?),
            SUM => {
                let (a, b): (Self, Self) = self.into_read()?;
                Box::new((a.into_guidance()?, b.into_guidance()?))
            }
            _ => self.into_saliency()?,
        })
    }

    /// The saliency it is of.
    ///
    /// # Errors
    /// As [`Recipe::guidance`].
    pub fn saliency(&self) -> Result<Box<dyn Saliency>> {
        self.clone().into_saliency()
    }

    fn into_saliency(self) -> Result<Box<dyn Saliency>> {
        Ok(match self.name.as_str() {
            "Daam" => Box::new(self.into_read::<Daam>()?),
            "Differential" => Box::new(self.into_read::<Differential>()?),
            "Recorded" => Box::new(self.into_read::<Recorded>()?),
            "Region" => Box::new(self.into_read::<Region>()?),
            SUM => {
                let (a, b): (Self, Self) = self.into_read()?;
                Box::new((a.into_saliency()?, b.into_saliency()?))
            }
            _ => return Err(self.unknown("guidance")),
        })
    }

    /// The combination of branches it is of.
    ///
    /// # Errors
    /// As [`Recipe::guidance`].
    pub fn combine(&self) -> Result<Box<dyn Combine>> {
        Ok(match self.name.as_str() {
            "Cfg" => Box::new(self.read::<Cfg>()?),
            "RescaledCfg" => Box::new(self.read::<RescaledCfg>()?),
            _ => return Err(self.unknown("combination")),
        })
    }
}
