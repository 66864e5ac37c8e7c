//! Pictures that a ControlNet learns from.

use super::Latents;
use super::dataset::Dataset;
use impasto::{Raster, Result};
use tch::Tensor;

/// A numbered sequence of pictures with captions.
///
/// ```
/// use impasto::{Raster, Result, Rgb, Size};
/// use impasto_train::{Pictures, Sample};
///
/// /// Flat pictures in shades of red, without an end.
/// struct Reds;
///
/// impl Pictures for Reds {
///     fn sample(&self, number: u64) -> Result<Sample> {
///         let picture = Raster::flat(Rgb((number % 256) as u8, 0, 0), Size::new(64, 64));
///         Ok(Sample { picture, caption: "a red picture".into(), latent: None })
///     }
/// }
///
/// assert_eq!(Reds.sample(300)?.picture.pixel(0, 0), Some(Rgb(44, 0, 0)));
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait Pictures: Send + Sync {
    /// Returns the sample of a number. Every number has a sample. It is the same at each call, except where a picture
    /// that could not be read was replaced by another one.
    ///
    /// # Errors
    /// Any error that prevents the sample; the training ends with this error.
    fn sample(&self, number: u64) -> Result<Sample>;

    /// Returns the number of pictures that were skipped because they could not be read; `None` if every picture can be
    /// read.
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
    /// Latent of the picture from the model's VAE, [1, c, h, w] f32, if known.
    pub latent: Option<Tensor>,
}

/// Drawings and their latents.
#[derive(Debug)]
pub struct Drawn {
    dataset: Dataset,
    latents: Latents,
    /// Seed of the first drawing.
    first: u64,
}

impl Drawn {
    /// Creates the sequence of the drawings from seed `first` on, whose latents were [encoded](Latents::encode).
    pub const fn new(dataset: Dataset, latents: Latents, first: u64) -> Self {
        Self { dataset, latents, first }
    }

    /// Returns the number of different drawings.
    pub fn len(&self) -> usize {
        self.latents.len()
    }

    /// Returns true if there are no drawings.
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
            // The caption has other words each time that the same drawing comes.
            caption: self.latents.caption(index, number / count).into(),
            latent: Some(self.latents.batch(&[index])?),
        })
    }
}
