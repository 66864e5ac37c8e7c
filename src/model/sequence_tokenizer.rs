//! The tokenizers of Qwen3 and T5 in a checkpoint.

use crate::error::{Error, Result};
use crate::text::SequenceTokenizer;
use crate::weights::Checkpoint;

/// Reads the tokenizer in `folder` of the first of some checkpoints that has one, from `tokenizer.json`, or else from
/// vocabulary and merges. `hint` says where the tokenizer can be had.
///
/// # Errors
/// [`Error::MissingFile`] if no checkpoint has the tokenizer, [`Error::Tokenizer`] if the tokenizer is broken.
pub(super) fn load(places: [&Checkpoint; 2], folder: &str, hint: &'static str) -> Result<SequenceTokenizer> {
    for place in places {
        let file = |name: &str| place.read(&format!("{folder}/{name}"));
        if let Some(json) = file("tokenizer.json")? {
            return SequenceTokenizer::from_json(&json);
        }
        let files = (file("vocab.json")?, file("merges.txt")?, file("tokenizer_config.json")?);
        if let (Some(vocab), Some(merges), Some(config)) = files {
            return SequenceTokenizer::from_vocab(&vocab, &merges, &config);
        }
    }
    let [_, main] = places;
    Err(Error::MissingFile { file: format!("{folder}/tokenizer.json"), place: main.to_string(), hint: hint.into() })
}
