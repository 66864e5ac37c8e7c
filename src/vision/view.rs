//! [`View`]: a picture as a vision tower sees it.

use serde::{Deserialize, Serialize};

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
