//! Stable Diffusion 1.x and 2.x: one text encoder, whose last layer the UNet reads.

use super::spec::{FamilySpec, Heads, TextLayer};

pub(super) const SD1: FamilySpec = FamilySpec {
    name: "SD 1.x",
    architectures: &["stable-diffusion-v1"],
    text_encoders: &["text_encoder"],
    text_is_optional: false,
    text_layer: TextLayer::Last,
    pools_each: false,
    context: 768,
    added: None,
    empty_is_zeros: false,
    reads_score: false,
    scheduler: "PNDMScheduler",
    // PNDMScheduler does not support zero terminal SNR, DDIMScheduler does.
    scheduler_of_v: "DDIMScheduler",
    shift: None,
    spacing: None,
    side: 64,
    side_of_v: 64,
    heads: Heads::Fixed(8),
    scaling_factor: 0.18215,
    latent_shift: 0.0,
    qwen_vae: false,
    vae_overflows: false,
    pad_token: None,
    layers_of_24: 24,
    guidance_scale: 7.5,
};

pub(super) const SD2: FamilySpec = FamilySpec {
    name: "SD 2.x",
    architectures: &["stable-diffusion-v2"],
    context: 1024,
    side_of_v: 96,
    heads: Heads::PerChannels(64),
    pad_token: Some("!"),
    // SD 2.x was trained on the output of the text encoder's last layer but one.
    layers_of_24: 23,
    ..SD1
};
