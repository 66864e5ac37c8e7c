//! The families of Stable Diffusion models, and the facts about each family that its files do not state.

use std::fmt;

/// A generation of Stable Diffusion. Files of different families cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelFamily {
    /// SD 1.x: text encoder CLIP-L, context width 768.
    Sd1,
    /// SD 2.x: text encoder OpenCLIP-H, context width 1024.
    Sd2,
    /// SDXL: text encoders CLIP-L and OpenCLIP-bigG side by side, context width 2048.
    Sdxl,
    /// SDXL's refiner: text encoder OpenCLIP-bigG alone, context width 1280.
    SdxlRefiner,
}

/// The facts about a family. A new family needs a variant of [`ModelFamily`] and one of these structs.
#[derive(Debug)]
pub(crate) struct FamilySpec {
    /// Name in messages.
    pub name: &'static str,
    /// Start of `modelspec.architecture` in the metadata of the family's files.
    pub architecture: &'static str,
    /// Width of the context that the family's UNet reads.
    pub context: i64,
    /// Input width of the UNet's layer for pooled text and size numbers; `None` without such a layer.
    pub added: Option<i64>,
    /// True if zeros represent an empty negative prompt, instead of the text encoder's states.
    pub empty_is_zeros: bool,
    /// True if the UNet reads an aesthetic score.
    pub reads_score: bool,
    /// diffusers' class of the scheduler that the family was published with.
    pub scheduler: &'static str,
    /// diffusers' class of the scheduler for models that predict v or have zero terminal SNR.
    pub scheduler_of_v: &'static str,
    /// Side of the square latent at the family's own picture size, in cells.
    pub side: i64,
    /// Side of the square latent at the picture size of models that predict v, in cells.
    pub side_of_v: i64,
    /// Number of attention heads on every level.
    pub heads: Heads,
    /// Factor by which the VAE's latents are multiplied for the sampler.
    pub scaling_factor: f64,
    /// Token that pads prompts, if it is not the end token.
    pub pad_token: Option<&'static str>,
    /// Number of layers that are used of a text encoder with 24 layers.
    pub layers_of_24: usize,
    /// Usual guidance scale.
    pub guidance_scale: f64,
}

/// Rule for the number of attention heads on a UNet's level.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heads {
    /// A fixed number on every level.
    Fixed(i64),
    /// One head for every group of this many channels.
    PerChannels(i64),
}

const SD1: FamilySpec = FamilySpec {
    name: "SD 1.x",
    architecture: "stable-diffusion-v1",
    context: 768,
    added: None,
    empty_is_zeros: false,
    reads_score: false,
    scheduler: "PNDMScheduler",
    // PNDMScheduler does not support zero terminal SNR, DDIMScheduler does.
    scheduler_of_v: "DDIMScheduler",
    side: 64,
    side_of_v: 64,
    heads: Heads::Fixed(8),
    scaling_factor: 0.18215,
    pad_token: None,
    layers_of_24: 24,
    guidance_scale: 7.5,
};

const SD2: FamilySpec = FamilySpec {
    name: "SD 2.x",
    architecture: "stable-diffusion-v2",
    context: 1024,
    side_of_v: 96,
    heads: Heads::PerChannels(64),
    pad_token: Some("!"),
    // SD 2.x was trained on the output of the text encoder's last layer but one.
    layers_of_24: 23,
    ..SD1
};

const SDXL: FamilySpec = FamilySpec {
    name: "SDXL",
    architecture: "stable-diffusion-xl-v1-base",
    context: 2048,
    added: Some(2816),
    empty_is_zeros: true,
    scheduler: "EulerDiscreteScheduler",
    scheduler_of_v: "EulerDiscreteScheduler",
    side: 128,
    side_of_v: 128,
    heads: Heads::PerChannels(64),
    scaling_factor: 0.13025,
    guidance_scale: 5.0,
    ..SD1
};

const SDXL_REFINER: FamilySpec = FamilySpec {
    name: "SDXL refiner",
    architecture: "stable-diffusion-xl-v1-refiner",
    context: 1280,
    added: Some(2560),
    empty_is_zeros: false,
    reads_score: true,
    ..SDXL
};

impl ModelFamily {
    const ALL: [Self; 4] = [Self::Sd1, Self::Sd2, Self::Sdxl, Self::SdxlRefiner];

    /// Returns the facts about this family.
    pub(crate) const fn spec(self) -> &'static FamilySpec {
        match self {
            Self::Sd1 => &SD1,
            Self::Sd2 => &SD2,
            Self::Sdxl => &SDXL,
            Self::SdxlRefiner => &SDXL_REFINER,
        }
    }

    /// Returns the family whose context is `width` wide.
    pub(crate) fn of_context(width: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.spec().context == width)
    }

    /// Returns true if the family's UNet reads pooled text and sizes: SDXL and its refiner.
    pub(crate) const fn is_xl(self) -> bool {
        self.spec().added.is_some()
    }
}

impl fmt::Display for ModelFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_by_its_context() {
        for family in ModelFamily::ALL {
            assert_eq!(ModelFamily::of_context(family.spec().context), Some(family));
        }
        assert_eq!(ModelFamily::of_context(64), None);
    }
}
