//! Readers of the saliencies' recipes.

use super::{ConceptAttention, Daam, Differential, Recorded, Saliency, Spread};
use crate::error::Result;
use crate::guidance::{Guidance, SUM};
use crate::mask::Region;
use crate::recipe::{Kind, Recipe, Registry};
use serde::de::DeserializeOwned;

impl Kind for dyn Saliency {
    const NAME: &'static str = "saliency";
}

/// Adds the readers of this crate's saliencies. A saliency is a guidance method, too.
pub(crate) fn add_saliencies(registry: &mut Registry) {
    add::<ConceptAttention>(registry, "ConceptAttention");
    add::<Daam>(registry, "Daam");
    add::<Differential>(registry, "Differential");
    add::<Recorded>(registry, "Recorded");
    add::<Region>(registry, "Region");
    add::<Spread>(registry, "Spread");
    registry.add::<dyn Saliency>(SUM, |recipe, registry| {
        let (a, b): (Recipe, Recipe) = recipe.into_read()?;
        Ok(Box::new((registry.make::<dyn Saliency>(a)?, registry.make::<dyn Saliency>(b)?)))
    });
}

fn add<S: Saliency + DeserializeOwned + 'static>(registry: &mut Registry, name: &str) {
    fn read<S: DeserializeOwned>(recipe: Recipe) -> Result<Box<S>> {
        Ok(Box::new(recipe.into_read()?))
    }
    registry.add::<dyn Saliency>(name, |recipe, _| Ok(read::<S>(recipe)?));
    registry.add::<dyn Guidance>(name, |recipe, _| Ok(read::<S>(recipe)?));
}
