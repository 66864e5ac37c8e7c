//! Export of trained weights as a checkpoint that other programs can load.

use super::checkpoint::halved;
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile};
use impasto::text::Tokenizer;
use impasto::weights::{Tensors, Weights, write_safetensors};
use impasto::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A folder in diffusers' layout, in which parts are replaced as they are trained.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    folder: PathBuf,
}

impl ModelFolder {
    /// Creates a folder with the embedded model's text encoder, tokenizer, scheduler and vision tower. Existing files
    /// stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let model = Self { folder: folder.into() };
        model.write_embedded(|part| !["unet", "vae", "controlnet"].contains(&part))?;
        Ok(model)
    }

    /// Creates a folder with the embedded flow model's parts, except its transformer. Existing files stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn of_flow(folder: impl Into<PathBuf>) -> Result<Self> {
        let model = Self { folder: folder.into() };
        model.write_missing(impasto_tiny_flow::FILES, |part| part != "transformer")?;
        model.write_embedded(|part| !["unet", "controlnet"].contains(&part))?;
        Ok(model)
    }

    /// Writes the embedded model's files of the `wanted` parts, such as `vae`. Existing files stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write_embedded(&self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        self.write_missing(impasto_tiny::FILES, wanted)
    }

    /// Writes those of `files` that are missing and belong to the `wanted` parts.
    fn write_missing(&self, files: &[(&str, &[u8])], wanted: impl Fn(&str) -> bool) -> Result<()> {
        let part = |file: &&str| wanted(file.split('/').next().unwrap_or_default());
        for (file, bytes) in files.iter().filter(|(file, _)| part(file)) {
            if !self.folder.join(file).exists() {
                self.write(file, bytes)?;
            }
        }
        Ok(())
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes the configuration of a part, and its weights as f16.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Torch`].
    pub fn put(&self, part: &str, config: &str, weights: &Tensors) -> Result<()> {
        export(&self.folder.join(part), config, weights)
    }

    /// Loads the tokenizer and the text encoder, in f32.
    ///
    /// # Errors
    /// [`Error::Io`]; the errors of loading the tokenizer and the text encoder.
    pub fn text(&self) -> Result<(Tokenizer, ClipText)> {
        let config = self.read("text_encoder/config.json")?;
        let config = ClipTextConfig::from_json("text_encoder/config.json", &String::from_utf8_lossy(&config))?;
        let weights = self.folder.join("text_encoder/model.safetensors");
        let text_encoder = ClipText::new(&Weights::open(&weights, Kind::Float, Device::Cpu)?, &config)?;
        let tokenizer = Tokenizer::from_vocab(
            &self.read("tokenizer/vocab.json")?,
            &self.read("tokenizer/merges.txt")?,
            Some(&self.read("tokenizer/special_tokens_map.json")?),
            Some(&self.read("tokenizer/tokenizer_config.json")?),
        )?;
        Ok((tokenizer, text_encoder))
    }

    fn read(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        fs::read(&path).map_err(|source| Error::Io { path, source })
    }

    pub(crate) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        write(&self.folder.join(file), bytes)
    }
}

/// Writes a network's folder in diffusers' layout: `config.json`, and the weights as f16. Each file is written
/// completely or not at all.
///
/// # Errors
/// [`Error::Io`], [`Error::Torch`].
pub fn export(folder: &Path, config: &str, weights: &Tensors) -> Result<()> {
    write(&folder.join("config.json"), config.as_bytes())?;
    let encodes = folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with("encoder"));
    let name = if encodes { "model.safetensors" } else { "diffusion_pytorch_model.safetensors" };
    write_safetensors(&halved(weights)?, &folder.join(name))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let at = |source| Error::Io { path: path.into(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at)?;
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).map_err(at)?;
    fs::rename(&partial, path).map_err(at)
}
