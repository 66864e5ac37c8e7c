//! Repainting: a force's pull toward the picture of a first pass in which the object is recolored.

use super::recolor::recolor;
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::diffusion::{Pulls, Repaint};
use crate::error::Result;
use crate::mask::Matte;
use crate::saliency::Seen;
use tch::{Device, Kind, Tensor};

/// Share of a cell below which the cell has nothing of the object's material.
const NOTHING: f64 = 0.03;
/// Difference from the first pass's clean latent above which a cell has other content, in latent units.
const CHANGED: f64 = 0.3;
/// Weight of cells with other content. Nothing holds cells with a weight, and this weight moves no cell.
const FREE: f64 = 1e-6;

/// The state of a run's repainting.
pub(super) struct Repainting {
    /// The recolored picture, [n, 3, H, W] in -1..=1.
    painted: Tensor,
    matte: Matte,
    /// Share of each cell that is the object's material, [n, 1, h, w].
    pub share: Tensor,
    /// The encoded `painted` in and next to cells that have some of the material, and 0 elsewhere, [n, c, h, w].
    target: Tensor,
    /// The cells in which `target` is not 0, [n, 1, h, w] of 0 and 1.
    near: Tensor,
    /// The change of the encoded picture by the new color, [n, c, h, w].
    change: Tensor,
    seen: Seen,
    /// The cells that other methods changed, [n, 1, h, w] of 0 and 1; `None` before the second forced step.
    others: Option<Tensor>,
    /// True if the object's cells had the first pass's content at the force's first step; `None` before that step.
    same: Option<bool>,
    /// The cells that had other content then, [n, 1, h, w] of 0 and 1.
    changed: Option<Tensor>,
    /// The images that are repainted, [n, 1, 1, 1] of 0 and 1. The others are redrawn.
    repainted: Tensor,
    /// The images that were redrawn, by index, and their pictures before they were recolored, [1, 3, H, W].
    redrawn: Vec<(i64, Tensor)>,
}

impl Repainting {
    /// Recolors the material of `matte` in the first pass's `picture`, [n, 3, H, W] in -1..=1. `seen` is on any device.
    pub(super) fn new(
        seen: &Seen,
        matte: Matte,
        picture: &Tensor,
        asked: Rgb,
        codec: &dyn Codec,
        device: Device,
    ) -> Result<Self> {
        let share = matte.cells(codec.cell())?.f_to_device(device)?;
        let picture = picture.f_clamp(-1.0, 1.0)?;
        let painted = recolor(&picture, &matte, asked)?.f_to_device(picture.device())?;
        // Encoders also change cells far away a little, but these cells are to stay.
        let near = touched(&share)?.f_to_kind(Kind::Float)?.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?;
        let target = encoded(&painted, codec)?.f_to_device(device)?.f_mul(&near)?;
        let change = target.f_sub(&encoded(&picture, codec)?.f_to_device(device)?.f_mul(&near)?)?;
        let repainted = Tensor::f_ones([matte.unclear.len() as i64, 1, 1, 1], (Kind::Float, device))?;
        let seen = seen.on(device)?;
        let (others, same, changed, redrawn) = (None, None, None, Vec::new());
        Ok(Self { painted, matte, share, target, near, change, seen, others, same, changed, repainted, redrawn })
    }

    /// Returns the images whose object has no clear material, [n, 1, 1, 1] of 0 and 1.
    pub(super) fn unclear(&self) -> Result<Tensor> {
        let unclear: Vec<f32> = self.matte.unclear.iter().map(|unclear| f32::from(u8::from(*unclear))).collect();
        Ok(Tensor::f_from_slice(&unclear)?.f_reshape([-1, 1, 1, 1])?.f_to_device(self.share.device())?)
    }

    /// Leaves the images with an object at `place` to a redrawing, in which the cells `free` may change, and returns
    /// the first pass's content. Both are [n, 1, h, w] of 0 and 1.
    pub(super) fn leave(&mut self, place: &Tensor, free: &Tensor) -> Result<Tensor> {
        let redrawn = place.f_amax([1i64, 2, 3], true)?.f_gt(0.0)?;
        self.share = place.f_where_self(&redrawn, &self.share)?;
        self.near = free.f_where_self(&redrawn, &self.near)?;
        self.repainted = redrawn.f_logical_not()?.f_to_kind(Kind::Float)?;
        Ok(self.seen.last.get())
    }

    /// Recolors the material of `matte` in the `picture` of a redrawn image, [1, 3, H, W] in -1..=1, and returns the
    /// change of the image's latent, [1, c, h, w].
    pub(super) fn finish(
        &mut self,
        image: i64,
        matte: Matte,
        picture: &Tensor,
        asked: Rgb,
        codec: &dyn Codec,
    ) -> Result<Tensor> {
        let one = Self::new(&self.seen, matte, picture, asked, codec, self.share.device())?;
        let rows = [
            (&self.matte.share, &one.matte.share),
            (&self.matte.material, &one.matte.material),
            (&self.painted, &one.painted),
            (&self.share, &one.share),
            (&self.target, &one.target),
            (&self.near, &one.near),
        ];
        for (all, own) in rows {
            all.f_narrow(0, image, 1)?.f_copy_(own)?;
        }
        self.redrawn.push((image, picture.f_to_device(Device::Cpu)?));
        Ok(one.change)
    }

