//! The search for an object, as exact color forces and repaints find it.

use super::{Daam, Differential};

/// Color words that are far apart. An object has at most one of these colors, and changes with the other words.
const COLOR_WORDS: [&str; 3] = ["red", "green", "blue"];

/// Returns the saliency that finds a phrase by its competition with other words, and by what changes in the prediction
/// if a color word stands before the phrase.
pub(crate) fn object(phrase: &str) -> Daam {
    let changes = COLOR_WORDS.map(|word| Differential::of(phrase, word));
    Daam::competing(phrase).tune(|options| options.changes = changes.into())
}
