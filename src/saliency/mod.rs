//! Saliency: guidance methods that find something in the picture.

mod competition;
pub(crate) mod daam;
mod differential;
mod normalize;
mod object;
mod recorded;
mod reference;
mod region;
pub(crate) mod registry;

pub use competition::Competition;
pub use daam::{Accumulate, Daam, DaamOptions, HeadMaps, HeatMap, Occurrence, Refine, Spread, WordMaps};
pub use differential::Differential;
pub use normalize::Normalize;
pub(crate) use object::object;
pub use recorded::Recorded;
pub(crate) use recorded::Seen;
pub use reference::Reference;

pub(crate) use normalize::is_flat;

use crate::error::Result;
use crate::guidance::Guidance;
use tch::Tensor;

/// A guidance method that also gives a map of where something is in the picture. A method that takes a saliency accepts
/// any type of saliency. The pair `(a, b)` is a saliency too: its map is the sum of the maps of `a` and `b`.
///
/// Such a method calls the saliency's phases before its own and then reads [`map`](Self::map).
/// [`ColorForce`](crate::methods::ColorForce) reads the map
/// - once per step of its window, in `transition`;
/// - once per evaluation, in `denoised`, with `ForceTarget::Denoised`;
/// - once, at the end of the first pass, if the force has a first pass. The map then serves the whole second pass.
///
/// ```
/// use impasto::diffusion::Denoised;
/// use impasto::guidance::{Guidance, Setup};
/// use impasto::methods::ColorForce;
/// use impasto::saliency::Saliency;
/// use impasto::{Pipeline, Result, Rgb, Step};
/// use tch::Tensor;
///
/// /// Finds cells by the first channel of the latent, which is mostly brightness.
/// #[derive(Default)]
/// struct Bright(Option<Tensor>);
///
/// impl Guidance for Bright {
///     fn begin(&mut self, _: &mut Setup) -> Result<()> {
///         self.0 = None;
///         Ok(())
///     }
///     fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
///         self.0 = Some(denoised.x0.f_narrow(1, 0, 1)?.f_sigmoid()?); // [n, 1, h, w] in 0..=1
///         Ok(())
///     }
/// }
///
/// impl Saliency for Bright {
///     fn map(&self) -> Result<Option<Tensor>> {
///         Ok(self.0.as_ref().map(Tensor::shallow_clone))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let mut light = ColorForce::published("light", Rgb(255, 200, 120)).saliency(Bright::default()).saliency_cutoff(0.7);
/// Pipeline::builder().build()?.request("a red boat, sky").seed(7).steps(4).guide(&mut light).run()?;
/// # Ok(()) }
/// ```
pub trait Saliency: Guidance {
    /// Returns the map, [n, 1, h, w] f32 in 0..=`range()` at latent resolution; `None` before the first map of a run.
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
