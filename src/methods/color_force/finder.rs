//! The saliency of a force, which finds the object that its phrase names.

use crate::saliency::{Daam, Occurrence, Saliency, object};
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
    /// Makes `phrase` compete with every other word of the prompt.
    pub(super) fn new(phrase: &str, occurrence: Occurrence) -> Self {
        let (among, against, except) = (Vec::new(), Vec::new(), Vec::new());
        let mut competition = Self { occurrence, among, against, except, daam: Daam::of(phrase) };
        competition.renew(phrase);
        competition
    }

    /// Rebuilds the saliency from the present choice of phrases.
    pub(super) fn renew(&mut self, phrase: &str) {
        self.daam = object(phrase).tune(|options| {
            options.occurrence = self.occurrence;
            options.among.clone_from(&self.among);
            options.against.clone_from(&self.against);
            options.except.clone_from(&self.except);
        });
    }
}
