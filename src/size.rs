//! [`Size`]: width and height in pixels.

use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Width and height in pixels. Functions that take a size also accept a pair (width, height), as in the `image` crate.
///
/// ```
/// use impasto::{Raster, Rgb, Size};
/// let wide = Raster::flat(Rgb(255, 215, 0), Size { width: 96, height: 64 });
/// assert_eq!(wide, Raster::flat(Rgb(255, 215, 0), (96, 64)));
/// assert_eq!(wide.size().to_string(), "96×64");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct Size {
    /// Number of pixel columns.
    pub width: u32,
    /// Number of pixel rows.
    pub height: u32,
}

read_as_text_too!(Size);

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

/// Reads a size as users write it: `512x768`, `512×768`, or `512` for a square.
impl FromStr for Size {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for any other text.
    fn from_str(text: &str) -> Result<Self> {
        let (width, height) = text.split_once(['x', '×', 'X']).unwrap_or((text, text));
        let size = width.trim().parse().ok().zip(height.trim().parse().ok());
        size.map(Self::from).ok_or_else(|| {
            Error::parameter("size", text, "whole numbers of pixels, such as 512x768, or 512 for a square")
        })
    }
}

/// Formats the size as width × height.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.width, self.height)
    }
}
