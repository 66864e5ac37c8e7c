//! Notes on the picture to start from and on the mask of a [`Request`].

use super::Request;
use super::canvas::Canvas;
use super::input::gray;
use crate::error::Result;
use crate::raster::{Raster, Transparency};
use crate::repaint::snap;
use crate::wording::Note;

impl Request<'_> {
    /// Returns notes on transparent parts of the request's pictures, and on a mask of one color.
    pub(super) fn doubts_of_pictures(&self, canvas: &Canvas) -> Result<Vec<Note>> {
        let start = self.picture.as_ref().and_then(|(picture, _)| start_note(picture));
        let shape = self.mask.as_deref().and_then(mask_note);
        let extent = self.mask.as_deref().map(|mask| extent_note(mask, canvas)).transpose()?.flatten();
        Ok([start, shape, extent].into_iter().flatten().map(Note::from).collect())
    }
}

/// Returns a note on a mask that repaints nothing or everything.
fn extent_note(mask: &Raster, canvas: &Canvas) -> Result<Option<&'static str>> {
    let gray = snap(&gray(mask, canvas)?)?;
    let (least, most) = (gray.f_min()?.f_double_value(&[])?, gray.f_max()?.f_double_value(&[])?);
    Ok(match (least, most) {
        (_, most) if most <= 0.0 => Some(
            "the mask is black everywhere, so nothing is repainted; make the mask white where the picture shall change",
        ),
        (least, _) if least > 0.0 => Some(
            "the mask is black nowhere, so the whole picture is repainted; make the mask black where the picture shall \
             stay",
        ),
        _ => None,
    })
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
