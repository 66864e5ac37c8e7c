//! The maps that a first pass found, and the object's material in its picture.

use super::options::ForceOptions;
use super::protect::Guarded;
use super::run::{ForceRun, Maps, Material};
use crate::conditioning::Codec;
use crate::error::Result;
use crate::mask::{Matte, alike, covered, follow_outlines};
use crate::step::Grid;
use tch::{Device, Kind, Tensor};

impl ForceRun {
    /// Returns the maps of a first pass; `None` if the saliency has no map. With `image`, the maps are those of this
    /// image alone, otherwise those of all images. `seen` is the last clean latent of the first pass.
    pub(super) fn first_pass_maps(
        &self,
        seen: Option<&Tensor>,
        image: Option<i64>,
        codec: &dyn Codec,
    ) -> Result<Option<Maps>> {
        let of_image = |x: &Tensor| of_image(x, image);
        let Some(found) = self.saliency.map()?.as_ref().map(of_image).transpose()? else { return Ok(None) };
        let others = maps(&self.protected)?;
        let others: Vec<_> = others.iter().map(|map| map.as_ref().map(of_image).transpose()).collect::<Result<_>>()?;
        let ForceOptions { outlines, material, alike: by_color, .. } = self.settings.options;
        let seen = seen.filter(|_| outlines || by_color).map(of_image).transpose()?;
        let picture = seen.map(|x0| picture(&x0, codec)).transpose()?;
        let found = match &picture {
            Some(picture) if by_color => alike(&found, picture)?,
            _ => found,
        };
        let (own, material) = match &picture {
            Some(picture) if outlines && material => {
                let spared = self.spared(&found, &others)?;
                let matte = self.matte(&found, &spared, picture, codec.cell())?;
                (matte.cells(codec.cell())?.f_to_device(found.device())?, Some(Material { matte, spared }))
            }
            Some(picture) if outlines => (along_outlines(&found, picture, codec.cell())?, None),
            _ => (found.shallow_clone(), None),
        };
        Ok(Some(Maps { own, found, others, picture, material }))
    }

    /// Returns the protected cells, [n, 1, h, w] of 0 and 1.
    fn spared(&self, found: &Tensor, others: &[Option<Tensor>]) -> Result<Tensor> {
        let mut spared = found.f_zeros_like()?.f_to_kind(Kind::Float)?;
        for (protected, other) in self.protected.iter().zip(others) {
            if let Some(other) = other {
                spared = spared.f_maximum(&protected.cells(other, found, self.settings.options.protection())?.0)?;
            }
        }
        Ok(spared)
    }

    /// Finds the material of the object at `found`, [n, 1, h, w], in a picture, [n, 3, H, W] in -1..=1. Guarded cells
    /// and pixels beyond the user's mask have none.
    pub(super) fn matte(&self, found: &Tensor, spared: &Tensor, picture: &Tensor, cell: i64) -> Result<Matte> {
        let (levels, _) = self.settings.cutoff.levels(found, self.saliency.range(), None)?;
        // The cutoff becomes .5, and twice the cutoff becomes 1.
        let found = found.f_div(&levels.f_mul_scalar(2.0)?.f_clamp_min(1e-6)?)?.f_clamp(0.0, 1.0)?;
        let mut place = follow_outlines(&found, picture, cell)?;
        let mut free: Vec<Tensor> = Vec::new();
        if spared.f_max()?.f_double_value(&[])? > 0.0 {
            free.push(follow_outlines(spared, picture, cell)?.f_lt(0.5)?.f_to_kind(Kind::Float)?);
        }
        if let Some(region) = &self.settings.mask {
            let (n, _, h, w) = picture.size4()?;
            free.push(region.for_images(Grid::new(h, w), n)?.f_to_device(picture.device())?);
        }
        for free in &free {
            place = place.f_mul(free)?;
        }
        let mut matte = Matte::of(&place, picture, cell)?;
        for free in &free {
            matte.share = matte.share.f_mul(&free.f_to_device(Device::Cpu)?)?;
        }
        Ok(matte)
    }
}

/// Brings a map of latent cells, [n, 1, h, w], to the outlines of a picture, [n, 3, H, W]. `cell` is the side of a
/// latent cell in pixels. If no cell of an image reaches .5, the map of this image stays as it is.
fn along_outlines(map: &Tensor, picture: &Tensor, cell: i64) -> Result<Tensor> {
    let found = covered(&follow_outlines(map, picture, cell)?, cell)?.f_to_device(map.device())?;
    let any = found.f_amax([1i64, 2, 3], true)?.f_ge(0.5)?;
    Ok(found.f_where_self(&any, map)?)
}

/// Returns the row of one image, or all rows. A tensor with one row serves every image.
pub(super) fn of_image(x: &Tensor, image: Option<i64>) -> Result<Tensor> {
    let row = image.filter(|_| x.size().first() != Some(&1));
    row.map_or_else(|| Ok(x.shallow_clone()), |row| Ok(x.f_narrow(0, row, 1)?))
}

/// Decodes a clean latent: [n, c, h, w] → [n, 3, H, W].
pub(super) fn picture(x0: &Tensor, codec: &dyn Codec) -> Result<Tensor> {
    // Images are decoded one by one, so that each image equals the image decoded alone, and memory for one image is
    // enough.
    let images =
        (0..x0.size4()?.0).map(|image| codec.decode(&x0.f_narrow(0, image, 1)?)).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&images, 0)?)
}

/// Returns the present maps of the protected objects.
pub(super) fn maps(protected: &[Guarded]) -> Result<Vec<Option<Tensor>>> {
    protected.iter().map(|protected| protected.saliency.map()).collect()
}
