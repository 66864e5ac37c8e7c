//! The saliency of a force, which finds the object that its phrase names.

use crate::color::Rgb;
use crate::saliency::{Daam, Differential, Occurrence, Saliency};
use std::ops::{Deref, DerefMut};

/// The saliency of a force, by its origin.
pub(super) enum Finder {
    /// The attention to the phrase, as [`ColorForce::published`](super::ColorForce::published) reads it.
    Attention(Daam),
    /// A competition of words, as [`ColorForce::exact`](super::ColorForce::exact) reads it.
    Competition(Competition),
    /// The saliency that the user gave.
    Given(Box<dyn Saliency>),
}

impl Deref for Finder {
    type Target = dyn Saliency;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Attention(daam) => daam,
            Self::Competition(competition) => &competition.daam,
            Self::Given(saliency) => &**saliency,
        }
    }
}

impl DerefMut for Finder {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Attention(daam) => daam,
            Self::Competition(competition) => &mut competition.daam,
            Self::Given(saliency) => &mut **saliency,
        }
    }
}

/// The choice of phrases that compete with the phrase of an exact force.
pub(super) struct Competition {
    pub occurrence: Occurrence,
    pub among: Vec<String>,
    /// Protected phrases.
    pub against: Vec<String>,
    pub except: Vec<String>,
    daam: Daam,
}

impl Competition {
    /// Makes `phrase` compete with every other word of the prompt. `color` is the color asked for.
    pub(super) fn new(phrase: &str, color: Rgb, occurrence: Occurrence) -> Self {
        let (among, against, except) = (Vec::new(), Vec::new(), Vec::new());
        let mut competition = Self { occurrence, among, against, except, daam: Daam::of(phrase) };
        competition.renew(phrase, color);
        competition
    }

    /// Rebuilds the saliency from the present choice of phrases.
    pub(super) fn renew(&mut self, phrase: &str, color: Rgb) {
        self.daam = competing(phrase, color).tune(|options| {
            options.occurrence = self.occurrence;
            options.among.clone_from(&self.among);
            options.against.clone_from(&self.against);
            options.except.clone_from(&self.except);
        });
    }
}

/// Finds a phrase by its competition with other words, and by what changes in the prediction if the basic color terms
/// nearest to `color` and farthest from it stand before the phrase.
pub(super) fn competing(phrase: &str, color: Rgb) -> Daam {
    let changes = color_words(color).map(|word| Differential::of(phrase, word));
    Daam::competing(phrase).tune(|options| options.changes = changes.into())
}

/// The eleven basic color terms of English.
///
/// Source: Berlin and Kay, "Basic Color Terms" (1969).
const COLOR_WORDS: [(&str, Rgb); 11] = [
    ("black", Rgb(0, 0, 0)),
    ("white", Rgb(255, 255, 255)),
    ("red", Rgb(255, 0, 0)),
    ("green", Rgb(0, 128, 0)),
    ("yellow", Rgb(255, 255, 0)),
    ("blue", Rgb(0, 0, 255)),
    ("brown", Rgb(139, 69, 19)),
    ("purple", Rgb(128, 0, 128)),
    ("pink", Rgb(255, 105, 180)),
    ("orange", Rgb(255, 165, 0)),
    ("gray", Rgb(128, 128, 128)),
];

/// Returns the words for the nearest and for the farthest of eleven basic colors.
fn color_words(color: Rgb) -> [&'static str; 2] {
    let mut words = COLOR_WORDS;
    words.sort_by(|(_, a), (_, b)| a.delta_e(color).total_cmp(&b.delta_e(color)));
    let [(nearest, _), .., (farthest, _)] = words;
    [nearest, farthest]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn color_words_are_near_and_far() {
        assert_eq!(color_words(Rgb(255, 215, 0)), ["yellow", "blue"]);
        assert_eq!(color_words(Rgb(30, 30, 30)), ["black", "yellow"]);
    }
}
