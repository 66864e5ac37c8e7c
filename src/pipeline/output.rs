//! [`Output`]: the result of a request.

use super::recipe::RunRecipe;
use crate::error::{Error, Result};
use crate::files;
use crate::guidance::{Details, Report};
use crate::raster::Raster;
use crate::recipe::KeptPictures;
use crate::wording::Note;
use serde::{Serialize, Serializer};
use std::path::Path;
use std::time::Duration;
use tch::Tensor;

/// The pictures of a request, with information about their run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// The pictures, in the order of their seeds. Empty after a run that ended early
    /// ([`Request::until`](super::Request::until)).
    pub images: Vec<Raster>,
    /// The finished latents, [n, c, h, w] f32, in sampler units. After a run that ended early, they are at the noise
    /// level σ that its last step reached, divided by √(1 + σ²) (variance-preserving).
    pub latents: Tensor,
    /// Seed of the first image; `None` if the request sets its own noise.
    pub seed: Option<u64>,
    /// Remarks of the model and the guidance methods, each with its origin. The library never prints.
    pub notes: Vec<Note>,
    /// Maps, curves and colors that the guidance methods report.
    pub reports: Vec<Report>,
    /// Times of the parts of the run.
    pub timing: Timing,
    pub(super) recipe: RunRecipe,
    pub(super) details: Details,
}

/// Times of the parts of a run, serialized in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// Time to convert the prompts to contexts and to prepare the guidance methods.
    #[serde(serialize_with = "milliseconds")]
    pub text: Duration,
    /// Time of each step of the first pass; empty without one. Some guidance methods request this pass to examine the
    /// picture that they will change.
    #[serde(serialize_with = "all_milliseconds")]
    pub first_pass: Vec<Duration>,
    /// Time of each step, including the guidance methods.
    #[serde(serialize_with = "all_milliseconds")]
    pub steps: Vec<Duration>,
    /// Time to decode the latents, including the guidance methods' changes and measurements at the end.
    #[serde(serialize_with = "milliseconds")]
    pub decode: Duration,
    /// Time of the runs that repaint details ([`Request::detail`](super::Request::detail)).
    #[serde(serialize_with = "milliseconds")]
    pub details: Duration,
}

fn in_milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn milliseconds<S: Serializer>(time: &Duration, to: S) -> std::result::Result<S::Ok, S::Error> {
    in_milliseconds(*time).serialize(to)
}

fn all_milliseconds<S: Serializer>(times: &[Duration], to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_seq(times.iter().copied().map(in_milliseconds))
}

impl Timing {
    /// Returns the median time of a step (the larger middle one of an even number); zero without steps.
    pub fn step(&self) -> Duration {
        let mut steps = self.steps.clone();
        steps.sort();
        steps.get(steps.len() / 2).copied().unwrap_or_default()
    }

    /// Returns the time of the whole run, except the time in callbacks.
    pub fn total(&self) -> Duration {
        self.text + self.first_pass.iter().chain(&self.steps).sum::<Duration>() + self.decode + self.details
    }
}

impl Output {
    /// Returns the picture at `index` in the batch.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the batch has no picture at `index`.
    pub fn image(&self, index: usize) -> Result<&Raster> {
        self.images.get(index).ok_or_else(|| {
            let expected = match self.images.len() {
                0 => "no index, because a run that ends early makes latents and no images".into(),
                images => format!("an index below {images}, the number of images in the batch"),
            };
            Error::parameter("image", index, expected)
        })
    }

