//! What a branch is conditioned on, and what a guidance may ask of a model.

use crate::error::Result;
use crate::prompt::Prompt;
use tch::Tensor;

/// What one branch is conditioned on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Conditioning {
    /// The text encoder's states, [1 or n, tokens, dim] f32; one row serves every image.
    pub context: Tensor,
}

impl Conditioning {
    /// Conditioning on a context alone.
    pub const fn new(context: Tensor) -> Self {
        Self { context }
    }

    /// A second handle on the same tensors.
    pub fn share(&self) -> Self {
        Self::new(self.context.shallow_clone())
    }
}

/// A guidance's whole view of a model: tokenizer, text encoder, and the VAE both ways.
pub trait Codec {
    /// The prompt with its tokens, to look phrases up in.
    fn prompt(&self, text: &str) -> Result<Prompt>;

    /// What the text encoder makes of a prompt.
    fn text(&self, text: &str) -> Result<Conditioning>;

    /// The latent of a picture: [n, 3, cell·h, cell·w] in -1..=1 → [n, 4, h, w] f32, the posterior's mode, in sampler
    /// units (scaled).
    fn encode(&self, picture: &Tensor) -> Result<Tensor>;

    /// The picture of a latent, the reverse of [`Codec::encode`]; values may leave -1..=1.
    fn decode(&self, latent: &Tensor) -> Result<Tensor>;

    /// Side of a latent cell in pixels.
    fn cell(&self) -> i64 {
        8
    }
}
