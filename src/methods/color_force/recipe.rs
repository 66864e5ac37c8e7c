//! A color force as a recipe.

use super::ColorForce;
use super::Cutoff;
use super::finder::Finder;
use super::protect::Protected;
use super::settings::Settings;
use crate::error::Result;
use crate::recipe::Recipe;
use crate::saliency::Saliency;
use serde::{Deserialize, Serialize};

/// What makes a force again, as it is written.
#[derive(Serialize)]
struct Written<'a> {
    settings: &'a Settings,
    /// `None`: the one that `ColorForce::published` chooses.
    saliency: Option<Recipe>,
    protected: Vec<Spared>,
}

/// The same, as it is read.
#[derive(Deserialize)]
struct Read {
    settings: Settings,
    saliency: Option<Recipe>,
    protected: Vec<Spared>,
}

/// A phrase that is left alone.
#[derive(Serialize, Deserialize)]
struct Spared {
    phrase: String,
    saliency: Recipe,
    cutoff: Cutoff,
}

impl ColorForce {
    /// Its recipe.
    pub(super) fn written(&self) -> Result<Recipe> {
        let spared = |protected: &Protected| -> Result<Spared> {
            let Protected { phrase, saliency, cutoff, .. } = protected;
            Ok(Spared { phrase: phrase.clone(), saliency: saliency.recipe()?, cutoff: *cutoff })
        };
        let written = Written {
            settings: &self.settings,
            saliency: match self.saliency {
                Finder::Attention(_) => None,
                _ => Some(self.saliency.recipe()?),
            },
            protected: self.protected.iter().map(spared).collect::<Result<_>>()?,
        };
        Recipe::of("ColorForce", &written)
    }

    /// The force of a recipe.
    pub(crate) fn repeated(recipe: &Recipe) -> Result<Self> {
        let Read { settings, saliency, protected } = recipe.read()?;
        let mut force = Self::published(settings.phrase.clone(), settings.color);
        if let Some(saliency) = saliency {
            let saliency: Box<dyn Saliency> = saliency.saliency()?;
            force = force.saliency(saliency);
        }
        for Spared { phrase, saliency, cutoff } in protected {
            force.protected.push(Protected::new(phrase, saliency.saliency()?, cutoff));
        }
        force.settings = settings;
        Ok(force)
    }
}
