//! How prompts are read.

use super::{Emphasis, Long};

/// How prompts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// Do `(word:1.3)`, `[word]`, `\(` and `BREAK` mean what [`crate::prompt::parse`] says? Else they are text. Default: yes.
    pub markup: bool,
    /// What becomes of more than 75 tokens.
    pub long: Long,
    /// What weights do.
    pub emphasis: Emphasis,
    /// Which of the text encoder's layers is read, counted from the last, which is 1; `None`: what the model was trained with (1;
    /// for SDXL, 2). The A1111 web UI counts so; diffusers' `clip_skip` is one less for SD 1.x and 2.x, two less for SDXL.
    pub clip_skip: Option<usize>,
}

impl TextOptions {
    /// As diffusers reads prompts: every sign is text, and what is beyond the 75th token is cut off.
    pub const PLAIN: Self = Self { markup: false, long: Long::Truncate, emphasis: Emphasis::Original, clip_skip: None };
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { markup: true, long: Long::Chunks, ..Self::PLAIN }
    }
}