    /// Returns what a guidance method of the run found, as a value of type `T`. `label` is the method's label
    /// ([`Guidance::label`]): the phrase of a method that looks for a thing, and the name of any other method.
    ///
    /// `T` is a type that the method reports, or the type of the method's state ([`GuidanceRun`]). Of several methods
    /// with this label and type, the first counts.
    ///
    /// [`Guidance::label`]: crate::guidance::Guidance::label
    /// [`GuidanceRun`]: crate::guidance::GuidanceRun
    ///
    /// # Errors
    /// [`Error::Parameter`] if no method has the label, or none of them reports a `T`.
    pub fn details<T: 'static>(&self, label: &str) -> Result<&T> {
        self.details.get(label)
    }

    /// Returns the recipe that repeats the run. The recipe also lists the parts of the run that no file can hold.
    pub const fn recipe(&self) -> &RunRecipe {
        &self.recipe
    }

    /// Saves one picture as PNG, with the recipe that repeats its run, as far as a file can hold the recipe.
    /// [`Request::from_png`](super::Request::from_png) reads the recipe. Other programs find a text in the format of
    /// the AUTOMATIC1111 web UI ([`Infotext`](super::Infotext)).
    ///
    /// The file is written completely or not at all. [`Raster::save`] writes pixels alone.
    ///
    /// # Errors
    /// - [`Error::Parameter`] if the batch has no picture at `index`, or `path` does not end in .png.
    /// - [`Error::Parameter`] if the recipe is too large to be read again (256 MiB of text, 512 MiB of maps and
    ///   pictures).
    /// - [`Error::Io`].
    pub fn save(&self, index: usize, path: impl AsRef<Path>) -> Result<()> {
        self.save_with(index, path, KeptPictures::Whole)
    }

    /// Saves one picture as [`save`](Self::save) does, but never replaces a file, as
    /// [`files::write_new`](crate::files::write_new) explains.
    ///
    /// # Errors
    /// The errors of [`save`](Self::save); [`Error::Io`] with [`AlreadyExists`](std::io::ErrorKind::AlreadyExists) if a
    /// file has the name `path` already.
    pub fn save_new(&self, index: usize, path: impl AsRef<Path>) -> Result<()> {
        self.save_by(files::write_new, index, path.as_ref(), KeptPictures::Whole)
    }

    /// Saves one picture as [`save`](Self::save) does. With [`KeptPictures::Thumbnails`], pictures that steered the run
    /// (references, sketches, hints) are kept as a hash and a thumbnail.
    /// [`Request::from_png_with`](super::Request::from_png_with) then needs the full pictures.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// # let path = std::env::temp_dir().join("impasto-lean.png");
    /// use impasto::methods::ReferenceColor;
    /// use impasto::pipeline::{KeptPictures, Pipeline, Request};
    ///
    /// let pipeline = Pipeline::builder().build()?;
    /// let reference = pipeline.request("1girl, red hair").steps(2).run()?.image(0)?.clone();
    /// let output = pipeline.request("1girl, hair").seed(7).steps(2).guide(ReferenceColor::new(&reference)).run()?;
    /// output.save_with(0, &path, KeptPictures::Thumbnails)?;
    ///
    /// let again = Request::from_png_with(&pipeline, &path, &[reference])?.run()?;
    /// assert_eq!(again.image(0)?, output.image(0)?);
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`save`](Self::save).
    pub fn save_with(&self, index: usize, path: impl AsRef<Path>, pictures: KeptPictures) -> Result<()> {
        self.save_by(files::write_whole, index, path.as_ref(), pictures)
    }

    fn save_by(&self, write: files::Write, index: usize, path: &Path, pictures: KeptPictures) -> Result<()> {
        let recipe = RunRecipe { image: index, ..self.recipe.clone() };
        recipe.save(self.image(index)?, path, pictures, write)
    }

    /// Returns the bytes of the file that [`save_with`](Self::save_with) writes, with additional `texts`, which are
    /// pairs of a keyword and a text. [`Raster::texts`] reads such texts.
    ///
    /// # Errors
    /// - [`Error::Parameter`] if the batch has no picture at `index`, or for texts that no PNG can hold.
    /// - [`Error::Parameter`] if the recipe is too large to be read again.
    pub fn png(&self, index: usize, pictures: KeptPictures, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        let recipe = RunRecipe { image: index, ..self.recipe.clone() };
        recipe.png(self.image(index)?, pictures, texts)
    }
}
