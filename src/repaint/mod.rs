//! Repainting a part of a picture: the mask, the blend of new and kept pixels, and the seam between them.
//!
//! Pixels outside the mask are the pixels of the picture that was given, bit for bit. Inside the mask, along its
//! border, the new pixels are blended with the given ones, and the new pixels are matched to the tone of the given
//! ones. `docs/repaint.md` explains the method with pictures.

mod blend;
mod colors;
mod crop;
mod mask;
mod seam;
mod tone;
mod window;

pub(crate) use colors::with_colors;
pub(crate) use crop::Crop;
pub(crate) use mask::{snap, soften};
pub(crate) use seam::Seam;

use crate::error::Result;
use tch::Tensor;

/// A picture and the part of it that a run repaints.
pub(crate) struct Repaint {
    /// The picture, [1, 3, H, W] in -1..=1.
    picture: Tensor,
    /// The gray of each pixel, [1, 1, H, W] in 0..=1: how much of the pixel is repainted.
    mask: Tensor,
    /// Share of the new picture in each pixel, [1, 1, H, W] in 0..=1.
    share: Tensor,
}

impl Repaint {
    /// Returns the part of `picture`, [1, 3, H, W] in -1..=1, that `mask`, [1, 1, H, W] in 0..=1, repaints. The new
    /// pixels are blended with those of the picture along `feather` pixels inside the mask.
    pub(crate) fn new(picture: &Tensor, mask: &Tensor, feather: f64) -> Result<Self> {
        let (picture, mask) = (picture.shallow_clone(), mask::snap(mask)?);
        let share = blend::share(&mask, feather)?;
        Ok(Self { picture, mask, share })
    }

    /// Returns the mask for a latent of cells of `cell` × `cell` pixels, [1, 1, H, W]: every pixel has the largest
    /// value of its cell, so that every repainted pixel is in a repainted cell.
    pub(crate) fn of_cells(&self, cell: i64) -> Result<Tensor> {
        mask::of_cells(&self.mask, cell)
    }

    /// Returns the mask as a picture in gray, [1, 3, H, W] in -1..=1.
    pub(crate) fn shown(&self) -> Result<Tensor> {
        Ok(self.mask.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_repeat([1, 3, 1, 1])?)
    }

    /// Joins the pictures of a run, [n, 3, H, W], with the given picture. `matched` says whether the tone of the new
    /// pixels is matched to the given ones. Pixels of `exact`, [1 or n, 1, H, W], keep their color.
    pub(crate) fn join(&self, painted: &Tensor, matched: bool, exact: Option<&Tensor>) -> Result<(Tensor, Vec<Seam>)> {
        let painted = painted.f_to_device(self.picture.device())?.f_to_kind(self.picture.kind())?;
        let toned = if matched {
            tone::find_match(&self.picture, &painted, &self.mask, exact)?
        } else {
            painted.shallow_clone()
        };
        let joined = blend::blend(&self.picture, &toned, &self.share)?;
        let pasted = blend::blend(&self.picture, &painted, &self.mask.f_gt(0.0)?.f_to_kind(self.mask.kind())?)?;
        let seams = seam::measure(&self.picture, &pasted, &joined, &self.mask)?;
        Ok((joined, seams))
    }
}
