//! [`ModelInfo`]: the description of a model for a pipeline.

use crate::diffusion::{Prediction, SchedulerConfig};
use crate::error::Result;
use crate::step::Grid;
use crate::wording::Note;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Default request settings of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Defaults {
    /// Width of pictures in pixels.
    pub width: u32,
    /// Height of pictures in pixels.
    pub height: u32,
    /// Classifier-free guidance scale.
    pub guidance_scale: f64,
    /// Number of steps.
    pub steps: usize,
}

impl Defaults {
    /// Creates the settings from width and height in pixels and a guidance scale, with 28 steps.
    pub const fn new(width: u32, height: u32, guidance_scale: f64) -> Self {
        Self { width, height, guidance_scale, steps: 28 }
    }
}

/// The model that made a picture, as far as a file can identify it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Identity {
    /// Name of the model's source: a file or folder name without its path, or a repository.
    pub name: String,
    /// Fingerprint of 16 hexadecimal digits. Two models have equal fingerprints, wherever they were loaded from, if
    /// these properties are equal:
    /// - the weights of text encoders, UNet and VAE, LoRAs included, and their kinds
    /// - learned words
    /// - the scheduler
    /// - the settings for reading prompts and decoding
    ///
    /// An image encoder from another source counts by the name of that source alone.
    pub fingerprint: String,
    /// Device the model ran on.
    pub device: String,
    /// Kind of number that the model computed in.
    pub kind: String,
    /// Shift of the noise levels of a model with flow matching, which `LoadOptions::shift` may have set. `None` for
    /// other models, and for a shift that depends on the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shift: Option<f64>,
}

impl Identity {
    /// Creates the identity of a model with a name and a fingerprint, any text that differs between models.
    pub fn new(name: impl Into<String>, fingerprint: impl Into<String>) -> Self {
        Self { name: name.into(), fingerprint: fingerprint.into(), ..Self::default() }
    }
}

/// Work of a model that takes memory beside the model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// A call of the network in a step, for a number of branches of each image. The branches share a latent.
    Step {
        /// Number of branches.
        branches: usize,
    },
    /// Decoding of latents.
    Decode,
    /// Encoding of pictures.
    Encode,
}

/// The description of a model for a [`Pipeline`](crate::Pipeline), beyond [`Denoiser`](crate::diffusion::Denoiser) and
/// [`Codec`](crate::Codec). Every method has a default, so a network of one's own implements those that it needs and
/// offers the result in [`Codec::offer`](crate::Codec::offer).
///
/// ```
/// use impasto::conditioning::Offer;
/// use impasto::model::{Defaults, ModelInfo};
///
/// struct Mine;
///
/// impl ModelInfo for Mine {
///     fn defaults(&self) -> Defaults {
///         Defaults::new(1024, 1024, 5.0)
///     }
/// }
///
/// // In `impl Codec for …`:
/// fn offer<'a>(model: &'a Mine, offer: &mut Offer<'a>) {
///     offer.give::<_, dyn ModelInfo>(model, |model| model);
/// }
/// ```
pub trait ModelInfo {
    /// Returns the settings of requests that set none: 512×512 pixels, a guidance scale of 7.5 and 28 steps.
    fn defaults(&self) -> Defaults {
        Defaults::new(512, 512, 7.5)
    }

    /// Returns the schedule of noise levels, and the solver of requests that set none: Euler on Stable Diffusion's
    /// levels, for a network that predicts noise.
    fn scheduler(&self) -> SchedulerConfig {
        SchedulerConfig::stable_diffusion("EulerDiscreteScheduler", Prediction::Epsilon)
    }

    /// Returns what the files of pictures say about the model: a name, and a fingerprint by which a repeated run
    /// notices another model. The default has neither.
    ///
    /// # Errors
    /// Any error of reading the weights.
    fn identity(&self) -> Result<Identity> {
        Ok(Identity::default())
    }

    /// Returns remarks from loading, which every run repeats: none.
    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }

    /// Returns a note about words of a prompt that the model does not know: none.
    ///
    /// # Errors
    /// Any error of reading the prompt.
    fn prompt_note(&self, prompt: &str) -> Result<Option<Note>> {
        let _ = prompt;
        Ok(None)
    }

    /// Returns a note about how latents of this size are decoded: none.
    fn decoding_note(&self, grid: Grid) -> Option<Note> {
        let _ = grid;
        None
    }

    /// Estimates the memory in bytes that work on the latents of `images` images takes at its peak, beside the weights.
    /// `None`, the default, if the memory is unknown: then no run can have a limit of memory
    /// ([`RequestConfig::memory_limit`](crate::pipeline::RequestConfig::memory_limit)).
    fn memory(&self, work: Work, grid: Grid, images: usize) -> Option<u64> {
        let _ = (work, grid, images);
        None
    }

    /// Returns true if the network embeds its guidance scale (LCM), and so needs no negative branch. The default is
    /// false.
    fn embeds_guidance(&self) -> bool {
        false
    }

    /// Returns true if the network reads sizes and quality
    /// ([`MicroConditioning`](crate::MicroConditioning)), as SDXL does. The default is false.
    fn reads_micro_conditioning(&self) -> bool {
        false
    }

    /// Returns the layer of the text encoder that is read, counted from the last as 1; `None`, the default, for the
    /// model's own.
    fn clip_skip(&self) -> Option<usize> {
        None
    }

    /// Decodes a latent quickly for a preview, [n, c, h, w] → [n, 3, H, W] in about -1..=1. `None`, the default: a
    /// preview is a linear approximation with one color per cell.
    ///
    /// # Errors
    /// Any error of decoding.
    fn preview(&self, x0: &Tensor) -> Result<Option<Tensor>> {
        let _ = x0;
        Ok(None)
    }
}

/// The information about a model that offers none.
pub(crate) struct NoInfo;

impl ModelInfo for NoInfo {}
