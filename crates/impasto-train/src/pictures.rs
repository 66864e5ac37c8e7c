//! Pictures that a ControlNet learns from.

use super::Latents;
use super::dataset::Dataset;
use impasto::{Raster, Result};
use tch::Tensor;

/// Pictures with captions, in an order of their own.
pub trait Pictures: Send + Sync {
    /// The sample of a number; numbers go on for ever, and one always gives the same sample.
    ///
    /// # Errors
    /// Whatever hinders it; the training ends with it.
    fn sample(&self, number: u64) -> Result<Sample>;

    /// Number of pictures that could not be read and were skipped; `None` if none can be.
    fn skipped(&self) -> Option<usize> {
        None
    }
}

/// A picture to learn from.
#[derive(Debug)]
pub struct Sample {
    /// The picture.
    pub picture: Raster,
    /// Description of the picture in words.
    pub caption: String,
    /// The picture as the model's VAE encodes it, [1, c, h, w] f32, if that is known.
    pub latent: Option<Tensor>,
}

/// Drawings, and their latents.
#[derive(Debug)]
pub struct Drawn {
    dataset: Dataset,
    latents: Latents,
    /// Seed of the first drawing.
    first: u64,
}

impl Drawn {
    /// Drawings of the seeds from `first` on, whose latents were [encoded](Latents::encode).
    pub const fn new(dataset: Dataset, latents: Latents, first: u64) -> Self {
        Self { dataset, latents, first }
    }

    /// Number of different drawings.
    pub fn len(&self) -> usize {
        self.latents.len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.latents.is_empty()
    }
}

impl Pictures for Drawn {
    fn sample(&self, number: u64) -> Result<Sample> {
        let count = self.latents.len().max(1) as u64;
        let index = (number % count) as usize;
        Ok(Sample {
            picture: self.dataset.draw(self.first + number % count)?.picture,
            // Other words each time that the same drawing comes.
            caption: self.latents.caption(index, number / count).into(),
            latent: Some(self.latents.batch(&[index])?),
        })
    }
}
