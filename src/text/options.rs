//! Options for reading prompts.

use super::{Emphasis, Long};

/// Options for reading prompts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// Enables `(word:1.3)`, `[word]`, `\(` and `BREAK` as [`crate::prompt::parse`] describes; otherwise they are plain
    /// text. Default: true.
    pub markup: bool,
    /// Handling of a prompt of more than 75 tokens. Default: [`Long::Chunks`].
    pub long: Long,
    /// Effect of word weights on the states of CLIP. The weights always multiply the states of T5 and of the text
    /// networks of Anima and Z-Image. Default: [`Emphasis::Original`].
    pub emphasis: Emphasis,
    /// Layer of the text encoder that is read, counted back from the last layer, which is 1. `None` means the layer
    /// that the model was trained with: 1, or 2 for SDXL, which reads layer 2 for 1 too. The AUTOMATIC1111 web UI
    /// counts in the same way. diffusers' `clip_skip` is one less for SD 1.x and 2.x, and two less for SDXL.
    pub clip_skip: Option<usize>,
    /// Largest number of tokens of a prompt that is read as one sequence, 1 to 4096: Anima's, Z-Image's, and T5's in
    /// Stable Diffusion 3. `None` means the number of the model's training. CLIP reads chunks, and ignores this limit.
    pub limit: Option<usize>,
}

impl TextOptions {
    /// Options to read prompts as diffusers does: no markup, and a cut after the 75th token.
    pub const PLAIN: Self =
        Self { markup: false, long: Long::Truncate, emphasis: Emphasis::Original, clip_skip: None, limit: None };
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { markup: true, long: Long::Chunks, ..Self::PLAIN }
    }
}
