//! Creation of guidance methods from their recipes.

use super::{
    ColorForce, Colorize, ImageGuidance, PaintWithWords, PerturbedAttention, PromptBlend, ReferenceColor, RegionPrompts,
};
use crate::error::Result;
use crate::guidance::{Guidance, SUM};
use crate::recipe::Recipe;
use crate::saliency::WordMaps;
use crate::saliency::daam::package::PackageDaam;
use serde::de::DeserializeOwned;

type Read = fn(Recipe) -> Result<Box<dyn Guidance>>;

/// Every guidance method of the crate that is not a saliency: the name in recipes, and the function that creates the
/// method.
const METHODS: &[(&str, Read)] = &[
    ("ColorForce", |recipe| Ok(Box::new(ColorForce::repeated(&recipe)?))),
    ("Colorize", read::<Colorize>),
    ("ImageGuidance", read::<ImageGuidance>),
    ("PackageDaam", |recipe| Ok(Box::new(PackageDaam::new(recipe.into_read()?)))),
    ("PaintWithWords", |recipe| Ok(Box::new(PaintWithWords::repeated(&recipe)?))),
    ("PerturbedAttention", read::<PerturbedAttention>),
    ("PromptBlend", read::<PromptBlend>),
    ("ReferenceColor", read::<ReferenceColor>),
    ("RegionPrompts", read::<RegionPrompts>),
    ("WordMaps", read::<WordMaps>),
    (SUM, |recipe| {
        let (a, b): (Recipe, Recipe) = recipe.into_read()?;
        Ok(Box::new((a.into_guidance()?, b.into_guidance()?)))
    }),
];

/// Creates a method by deserializing its settings.
fn read<G: Guidance + DeserializeOwned + 'static>(recipe: Recipe) -> Result<Box<dyn Guidance>> {
    Ok(Box::new(recipe.into_read::<G>()?))
}

impl Recipe {
    /// Makes the guidance method that the recipe describes.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`](crate::error::Error::NotRepeatable) if the method does not belong to this crate,
    /// [`Error::Malformed`](crate::error::Error::Malformed) if the settings do not fit the method.
    pub fn guidance(&self) -> Result<Box<dyn Guidance>> {
        self.clone().into_guidance()
    }

    fn into_guidance(self) -> Result<Box<dyn Guidance>> {
        match METHODS.iter().find(|(name, _)| *name == self.name) {
            Some((_, read)) => read(self),
            None => Ok(self.into_saliency()?),
        }
    }
}
