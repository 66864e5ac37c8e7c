//! [`Preview`]: a picture while it is made.

use crate::conditioning::Codec;
use crate::error::Result;
use crate::guidance::Report;
use crate::model::Model;
use crate::raster::{Filter, Raster};
use crate::sampler::{Progress, Run};
use std::fmt;
use tch::Tensor;

/// A picture while it is made: what [`Request::on_preview`](super::Request::on_preview) shows after a step.
pub struct Preview<'r> {
    /// The step that was taken, and the number of steps.
    pub progress: &'r Progress,
    /// The clean latent that the step was based on, [n, 4, h, w] f32.
    pub x0: &'r Tensor,
    pub(super) reports: &'r dyn Fn() -> Result<Vec<Report>>,
    pub(super) model: &'r Model,
}

impl fmt::Debug for Preview<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl<'r> Preview<'r> {
    pub(super) fn show(
        run: &Run<'_, '_>,
        progress: &Progress,
        model: &Model,
        show: &mut (dyn FnMut(&Preview<'_>) -> Result<()> + '_),
    ) -> Result<()> {
        match run.x0() {
            Some(x0) => show(&Preview { progress, x0, reports: &|| run.reports(), model }),
            None => Ok(()),
        }
    }

    /// The pictures of that latent, of the size they will have: decoded by the model's tiny autoencoder
    /// ([`LoadOptions::preview`](crate::model::LoadOptions::preview)) if it has one, else a linear approximation with a color for each
    /// cell, which takes a few milliseconds; the first one of a model takes somewhat longer.
    ///
    /// # Errors
    /// Those of libtorch, such as out of memory.
    pub fn pictures(&self) -> Result<Vec<Raster>> {
        let _no_grad = tch::no_grad_guard();
        if let Some(tiny) = self.model.preview_decoder() {
            return Raster::each(&tiny.decode(self.x0)?);
        }
        let small = Raster::each(&self.model.latent_colors()?.picture(self.x0)?)?;
        let cell = self.model.cell() as u32;
        small
            .into_iter()
            .map(|picture| picture.resize((picture.width() * cell, picture.height() * cell), Filter::Bilinear))
            .collect()
    }

    /// The pictures of that latent as the model's own VAE decodes them. That takes as long as the end of a run does.
    ///
    /// # Errors
    /// As [`pictures`](Self::pictures).
    pub fn decoded(&self) -> Result<Vec<Raster>> {
        Raster::each(&self.model.decode(self.x0)?)
    }

    /// Reports of the guidance methods so far: their maps, masks and curves.
    ///
    /// # Errors
    /// What a guidance method's report fails with.
    pub fn reports(&self) -> Result<Vec<Report>> {
        (self.reports)()
    }
}
