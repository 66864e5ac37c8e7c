//! Kind `tokenize`: ids, character offsets and padding of the fast CLIP tokenizer.

use super::Outputs;
use super::case::{self, Case, Result};
use impasto::text::{Tokenizer, Tokens};
use serde::Deserialize;
use std::path::Path;
use tch::Tensor;

/// An entry of `expected.json`.
#[derive(Deserialize)]
struct Expected {
    text: String,
    ids: Vec<i64>,
    offsets: Vec<(usize, usize)>,
    tokens: Vec<String>,
    padded_ids: Vec<i64>,
}

pub fn run(case: &Case) -> Result<Outputs> {
    let folder = case.dir.join(case.param::<String>("tokenizer")?);
    let profile: Option<String> = case.param("profile")?;
    let tokenizer = open(&folder, &profile.map_or(folder.clone(), |profile| folder.join(profile)))?;

    let (texts, length): (Vec<String>, usize) = (case.param("texts")?, case.param("max_length")?);
    let expected: Vec<Expected> = case.json("expected.json")?;
    if expected.iter().map(|expected| &expected.text).ne(&texts) {
        return Err("expected.json has other texts than case.json; make both files by one run".into());
    }
    let mut rows = Vec::new();
    for Expected { text, ids, offsets, tokens, padded_ids } in expected {
        let offsets = offsets.into_iter().map(|(start, end)| start..end).collect();
        let got = tokenizer.encode(&text)?;
        let mut want = got.clone();
        (want.ids, want.offsets, want.tokens) = (ids, offsets, tokens);
        if got != want {
            return Err(format!("{text:?} became\n  {got:?}, expected\n  {want:?}").into());
        }
        covers_the_same_letters(&tokenizer, &text, &want)?;
        let row = tokenizer.padded_to(&text, length)?;
        if row != padded_ids {
            return Err(format!("{text:?} padded became\n  {row:?}, expected\n  {padded_ids:?}").into());
        }
        rows.push(Tensor::from_slice(&row));
    }
    Ok(vec![("padded_ids".into(), Tensor::f_stack(&rows, 0)?)])
}

/// Opens the tokenizer of a folder. Its special tokens come from `special`, which may be another folder.
pub fn open(folder: &Path, special: &Path) -> Result<Tokenizer> {
    let optional = |name: &str| Some(special.join(name)).filter(|path| path.exists()).map(|path| case::read(&path));
    let map = optional("special_tokens_map.json").transpose()?;
    let config = optional("tokenizer_config.json").transpose()?;
    let (vocab, merges) = (case::read(&folder.join("vocab.json"))?, case::read(&folder.join("merges.txt"))?);
    Ok(Tokenizer::from_vocab(&vocab, &merges, map.as_deref(), config.as_deref())?)
}

/// Checks the byte offsets of a prompt: the text that the prompt reports as cut off starts at token 76.
fn covers_the_same_letters(tokenizer: &Tokenizer, text: &str, tokens: &Tokens) -> Result<()> {
    let cut = (tokens.ids.len() > 77).then(|| text.chars().skip(tokens.offsets[76].start).collect::<String>());
    match tokenizer.prompt(text)?.cut() == cut.as_deref() {
        true => Ok(()),
        false => Err(format!("the prompt {text:?} is not cut before {cut:?}").into()),
    }
}
