//! Z-Image: a transformer in which picture and caption are one stream, Qwen3-4B as text encoder, and the VAE of FLUX.

use super::sd::SD1;
use super::spec::FamilySpec;

pub(super) const Z_IMAGE: FamilySpec = FamilySpec {
    name: "Z-Image",
    architectures: &["z-image"],
    text_encoders: &["text_encoder"],
    context: 2560,
    scheduler: "FlowMatchEulerDiscreteScheduler",
    scheduler_of_v: "FlowMatchEulerDiscreteScheduler",
    shift: Some(3.0),
    // The levels of diffusers' pipeline, 1, 1 − 1/n, … 1/n before the shift, not those of the scheduler's class.
    spacing: Some("trailing"),
    side: 128,
    side_of_v: 128,
    scaling_factor: 0.3611,
    latent_shift: 0.1159,
    // The scale 4 of the published example in diffusers' formula, pos + 4·(pos − neg).
    guidance_scale: 5.0,
    ..SD1
};
