//! View of a picture for a model's vision tower, and the tower's output.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// View of a picture for a vision tower, whose input is square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Method that makes the picture square.
    pub crop: Crop,
    /// Range that the picture's bytes are mapped to.
    pub range: ClipRange,
}

/// Method that makes a picture square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Crop {
    /// Crops to the center: the shorter side is resized to the side of the tower's input, and the excess of the longer
    /// side is cut off.
    #[default]
    Center,
    /// Pads the whole picture with bars of the color that the tower reads as 0.
    Pad,
    /// Squeezes the whole picture to a square.
    Stretch,
    /// Squeezes the whole picture to a square as ColorizeDiffusion does for references: with torch's antialiased
    /// bicubic filter, aligned at the centers of the corner pixels, without rounding to bytes.
    StretchAligned,
}

/// Range that a picture's bytes are mapped to, before each channel's mean is subtracted and the result divided by the
/// channel's deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClipRange {
    /// The range 0..=1, on which the tower was trained.
    #[default]
    Unit,
    /// The range −1..=1, as in FlexDiffuse. The tower then sees the picture too dark and with twice the contrast.
    Upstream,
}

/// Output of a vision tower for a picture.
#[derive(Debug)]
#[non_exhaustive]
pub struct Vision {
    /// Token of the whole picture, then one token per patch, row by row, projected to the width of texts:
    /// [1, 1 + patches, width] f32.
    pub tokens: Tensor,
    /// Columns of [`Conditioning::context`](crate::conditioning::Conditioning::context) that the tokens are comparable
    /// with: all columns, except for models with two text encoders.
    pub columns: Range<i64>,
    /// Projection of the text encoder's states into the space of the tokens, [width, columns] f32, if the checkpoint
    /// has it.
    pub text_projection: Option<Tensor>,
}

impl Vision {
    /// Creates the output from tokens that are comparable with `columns` of a context.
    pub const fn new(tokens: Tensor, columns: Range<i64>) -> Self {
        Self { tokens, columns, text_projection: None }
    }
}
