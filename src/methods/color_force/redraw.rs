//! The phases of a redrawing during a run.

use super::maps::picture;
use super::redrawing::Redrawing;
use super::repainting::Repainting;
use super::run::{ForceRun, MapSource, Maps, Material};
use crate::conditioning::Codec;
use crate::diffusion::Pulls;
use crate::error::Result;
use crate::saliency::Seen;
use crate::step::Step;
use tch::Tensor;

/// Color variance of the pull: that of [`ColorForce::published`](super::ColorForce::published), at which objects keep
/// their lines.
const GENTLE: f64 = 40.0;

impl ForceRun {
    /// Returns the redrawing of the images in which the material is not clear, and leaves these images out of the
    /// repainting.
    pub(super) fn redrawing(&self, repainting: Option<&mut Repainting>) -> Result<Option<Redrawing>> {
        let Some(repainting) = repainting.filter(|_| self.settings.options.redraw.is_some()) else { return Ok(None) };
        let (found, spared) = match (&self.source, &self.replayed) {
            (MapSource::Kept(Maps { found, material: Some(Material { spared, .. }), .. }), _) => {
                (found.shallow_clone(), spared.shallow_clone())
            }
            (MapSource::Live, Some(Seen { found, spared, .. })) => (found.get(), spared.get()),
            _ => return Ok(None),
        };
        let unclear = repainting.unclear()?;
        let device = unclear.device();
        let (found, spared) = (found.f_to_device(device)?, spared.f_to_device(device)?);
        let levels = self.settings.cutoff.levels(&found, self.saliency.range(), None)?.0;
        let allowed = spared.f_eq(0.0)?.f_mul(&unclear)?;
        let allowed = match &self.mask {
            Some(mask) => allowed.f_mul(&mask.f_gt(0.0)?)?,
            None => allowed,
        };
        let place = self.settings.mask(&found, &levels, None)?;
        Redrawing::new(&place, &allowed, (found, spared), repainting)
    }

    /// Adds the redrawing to the pulls of a step on `mean`. `x0` is the clean latent before the force; it is the mean
    /// itself if the pulls are on the clean latent.
    pub(super) fn redraw(&mut self, step: &Step, mean: &Tensor, x0: &Tensor, pulls: &mut Pulls) -> Result<()> {
        let Self { settings, redrawing: Some(redrawing), repainting: Some(repainting), gold, .. } = self else {
            return Ok(());
        };
        if !settings.redraws(step) || !repainting.is_possible(x0)? {
            return Ok(());
        }
        let weight = settings.weight(step, settings.variance(step)?, GENTLE);
        redrawing.add_to(pulls, (mean, x0), &gold.latent, weight)
    }

    /// Recolors the material of redrawn objects in a finished latent, [n, c, h, w].
    pub(super) fn recolor_redrawn(&mut self, latent: &Tensor, codec: &dyn Codec) -> Result<()> {
        let Self { redrawing: Some(redrawing), repainting: Some(repainting), .. } = &*self else {
            return Ok(());
        };
        if !repainting.is_used() {
            return Ok(());
        }
        let row = |x: &Tensor, image: i64| x.f_narrow(0, image.min(x.size4()?.0 - 1), 1);
        let mut mattes = Vec::new();
        for image in redrawing.images()? {
            let picture = picture(&row(latent, image)?, codec)?;
            let (found, spared) = (row(&redrawing.found, image)?, row(&redrawing.spared, image)?);
            mattes.push((image, self.matte(&found, &spared, &picture, codec.cell())?, picture));
        }
        let color = self.settings.color;
        let Some(repainting) = &mut self.repainting else { return Ok(()) };
        for (image, matte, picture) in mattes {
            let mut one = latent.f_narrow(0, image, 1)?;
            let change = repainting.finish(image, matte, &picture, color, codec)?;
            let _ = one.f_add_(&change)?;
        }
        Ok(())
    }
}