    /// Returns the picture of an image as it was redrawn, [1, 3, H, W]; `None` if the image was not redrawn.
    pub(super) fn redrawn(&self, image: i64) -> Option<&Tensor> {
        self.redrawn.iter().find(|(other, _)| *other == image).map(|(_, picture)| picture)
    }

    /// Returns true if the object's cells had the first pass's content at the force's first step, so that this content
    /// can be repainted. `x0` is the clean latent of the present step before the force, [n, c, h, w].
    ///
    /// The content differs after a force on the same cells that began earlier, for example, or after maps were replayed
    /// with another seed.
    pub(super) fn is_possible(&mut self, x0: &Tensor) -> Result<bool> {
        let differs = |from: &Tensor| -> Result<Tensor> {
            let apart = x0.f_sub(from)?.f_abs()?.f_amax([1i64], true)?;
            Ok(apart.f_gt(CHANGED)?.f_to_kind(Kind::Float)?)
        };
        if self.same.is_some() {
            // Cells that nothing changes keep the first pass's content.
            self.others = Some(differs(&self.seen.last.get())?.f_mul(&self.near.f_eq(0.0)?)?);
        } else {
            let changed = differs(&self.seen.first.get())?;
            let own = touched(&self.share)?.f_to_kind(Kind::Float)?;
            let count = |cells: &Tensor| cells.f_sum(Kind::Double)?.f_double_value(&[]);
            self.same = Some(count(&own.f_mul(&changed)?)? <= 0.5 * count(&own)?);
            self.changed = Some(changed);
        }
        Ok(self.is_used())
    }

    /// Returns what the first pass has seen, if the run repaints it.
    pub(super) fn used(&self) -> Option<&Seen> {
        self.is_used().then_some(&self.seen)
    }

    pub(super) fn is_used(&self) -> bool {
        self.same == Some(true)
    }

    /// Adds the repaint to the pulls on `base`, the clean latent, with the force's `weight` and `rank`, [n, 1, h, w].
    pub(super) fn add_to(&self, pulls: &mut Pulls, base: &Tensor, weight: Tensor, rank: Tensor) -> Result<()> {
        let own = |x: &Tensor| x.f_mul(&self.repainted);
        let weight = match &self.changed {
            Some(changed) => weight.f_maximum(&changed.f_mul_scalar(FREE)?)?,
            None => weight,
        };
        let (share, change, weight) = (own(&self.share)?, own(&self.change)?, own(&weight)?);
        pulls.repaint(Repaint { shift: self.seen.last.get().f_sub(base)?, change, share, weight, rank });
        Ok(())
    }

    /// Returns the share of each pixel of an image that is the object's material, [H, W].
    pub(super) fn share_of(&self, image: i64) -> Result<Tensor> {
        Ok(self.matte.share.f_select(0, image)?.f_select(0, 0)?)
    }

    /// Returns the pixels of an image that other methods changed, [H, W] of 0 and 1, for a picture of H × W = `size`
    /// pixels. `None` if the run had a single forced step.
    pub(super) fn others(&self, image: i64, size: [i64; 2]) -> Result<Option<Tensor>> {
        let Some(others) = &self.others else { return Ok(None) };
        let cells = others.f_narrow(0, image, 1)?.f_to_device(Device::Cpu)?;
        Ok(Some(cells.f_upsample_nearest2d(size, None, None)?.f_reshape(size)?))
    }

    /// Returns the recolored picture of an image, encoded, [1, c, h, w]; 0 in cells that keep their content. The
    /// material is moved by an `offset` in sRGB, whose channels are in 0..=1.
    pub(super) fn latent(&self, image: i64, offset: [f64; 3], codec: &dyn Codec) -> Result<Tensor> {
        if offset == [0.0; 3] {
            return Ok(self.target.f_narrow(0, image, 1)?);
        }
        let painted = self.painted.f_narrow(0, image, 1)?;
        let offset = Tensor::f_from_slice(&offset)?.f_to_kind(Kind::Float)?.f_reshape([1, 3, 1, 1])?;
        let moved = self.matte.image(image)?.share.f_mul(&offset.f_mul_scalar(2.0)?)?;
        let latent = encoded(&painted.f_add(&moved.f_to_device(painted.device())?)?, codec)?;
        Ok(latent.f_to_device(self.near.device())?.f_mul(&self.near.f_narrow(0, image, 1)?)?)
    }
}

/// Returns the cells of shares, [n, 1, h, w] in 0..=1, that have some of the object's material.
pub(super) fn touched(share: &Tensor) -> Result<Tensor> {
    Ok(share.f_gt(NOTHING)?)
}

/// Encodes pictures one by one, so that memory for one picture is enough.
fn encoded(pictures: &Tensor, codec: &dyn Codec) -> Result<Tensor> {
    let one = |image: i64| codec.encode(&pictures.f_narrow(0, image, 1)?);
    Ok(Tensor::f_cat(&(0..pictures.size4()?.0).map(one).collect::<Result<Vec<_>>>()?, 0)?)
}
