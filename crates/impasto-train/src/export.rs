//! Export of trained weights as a checkpoint that other programs can load.

use super::checkpoint::halved;
use impasto::nn::{ClipText, ClipTextConfig, ConfigFile};
use impasto::text::Tokenizer;
use impasto::weights::{Tensors, Weights, write_safetensors};
use impasto::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// File of a model's noise schedule.
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// A folder in diffusers' layout, in which parts are replaced as they are trained. A model has either a UNet or a
/// transformer, so that each of them needs a folder of its own.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    folder: PathBuf,
}

impl ModelFolder {
    /// Creates a folder with the embedded model's text encoder, tokenizer, scheduler and vision tower. Existing files
    /// stay.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Parameter`] for a folder with a transformer or with the scheduler of a flow.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let model = Self { folder: folder.into() };
        let is_of_flow = model.has(SCHEDULER) && !model.has_other(SCHEDULER, impasto_tiny_flow::file(SCHEDULER))?;
        if model.has("transformer") || is_of_flow {
            return Err(model.unsuitable("the transformer or the scheduler of a flow"));
        }
        model.write_embedded(|part| !["unet", "vae", "controlnet"].contains(&part))?;
        Ok(model)
    }

    /// Creates a folder with the embedded flow model's parts, except its transformer. Existing files stay.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Parameter`] for a folder with a UNet, and for one with another scheduler or VAE than
    /// those of the embedded flow model.
    pub fn of_flow(folder: impl Into<PathBuf>) -> Result<Self> {
        let model = Self { folder: folder.into() };
        let mut is_of_unet = model.has("unet") || model.has_other(SCHEDULER, impasto_tiny_flow::file(SCHEDULER))?;
        for file in ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"] {
            is_of_unet = is_of_unet || model.has_other(file, impasto_tiny::file(file))?;
        }
        if is_of_unet {
            return Err(model.unsuitable("a UNet, or another scheduler or VAE than those of a flow"));
        }
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

    /// Returns true if the folder has a file or a part.
    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// Returns true if the folder has a file with other contents than the embedded model's file.
    fn has_other(&self, file: &str, embedded: Option<&[u8]>) -> Result<bool> {
        Ok(self.has(file) && Some(self.read(file)?.as_slice()) != embedded)
    }

    /// The error for a folder with parts of another kind of model.
    fn unsuitable(&self, parts: &str) -> Error {
        let expected = "a folder of its own, because a model has either a UNet or a transformer; name another OUT";
        Error::parameter("the model's folder", format!("{}, which has {parts}", self.folder.display()), expected)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_is_refused_beside_parts_of_a_unet() -> Result<()> {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("out/model");
        let model = ModelFolder::new(&folder)?;
        let refused = || {
            let message = ModelFolder::of_flow(&folder).unwrap_err().to_string();
            assert!(message.contains("out/model, which has") && message.contains("name another OUT"), "{message}");
        };
        refused(); // by the scheduler
        fs::remove_dir_all(folder.join("scheduler")).unwrap();
        model.write("vae/config.json", b"{}")?;
        refused();
        fs::remove_dir_all(folder.join("vae")).unwrap();
        model.write("unet/config.json", b"{}")?;
        refused();
        assert!(!folder.join("scheduler").exists(), "nothing is written");
        fs::remove_dir_all(folder.join("unet")).unwrap();
        ModelFolder::of_flow(&folder)?;
        ModelFolder::of_flow(&folder).map(drop) // its own files are no obstacle
    }

    #[test]
    fn unet_is_refused_beside_parts_of_a_flow() -> Result<()> {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("out/model");
        let model = ModelFolder::of_flow(&folder)?;
        let refused = || {
            let message = ModelFolder::new(&folder).unwrap_err().to_string();
            assert!(message.contains("out/model, which has") && message.contains("name another OUT"), "{message}");
        };
        refused(); // by the scheduler
        fs::remove_dir_all(folder.join("scheduler")).unwrap();
        model.write("transformer/config.json", b"{}")?;
        refused();
        fs::remove_dir_all(folder.join("transformer")).unwrap();
        ModelFolder::new(&folder)?;
        ModelFolder::new(&folder).map(drop)
    }
}
