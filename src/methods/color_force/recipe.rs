//! Conversion between a color force and its recipe.

use super::ColorForce;
use super::Cutoff;
use super::finder::Finder;
use super::protect::Protected;
use super::settings::Settings;
use crate::error::Result;
use crate::recipe::{Recipe, Registry};
use crate::saliency::{Saliency, Seen};
use serde::{Deserialize, Serialize};

/// The recipe of a color force in the form in which it is written.
#[derive(Serialize)]
struct Written<'a> {
    settings: &'a Settings,
    /// Recipe of the saliency; `None` stands for the saliency that `ColorForce::published` chooses.
    saliency: Option<Recipe>,
    protected: Vec<Spared>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<&'a Seen>,
}

/// The recipe of a color force in the form in which it is read.
#[derive(Deserialize)]
struct Read {
    settings: Settings,
    saliency: Option<Recipe>,
    protected: Vec<Spared>,
    #[serde(default)]
    replayed: Option<Seen>,
}

/// A protected phrase.
#[derive(Serialize, Deserialize)]
struct Spared {
    phrase: String,
    saliency: Recipe,
    cutoff: Cutoff,
}

impl ColorForce {
    /// Returns the recipe of the force.
    pub(super) fn to_recipe(&self) -> Result<Recipe> {
        let spared = |protected: &Protected| -> Result<Spared> {
            let Protected { phrase, saliency, cutoff, .. } = protected;
            Ok(Spared { phrase: phrase.clone(), saliency: saliency.recipe()?, cutoff: *cutoff })
        };
        let written = Written {
            settings: &self.settings,
            saliency: match self.saliency {
                Finder::Attention(_) => None,
                _ => Some(self.saliency.saliency().recipe()?),
            },
            protected: self.protected.iter().map(spared).collect::<Result<_>>()?,
            replayed: self.replayed.as_ref(),
        };
        Recipe::of("ColorForce", &written)
    }

    /// Makes the force that a recipe describes.
    ///
    /// # Errors
    /// The errors of [`Registry::make`].
    pub(crate) fn from_recipe(recipe: Recipe, registry: &Registry) -> Result<Self> {
        let Read { settings, saliency, protected, replayed } = recipe.into_read()?;
        let mut force = Self::published(settings.phrase.clone(), settings.color);
        if let Some(saliency) = saliency {
            force = force.saliency(registry.make::<dyn Saliency>(saliency)?);
        }
        for Spared { phrase, saliency, cutoff } in protected {
            let saliency = registry.make::<dyn Saliency>(saliency)?.into();
            force.protected.push(Protected { phrase, saliency, cutoff });
        }
        (force.settings, force.replayed) = (settings, replayed);
        Ok(force)
    }
}
