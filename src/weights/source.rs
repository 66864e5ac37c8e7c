//! Where a checkpoint comes from.

use std::fmt;
use std::path::PathBuf;

/// Where a checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The tiny model inside this crate (feature `tiny`).
    Embedded,
    /// A folder in diffusers' layout: `model_index.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`.
    /// Where a part alone is asked for, also that part's folder.
    Dir(PathBuf),
    /// A single `.safetensors` file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded model"),
            Self::Dir(path) | Self::File(path) => path.display().fmt(f),
        }
    }
}

impl Source {
    /// The tiny model inside this crate: portraits and simple scenes of 128×128 pixels.
    pub const fn embedded() -> Self {
        Self::Embedded
    }

    /// A folder in diffusers' layout.
    pub fn dir(folder: impl Into<PathBuf>) -> Self {
        Self::Dir(folder.into())
    }

    /// A single `.safetensors` file: a whole model in LDM (SD 1.x, 2.x) or SGM (SDXL) layout, or a part of one. What it
    /// is is recognised by its tensors; the tokenizer is CLIP's published one.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }
}

#[cfg(feature = "tiny")]
pub(super) fn embedded(file: &str) -> Option<&'static [u8]> {
    super::tiny::file(file)
}

#[cfg(not(feature = "tiny"))]
pub(super) fn embedded(_: &str) -> Option<&'static [u8]> {
    None
}
