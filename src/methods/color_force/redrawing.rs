//! Redrawing: the model draws an object anew in another color, while everything else stays.
//!
//! Eyes as dark as their pupils and rims have no material that a recoloring could tell from lines, and white eyes in a
//! white face end nowhere. Under a gentle pull from early on, the model draws pupils, rims and edges itself; then the
//! material is clear.

use super::repainting::Repainting;
use crate::diffusion::{Pulls, Repaint};
use crate::error::Result;
use crate::mask::pieces;
use tch::{Device, Tensor};

/// Weight of the cells that the model may draw anew. Nothing holds cells with a weight, and this weight moves no cell.
const FREE: f64 = 1e-6;
/// Smallest share of a piece of the object's place that is its material.
const ENOUGH: f32 = 0.2;

/// The redrawing of an object without a clear material.
pub(super) struct Redrawing {
    /// The object's cells, [n, 1, h, w] of 0 and 1; 0 in images in which the material is clear.
    place: Tensor,
    /// The cells that the model may draw anew, [n, 1, h, w] of 0 and 1: the place and the cells next to it.
    free: Tensor,
    /// The object's map, [n, 1, h, w].
    pub found: Tensor,
    /// The protected cells, [n, 1, h, w] of 0 and 1.
    pub spared: Tensor,
    /// The first pass's content, [n, c, h, w].
    content: Tensor,
}

impl Redrawing {
    /// Prepares the redrawing of the object at `place`, of which only `allowed` cells may change, and leaves its images
    /// out of the repainting. `None` if nothing is to be redrawn. All tensors are [n, 1, h, w]: `place`, `allowed` and
    /// `spared` of 0 and 1, and the map `found`.
    pub(super) fn new(
        place: &Tensor,
        allowed: &Tensor,
        (found, spared): (Tensor, Tensor),
        repainting: &mut Repainting,
    ) -> Result<Option<Self>> {
        let place = with_material(&place.f_mul(allowed)?, &repainting.share)?;
        if place.f_max()?.f_double_value(&[])? == 0.0 {
            return Ok(None);
        }
        let free = place.f_max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false)?.f_mul(allowed)?;
        let content = repainting.leave(&place, &free)?;
        Ok(Some(Self { place, free, found, spared, content }))
    }

    /// Adds a pull of `weight` toward `gold` on `mean`, and holds the content of other cells. `x0` is the clean latent.
    ///
    /// The pull is on the mean as in the published method, because less noise makes clearer pupils and rims.
    pub(super) fn add_to(
        &self,
        pulls: &mut Pulls,
        (mean, x0): (&Tensor, &Tensor),
        gold: &Tensor,
        weight: f64,
    ) -> Result<()> {
        let weight = self.place.f_mul_scalar(weight)?;
        let shift = gold.f_sub(mean)?.f_mul(&weight)?;
        pulls.add_ranked(shift, weight, self.found.shallow_clone());
        pulls.repaint(Repaint {
            shift: self.content.f_sub(x0)?,
            change: x0.f_zeros_like()?,
            share: self.place.f_zeros_like()?,
            weight: self.free.f_mul_scalar(FREE)?,
            rank: self.found.shallow_clone(),
        });
        Ok(())
    }

    /// Returns the indices of the images that are redrawn.
    pub(super) fn images(&self) -> Result<Vec<i64>> {
        let redrawn = self.place.f_amax([1i64, 2, 3], false)?.f_nonzero()?.f_flatten(0, -1)?;
        Ok(Vec::try_from(&redrawn)?)
    }
}

/// Returns the connected pieces of a place of which the object's material has enough. Both are [n, 1, h, w]: cells of 0
/// and 1, and the material's share of each cell. A map's other pieces are places of other objects.
fn with_material(place: &Tensor, share: &Tensor) -> Result<Tensor> {
    let (n, _, h, w) = place.size4()?;
    let mut kept = vec![0f32; (n * h * w) as usize];
    for (image, kept) in (0..n).zip(kept.chunks_mut((h * w) as usize)) {
        let row = |x: &Tensor| x.f_select(0, image)?.f_flatten(0, -1)?.f_to_device(Device::Cpu);
        let inside = Vec::try_from(&row(place)?.f_gt(0.0)?)?;
        let share = Vec::<f32>::try_from(&row(share)?)?;
        for piece in pieces(inside, w as usize) {
            let material: f32 = piece.iter().filter_map(|at| share.get(*at)).sum();
            if material >= ENOUGH * piece.len() as f32 {
                for at in piece {
                    kept.get_mut(at).into_iter().for_each(|cell| *cell = 1.0);
                }
            }
        }
    }
    Ok(Tensor::f_from_slice(&kept)?.f_reshape([n, 1, h, w])?.f_to_device(place.device())?)
}
