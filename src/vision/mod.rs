//! [`View`]: a picture as a model's vision tower sees it. [`Vision`]: the tower's output.
//!
//! ```
//! use impasto::vision::{Crop, View};
//! use impasto::{Codec, Model, Raster, Rgb, Source};
//!
//! # fn main() -> impasto::Result<()> {
//! let model = Model::load(&Source::embedded())?;
//! let whole = View { crop: Crop::Pad, ..View::default() };
//! let seen = model.vision(&Raster::flat(Rgb(255, 215, 0), (96, 64)), whole)?;
//! assert_eq!(seen.tokens.size()[0], 1);
//! # Ok(()) }
//! ```

pub(crate) mod view;

pub(crate) use view::ClipRange;
pub use view::{Crop, View};

use std::ops::Range;
use tch::Tensor;

/// Output of a vision tower for a picture.
#[derive(Debug)]
#[non_exhaustive]
pub struct Vision {
    /// Token of the whole picture, then one token per patch, row by row, projected to the width of texts:
    /// [1, 1 + patches, width] f32.
    pub tokens: Tensor,
    /// Columns of [`Conditioning::context`](crate::conditioning::Conditioning::context) that the tokens are comparable
    /// with: all columns, except for models with two text encoders.
    pub columns: Range<i64>,
    /// Projection of the text encoder's states into the space of the tokens, [width, columns] f32, if the checkpoint
    /// has it.
    pub text_projection: Option<Tensor>,
}

impl Vision {
    /// Creates the output from tokens that are comparable with `columns` of a context.
    pub const fn new(tokens: Tensor, columns: Range<i64>) -> Self {
        Self { tokens, columns, text_projection: None }
    }
}
