//! The saliency of a force, which finds the object that its phrase names.

use crate::error::Result;
use crate::guidance::Setup;
use crate::saliency::{Daam, Occurrence, Saliency, SaliencyRun, object};
use crate::window::Window;
use std::fmt;
use std::sync::Arc;

/// The saliency of a force, by its origin.
#[derive(Clone)]
pub(super) enum Finder {
    /// The attention to the phrase, as [`ColorForce::published`](super::ColorForce::published) reads it.
    Attention(Daam),
    /// A competition of words, as [`ColorForce::exact`](super::ColorForce::exact) reads it.
    Competition(Competition),
    /// The saliency that the user gave.
    Given(Arc<dyn Saliency>),
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attention(daam) => daam.fmt(f),
            Self::Competition(competition) => competition.fmt(f),
            Self::Given(saliency) => f.write_str(saliency.name()),
        }
    }
}

impl Finder {
    /// Returns the saliency.
    pub(super) fn saliency(&self) -> &dyn Saliency {
        match self {
            Self::Attention(daam) => daam,
            Self::Competition(competition) => &competition.daam,
            Self::Given(saliency) => &**saliency,
        }
    }

    /// Makes the saliency's state of a pass. The attention to the phrase is read in this window alone.
    pub(super) fn find(&self, window: Window, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        match self {
            Self::Attention(daam) => daam.clone().window(window).find(setup),
            _ => self.saliency().find(setup),
        }
    }
}

/// The choice of phrases that compete with the phrase of an exact force.
#[derive(Clone, Debug)]
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

    /// Returns true if every place of the phrase competes with every other word.
    pub(super) fn is_plain(&self) -> bool {
        self.occurrence == Occurrence::All && self.among.is_empty() && self.except.is_empty()
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
