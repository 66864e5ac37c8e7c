//! [`ControlType`]: the types of hints that a ControlNet union tells apart.

use serde::{Deserialize, Serialize};

/// Type of a hint, for a ControlNet union. The first six types are those of the published Union; ProMax has all eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ControlType {
    /// A pose, as OpenPose draws it.
    Pose,
    /// A depth map.
    Depth,
    /// Soft edges or a scribble.
    SoftEdge,
    /// Hard lines: Canny's edges, line art or straight lines (MLSD).
    Line,
    /// A normal map.
    Normal,
    /// A segmentation map.
    Segmentation,
    /// A picture whose details are to be repainted (ProMax).
    Tile,
    /// A picture with a black area to repaint (ProMax).
    Repaint,
}

impl ControlType {
    /// All types, in the order of their numbers in the network.
    pub const ALL: [Self; 8] = [
        Self::Pose,
        Self::Depth,
        Self::SoftEdge,
        Self::Line,
        Self::Normal,
        Self::Segmentation,
        Self::Tile,
        Self::Repaint,
    ];

    /// Returns the name in recipes, jobs and on command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pose => "pose",
            Self::Depth => "depth",
            Self::SoftEdge => "soft_edge",
            Self::Line => "line",
            Self::Normal => "normal",
            Self::Segmentation => "segmentation",
            Self::Tile => "tile",
            Self::Repaint => "repaint",
        }
    }
}
