//! The families of models: for each a file with what its text encoders give the network, what the
//! network reads beside, its sizes and its names, as far as its files do not state them.

mod anima;
mod colorizer;
mod sd;
mod sd3;
mod sdxl;
mod spec;
mod tiny_flow;
mod z_image;

pub(crate) use sdxl::size_numbers;
pub(crate) use spec::{FamilySpec, Heads, TextLayer};

use anima::ANIMA;
use colorizer::COLORIZER;
use sd::{SD1, SD2};
use sd3::SD3;
use sdxl::{SDXL, SDXL_REFINER};
use std::fmt;
use tiny_flow::TINY_FLOW;
use z_image::Z_IMAGE;

/// A generation of Stable Diffusion, or another family of models. Files of different families cannot be combined.
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
    /// ColorizeDiffusion, which colors sketches like reference pictures: no text, context width 1024.
    Colorizer,
    /// Anima: a transformer with flow matching, text encoder Qwen3, context width 1024.
    Anima,
    /// SD 3 and 3.5: a transformer with flow matching, text encoders CLIP-L, OpenCLIP-bigG and T5, context width 4096.
    Sd3,
    /// Z-Image: a transformer with flow matching, text encoder Qwen3-4B, context width 2560.
    ZImage,
    /// The embedded flow model: a transformer of Anima's form, CLIP's text encoder and Stable Diffusion's VAE, context
    /// width 128.
    TinyFlow,
}

impl ModelFamily {
    /// The families that read text, which the width of their context tells apart.
    const OF_TEXT: [Self; 4] = [Self::Sd1, Self::Sd2, Self::Sdxl, Self::SdxlRefiner];

    /// Returns the facts about this family.
    pub(crate) const fn spec(self) -> &'static FamilySpec {
        match self {
            Self::Sd1 => &SD1,
            Self::Sd2 => &SD2,
            Self::Sdxl => &SDXL,
            Self::SdxlRefiner => &SDXL_REFINER,
            Self::Colorizer => &COLORIZER,
            Self::Anima => &ANIMA,
            Self::Sd3 => &SD3,
            Self::ZImage => &Z_IMAGE,
            Self::TinyFlow => &TINY_FLOW,
        }
    }

    /// Returns the family that reads text of a context `width` wide.
    pub(crate) fn of_context(width: i64) -> Option<Self> {
        Self::OF_TEXT.into_iter().find(|family| family.spec().context == width)
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
        for family in ModelFamily::OF_TEXT {
            assert_eq!(ModelFamily::of_context(family.spec().context), Some(family));
        }
        assert_eq!(ModelFamily::of_context(64), None);
    }
}
