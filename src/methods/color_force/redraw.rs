//! The phases of a redrawing during a run.

use super::ColorForce;
use super::maps::picture;
use super::redrawing::Redrawing;
use super::repainting::Repainting;
use super::run::{Forcing, MapSource, Maps, Material};
use crate::conditioning::Codec;
use crate::diffusion::Pulls;
use crate::error::Result;
use crate::saliency::Seen;
use crate::step::Step;
use tch::Tensor;

/// Color variance of the pull: that of [`ColorForce::published`], at which objects keep their lines.
const GENTLE: f64 = 40.0;

impl ColorForce {
    /// Returns the redrawing of the images in which the material is not clear, and leaves these images out of the
    /// repainting. `mask` is the user's mask at latent resolution.
    pub(super) fn redrawing(
        &self,
        source: &MapSource,
        mask: Option<&Tensor>,
        repainting: Option<&mut Repainting>,
    ) -> Result<Option<Redrawing>> {
        let Some(repainting) = repainting.filter(|_| self.settings.options.redraw.is_some()) else { return Ok(None) };
        let (found, spared) = match (source, &self.replayed) {
            (MapSource::Kept(Maps { found, material: Some(Material { spared, .. }), .. }), _)
            | (MapSource::Live, Some(Seen { found, spared, .. })) => (found, spared),
            _ => return Ok(None),
        };
        let unclear = repainting.unclear()?;
        let device = unclear.device();
        let (found, spared) = (found.f_to_device(device)?, spared.f_to_device(device)?);
        let levels = self.settings.cutoff.levels(&found, self.saliency.range(), None)?.0;
        let allowed = spared.f_eq(0.0)?.f_mul(&unclear)?;
        let allowed = match mask {
            Some(mask) => allowed.f_mul(&mask.f_gt(0.0)?)?,
            None => allowed,
        };
        let place = self.settings.mask(&found, &levels, None)?;
        Redrawing::new(&place, &allowed, (found, spared), repainting)
    }

    /// Adds the redrawing to the pulls of a step on `mean`. `x0` is the clean latent before the force; it is the mean
    /// itself if the pulls are on the clean latent.
    pub(super) fn redraw(&mut self, step: &Step, mean: &Tensor, x0: &Tensor, pulls: &mut Pulls) -> Result<()> {
        let Some(Forcing { redrawing: Some(redrawing), repainting: Some(repainting), gold, .. }) = &mut self.run else {
            return Ok(());
        };
        if !self.settings.redraws(step) || !repainting.is_possible(x0)? {
            return Ok(());
        }
        let weight = self.settings.weight(step, self.settings.variance(step)?, GENTLE);
        redrawing.add_to(pulls, (mean, x0), &gold.latent, weight)
    }

    /// Recolors the material of redrawn objects in a finished latent, [n, 4, h, w].
    pub(super) fn recolor_redrawn(&mut self, latent: &Tensor, codec: &dyn Codec) -> Result<()> {
        let Some(Forcing { redrawing: Some(redrawing), repainting: Some(repainting), .. }) = &self.run else {
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
        let Some(repainting) = self.run.as_mut().and_then(|run| run.repainting.as_mut()) else { return Ok(()) };
        for (image, matte, picture) in mattes {
            let mut one = latent.f_narrow(0, image, 1)?;
            let change = repainting.finish(image, matte, &picture, color, codec)?;
            let _ = one.f_add_(&change)?;
        }
        Ok(())
    }
}
