//! [`Source`]: the place that a checkpoint is loaded from.

use super::file::is_weights;
#[cfg(feature = "hub")]
use super::hub::Hub;
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place that a checkpoint is loaded from.
///
/// Weight files are mapped into memory, not read, and a tensor that already has the wanted kind stays a view of its
/// file. While a model is used, its files must stay as they are:
///
/// - writing into a file in place changes the model's pictures, and no error reports the change;
/// - shortening a file ends the process.
///
/// Replacing a file by a new one of the same name (as downloads, editors and `mv` do) is safe. If a file may change in
/// place, `LoadOptions::in_memory` copies the weights when they are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The tiny model inside this crate (feature `tiny`).
    Embedded,
    /// The tiny model inside this crate that colors sketches like reference pictures (feature `tiny-colorizer`).
    EmbeddedColorizer,
    /// The tiny model inside this crate that paints in four steps (feature `tiny-fast`).
    EmbeddedFast,
    /// The tiny model inside this crate whose network is a transformer with flow matching (feature `tiny-flow`).
    EmbeddedFlow,
    /// A folder in diffusers' layout: `model_index.json`, `unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`.
    /// Also the folder of a single part, if only this part is loaded.
    Dir(PathBuf),
    /// A single file of weights: `.safetensors`, or `.ckpt`, `.pt`, `.pth`, `.bin` of PyTorch.
    File(PathBuf),
    /// A repository of the Hugging Face hub (feature `hub`).
    #[cfg(feature = "hub")]
    Hub(Hub),
}

#[cfg(feature = "hub")]
impl From<Hub> for Source {
    fn from(hub: Hub) -> Self {
        Self::Hub(hub)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("the embedded model"),
            Self::EmbeddedColorizer => f.write_str("the embedded colorizer"),
            Self::EmbeddedFast => f.write_str("the embedded fast model"),
            Self::EmbeddedFlow => f.write_str("the embedded flow model"),
            Self::Dir(path) | Self::File(path) => path.display().fmt(f),
            #[cfg(feature = "hub")]
            Self::Hub(hub) => f.write_str(hub.repository()),
        }
    }
}

/// Parses the name of a source: `embedded`, `embedded-fast`, `embedded-flow`, `embedded-colorizer`, an existing folder,
/// an existing file, or `OWNER/NAME` of the hub.
///
/// ```
/// use impasto::Source;
///
/// assert_eq!("embedded".parse::<Source>()?, Source::embedded());
/// assert!("no-such-model".parse::<Source>().is_err());
/// # Ok::<(), impasto::Error>(())
/// ```
impl FromStr for Source {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] if the text names no folder, file or repository, or a repository without the feature `hub`.
    fn from_str(text: &str) -> Result<Self> {
        let path = Path::new(text);
        match text {
            "embedded" => Ok(Self::Embedded),
            "embedded-colorizer" => Ok(Self::EmbeddedColorizer),
            "embedded-fast" => Ok(Self::EmbeddedFast),
            "embedded-flow" => Ok(Self::EmbeddedFlow),
            _ if path.is_dir() => Ok(Self::dir(path)),
            _ if path.is_file() => Ok(Self::file(path)),
            _ if text.split('/').count() == 2 && !text.starts_with(['.', '/']) && !is_weights(text) => {
                #[cfg(feature = "hub")]
                return Ok(Self::hub(text));
                #[cfg(not(feature = "hub"))]
                return Err(Error::parameter(
                    "model",
                    text,
                    "an existing folder or file; build with the feature `hub` for repositories of the hub",
                ));
            }
            _ => Err(Error::parameter(
                "model",
                text,
                "`embedded`, `embedded-fast`, `embedded-flow`, `embedded-colorizer`, an existing folder or file, or a \
                 repository as OWNER/NAME",
            )),
        }
    }
}

