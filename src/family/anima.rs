//! Anima: a transformer of Cosmos-Predict2's form, Qwen3 as text encoder, and the VAE of Qwen-Image.

use super::sd::SD1;
use super::spec::FamilySpec;

pub(super) const ANIMA: FamilySpec = FamilySpec {
    name: "Anima",
    architectures: &["anima"],
    text_encoders: &["text_encoder"],
    context: 1024,
    scheduler: "FlowMatchEulerDiscreteScheduler",
    scheduler_of_v: "FlowMatchEulerDiscreteScheduler",
    shift: Some(3.0),
    // The levels of diffusers' pipeline, 1, 1 − 1/n, … 1/n before the shift, not those of the scheduler's class.
    spacing: Some("trailing"),
    side: 128,
    side_of_v: 128,
    scaling_factor: 1.0,
    qwen_vae: true,
    guidance_scale: 4.0,
    ..SD1
};
