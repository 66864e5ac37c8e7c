//! [`Size`]: width and height in pixels.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Width and height in pixels. Functions that take a size also accept a pair (width, height), as in the `image` crate.
///
/// ```
/// use impasto::{Raster, Rgb, Size};
/// let wide = Raster::flat(Rgb(255, 215, 0), Size { width: 96, height: 64 });
/// assert_eq!(wide, Raster::flat(Rgb(255, 215, 0), (96, 64)));
/// assert_eq!(wide.size().to_string(), "96×64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Number of pixel columns.
    pub width: u32,
    /// Number of pixel rows.
    pub height: u32,
}

impl Size {
    /// Creates a size of `width` by `height` pixels.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
}

impl From<(u32, u32)> for Size {
    fn from((width, height): (u32, u32)) -> Self {
        Self { width, height }
    }
}

/// Formats the size as width × height.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}