impl Source {
    /// Returns the name of the source, without the folder that contains it.
    pub(crate) fn name(&self) -> String {
        let last = |path: &Path, stem: Option<&OsStr>| match stem {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        match self {
            Self::Dir(path) => last(path, path.file_name()),
            Self::File(path) => last(path, path.file_stem()),
            other => other.to_string(),
        }
    }

    /// The tiny model inside this crate: portraits and simple scenes of 256×256 pixels.
    pub const fn embedded() -> Self {
        Self::Embedded
    }

    /// The tiny model inside this crate that colors sketches like reference pictures, by
    /// [`Colorize`](crate::methods::Colorize): portraits and simple scenes of 256×256 pixels.
    pub const fn embedded_colorizer() -> Self {
        Self::EmbeddedColorizer
    }

    /// The tiny model of [`embedded`](Self::embedded) with a UNet that was distilled to few steps. Its requests take
    /// four steps and no second branch, so a picture takes less than a third of the time. The pictures differ from
    /// those of 28 steps.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::{Pipeline, Source};
    ///
    /// let pipeline = Pipeline::builder().source(Source::embedded_fast()).build()?;
    /// let output = pipeline.request("a red boat, a yellow moon, navy sky").seed(7).run()?;
    /// assert_eq!(output.timing.steps.len(), 4);
    /// # Ok(()) }
    /// ```
    pub const fn embedded_fast() -> Self {
        Self::EmbeddedFast
    }

    /// A tiny model of the words of [`embedded`](Self::embedded) whose network is a transformer with flow matching, of
    /// the form of Anima's. Methods and tools for such models can be tried with it offline.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::diffusion::Prediction;
    /// use impasto::{Model, Source};
    ///
    /// let model = Model::load(&Source::embedded_flow())?;
    /// assert_eq!(model.prediction(), Prediction::Flow);
    /// # Ok(()) }
    /// ```
    pub const fn embedded_flow() -> Self {
        Self::EmbeddedFlow
    }

    /// A folder in diffusers' layout.
    pub fn dir(folder: impl Into<PathBuf>) -> Self {
        Self::Dir(folder.into())
    }

    /// A single file of weights, `.safetensors` or `.ckpt`: a whole model in LDM (SD 1.x, 2.x) or SGM (SDXL) layout, or
    /// a part of one. The tensors identify the contents; the tokenizer is CLIP's published one.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// A repository of the Hugging Face hub, `owner/name`. Loading fetches missing files into the cache that Python's
    /// `huggingface_hub` uses too. [`Hub`] has revision, token and other options.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::weights::Hub;
    /// use impasto::{Model, Source};
    ///
    /// let model = Model::load(&Source::hub("owner/name"))?;
    /// let mut older = Hub::new("owner/name");
    /// older.revision = "v1.0".into();
    /// let older = Model::load(&older.into())?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "hub")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hub")))]
    pub fn hub(repository: impl Into<String>) -> Self {
        Self::Hub(Hub::new(repository))
    }
}

/// A function that finds a file of an embedded model by its path in a diffusers folder.
pub(super) type EmbeddedFile = fn(&str) -> Option<&'static [u8]>;

/// Finds a file of the embedded model.
#[cfg(feature = "tiny")]
pub(super) fn tiny(file: &str) -> Option<&'static [u8]> {
    impasto_tiny::file(file)
}

#[cfg(not(feature = "tiny"))]
pub(super) fn tiny(_: &str) -> Option<&'static [u8]> {
    None
}

/// Finds a file of the embedded colorizer, or one that it shares with the embedded model.
#[cfg(feature = "tiny-colorizer")]
pub(super) fn colorizer(file: &str) -> Option<&'static [u8]> {
    impasto_tiny_colorizer::file(file).or_else(|| tiny(file))
}

#[cfg(not(feature = "tiny-colorizer"))]
pub(super) fn colorizer(_: &str) -> Option<&'static [u8]> {
    None
}

/// Finds a file of the embedded model for few steps, or one that it shares with the embedded model.
#[cfg(feature = "tiny-fast")]
pub(super) fn fast(file: &str) -> Option<&'static [u8]> {
    impasto_tiny_fast::file(file).or_else(|| tiny(file))
}

#[cfg(not(feature = "tiny-fast"))]
pub(super) fn fast(_: &str) -> Option<&'static [u8]> {
    None
}

/// Finds a file of the embedded flow model, or one that it shares with the embedded model.
#[cfg(feature = "tiny-flow")]
pub(super) fn flow(file: &str) -> Option<&'static [u8]> {
    impasto_tiny_flow::file(file).or_else(|| tiny(file).filter(|_| !file.starts_with("unet/")))
}

#[cfg(not(feature = "tiny-flow"))]
pub(super) fn flow(_: &str) -> Option<&'static [u8]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_omits_the_folder() {
        let names = [Source::file("/home/a/sd15.safetensors"), Source::dir("/home/a/tiny.v2/"), Source::embedded()];
        assert_eq!(names.map(|source| source.name()), ["sd15", "tiny.v2", "the embedded model"]);
    }
}
