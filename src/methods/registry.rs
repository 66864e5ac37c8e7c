//! Readers of the guidance methods' recipes.

use super::colorize::DualCfg;
use super::{
    ColorForce, Colorize, FreeU, ImageGuidance, IpAdapter, PaintWithWords, Palette, PerturbedAttention, PromptBlend,
    ReferenceColor, RegionPrompts, SkipLayers, SmoothedEnergy, UnmergedLora,
};
use crate::guidance::{Combine, Guidance, SUM};
use crate::recipe::{Recipe, Registry};
use crate::saliency::WordMaps;
use serde::de::DeserializeOwned;

/// Adds the readers of this crate's guidance methods that are no saliencies, and of their combinations.
pub(crate) fn add_methods(registry: &mut Registry) {
    registry
        .add::<dyn Guidance>("ColorForce", |recipe, registry| Ok(Box::new(ColorForce::from_recipe(recipe, registry)?)));
    add::<Colorize>(registry, "Colorize");
    add::<FreeU>(registry, "FreeU");
    add::<ImageGuidance>(registry, "ImageGuidance");
    // A program that has the net adds a reader of its own.
    registry.add::<dyn Guidance>("IpAdapter", |recipe, _| Err(IpAdapter::without_net(recipe)));
    registry.add::<dyn Guidance>("PaintWithWords", |recipe, _| Ok(Box::new(PaintWithWords::from_recipe(&recipe)?)));
    add::<Palette>(registry, "Palette");
    add::<PerturbedAttention>(registry, "PerturbedAttention");
    add::<PromptBlend>(registry, "PromptBlend");
    add::<ReferenceColor>(registry, "ReferenceColor");
    add::<RegionPrompts>(registry, "RegionPrompts");
    add::<SkipLayers>(registry, "SkipLayers");
    add::<SmoothedEnergy>(registry, "SmoothedEnergy");
    add::<UnmergedLora>(registry, "UnmergedLora");
    add::<WordMaps>(registry, "WordMaps");
    registry.add::<dyn Combine>("DualCfg", |recipe, _| Ok(Box::new(recipe.into_read::<DualCfg>()?)));
    registry.add::<dyn Guidance>(SUM, |recipe, registry| {
        let (a, b): (Recipe, Recipe) = recipe.into_read()?;
        Ok(Box::new((registry.make::<dyn Guidance>(a)?, registry.make::<dyn Guidance>(b)?)))
    });
}

/// Adds a method that is read by deserializing its settings.
fn add<G: Guidance + DeserializeOwned + 'static>(registry: &mut Registry, name: &str) {
    registry.add::<dyn Guidance>(name, |recipe, _| Ok(Box::new(recipe.into_read::<G>()?)));
}
