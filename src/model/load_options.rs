//! [`LoadOptions`]: the options for loading a checkpoint.

use super::precision::Precision;
use crate::diffusion::Prediction;
use crate::nn::Tiling;
use crate::text::TextOptions;
use crate::weights::{ModelFamily, Source};
use tch::Device;

/// Options for loading a checkpoint.
///
/// ```
/// use impasto::{LoadOptions, Model, Source};
/// use tch::{Device, Kind};
///
/// let mut options = LoadOptions::default();
/// options.precision = Kind::BFloat16.into();
/// let model = Model::load_with(&Source::embedded(), options)?;
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Device the model runs on. Default: the CPU.
    pub device: Device,
    /// Precision in which the network computes.
    pub precision: Precision,
    /// Precision in which the VAE computes. `None`: f32 for an SDXL model in f16 whose VAE's configuration asks for it
    /// (`force_upcast`), as in diffusers; otherwise the network's precision.
    pub vae_precision: Option<Precision>,
    /// VAE to use instead of the checkpoint's: a file, a model's folder or a VAE's own folder. A tiny autoencoder
    /// (TAESD) decodes in a fraction of the time.
    pub vae: Option<Source>,
    /// Tiling of large pictures while encoding and decoding, to save memory. By default, pictures that would need more
    /// than 3 GiB are tiled; [`Tiling::whole`] and [`Tiling::new`] force either.
    pub tiling: Tiling,
    /// Text encoder to use instead of the checkpoint's: a file, a model's folder or an encoder's own folder.
    pub text_encoder: Option<Source>,
    /// Second text encoder (SDXL) to use instead of the checkpoint's, given like the first.
    pub text_encoder_2: Option<Source>,
    /// Third text encoder (T5 of SD 3 and 3.5) to use instead of the checkpoint's, or for a checkpoint without one,
    /// given like the first.
    pub text_encoder_3: Option<Source>,
    /// CLIP's vision tower, for a checkpoint without one: a folder of an image encoder or of a whole CLIP, such as
    /// openai/clip-vit-large-patch14 for SD 1.x. The tower is loaded when it is first used.
    pub image_encoder: Option<Source>,
    /// Prediction type of the network, if the checkpoint does not state it or states it wrongly.
    pub prediction: Option<Prediction>,
    /// True if the model was trained with zero terminal SNR, up to pure noise. `None`: as the checkpoint says.
    pub zero_snr: Option<bool>,
    /// Shift of the noise levels of a model with flow matching to higher noise, .01 to 100, in place of the
    /// checkpoint's. 3 is usual; 1 shifts nothing. `None`: as the checkpoint says, and for single files the family's.
    pub shift: Option<f64>,
    /// Model family of a single file, if its tensors do not determine the family.
    pub family: Option<ModelFamily>,
    /// Tiny autoencoder (TAESD) for previews during a run: a folder or a file. Without a tiny autoencoder, previews are
    /// a linear approximation (`Preview::pictures`).
    pub preview: Option<Source>,
    /// Variant of a folder's weights, such as `fp16`; `None`: the weights without a variant, or those of any variant if
    /// there are no such weights. Weights of every variant are converted to the precision of their network.
    pub variant: Option<String>,
    /// Uses the moving averages of the UNet's weights in a single file, if present, instead of the weights themselves.
    pub averages: bool,
    /// Copies the weights into memory instead of mapping their files. Writing to a mapped file changes pictures
    /// silently, and shortening it ends the process. Set this field if another program may write to the files while the
    /// model is used. Default: false.
    pub in_memory: bool,
    /// Leaves the matrices and kernels of UNet or transformer, text encoders, vision tower and ControlNets in their
    /// mapped files, in the files' kinds. Each layer converts its own weights whenever it runs. A model larger than
    /// memory can then be used: the system reads the files again and again and drops what it needs memory for, and
    /// converted weights take the memory of one layer. Pictures stay the same up to rounding: on a CPU, large kernels
    /// are then computed in another order, because they are not packed
    /// ([`Weights::packed`](crate::weights::Weights::packed)).
    ///
    /// The price is the time of reading and converting all weights at each step (`docs/performance.md` has figures). A
    /// file in the precision of the network needs no conversion, and costs no time while it fits in memory. The VAE,
    /// norms, biases and embeddings of words stay in memory. Weights that a LoRA changes stay in memory too, rounded to
    /// the file's kind. With `in_memory`, the weights are copied into the computer's memory as the files store them,
    /// and a GPU receives the weights of one layer at a time. Default: false.
    pub offload: bool,
    /// Options for reading prompts: markup, length, emphasis, clip skip.
    pub text: TextOptions,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            precision: Precision::default(),
            vae_precision: None,
            vae: None,
            tiling: Tiling::default(),
            text_encoder: None,
            text_encoder_2: None,
            text_encoder_3: None,
            image_encoder: None,
            prediction: None,
            zero_snr: None,
            shift: None,
            family: None,
            preview: None,
            variant: None,
            averages: false,
            in_memory: false,
            offload: false,
            text: TextOptions::default(),
        }
    }
}
