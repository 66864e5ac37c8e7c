//! How a picture is shown to a model's vision tower, and what the tower says.

use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// How a picture is shown to a vision tower, which sees squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// How the picture becomes a square.
    pub crop: Crop,
    /// What its bytes become.
    pub range: ClipRange,
}

/// How a picture that is not square becomes one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Crop {
    /// Its middle: the shorter side is resized to the tower's, what is beyond it on the other is not seen.
    #[default]
    Center,
    /// All of it, between bars of the color that is 0 to the tower.
    Pad,
    /// All of it, squeezed.
    Stretch,
    /// All of it, squeezed by torch's antialiased bicubic filter between the middles of the corner pixels, without rounding to bytes, as
    /// ColorizeDiffusion shows references.
    StretchAligned,
}

/// What a picture's bytes become before each channel's mean is taken away and divided by its deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClipRange {
    /// 0..=1, which the tower was trained on.
    #[default]
    Unit,
    /// −1..=1, as FlexDiffuse has it: too dark, and with twice the contrast.
    Upstream,
}

/// What a vision tower makes of a picture.
#[derive(Debug)]
#[non_exhaustive]
pub struct Vision {
    /// A token for the whole picture, then one for each patch, row by row, projected to the width of texts:
    /// [1, 1 + patches, width] f32.
    pub tokens: Tensor,
    /// The columns of [`Conditioning::context`](crate::conditioning::Conditioning::context) that they stand beside: all of
    /// them, but for models with two text encoders.
    pub columns: Range<i64>,
    /// What takes the text encoder's states to the space of the tokens, [width, columns] f32, if the checkpoint has it.
    pub text_projection: Option<Tensor>,
}

impl Vision {
    /// Tokens beside `columns` of a context.
    pub const fn new(tokens: Tensor, columns: Range<i64>) -> Self {
        Self { tokens, columns, text_projection: None }
    }
}
