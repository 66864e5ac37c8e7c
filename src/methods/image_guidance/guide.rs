//! The guide of a prompt, and its tokens.

use super::tween::{batch, count_rows};
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::raster::Raster;
use crate::recipe::SharedTensor;
use crate::size::Size;
use crate::vision::{View, Vision, VisionEncoder};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use tch::Tensor;

/// The picture, text or tokens that guide a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Guide {
    Picture(Raster),
    Text(String),
    /// Guide tokens, [tokens, width] or [n, tokens, width].
    Tokens(SharedTensor),
}

/// The encoded tokens of a guide.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Guide tokens, [1 or n, tokens, width].
    pub tokens: Tensor,
    /// The columns of the context that the tokens are compared with; `None`: all.
    pub columns: Option<Range<i64>>,
    /// Projection of the prompt's tokens into the space of the guide's tokens.
    pub projection: Option<Tensor>,
}

impl Guide {
    /// Checks that the guide has content: words in a text, a valid shape of tokens.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Text(text) if text.trim().is_empty() => {
                Err(Error::parameter("text", format!("{text:?}"), "a text of at least one word"))
            }
            Self::Tokens(tokens) => batch("guide tokens", &tokens.get()).map(drop),
            _ => Ok(()),
        }
    }

    /// Encodes the guide's tokens for a run.
    pub(super) fn encode(&self, setup: &Setup<'_>, view: View) -> Result<Encoded> {
        let all = |tokens| Encoded { tokens, columns: None, projection: None };
        Ok(match self {
            Self::Picture(picture) => {
                let Vision { tokens, columns, text_projection } =
                    <dyn VisionEncoder>::of(setup.codec)?.vision(picture, view)?;
                Encoded { tokens, columns: Some(columns), projection: text_projection }
            }
            Self::Text(text) => {
                let context = setup.text(text)?.context;
                all(context.f_narrow(1, 0, count_rows(&context)?)?)
            }
            Self::Tokens(tokens) => {
                let rows = batch("guide tokens", &tokens.get())?;
                let n = rows.size3()?.0;
                let images = setup.images;
                if n != 1 && n != images {
                    let expected = format!("1 row for all images, or {images} rows, one for each image");
                    return Err(Error::Shape { what: "guide tokens", got: tokens.get().size(), expected });
                }
                all(rows)
            }
        })
    }
}

/// Formats the guide for messages and reports.
impl std::fmt::Display for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Picture(picture) => {
                let Size { width, height } = picture.size();
                write!(f, "a picture of {height}×{width}")
            }
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Tokens(tokens) => write!(f, "tokens {:?}", tokens.get().size()),
        }
    }
}
