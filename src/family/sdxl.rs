//! SDXL and its refiner: the text encoders' last layer but one, the pooled text, and numbers for sizes and quality.

use super::sd::SD1;
use super::spec::{FamilySpec, Heads, TextLayer};

pub(super) const SDXL: FamilySpec = FamilySpec {
    name: "SDXL",
    architectures: &["stable-diffusion-xl-v1-base"],
    text_encoders: &["text_encoder", "text_encoder_2"],
    text_layer: TextLayer::BeforeLast,
    context: 2048,
    added: Some(2816),
    empty_is_zeros: true,
    scheduler: "EulerDiscreteScheduler",
    scheduler_of_v: "EulerDiscreteScheduler",
    side: 128,
    side_of_v: 128,
    heads: Heads::PerChannels(64),
    scaling_factor: 0.13025,
    vae_overflows: true,
    guidance_scale: 5.0,
    ..SD1
};

pub(super) const SDXL_REFINER: FamilySpec = FamilySpec {
    name: "SDXL refiner",
    architectures: &["stable-diffusion-xl-v1-refiner"],
    text_encoders: &["text_encoder_2"],
    context: 1280,
    added: Some(2560),
    empty_is_zeros: false,
    reads_score: true,
    ..SDXL
};

/// Returns the count of numbers that a UNet reads beside the pooled text: 6 for SDXL (original size, crop, target
/// size), 5 for its refiner (original size, crop, score). `inputs` is the input width of the layer for both, `pooled`
/// the width of the pooled text, and `each` the width of one number's embedding. `None` if they do not fit together.
pub(crate) fn size_numbers(inputs: i64, pooled: i64, each: i64) -> Option<i64> {
    [5, 6].into_iter().find(|count| count * each == inputs - pooled)
}
