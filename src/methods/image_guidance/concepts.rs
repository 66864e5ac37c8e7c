//! Words of a prompt that become what a picture has for a concept.

use super::pairing::{assigned, read, similarity};
use super::params::Mapping;
use super::report::ConceptHit;
use crate::error::Result;
use crate::prompt::TokenSpan;
use tch::{Kind, Tensor};

/// A concept, told by a text: where a prompt's token resembles one of its tokens, it becomes the token of the guide that
/// resembles that one.
#[derive(Debug)]
pub(super) struct Concepts {
    /// The concept's tokens, [t, d].
    pub tokens: Tensor,
    /// Which of them are of words; `None`: all but the first.
    pub words: Option<Vec<TokenSpan>>,
    /// Which of the prompt's are; `None`: all but the headers.
    pub prompt: Option<Vec<TokenSpan>>,
    /// Similarities above it count.
    pub accept: f64,
}

impl Concepts {
    /// What is to be replaced in a chunk of a prompt, [t, d], that begins with its `start`th token, by tokens of a guide,
    /// [a, d].
    pub(super) fn hits(&self, text: &Tensor, guide: &Tensor, start: i64, temperature: f64) -> Result<Vec<ConceptHit>> {
        let concept = self.tokens.f_to_kind(Kind::Float)?.f_to_device(text.device())?;
        let words = chosen(self.words.as_deref(), 0, concept.size2()?.0);
        let own = chosen(self.prompt.as_deref(), start, text.size2()?.0);
        let partners =
            assigned(&read(&similarity(guide, &concept, temperature)?)?, Mapping::TextOrder { reuse: false }, &words);
        let mut likeness = read(&similarity(&concept, text, temperature)?)?;
        if self.words.is_some() {
            // What stands for no word is like nothing.
            likeness
                .rows_mut()
                .into_iter()
                .zip(&words)
                .filter(|(_, word)| !**word)
                .for_each(|(mut row, _)| row.fill(0.0));
        }
        let best = assigned(&likeness, Mapping::BestFit { reuse: true }, &own);
        let hit = |(position, pair): (i64, super::pairing::Pair)| {
            let concept = pair.alternate.filter(|row| *row > 0 && pair.similarity > self.accept)?;
            let alternate = partners.get(concept)?.alternate?;
            Some(ConceptHit { position, concept: concept as i64, alternate: alternate as i64 })
        };
        Ok((start..).zip(best).filter_map(hit).collect())
    }
}

/// Which of `count` tokens from the `start`th on are in `spans`; all but the first without spans.
fn chosen(spans: Option<&[TokenSpan]>, start: i64, count: i64) -> Vec<bool> {
    let within = |at: i64| spans.is_none_or(|spans| spans.iter().any(|span| (span.start..span.end).contains(&at)));
    (start..start + count).map(|at| at > start && within(at)).collect()
}
