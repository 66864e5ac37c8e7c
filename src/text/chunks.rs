//! Prompts of any length: chunks of 75 tokens, each with its own start and end token.

use super::plain::pieces;
use super::tokenizer::{LENGTH, Tokenizer};
use crate::error::{Error, Result};
use crate::prompt::{Piece, Prompt, Written};
use crate::wording::Remedy;
use std::ops::Range;

/// Number of tokens of a chunk without its start and end.
const CONTENT: usize = LENGTH - 2;
/// Largest number of chunks of a prompt, 4800 tokens in all. The limit exists because the network attends to every
/// token at every cell.
const MOST_CHUNKS: usize = 64;
/// Largest number of tokens by which a chunk is shortened to end at its last comma, instead of within a phrase.
const BACK_TO_COMMA: usize = 20;

/// Handling of a prompt of more than 75 tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Long {
    /// Splits the prompt into chunks of 75 tokens, which are encoded one by one and concatenated: the context has 77·n
    /// tokens for n chunks. A chunk that would end within a phrase ends at its last comma, as in the AUTOMATIC1111 web
    /// UI.
    #[default]
    Chunks,
    /// Cuts the prompt off after the 75th token, as in diffusers.
    Truncate,
}

/// A prompt as a text encoder reads it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Chunks {
    /// Token ids of every chunk, which are rows of the embedding table: 77 ids for each chunk, at least one chunk.
    pub ids: Vec<Vec<i64>>,
    /// Weight of each token, in the layout of `ids`; 1 for start, end and padding.
    pub weights: Vec<Vec<f32>>,
    /// The prompt with the positions of its tokens in the context.
    pub prompt: Prompt,
}

/// A token to be placed in a chunk.
struct Token {
    id: i64,
    weight: f32,
    /// Byte range of the token in the text without markup.
    bytes: Range<usize>,
}

impl Tokenizer {
    /// Returns the text with the positions of its tokens. The text encoder reads the first 75 tokens. Markup counts as
    /// plain text.
    ///
    /// # Errors
    /// The errors of [`encode`](Self::encode).
    pub fn prompt(&self, text: &str) -> Result<Prompt> {
        Ok(self.chunks(text, false, Long::Truncate)?.prompt)
    }

    /// Splits a prompt into chunks. With `markup`, `(word:1.3)`, `[word]`, `\(` and `BREAK` are read as
    /// [`parse`](crate::prompt::parse) describes; without `markup`, they are plain text.
    ///
    /// # Errors
    /// The errors of [`encode`](Self::encode); [`Error::Parameter`] for more than 64 chunks, and for a weight beyond
    /// ±10000.
    pub fn chunks(&self, text: &str, markup: bool, long: Long) -> Result<Chunks> {
        let (mut plain, mut source) = (String::new(), Vec::new());
        let mut packing = Packing { chunks: vec![Vec::new()], comma: None, long };
        let comma = self.id(",</w>");
        for piece in pieces(text, markup)? {
            let Piece::Text { text, weight, source: written } = piece else {
                packing.next();
                plain.push(' '); // a break separates the words on both sides
                source.push(None);
                continue;
            };
            let begun = plain.len();
            plain.push_str(&text);
            source.extend(written.into_iter().flatten().map(Some));
            for group in self.groups(&text)? {
                let tokens: Vec<Token> = group
                    .into_iter()
                    .map(|(id, bytes)| Token {
                        id,
                        weight: weight as f32,
                        bytes: begun + bytes.start..begun + bytes.end,
                    })
                    .collect();
                packing.push(tokens, comma);
            }
        }
        let chunks = packing.finish();
        if chunks.len() > MOST_CHUNKS {
            let (value, most) = (format!("a text of {} chunks of {CONTENT} tokens", chunks.len()), MOST_CHUNKS);
            let expected = Remedy::ShorterPrompt.after(format!("at most {most} chunks"));
            return Err(Error::parameter("prompt", value, expected));
        }
        let placed = chunks.iter().enumerate().flat_map(|(chunk, tokens)| {
            let seen = move |at: &usize| long == Long::Chunks || *at < CONTENT;
            let place = move |at: usize| Some(at).filter(seen).map(|at| (chunk * LENGTH + 1 + at) as i64);
            tokens.iter().enumerate().map(move |(at, token)| (token.bytes.clone(), place(at)))
        });
        let (bytes, places) = placed.unzip();
        let prompt = Prompt::written(Written { text: text.into(), source }, plain, bytes, places);
        let (ids, weights) = chunks.into_iter().map(|tokens| self.fill(&tokens)).unzip();
        Ok(Chunks { ids, weights, prompt })
    }

    /// Returns the ids of an empty chunk.
    pub(crate) fn empty_chunk(&self) -> Vec<i64> {
        self.fill(&[]).0
    }

    /// Returns the ids and weights of start, tokens, end and padding.
    fn fill(&self, tokens: &[Token]) -> (Vec<i64>, Vec<f32>) {
        let tokens = tokens.iter().take(CONTENT);
        let (mut ids, mut weights) = (vec![self.start], vec![1.0]);
        for token in tokens {
            ids.push(token.id);
            weights.push(token.weight);
        }
        ids.push(self.end);
        ids.resize(LENGTH, self.pad);
        weights.resize(LENGTH, 1.0);
        (ids, weights)
    }
}

/// The distribution of a prompt's tokens over chunks.
struct Packing {
    chunks: Vec<Vec<Token>>,
    /// Position of the last comma in the current chunk.
    comma: Option<usize>,
    long: Long,
}

impl Packing {
    fn current(&self) -> usize {
        self.chunks.last().map_or(0, Vec::len)
    }

    fn next(&mut self) {
        if self.long == Long::Chunks {
            self.chunks.push(Vec::new());
            self.comma = None;
        }
    }

    /// Adds tokens that must stay in one chunk: a single token, or all tokens of a learned word. `comma` is the id of
    /// the comma's token.
    fn push(&mut self, tokens: Vec<Token>, comma: Option<i64>) {
        let full = self.current();
        if self.long == Long::Chunks && full + tokens.len() > CONTENT && full > 0 {
            let is_comma = tokens.first().map(|token| token.id) == comma;
            let moved = match self.comma {
                Some(at) if full == CONTENT && !is_comma && full - at <= BACK_TO_COMMA => {
                    self.chunks.last_mut().map(|chunk| chunk.split_off((at + 1).min(chunk.len())))
                }
                _ => None,
            };
            self.next();
            if let (Some(chunk), Some(moved)) = (self.chunks.last_mut(), moved) {
                *chunk = moved;
            }
        }
        let at = self.current();
        if tokens.first().is_some_and(|token| Some(token.id) == comma) && at > 0 {
            self.comma = Some(at);
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend(tokens);
        }
    }

    /// Returns all chunks, without an empty last chunk after a final break.
    fn finish(mut self) -> Vec<Vec<Token>> {
        if self.chunks.len() > 1 && self.current() == 0 {
            self.chunks.pop();
        }
        self.chunks
    }
}
