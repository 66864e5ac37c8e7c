//! Words for exact colors.

use serde::{Deserialize, Serialize};

/// What the text encoder reads where a prompt says a color exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ColorWords {
    /// The nearest color (CIEDE2000) of those that a word names which is one token of the model's, such as "teal".
    #[default]
    Nearest,
    /// Nothing: the picture is the one without the color, but for the forced cells.
    Nothing,
}
