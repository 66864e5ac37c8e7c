//! [`LoadOptions`]: how a checkpoint is loaded.

use super::precision::Precision;
use crate::diffusion::Prediction;
use crate::nn::Tiling;
use crate::text::TextOptions;
use crate::weights::{ModelFamily, Source};
use tch::Device;

/// How a checkpoint is loaded.
///
/// ```
/// use impasto::{LoadOptions, Model, Source};
/// use tch::{Device, Kind};
///
/// let options = LoadOptions { precision: Kind::BFloat16.into(), ..LoadOptions::default() };
/// let model = Model::load_with(&Source::embedded(), options)?;
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Where it runs. Default: the CPU.
    pub device: Device,
    /// What the network computes in.
    pub precision: Precision,
    /// What the VAE computes in. `None`: f32 for an SDXL model in f16 whose VAE's configuration asks for it (`force_upcast`), as in
    /// diffusers, else as the others.
    pub vae_precision: Option<Precision>,
    /// Another VAE: a file, a model's folder or a VAE's own. A tiny one (TAESD) decodes in a fraction of the time.
    pub vae: Option<Source>,
    /// Encodes and decodes large pictures in tiles, to save memory. Default: those that would take more than 3 GiB;
    /// [`Tiling::whole`] and [`Tiling::new`] force either.
    pub tiling: Tiling,
    /// Another text encoder, likewise.
    pub text_encoder: Option<Source>,
    /// Another second text encoder (SDXL), likewise.
    pub text_encoder_2: Option<Source>,
    /// CLIP's vision tower, if the checkpoint has none: a folder of an image encoder or of a whole CLIP, such as
    /// openai/clip-vit-large-patch14 for SD 1.x. It is read when a picture is first shown to it.
    pub image_encoder: Option<Source>,
    /// What the network's output means, if the checkpoint does not say or says it wrongly.
    pub prediction: Option<Prediction>,
    /// Was it trained to the level of pure noise? `None`: as the checkpoint says.
    pub zero_snr: Option<bool>,
    /// What a single file is, if its tensors do not tell.
    pub family: Option<ModelFamily>,
    /// A tiny autoencoder (TAESD) that shows pictures while they are made: a folder or a file. Without one, previews are a linear
    /// approximation (`Preview::pictures`).
    pub preview: Option<Source>,
    /// Which weights of a folder, such as `fp16`; `None`: plain ones, else any. They are converted anyway.
    pub variant: Option<String>,
    /// The moving averages of a single file's UNet, if it has them, instead of its weights.
    pub averages: bool,
    /// Copies the weights into memory instead of mapping their files. Writing into a mapped file changes pictures silently, and
    /// shortening it ends the process; set this where another program may do either while the model is used. Default: false.
    pub in_memory: bool,
    /// How prompts are read: markup, length, emphasis, clip skip.
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
            image_encoder: None,
            prediction: None,
            zero_snr: None,
            family: None,
            preview: None,
            variant: None,
            averages: false,
            in_memory: false,
            text: TextOptions::default(),
        }
    }
}
