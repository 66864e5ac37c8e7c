//! Words for exact colors.

use serde::{Deserialize, Serialize};

/// Words that the text encoder reads in place of an exact color in a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum ColorWords {
    /// The color word nearest to the color by CIEDE2000, such as "teal". Only words that are one token of the model are
    /// considered.
    #[default]
    Nearest,
    /// No word. The picture equals that of the prompt without the color, except in the cells that the color force
    /// changes.
    Nothing,
}
