//! Where a checkpoint comes from.

use super::{Weights, parse_safetensors};
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Where a checkpoint comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The tiny model inside this crate (feature `tiny`).
    Embedded,
    /// A folder in diffusers' layout: `model_index.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`.
    Dir(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded model"),
            Self::Dir(folder) => folder.display().fmt(f),
        }
    }
}

/// Names a part's weights go by, in the order they are looked for.
const WEIGHTS: [&str; 4] = [
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.fp16.safetensors",
];

/// The same as pickles, which can run code and are not read.
const PICKLES: [&str; 3] = ["diffusion_pytorch_model.bin", "pytorch_model.bin", "diffusion_pytorch_model.fp16.bin"];

impl Source {
    /// The tiny model inside this crate: portraits and simple scenes of 128×128 pixels.
    pub const fn embedded() -> Self {
        Self::Embedded
    }

    /// A folder in diffusers' layout.
    pub fn dir(folder: impl Into<PathBuf>) -> Self {
        Self::Dir(folder.into())
    }

    /// The contents of a file, by its path inside the checkpoint; `None` if there is none.
    pub(crate) fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Embedded => Ok(embedded(file).map(Cow::Borrowed)),
            Self::Dir(folder) => {
                let path = folder.join(file);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(Error::io(path, error)),
                }
            }
        }
    }

    /// A JSON file; `None` if there is none.
    pub(crate) fn json<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| Error::Malformed { file: self.name(file), problem: error.to_string() })
    }

    /// A text file; `None` if there is none.
    pub(crate) fn text(&self, file: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(file)? else { return Ok(None) };
        let text = String::from_utf8(bytes.into_owned());
        text.map(Some).map_err(|error| Error::Malformed { file: self.name(file), problem: error.to_string() })
    }

    /// The weights of a part, such as `unet`, as tensors of `kind` on `device`.
    ///
    /// # Errors
    /// [`Error::MissingFile`], also where only a pickle is there; [`Error::Malformed`].
    pub(crate) fn weights(&self, part: &str, kind: Kind, device: Device) -> Result<Weights> {
        for name in WEIGHTS {
            let file = format!("{part}/{name}");
            match self {
                Self::Embedded => {
                    if let Some(bytes) = embedded(&file) {
                        let tensors = parse_safetensors(&self.name(&file), bytes)?;
                        return Ok(Weights::new(self.name(&file), tensors, kind, device));
                    }
                }
                Self::Dir(folder) => {
                    let path = folder.join(&file);
                    if path.is_file() {
                        return Weights::open(&path, kind, device);
                    }
                }
            }
        }
        if let Self::Dir(folder) = self
            && let Some(pickle) = PICKLES.iter().find(|name| folder.join(part).join(name).is_file())
        {
            let hint = "pickles can run code and are not read; convert it in Python with \
                        `pipeline.save_pretrained(folder, safe_serialization=True)`";
            return Err(self.missing(&format!("{part}/*.safetensors (beside {pickle})"), hint));
        }
        Err(self.missing(&format!("{part}/{}", WEIGHTS.join(" or ")), "a diffusers folder has one of them"))
    }

    /// Is anything there at all?
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Embedded if embedded("model_index.json").is_none() => {
                Err(self.missing("model_index.json", "build with the default feature `tiny`, or name a source"))
            }
            Self::Dir(folder) if !folder.is_dir() => {
                let hint = "name a folder with model_index.json, unet/, vae/, text_encoder/ and tokenizer/";
                Err(self.missing("the folder", hint))
            }
            _ => Ok(()),
        }
    }

    /// How messages call a file of this source.
    pub(crate) fn name(&self, file: &str) -> String {
        match self {
            Self::Embedded => format!("{file} of the embedded model"),
            Self::Dir(folder) => Path::new(folder).join(file).display().to_string(),
        }
    }

    /// The error for a file that is not there.
    pub(crate) fn missing(&self, file: &str, hint: &'static str) -> Error {
        Error::MissingFile { file: file.into(), place: self.to_string(), hint }
    }
}

#[cfg(feature = "tiny")]
fn embedded(file: &str) -> Option<&'static [u8]> {
    super::tiny::file(file)
}

#[cfg(not(feature = "tiny"))]
fn embedded(_: &str) -> Option<&'static [u8]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_way_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = Source::dir(folder.path());
        std::fs::create_dir(folder.path().join("unet")).expect("a folder");
        let error = source.weights("unet", Kind::Float, Device::Cpu).expect_err("empty").to_string();
        assert!(error.contains("unet/diffusion_pytorch_model.safetensors"), "{error}");
        std::fs::write(folder.path().join("unet/diffusion_pytorch_model.bin"), b"pickle").expect("written");
        let error = source.weights("unet", Kind::Float, Device::Cpu).expect_err("a pickle").to_string();
        assert!(error.contains("convert it"), "{error}");
        assert!(Source::dir("nowhere").check().expect_err("no folder").to_string().contains("nowhere"));
    }
}
