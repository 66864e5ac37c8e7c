//! The tokenizers of Qwen3 and T5 in a checkpoint.

use crate::error::{Error, Result};
use crate::text::SequenceTokenizer;
use crate::weights::Checkpoint;

/// A tokenizer that a text encoder needs.
pub(super) struct Wanted {
    /// Folder of the tokenizer.
    pub(super) folder: &'static str,
    /// Name of the text encoder.
    pub(super) encoder: &'static str,
    /// Number of tokens that follow each text.
    pub(super) ends: usize,
    /// Number of tokens that the text encoder knows.
    pub(super) rows: i64,
    /// A sentence that says where the tokenizer can be had.
    pub(super) hint: &'static str,
}

/// Reads a tokenizer from the first of some checkpoints that has one, from `tokenizer.json`, or else from vocabulary
/// and merges.
///
/// # Errors
/// [`Error::MissingFile`] if no checkpoint has the tokenizer, [`Error::Tokenizer`] if the tokenizer is broken, or is
/// the tokenizer of another text encoder.
pub(super) fn load(places: [&Checkpoint; 2], wanted: &Wanted) -> Result<SequenceTokenizer> {
    let folder = wanted.folder;
    for place in places {
        let file = |name: &str| place.read(&format!("{folder}/{name}"));
        let read = match file("tokenizer.json")? {
            Some(json) => SequenceTokenizer::from_json(&json),
            None => match (file("vocab.json")?, file("merges.txt")?, file("tokenizer_config.json")?) {
                (Some(vocab), Some(merges), Some(config)) => SequenceTokenizer::from_vocab(&vocab, &merges, &config),
                _ => continue,
            },
        };
        let tokenizer = read.map_err(|error| match error {
            Error::Tokenizer(problem) => Error::Tokenizer(format!("{folder} of {place}: {problem}")),
            other => other,
        })?;
        return check(tokenizer, place, wanted);
    }
    let [_, main] = places;
    let (place, hint) = (main.to_string(), wanted.hint.into());
    Err(Error::MissingFile { file: format!("{folder}/tokenizer.json"), place, hint })
}

/// Checks that a tokenizer is of the kind that the text encoder was trained with. The text encoder would read other
/// words from the ids of another tokenizer.
fn check(tokenizer: SequenceTokenizer, place: &Checkpoint, wanted: &Wanted) -> Result<SequenceTokenizer> {
    let &Wanted { folder, encoder, ends, rows, .. } = wanted;
    let (has, ids) = (tokenizer.ends(), tokenizer.ids());
    let problem = if has != ends {
        format!("it adds {has} tokens after a text, and the one of {encoder} adds {ends}")
    } else if ids > rows {
        format!("it has ids up to {}, and {encoder} knows {rows} tokens", ids - 1)
    } else {
        return Ok(tokenizer);
    };
    Err(Error::Tokenizer(format!(
        "{folder} of {place} is the tokenizer of another text encoder: {problem}; put the tokenizer of {encoder} there"
    )))
}
