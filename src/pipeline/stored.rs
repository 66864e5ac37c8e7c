//! [`Stored`]: the pictures, solver, noise, guidance methods and ControlNets of a request, as a PNG can hold them.

use super::recipe::MOST_GUIDANCES;
use crate::error::Result;
use crate::json;
use crate::recipe::{Extent, Recipe, TEXT, UNPACKED};
use crate::wording::Note;

/// The parts of a request that describe themselves by recipes, in the form in which a PNG holds them.
#[derive(Debug)]
pub(super) struct Stored {
    /// True if the PNG holds the noise that the request sets.
    pub noise: bool,
    /// True if the PNG holds the picture to start from, the mask and the details, as far as the request has them.
    pub start: bool,
    pub solver: Option<Recipe>,
    pub combine: Option<Recipe>,
    pub guidances: Vec<Recipe>,
    pub controls: Vec<Recipe>,
    /// Sentences about the parts that no file can hold.
    pub missing: Vec<Note>,
    /// The sentences of `missing` about parts that are too large.
    pub too_large: Vec<Note>,
}

impl Stored {
    /// Returns the parts of a request as a PNG can hold them: the picture to start from, the mask and the details; the
    /// noise, the solver, the combination of the branches, the guidance methods and the ControlNets.
    pub(super) fn of(parts: [Vec<Result<Recipe>>; 6]) -> Self {
        let mut missing = Vec::new();
        let parts = parts.map(|recipes| told(recipes, &mut missing));
        let fits = fitting(&parts);
        let pictures = parts.first().map_or(0, Vec::len);
        let too_large: Vec<Note> = parts.iter().flatten().zip(&fits).filter_map(sentence).collect();
        missing.extend(too_large.iter().cloned());
        let mut fits = fits.into_iter();
        let [start, noise, solver, combine, guidances, controls] = parts.map(|recipes| -> Vec<Recipe> {
            recipes.into_iter().zip(fits.by_ref()).filter_map(|(recipe, fits)| fits.then_some(recipe)).collect()
        });
        let [solver, combine] = [solver, combine].map(|recipes| recipes.into_iter().next());
        Self {
            noise: !noise.is_empty(),
            start: start.len() == pictures,
            solver,
            combine,
            guidances,
            controls,
            missing,
            too_large,
        }
    }
}

/// Returns the recipes, and adds the errors of the others to `missing`.
fn told(recipes: Vec<Result<Recipe>>, missing: &mut Vec<Note>) -> Vec<Recipe> {
    let told = |recipe: Result<Recipe>| recipe.map_err(|error| missing.push(error.to_string().into())).ok();
    recipes.into_iter().filter_map(told).collect()
}

/// Returns for each recipe of each kind whether a PNG holds it beside those before it.
fn fitting(parts: &[Vec<Recipe>]) -> Vec<bool> {
    let mut extent = Extent::of_plain_settings();
    let mut fits = Vec::new();
    for (index, recipe) in parts.iter().flat_map(|recipes| recipes.iter().enumerate()) {
        let with = extent.with(&recipe.settings);
        let is_held = with.fits() && index < MOST_GUIDANCES;
        if is_held {
            extent = with;
        }
        fits.push(is_held);
    }
    fits
}

/// Returns a sentence about a part that does not fit.
fn sentence((recipe, fits): (&Recipe, &bool)) -> Option<Note> {
    let [most, text, values] = [UNPACKED, TEXT, json::MOST as u64].map(|bytes| bytes >> 20);
    (!fits).then(|| {
        format!(
            "the saved picture will not repeat {}: a PNG holds {MOST_GUIDANCES} methods, maps and pictures of {most} \
             MiB ({text} MiB as text), and other settings of {values} MiB; use smaller or fewer of them",
            recipe.name
        )
        .into()
    })
}
