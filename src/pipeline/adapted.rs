//! [`Adapted`]: the model of a request whose prompts name LoRAs and learned words, or are read from another layer.

use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::prompt::LoraTag;
use crate::weights::{Embedding, Lora};
use crate::wording::Note;
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// The LoRAs and learned words that the prompts of a request name, and the layer of CLIP that reads the prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Added {
    pub loras: Vec<(Version, LoraTag)>,
    /// Files of learned words, each with the word as the prompts have it.
    pub words: Vec<(Version, String)>,
    /// Layer of CLIP that prompts are read from; `None` for the model's own.
    pub clip_skip: Option<usize>,
}

/// A file at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Version {
    file: PathBuf,
    size: u64,
    changed: Option<SystemTime>,
}

impl Version {
    pub(super) fn of(file: PathBuf) -> Result<Self> {
        let facts = fs::metadata(&file).map_err(|error| Error::io(&file, error))?;
        Ok(Self { file, size: facts.len(), changed: facts.modified().ok() })
    }
}

/// The last model that was adapted to the prompts of a request. It is taken out while a request runs.
#[derive(Debug, Default)]
pub(super) struct Adapted(RefCell<Option<Box<(Added, Adaptation)>>>);

/// A model with LoRAs and learned words.
#[derive(Debug)]
pub(super) struct Adaptation {
    pub model: Model,
    /// Notes on learned words that cannot be used. The prompts have them as ordinary text.
    pub notes: Vec<Note>,
}

impl Adapted {
    /// Returns the model of `codec` with the LoRAs and learned words of a request, and its layer of CLIP.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a network that is no [`Model`]; the errors of [`Embedding::open`], [`Model::with_lora`]
    /// and [`Model::with_clip_skip`]. A learned word that does not fit the model is no error, because a prompt can be
    /// written for several models.
    pub(super) fn adapt(&self, codec: &dyn Codec, added: &Added) -> Result<Adaptation> {
        if let Some(known) = self.0.borrow_mut().take().filter(|known| known.0 == *added) {
            return Ok(known.1);
        }
        let Some(model) = codec.capability::<Model>() else {
            if let Some(layer) = added.clip_skip {
                let expected = "none, because this network has no layers to choose from";
                return Err(Error::parameter("clip_skip", layer, expected));
            }
            let expected = "a prompt without them, because this network has no weights to change";
            return Err(Error::parameter("prompt", "a text that names LoRAs or learned words", expected));
        };
        let (mut adapted, mut notes) = (None::<Model>, Vec::new());
        for (version, word) in &added.words {
            let embedding = Embedding::open(&version.file)?.called(word);
            let before = adapted.as_ref().unwrap_or(model);
            let problem = match before.misfit(&embedding) {
                Some(problem) => problem,
                None => match before.with_embedding(&embedding) {
                    Err(Error::Tokenizer(problem)) => problem,
                    with => {
                        adapted = Some(with?);
                        continue;
                    }
                },
            };
            let note = Note::from(format!("the learned word of {} is not used: {problem}", version.file.display()));
            // A file has two words, its name and `embedding:name`.
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let loras = added
            .loras
            .iter()
            .map(|(version, tag)| Ok(Lora::open(&version.file)?.scale(tag.strength).text_scale(tag.text_strength)));
        let loras = loras.collect::<Result<Vec<_>>>()?;
        if !loras.is_empty() {
            adapted = Some(adapted.as_ref().unwrap_or(model).with_lora(&loras)?);
        }
        if let Some(layer) = added.clip_skip {
            adapted = Some(adapted.as_ref().unwrap_or(model).with_clip_skip(layer)?);
        }
        // Learned words that cannot be used leave the model as it is.
        Ok(Adaptation { model: adapted.map_or_else(|| model.share(), Ok)?, notes })
    }

    /// Keeps an adapted model for the next request.
    pub(super) fn keep(&self, added: Added, adaptation: Adaptation) {
        *self.0.borrow_mut() = Some(Box::new((added, adaptation)));
    }
}
