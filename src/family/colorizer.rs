//! ColorizeDiffusion: a UNet of SD 2's form that reads a sketch and the tokens of a reference picture in place of text.

use super::sd::SD2;
use super::spec::FamilySpec;

pub(super) const COLORIZER: FamilySpec = FamilySpec {
    name: "ColorizeDiffusion",
    text_is_optional: true,
    // The published models predict v, and were trained at 512 pixels.
    side_of_v: 64,
    // The guidance scale of the published application.
    guidance_scale: 4.0,
    ..SD2
};
