//! Saliency: guidance methods that find something in the picture.

mod competition;
mod concept;
mod daam;
mod differential;
mod heat_map;
mod normalize;
mod object;
mod recorded;
mod reference;
mod region;
pub(crate) mod registry;
mod series;

pub use competition::Competition;
pub use concept::{ConceptAttention, ConceptAttentionRun};
pub use daam::{Daam, DaamOptions, DaamRun, HeadMaps, Occurrence, Refine, Spread, SpreadRun, WordMaps, WordMapsRun};
pub use differential::Differential;
pub(crate) use differential::Varied;
pub use heat_map::HeatMap;
pub use normalize::Normalize;
pub(crate) use object::object;
pub use recorded::Recorded;
pub(crate) use recorded::Seen;
pub use reference::Reference;
pub use series::Accumulate;

pub(crate) use normalize::{FLAT, is_flat};

use crate::error::Result;
use crate::guidance::{Guidance, GuidanceRun, Pair, Setup, forward_guidance};
use crate::recipe::Recipe;
use std::sync::Arc;
use tch::Tensor;

/// The settings of a guidance method that finds something in the picture. A method that takes a saliency accepts any
/// type of saliency. The pair `(a, b)` is a saliency too: its map is the sum of the maps of `a` and `b`.
///
/// A function that makes a [`SaliencyRun`] is a saliency, too:
///
/// ```
/// use impasto::diffusion::Denoised;
/// use impasto::guidance::GuidanceRun;
/// use impasto::methods::ColorForce;
/// use impasto::saliency::SaliencyRun;
/// use impasto::{Pipeline, Result, Rgb, Step};
/// use tch::Tensor;
///
/// /// Finds cells by the first channel of the latent, which is mostly brightness.
/// #[derive(Default)]
/// struct Bright(Option<Tensor>);
///
/// impl GuidanceRun for Bright {
///     fn denoised(&mut self, _: &Step, denoised: &mut Denoised) -> Result<()> {
///         self.0 = Some(denoised.x0.f_narrow(1, 0, 1)?.f_sigmoid()?); // [n, 1, h, w] in 0..=1
///         Ok(())
///     }
/// }
///
/// impl SaliencyRun for Bright {
///     fn map(&self) -> Result<Option<Tensor>> {
///         Ok(self.0.as_ref().map(Tensor::shallow_clone))
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let light = ColorForce::published("light", Rgb(255, 200, 120)).saliency(Bright::default).saliency_cutoff(0.7);
/// Pipeline::builder().build()?.request("a red boat, sky").seed(7).steps(4).guide(light).run()?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no saliency",
    note = "a value with settings implements `Saliency`; for a `SaliencyRun`, pass a function that makes the value"
)]
pub trait Saliency: Guidance {
    /// Makes the state of a pass before its first step, as [`Guidance::begin`] does.
    ///
    /// # Errors
    /// Any error that prevents the run.
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>>;
}

/// A saliency in one run: a [`GuidanceRun`] that also gives a map of where something is in the picture.
///
/// A method that uses a saliency calls its phases before its own and then reads [`map`](Self::map).
/// [`ColorForce`](crate::methods::ColorForce) reads the map
/// - once per step of its window, in `transition`;
/// - once per evaluation, in `denoised`, with `ForceTarget::Denoised`;
/// - once, at the end of the first pass, if the force has a first pass. The map then serves the whole second pass.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::saliency::{Daam, DaamRun, SaliencyRun};
/// let pipeline = impasto::Pipeline::builder().build()?;
/// let output = pipeline.request("a red boat, sky").seed(7).steps(4).guide(Daam::of("boat")).run()?;
/// let map = output.details::<DaamRun>("boat")?.map()?.expect("the run had steps"); // [1, 1, 32, 32]
/// # Ok(()) }
/// ```
pub trait SaliencyRun: GuidanceRun {
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

/// A function that makes the state of a run.
impl<F, R> Saliency for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: SaliencyRun,
{
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        let mut run = self();
        run.begin(setup)?;
        Ok(Box::new(run))
    }
}

impl<A: Saliency, B: Saliency> Saliency for (A, B) {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        Ok(Box::new(Pair(self.0.find(setup)?, self.1.find(setup)?)))
    }
}

impl<R: SaliencyRun + ?Sized> SaliencyRun for Pair<R> {
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

// A saliency that is known only when the program runs, such as one from a recipe, is a saliency too.
forward_guidance!(Box<dyn Saliency>, Arc<dyn Saliency>);

impl Saliency for Box<dyn Saliency> {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        (**self).find(setup)
    }
}

impl Saliency for Arc<dyn Saliency> {
    fn find(&self, setup: &mut Setup<'_>) -> Result<Box<dyn SaliencyRun>> {
        (**self).find(setup)
    }
}
