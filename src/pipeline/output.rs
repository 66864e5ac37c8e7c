//! [`Output`]: what a request made.

use crate::error::{Error, Result};
use crate::guidance::Report;
use crate::raster::Raster;
use std::time::Duration;
use tch::Tensor;

/// What a request made.
#[derive(Debug)]
pub struct Output {
    images: Vec<Raster>,
    latents: Tensor,
    seed: Option<u64>,
    notes: Vec<String>,
    reports: Vec<Report>,
    timing: Timing,
}

/// Where the time went.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Timing {
    /// Each step, guidances included.
    pub steps: Vec<Duration>,
    /// Latent to picture.
    pub decode: Duration,
}

impl Timing {
    /// The middle one of the steps' times; zero without steps.
    pub fn step(&self) -> Duration {
        let mut steps = self.steps.clone();
        steps.sort();
        steps.get(steps.len() / 2).copied().unwrap_or_default()
    }
}

impl Output {
    pub(super) const fn new(
        images: Vec<Raster>,
        latents: Tensor,
        seed: Option<u64>,
        notes: Vec<String>,
        reports: Vec<Report>,
        timing: Timing,
    ) -> Self {
        Self { images, latents, seed, notes, reports, timing }
    }

    /// The pictures, in the order of their seeds; none of a run that ended early
    /// ([`Request::until`](super::Request::until)).
    pub fn images(&self) -> &[Raster] {
        &self.images
    }

    /// One picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] if there are not as many.
    pub fn image(&self, index: usize) -> Result<&Raster> {
        self.images.get(index).ok_or_else(|| Error::parameter("image", index, "the index of an image of the batch"))
    }

    /// The finished latents, [n, 4, h, w] f32, in sampler units; of a run that ended early, as they are at its last level,
    /// variance-preserving.
    pub const fn latents(&self) -> &Tensor {
        &self.latents
    }

    /// The seed of the first image; `None` if the request brought noise of its own.
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// What the guidances noticed, each sentence with its origin. The library never prints.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the guidances have to show.
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// Where the time went.
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }
}
