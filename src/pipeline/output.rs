//! [`Output`]: what a request made.

use super::recipe::RunRecipe;
use crate::error::{Error, Result};
use crate::guidance::Report;
use crate::raster::Raster;
use serde::{Serialize, Serializer};
use std::path::Path;
use std::time::Duration;
use tch::Tensor;

/// The pictures of a request, and what there is to know of their run.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output {
    /// The pictures, in the order of their seeds; none of a run that ended early
    /// ([`Request::until`](super::Request::until)).
    pub images: Vec<Raster>,
    /// The finished latents, [n, 4, h, w] f32, in sampler units. Those of a run that ended early are as they were at its
    /// last level, variance-preserving.
    pub latents: Tensor,
    /// Seed of the first image; `None` if the request brought noise of its own.
    pub seed: Option<u64>,
    /// Remarks of the model and the guidance methods, each with its origin. The library never prints.
    pub notes: Vec<String>,
    /// Maps, curves and colors that the guidance methods have to show.
    pub reports: Vec<Report>,
    /// Time that each part of the run took.
    pub timing: Timing,
    pub(super) recipe: RunRecipe,
}

/// Where the time went. Programs read milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Timing {
    /// Prompts to contexts, and what guidance methods prepare.
    #[serde(serialize_with = "milliseconds")]
    pub text: Duration,
    /// Each step of the first pass that some guidance methods want, to look at what they are to change; empty without one.
    #[serde(serialize_with = "all_milliseconds")]
    pub first_pass: Vec<Duration>,
    /// Each step, guidances included.
    #[serde(serialize_with = "all_milliseconds")]
    pub steps: Vec<Duration>,
    /// Latent to picture, with what guidances do and measure at the end.
    #[serde(serialize_with = "milliseconds")]
    pub decode: Duration,
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
    /// The middle one of the steps' times; zero without steps.
    pub fn step(&self) -> Duration {
        let mut steps = self.steps.clone();
        steps.sort();
        steps.get(steps.len() / 2).copied().unwrap_or_default()
    }

    /// All of it, but for the time in callbacks.
    pub fn total(&self) -> Duration {
        self.text + self.first_pass.iter().chain(&self.steps).sum::<Duration>() + self.decode
    }
}

impl Output {
    /// One picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are not as many.
    pub fn image(&self, index: usize) -> Result<&Raster> {
        self.images.get(index).ok_or_else(|| Error::parameter("image", index, "the index of an image of the batch"))
    }

    /// Everything that makes the run again, and what of it no file can say.
    pub const fn recipe(&self) -> &RunRecipe {
        &self.recipe
    }

    /// Saves one picture as PNG with everything that makes it again, as far as a file can say it:
    /// [`Request::from_png`](super::Request::from_png) reads it. Other programs find the usual words of the AUTOMATIC1111 web UI
    /// ([`Infotext`](super::Infotext)). The file is there complete or not at all; [`Raster::save`] writes pixels alone.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are not as many pictures, unless `path` ends in .png, or if the recipe is too large to be
    /// read again (256 MiB of text, 512 MiB of maps and pictures); [`Error::Io`].
    pub fn save(&self, index: usize, path: impl AsRef<Path>) -> Result<()> {
        let recipe = RunRecipe { image: index, ..self.recipe.clone() };
        recipe.save(self.image(index)?, path.as_ref())
    }
}
