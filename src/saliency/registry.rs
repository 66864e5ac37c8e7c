//! Reading of saliency methods from their recipes.

use super::{Daam, Differential, Recorded, Saliency, Spread};
use crate::error::Result;
use crate::guidance::SUM;
use crate::mask::Region;
use crate::recipe::Recipe;
use serde::de::DeserializeOwned;

type Read = fn(Recipe) -> Result<Box<dyn Saliency>>;

/// Every saliency method of the crate: its name in recipes, and the function that reads it.
const SALIENCIES: &[(&str, Read)] = &[
    ("Daam", read::<Daam>),
    ("Differential", read::<Differential>),
    ("Recorded", read::<Recorded>),
    ("Region", read::<Region>),
    ("Spread", read::<Spread>),
    (SUM, |recipe| {
        let (a, b): (Recipe, Recipe) = recipe.into_read()?;
        Ok(Box::new((a.into_saliency()?, b.into_saliency()?)))
    }),
];

fn read<S: Saliency + DeserializeOwned + 'static>(recipe: Recipe) -> Result<Box<dyn Saliency>> {
    Ok(Box::new(recipe.into_read::<S>()?))
}

impl Recipe {
    /// Returns the saliency method that the recipe describes.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`](crate::error::Error::NotRepeatable) if the name is no saliency method of this crate,
    /// [`Error::Malformed`](crate::error::Error::Malformed) if the settings do not fit the method.
    pub fn saliency(&self) -> Result<Box<dyn Saliency>> {
        self.clone().into_saliency()
    }

    pub(crate) fn into_saliency(self) -> Result<Box<dyn Saliency>> {
        match SALIENCIES.iter().find(|(name, _)| *name == self.name) {
            Some((_, read)) => read(self),
            None => Err(self.unknown("guidance or saliency method")),
        }
    }
}
