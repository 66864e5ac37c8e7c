//! [`Rgb`]: an sRGB color of 8 bits per channel, as in files and on screens.

use std::fmt;

/// An sRGB color, 8 bits each of red, green and blue.
///
/// A color is parsed from `#rgb`, `#rrggbb` or a CSS name in any case (`gold`, `RebeccaPurple`). It is shown, and
/// stored by serde, as `#rrggbb`. Serde reads `[255, 215, 0]` too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}
