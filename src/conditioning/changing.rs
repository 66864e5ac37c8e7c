//! The conditioning of a prompt that changes during a run.

use super::{Codec, Conditioning, Texts};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use tch::Tensor;

/// Largest number of tokens of all different texts of a prompt, padded to the longest text: 512 chunks.
const MOST_TOKENS: i64 = 512 * 77;
/// Number of tokens of a chunk.
const CHUNK: i64 = 77;

/// Encodes the texts of a prompt, each with the index of the step from which on the network reads it. Equal texts are
/// encoded once. Returns the conditioning, and a prompt in which the phrases of all texts are found.
///
/// # Errors
/// The errors of [`Codec::text`]; [`Error::Parameter`] for too many or too long texts.
pub(crate) fn encode_changing(codec: &dyn Codec, texts: &[(usize, Texts<'_>)]) -> Result<(Conditioning, Prompt)> {
    let mut different: Vec<Texts<'_>> = Vec::new();
    let mut turns: Vec<(usize, usize)> = Vec::with_capacity(texts.len());
    for (from, text) in texts {
        let known = different.iter().position(|known| known == text);
        turns.push((*from, known.unwrap_or(different.len())));
        if known.is_none() {
            different.push(*text);
            check(different.len(), CHUNK)?;
        }
    }
    let (mut encoded, mut prompts, mut longest) = (Vec::new(), Vec::new(), 0);
    for text in &different {
        prompts.push(codec.prompt(*text)?);
        let conditioning = codec.text(*text)?;
        longest = conditioning.context.size3()?.1.max(longest);
        check(different.len(), longest)?;
        encoded.push(conditioning);
    }
    if encoded.len() > 1 {
        Conditioning::equalize(&mut encoded, codec)?;
    }
    let nothing = || Error::parameter("prompt", "without a text", "a text for the first step");
    let (prompt, orders) = Prompt::join_texts(prompts, turns.clone(), longest).ok_or_else(nothing)?;
    for (conditioning, order) in encoded.iter_mut().zip(orders) {
        if let Some(order) = order {
            let order = Tensor::f_from_slice(&order)?.f_to_device(conditioning.context.device())?;
            conditioning.context = conditioning.context.f_index_select(1, &order)?;
        }
    }
    let mut conditioning = encoded.first().ok_or_else(nothing)?.share();
    for (from, text) in turns {
        conditioning.during(from..usize::MAX, |part| {
            if let Some(text) = encoded.get(text) {
                part.context = text.context.shallow_clone();
                part.pooled = text.pooled.as_ref().map(Tensor::shallow_clone);
                part.unchunked.clone_from(&text.unchunked);
            }
            Ok(())
        })?;
    }
    Ok((conditioning, prompt))
}

/// Checks the number of different texts and of their tokens.
fn check(texts: usize, longest: i64) -> Result<()> {
    let tokens = i64::try_from(texts).unwrap_or(i64::MAX).saturating_mul(longest.max(CHUNK));
    if tokens <= MOST_TOKENS {
        return Ok(());
    }
    let value = format!("{texts} different texts over the steps, of up to {} tokens", longest.max(CHUNK));
    Err(Error::parameter("prompt", value, format!("at most {MOST_TOKENS} tokens in all; write fewer alternatives")))
}
