//! Saliency: guidance methods that find something in the picture.

mod competition;
pub(crate) mod daam;
mod differential;
mod normalize;
mod recorded;
mod reference;
mod region;
mod registry;

pub use competition::Competition;
pub use daam::{Accumulate, Daam, DaamOptions, HeadMaps, HeatMap, Occurrence, Refine, Spread, WordMaps};
pub use differential::Differential;
pub use normalize::Normalize;
pub use recorded::Recorded;
pub use reference::Reference;

pub(crate) use normalize::is_flat;

use crate::error::Result;
use crate::guidance::Guidance;
use tch::Tensor;

/// A guidance method that also gives a map of where something is in the picture. A method that takes a saliency accepts
/// any type of saliency. The pair `(a, b)` is a saliency too: its map is the sum of the maps of `a` and `b`.
pub trait Saliency: Guidance {
    /// Returns the map, [n, 1, h, w] f32 in 0..=`range()` at latent resolution; `None` before the first map.
    fn map(&self) -> Result<Option<Tensor>>;

    /// Returns the largest value that a map can have.
    fn range(&self) -> f64 {
        1.0
    }

    /// Returns the words that the phrase competed with in each image. The list is empty for a saliency that does not
    /// tell words apart ([`Refine::Contrast`]).
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch).
    fn competitions(&self) -> Result<Vec<Competition>> {
        Ok(Vec::new())
    }
}

impl<S: Saliency + ?Sized> Saliency for &mut S {
    fn map(&self) -> Result<Option<Tensor>> {
        (**self).map()
    }
    fn range(&self) -> f64 {
        (**self).range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        (**self).competitions()
    }
}

impl<S: Saliency + ?Sized> Saliency for Box<S> {
    fn map(&self) -> Result<Option<Tensor>> {
        (**self).map()
    }
    fn range(&self) -> f64 {
        (**self).range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        (**self).competitions()
    }
}

impl<A: Saliency, B: Saliency> Saliency for (A, B) {
    fn map(&self) -> Result<Option<Tensor>> {
        Ok(match (self.0.map()?, self.1.map()?) {
            (Some(a), Some(b)) => Some(a.f_add(&b)?),
            (a, b) => a.or(b),
        })
    }
    fn range(&self) -> f64 {
        self.0.range() + self.1.range()
    }
    fn competitions(&self) -> Result<Vec<Competition>> {
        Ok(self.0.competitions()?.into_iter().chain(self.1.competitions()?).collect())
    }
}
