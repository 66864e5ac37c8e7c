//! [`Place`]: the cells of a picture in which a method acts.

use crate::error::Result;
use crate::guidance::Guidance;
use crate::mask::Region;
use crate::saliency::Daam;
use serde::{Deserialize, Serialize};

/// Smallest saliency at which a cell belongs to a phrase's object.
pub(super) const PART: f64 = 0.5;

/// The cells in which a method acts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Place {
    /// All cells.
    #[default]
    Everywhere,
    /// The cells of a region, which may have soft edges.
    Region(Region),
    /// The cells where the picture shows the object that a phrase names.
    Phrase { phrase: String, look: Box<Daam> },
}

impl Place {
    /// Creates the place of the object that `phrase` names.
    pub(super) fn phrase(phrase: String) -> Self {
        Self::Phrase { look: Box::new(Daam::competing(&phrase)), phrase }
    }

    /// Checks the place before a run.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Everywhere => Ok(()),
            Self::Region(region) => region.check(),
            Self::Phrase { look, .. } => look.check(),
        }
    }
}
