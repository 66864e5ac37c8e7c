//! [`Pipeline::reference`]: finds the objects in a picture that phrases name.

use super::Pipeline;
use super::things::find_things;
use crate::conditioning::Codec;
use crate::diffusion::Denoiser;
use crate::error::Result;
use crate::raster::Raster;
use crate::saliency::Reference;

impl<M: Denoiser + Codec> Pipeline<M> {
    /// Finds the regions of a picture that `phrases` name, each of them a phrase of `description`.
    ///
    /// The network sees the picture at fourteen noise levels. The attention to the phrases is read as
    /// [`Daam::competing`](crate::saliency::Daam::competing) reads it, with the changes that color words before the
    /// phrase make ([`DaamOptions::changes`](crate::saliency::DaamOptions::changes)), as exact forces read them. The
    /// picture is resized to about the model's default size. Guidance methods attached to the pipeline take no part.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::Pipeline;
    /// use impasto::methods::ColorForce;
    /// let pipeline = Pipeline::builder().build()?;
    /// let liked = pipeline.request("1girl, teal hair, eyes, shirt").seed(3).steps(8).run()?;
    /// let reference = pipeline.reference(liked.image(0)?, "1girl, hair, eyes, shirt", ["hair"])?;
    /// let force = ColorForce::like(&reference, "hair")?;
    /// let output = pipeline.request("1girl, hair, eyes, shirt").seed(7).steps(8).guide(force).run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::PhraseNotFound`](crate::Error::PhraseNotFound) for a phrase that is not in `description`; the errors of
    /// [`Sampler::start`](crate::sampler::Sampler::start).
    pub fn reference<P: Into<String>>(
        &self,
        picture: &Raster,
        description: &str,
        phrases: impl IntoIterator<Item = P>,
    ) -> Result<Reference> {
        find_things(self.view(), picture, description, phrases)
    }
}
