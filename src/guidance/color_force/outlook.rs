//! The outlook of a force: how well a first pass suits it, so that a run of several candidates finishes the best of them.

use super::ColorForce;
use super::comparison::compare;
use super::forcing::Maps;
use crate::conditioning::Codec;
use crate::error::Result;
use tch::{Kind, Tensor};

/// Shares of a picture within which a region may be the thing that was asked for.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.001..=0.8;
/// Distance from the cutoff, as a share of a map's range, up to which a cell is undecided.
const UNDECIDED: f64 = 0.3;

impl ColorForce {
    /// Rates each image of a rehearsal, 0..=1: cells are decided, and the mask ends where its thing ends. 0 for a mask that is
    /// hardly there, or nearly everywhere. `seen` is the rehearsal's last clean latent, [n, 4, h, w].
    pub(super) fn promises(&self, seen: &Tensor, codec: &dyn Codec) -> Result<Vec<f64>> {
        let promise = |image: i64| match self.rehearsed(Some(seen), Some(image), codec)? {
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
        let cut = match &maps.picture {
            Some(picture) => {
                let picture = picture.f_squeeze_dim(0)?;
                let (_, h, w) = picture.size3()?;
                let region = region.f_to_device(picture.device())?.f_upsample_nearest2d([h, w], None, None)?;
                compare(&picture, &picture, &region.f_squeeze()?, cell, self.settings.color)?.remainder
            }
            None => 0.0,
        };
        Ok(1.0 / ((1.0 + doubt) * (1.0 + 2.0 * cut)))
    }
}

/// The cells of each image, [n, 1, h, w], whose saliency is near the cutoff, [n, 1, 1, 1], as a share of those above it: small for a thing that is
/// told apart, above 1.5 where the map hardly says where it is.
pub(super) fn undecided(map: &Tensor, cutoff: &Tensor, range: f64) -> Result<Vec<f64>> {
    let count = |cells: &Tensor| cells.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double);
    let near = count(&map.f_sub(cutoff)?.f_abs()?.f_lt(UNDECIDED * range)?)?;
    let above = count(&map.f_ge_tensor(cutoff)?)?.f_clamp_min(1.0)?;
    Ok(Vec::try_from(&near.f_div(&above)?.f_to_device(tch::Device::Cpu)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn cells_near_the_cutoff_are_undecided() -> Result<()> {
        let map = |inside: f64, border: i64| {
            let map = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
            let _ = map.narrow(2, 0, 4).fill_(inside);
            let _ = map.narrow(2, 4, border).fill_(0.3);
            map
        };
        let maps = Tensor::cat(&[map(0.9, 0), map(0.9, 2), map(0.6, 4)], 0);
        let cutoff = Tensor::from(0.5f32).expand([3, 1, 1, 1], false);
        assert_eq!(undecided(&maps, &cutoff, 1.0)?, [0.0, 0.5, 2.0]);
        assert_eq!(undecided(&maps.zeros_like(), &cutoff, 1.0)?, [0.0; 3], "nothing is above it, and nothing near");
        Ok(())
    }
}
