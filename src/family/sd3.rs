//! Stable Diffusion 3 and 3.5: a transformer with flow matching (MMDiT), which reads CLIP's two text encoders and T5.

use super::sd::SD1;
use super::spec::{FamilySpec, TextLayer};

pub(super) const SD3: FamilySpec = FamilySpec {
    name: "SD 3",
    // ComfyUI writes the second one, whichever model it is.
    architectures: &["stable-diffusion-3", "stable-diffusion-v3"],
    text_encoders: &["text_encoder", "text_encoder_2", "text_encoder_3"],
    text_layer: TextLayer::BeforeLast,
    pools_each: true,
    context: 4096,
    scheduler: "FlowMatchEulerDiscreteScheduler",
    scheduler_of_v: "FlowMatchEulerDiscreteScheduler",
    shift: Some(3.0),
    side: 128,
    side_of_v: 128,
    scaling_factor: 1.5305,
    latent_shift: 0.0609,
    guidance_scale: 4.5,
    ..SD1
};
