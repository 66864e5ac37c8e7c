//! Notes on the picture to start from and on the mask of a [`Request`].

use super::Request;
use super::request::{light, sized};
use crate::conditioning::Codec;
use crate::error::Result;
use crate::raster::{Filter, Raster, Transparency};
use crate::size::Size;
use crate::wording::Note;
use tch::Tensor;

impl Request<'_> {
    /// Returns notes on transparent parts of the request's pictures, and on a mask of one color. `size` is the size of
    /// the pictures that the run makes.
    pub(super) fn doubts_of_pictures(&self, size: Size) -> Result<Vec<Note>> {
        let start = self.picture.and_then(|(picture, _)| start_note(picture));
        let shape = self.mask.and_then(mask_note);
        let extent = self.mask.map(|mask| self.extent_note(mask, size)).transpose()?.flatten();
        Ok([start, shape, extent].into_iter().flatten().map(Note::from).collect())
    }

    /// Returns a note on a mask that repaints nothing or everything.
    fn extent_note(&self, mask: &Raster, size: Size) -> Result<Option<&'static str>> {
        // A cell of the latent is repainted if its first pixel is.
        let cell = self.model.cell();
        let first = sized(mask, size, Filter::Nearest)?.f_slice(2, None, None, cell)?.f_slice(3, None, None, cell)?;
        let repainted = light(&first)?.f_ge(0.5)?;
        let is = |found: Tensor| -> Result<bool> { Ok(found.f_int64_value(&[])? != 0) };
        Ok(match (is(repainted.f_any()?)?, is(repainted.f_all()?)?) {
            (false, _) => Some(
                "the mask is darker than mid-gray everywhere, so nothing is repainted; make the mask white where the \
                 picture shall change",
            ),
            (_, true) => Some(
                "the mask is lighter than mid-gray everywhere, so the whole picture is repainted; make the mask black \
                 where the picture shall stay",
            ),
            _ => None,
        })
    }
}

/// Returns a note on transparent parts of the picture to start from.
const fn start_note(picture: &Raster) -> Option<&'static str> {
    match picture.transparency {
        Transparency::OverWhite => Some(
            "the transparent parts of the picture to start from became white; fill them to start from another color",
        ),
        Transparency::OverBlack => Some(
            "the transparent parts of the picture to start from became black, because all other parts are white; fill \
             them to start from another color",
        ),
        _ => None,
    }
}

/// Returns a note on the reading of a mask with transparent parts.
const fn mask_note(mask: &Raster) -> Option<&'static str> {
    match mask.transparency {
        Transparency::None => None,
        Transparency::OpaqueInMask => Some(
            "the shape of the mask is in its transparency: the opaque parts are repainted; for the other parts, give a \
             mask of white and black without transparency",
        ),
        Transparency::TransparentInMask => Some(
            "the shape of the mask is in its transparency: the transparent parts are repainted, as in ComfyUI and GIMP; \
             for the other parts, give a mask of white and black without transparency",
        ),
        Transparency::TransparentOffMask => Some(
            "the transparent parts of the mask are not repainted, because the mask has white and black of its own; make \
             these parts white to repaint them",
        ),
        Transparency::OverWhite => Some(
            "the mask was opened as a picture, so its transparent parts are white and repainted; open the mask \
             as a layer to read its shape from its transparency",
        ),
        Transparency::OverBlack => Some(
            "the mask was opened as a picture, so its transparent parts are black and stay; open the mask as a \
             layer to read its shape from its transparency",
        ),
    }
}
