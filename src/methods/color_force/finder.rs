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
    /// Makes `phrase` compete with every other word of the prompt. `color` is the color asked for. If the attention to
    /// the phrase is faint, the basic color term nearest to `color` is put before the phrase ([`Differential`]).
    pub(super) fn new(phrase: &str, color: Rgb, occurrence: Occurrence) -> Self {
        let (among, against, except) = (Vec::new(), Vec::new(), Vec::new());
        let mut competition = Self { occurrence, among, against, except, daam: Daam::of(phrase) };
        competition.renew(phrase, color);
        competition
    }

    /// Rebuilds the saliency from the present choice of phrases.
    pub(super) fn renew(&mut self, phrase: &str, color: Rgb) {
        let stand_in = Differential::of(phrase, color_word(color));
        self.daam = Daam::competing(phrase).tune(|options| {
            options.occurrence = self.occurrence;
            options.among.clone_from(&self.among);
            options.against.clone_from(&self.against);
            options.except.clone_from(&self.except);
            options.stand_in = Some(stand_in);
        });
    }
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

/// Returns the word for the nearest of eleven basic colors.
fn color_word(color: Rgb) -> &'static str {
    let distance = |(_, named): &(&str, Rgb)| named.delta_e(color);
    COLOR_WORDS.iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).map_or("pink", |(word, _)| *word)
}
