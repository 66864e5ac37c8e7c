//! [`VisionEncoder`]: the vision tower of a model. [`View`]: a picture as the tower sees it. [`Vision`]: its output.
//!
//! ```
//! use impasto::vision::{Crop, View, VisionEncoder};
//! use impasto::{Model, Raster, Rgb, Source};
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

use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::raster::Raster;
use crate::wording::Remedy;
use std::ops::Range;
use tch::Tensor;

/// The part of a model that encodes pictures in the space of its texts.
///
/// ```
/// use impasto::testing::ToyModel;
/// use impasto::vision::{View, VisionEncoder};
/// use impasto::{Raster, Rgb};
/// let seen = ToyModel::new(1)?.vision(&Raster::flat(Rgb(255, 215, 0), (96, 64)), View::default())?;
/// assert_eq!(seen.tokens.size()[..2], [1, 5]); // the whole picture and four patches
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait VisionEncoder {
    /// Encodes a picture with the vision tower that belongs to the text encoder.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if the checkpoint has no tower; [`Error::Parameter`] for a picture without pixels.
    fn vision(&self, picture: &Raster, view: View) -> Result<Vision>;

    /// Encodes a whole text to a unit vector, f32, in the space of a picture's tokens ([`VisionEncoder::vision`]), with
    /// as many numbers as a token.
    ///
    /// # Errors
    /// [`Error::MissingFile`] without a text encoder that has a projection, as by default.
    fn text_vector(&self, text: &str) -> Result<Tensor> {
        let _ = text;
        let (file, place) = ("the text encoder".into(), "this model".into());
        let hint = Remedy::TextEncoder.after("the text encoder needs a projection");
        Err(Error::MissingFile { file, place, hint })
    }
}

impl dyn VisionEncoder {
    /// Returns this part of a model.
    ///
    /// # Errors
    /// [`Error::MissingFile`] for a model without a vision tower.
    pub(crate) fn of(codec: &dyn Codec) -> Result<&Self> {
        codec.capability().ok_or_else(|| {
            let (file, place) = ("the image encoder".into(), "this model".into());
            let hint = Remedy::ImageEncoder.after("this model reads no pictures");
            Error::MissingFile { file, place, hint }
        })
    }
}

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
