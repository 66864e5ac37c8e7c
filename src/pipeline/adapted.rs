//! The model of a request whose prompts name LoRAs and learned words.

use super::config::RequestConfig;
use super::folders::{Folders, Named};
use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::prompt::{LoraTag, PromptSyntax, networks};
use crate::weights::{Embedding, Lora};
use crate::wording::Note;
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// Largest number of LoRAs and learned words that the prompts of a request name.
const MOST_NAMED: usize = 64;

/// The LoRAs and learned words that the prompts of a request name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Added {
    loras: Vec<(Version, LoraTag)>,
    /// Files of learned words, each with the word as the prompts have it.
    words: Vec<(Version, String)>,
}

/// A file at a time.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    file: PathBuf,
    size: u64,
    changed: Option<SystemTime>,
}

impl Version {
    fn of(file: PathBuf) -> Result<Self> {
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
    /// Notes on learned words that cannot be used.
    pub notes: Vec<Note>,
}

impl Added {
    /// Takes the tags of networks out of the prompts, and returns the LoRAs and learned words that the prompts name;
    /// `None` if they name none.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a name that no file has, and if prompts of one request name different LoRAs.
    pub(super) fn take(config: &mut RequestConfig, folders: &Folders) -> Result<Option<Self>> {
        let mut loras = Vec::new();
        if config.syntax != PromptSyntax::Plain {
            let tags = networks(&config.prompt);
            (config.prompt, loras) = (tags.text, tags.loras);
            let details = config.details.iter_mut().filter_map(|detail| detail.prompt.as_mut());
            for prompt in config.second_prompt.iter_mut().chain(details) {
                let tags = networks(prompt);
                if !tags.loras.is_empty() && tags.loras != loras {
                    let value = format!("{:?} with other LoRAs than the prompt", crate::wording::shortened(prompt));
                    let expected = "the LoRAs of the prompt, or none, because all prompts of a run share one model";
                    return Err(Error::parameter("second_prompt", value, expected));
                }
                *prompt = tags.text;
            }
        }
        let mut added = Self::default();
        for tag in loras {
            added.loras.push((Version::of(folders.lora(&tag.name)?)?, tag));
        }
        let details = config.details.iter().flat_map(|detail| [&detail.prompt, &detail.negative]).flatten();
        let others = [&config.second_prompt, &config.second_negative].into_iter().flatten().chain(details);
        let texts: Vec<String> =
            [&config.prompt, &config.negative].into_iter().chain(others).map(|text| text.to_lowercase()).collect();
        for Named { name, file, .. } in folders.embeddings()? {
            for word in [name.clone(), format!("embedding:{name}")] {
                let lower = word.to_lowercase();
                if texts.iter().any(|text| has_word(text, &lower)) {
                    added.words.push((Version::of(file.clone())?, word));
                }
            }
        }
        let count = added.loras.len() + added.words.len();
        if count > MOST_NAMED {
            let expected = format!("at most {MOST_NAMED}");
            return Err(Error::parameter("number of LoRAs and learned words in the prompt", count, expected));
        }
        Ok((count > 0).then_some(added))
    }
}

/// Returns true if a text has a word that no letter or digit touches, where `word` itself begins or ends with one.
fn has_word(text: &str, word: &str) -> bool {
    let joins =
        |a: Option<char>, b: Option<char>| a.zip(b).is_some_and(|(a, b)| a.is_alphanumeric() && b.is_alphanumeric());
    !word.trim().is_empty()
        && text.match_indices(word).any(|(at, found)| {
            let (before, after) = (text.get(..at), text.get(at + found.len()..));
            !joins(before.and_then(|before| before.chars().next_back()), word.chars().next())
                && !joins(word.chars().next_back(), after.and_then(|after| after.chars().next()))
        })
}

impl Adapted {
    /// Returns the model of `codec` with the LoRAs and learned words of a request.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a network that is no [`Model`]; the errors of [`Model::with_lora`] and
    /// [`Model::with_embedding`].
    pub(super) fn adapt(&self, codec: &dyn Codec, added: &Added) -> Result<Adaptation> {
        if let Some(known) = self.0.borrow_mut().take().filter(|known| known.0 == *added) {
            return Ok(known.1);
        }
        let Some(model) = codec.capability::<Model>() else {
            let expected = "a prompt without them, because this network has no weights to change";
            return Err(Error::parameter("prompt", "a text that names LoRAs or learned words", expected));
        };
        let (mut adapted, mut notes) = (None::<Model>, Vec::new());
        for (version, word) in &added.words {
            let embedding = Embedding::open(&version.file)?.called(word);
            match adapted.as_ref().unwrap_or(model).with_embedding(&embedding) {
                Err(Error::Tokenizer(problem)) => {
                    let file = version.file.display();
                    notes.push(Note::from(format!("the learned word of {file} is not used: {problem}")));
                }
                with => adapted = Some(with?),
            }
        }
        let loras = added
            .loras
            .iter()
            .map(|(version, tag)| Ok(Lora::open(&version.file)?.scale(tag.strength).text_scale(tag.text_strength)));
        let loras = loras.collect::<Result<Vec<_>>>()?;
        let model = match (adapted, loras.is_empty()) {
            (Some(adapted), true) => adapted,
            (adapted, _) => adapted.as_ref().unwrap_or(model).with_lora(&loras)?,
        };
        Ok(Adaptation { model, notes })
    }

    /// Keeps an adapted model for the next request.
    pub(super) fn keep(&self, added: Added, adaptation: Adaptation) {
        *self.0.borrow_mut() = Some(Box::new((added, adaptation)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_at_their_ends() {
        assert!(has_word("a badhands, cat", "badhands") && has_word("(bad-hands:1.2)", "bad-hands"));
        assert!(has_word("embedding:ink", "ink") && has_word("a <x>b", "<x>"));
        assert!(!has_word("badhandsome", "badhands") && !has_word("a", "") && !has_word("éink", "ink"));
    }
}
