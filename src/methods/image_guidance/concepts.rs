//! Concepts: prompt tokens that resemble a given word, and are replaced by the guide's tokens for that word.

use super::pairing::{assign, read, similarity};
use super::params::Mapping;
use super::report::ConceptHit;
use crate::error::Result;
use crate::prompt::TokenSpan;
use tch::{Kind, Tensor};

/// A concept, given as text. A prompt token that resembles one of the concept's tokens is replaced by the guide's token
/// for that concept token.
#[derive(Debug)]
pub(super) struct Concepts {
    /// The concept's tokens, [t, d].
    pub tokens: Tensor,
    /// Spans of the concept's tokens that belong to words; `None`: all but the first token.
    pub words: Option<Vec<TokenSpan>>,
    /// Spans of the prompt's tokens that belong to words; `None`: all but the headers.
    pub prompt: Option<Vec<TokenSpan>>,
    /// Threshold of similarity: a token is replaced only above this value.
    pub accept: f64,
}

impl Concepts {
    /// Returns which tokens of one chunk of the prompt are replaced, and by which tokens of the guide. `text`, [t, d],
    /// has the chunk's tokens, and `guide`, [a, d], the guide's. `start` is the index in the prompt of the chunk's
    /// first token. `temperature` is the temperature of the similarities.
    pub(super) fn hits(&self, text: &Tensor, guide: &Tensor, start: i64, temperature: f64) -> Result<Vec<ConceptHit>> {
        let concept = self.tokens.f_to_kind(Kind::Float)?.f_to_device(text.device())?;
        let words = chosen(self.words.as_deref(), 0, concept.size2()?.0);
        let own = chosen(self.prompt.as_deref(), start, text.size2()?.0);
        let partners =
            assign(&read(&similarity(guide, &concept, temperature)?)?, Mapping::TextOrder { reuse: false }, &words);
        let mut likeness = read(&similarity(&concept, text, temperature)?)?;
        if self.words.is_some() {
            // The concept's start, end and padding tokens stand for no word, so no prompt token may resemble them.
            likeness
                .rows_mut()
                .into_iter()
                .zip(&words)
                .filter(|(_, word)| !**word)
                .for_each(|(mut row, _)| row.fill(0.0));
        }
        let best = assign(&likeness, Mapping::BestFit { reuse: true }, &own);
        let hit = |(position, pair): (i64, super::pairing::Pair)| {
            let is_word = |row: usize| row > 0 || self.words.is_some();
            let concept = pair.alternate.filter(|row| is_word(*row) && pair.similarity > self.accept)?;
            let alternate = partners.get(concept)?.alternate?;
            Some(ConceptHit { position, concept: concept as i64, alternate: alternate as i64 })
        };
        Ok((start..).zip(best).filter_map(hit).collect())
    }
}

/// Returns a flag for each of `count` tokens from token `start` on: true for tokens in `spans`, or for all tokens but
/// the first one, the header, if `spans` is `None`.
fn chosen(spans: Option<&[TokenSpan]>, start: i64, count: i64) -> Vec<bool> {
    let within = |at: i64, spans: &[TokenSpan]| spans.iter().any(|span| (span.start..span.end).contains(&at));
    (start..start + count).map(|at| spans.map_or(at > start, |spans| within(at, spans))).collect()
}
