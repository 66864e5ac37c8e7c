//! [`Preview`]: a picture of a run that is not finished.

use super::model_view::ModelView;
use crate::error::Result;
use crate::guidance::Report;
use crate::raster::{Filter, Raster};
use crate::sampler::{Progress, Run};
use crate::size::Size;
use std::fmt;
use tch::Tensor;

/// An unfinished picture, which [`Request::on_preview`](super::Request::on_preview) shows after a step.
pub struct Preview<'r> {
    /// Progress of the run: the step that was taken, and the number of steps.
    pub progress: &'r Progress,
    /// Clean latent that the step was based on, [n, c, h, w] f32.
    pub x0: &'r Tensor,
    pub(super) reports: &'r dyn Fn() -> Result<Vec<Report>>,
    pub(super) model: ModelView<'r>,
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
        model: ModelView<'_>,
        show: &mut (dyn FnMut(&Preview<'_>) -> Result<()> + '_),
    ) -> Result<()> {
        match run.x0() {
            Some(x0) => show(&Preview { progress, x0, reports: &|| run.reports(), model }),
            None => Ok(()),
        }
    }

    /// Returns pictures of the clean latent, at the size of the finished pictures.
    ///
    /// The model's tiny autoencoder ([`LoadOptions::preview`](crate::model::LoadOptions::preview)) decodes the
    /// pictures. Without a tiny autoencoder, the pictures are a linear approximation with one color per cell, which
    /// takes a few milliseconds. The first approximation of a model takes somewhat longer.
    ///
    /// # Errors
    /// Errors of libtorch, such as out of memory.
    pub fn pictures(&self) -> Result<Vec<Raster>> {
        let _no_grad = tch::no_grad_guard();
        if let Some(pictures) = self.model.info.preview(self.x0)? {
            return Raster::each(&pictures);
        }
        let small = Raster::each(&self.model.latent_colors()?.picture(self.x0)?)?;
        let cell = self.model.cell() as u32;
        small
            .into_iter()
            .map(|picture| {
                let Size { width, height } = picture.size();
                picture.resize((width * cell, height * cell), Filter::Bilinear)
            })
            .collect()
    }

    /// Returns pictures of the clean latent that the model's own VAE decodes. Decoding takes as long as at the end of a
    /// run.
    ///
    /// # Errors
    /// The errors of [`pictures`](Self::pictures).
    pub fn decoded(&self) -> Result<Vec<Raster>> {
        Raster::each(&self.model.network.decode(self.x0)?)
    }

    /// Returns the guidance methods' reports so far: their maps, masks and curves.
    ///
    /// # Errors
    /// Any error of a guidance method's report.
    pub fn reports(&self) -> Result<Vec<Report>> {
        (self.reports)()
    }
}
