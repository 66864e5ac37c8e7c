//! The networks, with fields named as in their checkpoints, and their `config.json` files.
//!
//! A network is built from [`Weights`](crate::weights::Weights) and a configuration. It computes in the weights' kind
//! and on their device. Inputs are cast to that kind; most results are cast back to the kind of the input. The methods
//! that compute hold no `no_grad` guard, because training uses the same modules.
//!
//! ```
//! use impasto::attention::Tap;
//! use impasto::nn::{ConfigFile, UNet, UnetConfig};
//! use impasto::weights::Weights;
//! use tch::{Device, Kind, Tensor};
//!
//! let config = UnetConfig::from_json("config.json", r#"{
//!     "block_out_channels": [8, 16], "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 12,
//!     "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
//!     "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]
//! }"#)?;
//! let unet = UNet::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
//! let sample = Tensor::f_ones([1, 4, 16, 16], (Kind::Float, Device::Cpu))?;
//! let context = Tensor::f_ones([1, 77, 12], (Kind::Float, Device::Cpu))?;
//! let eps = unet.forward(&sample, &Tensor::from(981.0), &context, None, &mut Tap::none())?;
//! assert_eq!(eps.size(), sample.size());
//! # Ok::<(), impasto::Error>(())
//! ```

mod adapter;
pub mod anima_conditioner;
mod clip_encoder;
mod clip_image;
mod clip_text;
mod clip_vision;
mod config;
mod control_type;
mod controlnet;
pub mod cosmos;
pub(crate) mod guess;
pub mod ip_adapter;
pub(crate) mod kernels;
mod layers;
pub(crate) mod loras;
pub mod mmdit;
mod modulated;
pub(crate) mod patches;
mod placed_loras;
pub mod qwen3;
pub mod qwen_vae;
mod reading_block;
mod reference_encoder;
mod reference_tokens;
mod resnet;
pub(crate) mod rms_norm;
pub(crate) mod rotary;
pub(crate) mod seamless;
mod sketch_encoder;
pub mod t2i_adapter;
pub mod t5;
mod taesd;
mod tiling;
pub(crate) mod time;
mod token_embedding;
pub(crate) mod token_merging;
mod transformer;
pub(crate) mod unet;
pub mod union;
mod vae;
pub mod z_image;

pub(crate) use reference_encoder::ReferenceEncoder;
pub(crate) use reference_tokens::ReferenceTokens;
pub(crate) use tiling::Cell;

pub use clip_encoder::Activation;
pub use clip_image::{ClipImageProcessor, PictureSize};
pub use clip_text::{ClipText, ClipTextConfig, TextStates};
pub use clip_vision::{ClipVision, ClipVisionConfig, VisionStates};
pub use config::{ConfigFile, PerLevel};
pub use controlnet::{ControlNet, ControlNetConfig};
pub use layers::{Conv, Conv2d, GroupNorm, Linear};
pub use sketch_encoder::{SketchEncoder, SketchEncoderConfig};
pub use taesd::{Taesd, TaesdConfig};
pub use tiling::Tiling;
pub use unet::{AddedConditions, Level, Residuals, UNet, UnetConfig};
pub use vae::{Posterior, Vae, VaeConfig};
