//! Trained weights as a checkpoint that anybody can load.

use super::checkpoint::halved;
use crate::error::{Error, Result};
use crate::nn::{ClipText, ClipTextConfig};
use crate::text::Tokenizer;
use crate::weights::{Checkpoint, Reading, Source, Tensors, write_safetensors};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A folder in diffusers' layout, in which parts are replaced as they are trained.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    folder: PathBuf,
}

/// Files that are taken over from another checkpoint.
const KEPT: [&str; 12] = [
    "model_index.json",
    "impasto.json",
    "feature_extractor/preprocessor_config.json",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
];

impl ModelFolder {
    /// A folder with the text encoder, tokenizer, scheduler and vision tower of `base`. Files that are there stay.
    ///
    /// # Errors
    /// [`Error::Io`]; those of reading `base`.
    pub fn new(folder: impl Into<PathBuf>, base: &Source) -> Result<Self> {
        let (model, base) = (Self { folder: folder.into() }, Checkpoint::open(base, Reading::default())?);
        for file in KEPT {
            if !model.folder.join(file).exists()
                && let Some(bytes) = base.read(file)?
            {
                model.write(file, &bytes)?;
            }
        }
        Ok(model)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Puts a part's configuration and weights, as f16, in place.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Torch`].
    pub fn put(&self, part: &str, config: &str, weights: &Tensors) -> Result<()> {
        self.write(&format!("{part}/config.json"), config.as_bytes())?;
        let name = if part.ends_with("encoder") { "model" } else { "diffusion_pytorch_model" };
        write_safetensors(&halved(weights)?, &self.folder.join(part).join(name).with_extension("safetensors"))
    }

    /// The tokenizer and the text encoder, in f32.
    ///
    /// # Errors
    /// Those of loading them.
    pub fn text(&self) -> Result<(Tokenizer, ClipText)> {
        let source = Checkpoint::open(&Source::dir(&self.folder), Reading::default())?;
        let file = "text_encoder/config.json";
        let text = source.text(file)?.ok_or_else(|| source.missing(file, "the folder was made without a base"))?;
        let config = ClipTextConfig::from_json(&source.name(file), &text)?;
        let text_encoder = ClipText::new(&source.weights("text_encoder", Kind::Float, Device::Cpu)?, &config)?;
        Ok((crate::model::tokenizer(&source)?, text_encoder))
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(file);
        let at = |source| Error::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at)?;
        }
        let partial = path.with_extension("partial");
        fs::write(&partial, bytes).map_err(at)?;
        fs::rename(&partial, &path).map_err(at)
    }
}
