//! The embedded flow model: a transformer of Cosmos-Predict2's form, which reads the states of CLIP's text encoder and
//! paints latents of Stable Diffusion's VAE.

use super::sd::SD1;
use super::spec::FamilySpec;

pub(super) const TINY_FLOW: FamilySpec = FamilySpec {
    name: "the embedded flow model's family",
    architectures: &["impasto-tiny-flow"],
    context: 128,
    scheduler: "FlowMatchEulerDiscreteScheduler",
    scheduler_of_v: "FlowMatchEulerDiscreteScheduler",
    shift: Some(3.0),
    spacing: Some("trailing"),
    side: 32,
    side_of_v: 32,
    scaling_factor: 0.83212,
    guidance_scale: 4.0,
    ..SD1
};
