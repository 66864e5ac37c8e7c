//! Pictures that follow a drawing: how closely a ControlNet keeps to its lines and strokes.

use crate::failure::Failure;
use crate::picture::Picture;
use crate::picture::{picture, raster};
use impasto::hint::Drawing;
use impasto_train::{Adherence, drawn_by_a_person};
use serde::{Deserialize, Serialize};

/// Figures of how closely a picture follows a drawing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// F1 of the picture's edges against the lines, within a pixel.
    pub edge_f1: f64,
    /// Median CIEDE2000 between the pixels under strokes and the strokes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strokes: Option<f64>,
    /// Median CIEDE2000 between the objects under strokes and the strokes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<f64>,
}

/// Draws a picture as a person might: its edges, and smooth strokes in its colors. `seed` chooses the strokes.
pub fn drawing(original: &Picture, seed: u64) -> Result<Drawing, Failure> {
    Ok(drawn_by_a_person(&raster(original)?, seed)?)
}

/// Compares a picture with the drawing that was [made](drawing) of the original picture.
pub fn followed(original: &Picture, drawing: &Drawing, picture: &Picture) -> Result<Followed, Failure> {
    let Adherence { edge_f1, strokes, objects } = Adherence::measure(&raster(original)?, drawing, &raster(picture)?)?;
    Ok(Followed { edge_f1, strokes, objects })
}

/// Shows a drawing as a picture: black lines on paper, and strokes.
pub fn shown(drawing: &Drawing) -> Result<Picture, Failure> {
    picture(&drawing.raster()?)
}
