//! The outlook of a force: a rating of first passes, by which a run with several candidates finishes only the best
//! candidate.

use super::comparison::{compare, undecided};
use super::recolor::recolor;
use super::run::{ForceRun, Maps};
use crate::conditioning::Codec;
use crate::error::Result;
use tch::{Kind, Tensor};

/// Share of the picture that a region may cover if it is to be the object asked for.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.001..=0.8;

impl ForceRun {
    /// Rates each image of a first pass, 0..=1. `seen` is the first pass's last clean latent, [n, c, h, w].
    ///
    /// A rating is high if the cells are decided, the mask ends where its object ends, and the object's lines will stay
    /// in the new color. A mask that covers almost nothing or almost everything has rating 0.
    pub(super) fn promises(&self, seen: &Tensor, codec: &dyn Codec) -> Result<Vec<f64>> {
        let promise = |image: i64| match self.first_pass_maps(Some(seen), Some(image), codec)? {
            Some(maps) => self.promise(&maps, codec.cell()),
            None => Ok(0.0),
        };
        (0..seen.size4()?.0).map(promise).collect()
    }

    fn promise(&self, maps: &Maps, cell: i64) -> Result<f64> {
        let (cutoff, range) =
            (self.settings.cutoff.levels(&maps.own, self.saliency.range(), None)?.0, self.saliency.range());
        let region = maps.own.f_ge_tensor(&cutoff)?.f_to_kind(Kind::Float)?;
        if !PLAUSIBLE.contains(&region.f_mean(Kind::Double)?.f_double_value(&[])?) {
            return Ok(0.0);
        }
        let doubt: f64 = undecided(&maps.found, &cutoff, range)?.iter().sum();
        let (cut, lines) = match &maps.picture {
            Some(picture) => {
                let color = self.settings.color;
                let painted = match &maps.material {
                    // What is redrawn has lines of its own.
                    Some(material) if !material.is_unclear() => {
                        recolor(picture, &material.matte, color)?.f_to_device(picture.device())?
                    }
                    _ => picture.shallow_clone(),
                };
                let (picture, painted) = (picture.f_squeeze_dim(0)?, painted.f_squeeze_dim(0)?);
                let (_, h, w) = picture.size3()?;
                let region =
                    region.f_to_device(picture.device())?.f_upsample_nearest2d([h, w], None, None)?.f_squeeze()?;
                let lines = compare(&picture, &painted, &region, cell, color)?.lines_kept;
                (compare(&picture, &picture, &region, cell, color)?.remainder, lines.unwrap_or(1.0))
            }
            None => (0.0, 1.0),
        };
        Ok(lines / ((1.0 + doubt) * (1.0 + 2.0 * cut)))
    }
}
