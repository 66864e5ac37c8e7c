//! [`Paired`]: a codec whose second text encoder reads its own prompt.

use crate::color::Rgb;
use crate::conditioning::{Codec, Conditioning};
use crate::error::Result;
use crate::prompt::Prompt;
use crate::raster::Raster;
use crate::reference::{Feature, Part};
use crate::step::Grid;
use crate::vision::{View, Vision};
use tch::Tensor;

/// The codec that guidance methods see in a run with a second prompt. For every text of the first text encoder, the
/// second text encoder reads the second prompt.
pub(super) struct Paired<'a> {
    pub(super) codec: &'a dyn Codec,
    /// Prompt of the second text encoder; `None`: both encoders read the same text.
    pub(super) second: Option<&'a str>,
}

impl Codec for Paired<'_> {
    fn prompt(&self, text: &str) -> Result<Prompt> {
        self.codec.prompt_pair(text, self.second.unwrap_or(text))
    }

    fn text(&self, text: &str) -> Result<Conditioning> {
        self.codec.text_pair(text, self.second.unwrap_or(text))
    }

    fn prompt_pair(&self, first: &str, second: &str) -> Result<Prompt> {
        self.codec.prompt_pair(first, second)
    }

    fn text_pair(&self, first: &str, second: &str) -> Result<Conditioning> {
        self.codec.text_pair(first, second)
    }

    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        self.codec.encode(picture)
    }

    fn posterior(&self, picture: &Tensor) -> Result<(Tensor, Tensor)> {
        self.codec.posterior(picture)
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.codec.decode(latent)
    }

    fn flat(&self, color: Rgb, grid: Grid) -> Result<Tensor> {
        self.codec.flat(color, grid)
    }

    fn vision(&self, picture: &Raster, view: View) -> Result<Vision> {
        self.codec.vision(picture, view)
    }

    fn text_vector(&self, text: &str) -> Result<Tensor> {
        self.codec.text_vector(text)
    }

    fn sketch(&self, sketch: &Tensor) -> Result<Vec<Tensor>> {
        self.codec.sketch(sketch)
    }

    fn part_tokens(&self, tokens: &Tensor, part: Part, threshold: f64) -> Result<Tensor> {
        self.codec.part_tokens(tokens, part, threshold)
    }

    fn reference_features(
        &self,
        of: Feature,
        latent: &Tensor,
        tokens: &Tensor,
        ratios: [f64; 2],
    ) -> Result<Vec<Tensor>> {
        self.codec.reference_features(of, latent, tokens, ratios)
    }

    fn cell(&self) -> i64 {
        self.codec.cell()
    }
}
