//! Options for reading prompts.

use super::{Emphasis, Long};

/// Options for reading prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// Enables `(word:1.3)`, `[word]`, `\(` and `BREAK` as [`crate::prompt::parse`] describes; otherwise they are plain
    /// text. Default: true.
    pub markup: bool,
    /// Handling of more than 75 tokens.
    pub long: Long,
    /// Effect of word weights.
    pub emphasis: Emphasis,
    /// Layer of the text encoder that is read, counted from the last, which is 1. `None`: the layer the model was
    /// trained with (1; for SDXL, 2). The A1111 web UI counts the same way. diffusers' `clip_skip` is one less for SD
    /// 1.x and 2.x, two less for SDXL.
    pub clip_skip: Option<usize>,
}

impl TextOptions {
    /// The options by which diffusers reads prompts: no markup, and a cut after the 75th token.
    pub const PLAIN: Self = Self { markup: false, long: Long::Truncate, emphasis: Emphasis::Original, clip_skip: None };
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { markup: true, long: Long::Chunks, ..Self::PLAIN }
    }
}
