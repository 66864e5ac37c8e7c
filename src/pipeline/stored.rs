//! [`Stored`]: the guidance methods and ControlNets of a request, as a PNG can hold them.

use super::Request;
use super::recipe::MOST_GUIDANCES;
use crate::error::Result;
use crate::recipe::{Extent, Recipe, TEXT, UNPACKED};
use crate::wording::Note;

/// The guidance methods and ControlNets of a request, in the form in which a PNG holds them.
#[derive(Debug)]
pub(super) struct Stored {
    pub guidances: Vec<Recipe>,
    pub controls: Vec<Recipe>,
    /// Sentences about the methods that no file can hold.
    pub missing: Vec<Note>,
    /// The sentences of `missing` about methods with too large maps or pictures.
    pub too_large: Vec<Note>,
}

impl Request<'_> {
    /// Returns the guidance methods and ControlNets as a PNG can hold them. The sizes are known before the run, so that
    /// no picture is painted and then cannot be saved.
    pub(super) fn stored(&self) -> Stored {
        let mut missing = Vec::new();
        let attached = self.attached.iter().map(|guidance| guidance.recipe());
        let guidances = told(attached.chain(self.guidances.iter().map(|guidance| guidance.recipe())), &mut missing);
        let controls = told(self.controls.iter().map(|control| control.recipe()), &mut missing);
        let fits = fitting(&guidances, &controls);
        let too_large: Vec<Note> = guidances.iter().chain(&controls).zip(&fits).filter_map(sentence).collect();
        missing.extend(too_large.iter().cloned());
        let mut fits = fits.into_iter();
        let [guidances, controls] = [guidances, controls].map(|recipes| {
            recipes.into_iter().zip(fits.by_ref()).filter_map(|(recipe, fits)| fits.then_some(recipe)).collect()
        });
        Stored { guidances, controls, missing, too_large }
    }
}

/// Returns the recipes, and adds the errors of the others to `missing`.
fn told(recipes: impl Iterator<Item = Result<Recipe>>, missing: &mut Vec<Note>) -> Vec<Recipe> {
    recipes.filter_map(|recipe| recipe.map_err(|error| missing.push(error.to_string().into())).ok()).collect()
}

/// Returns for each guidance method, then for each ControlNet, whether a PNG holds it beside those before it.
fn fitting<'r>(guidances: &'r [Recipe], controls: &'r [Recipe]) -> Vec<bool> {
    let mut extent = Extent::default();
    let fits = |(index, recipe): (usize, &'r Recipe)| {
        let with = extent.with(&recipe.settings);
        let fits = with.fits() && index < MOST_GUIDANCES;
        if fits {
            extent = with;
        }
        fits
    };
    guidances.iter().enumerate().chain(controls.iter().enumerate()).map(fits).collect()
}

/// Returns a sentence about a method that does not fit.
fn sentence((recipe, fits): (&Recipe, &bool)) -> Option<Note> {
    let [most, text] = [UNPACKED, TEXT].map(|bytes| bytes >> 20);
    (!fits).then(|| {
        format!(
            "the saved picture will not repeat {}: a PNG holds {MOST_GUIDANCES} methods, and maps and pictures of {most} \
             MiB ({text} MiB as text); use smaller or fewer maps and pictures",
            recipe.name
        )
        .into()
    })
}
