//! The embedding of tokens, and the ends of padded texts.

use crate::error::{Error, Result};
use crate::weights::Weights;
use tch::{Device, Kind, Tensor};

/// Largest number of tokens of a text for networks whose positions have no limit.
pub(super) const MOST_TOKENS: i64 = 1 << 15;

/// The table of vectors that stand for tokens.
#[derive(Debug)]
pub(super) struct TokenEmbedding {
    weight: Tensor,
}

impl TokenEmbedding {
    /// Builds the embedding of `tokens` tokens as vectors of `width` numbers.
    pub(super) fn new(w: &Weights, tokens: i64, width: i64) -> Result<Self> {
        Ok(Self { weight: w.tensor("weight", &[tokens, width])? })
    }

    /// Looks up the vectors of the tokens `ids`, i64 [b, t] with t up to `longest` → [b, t, width].
    ///
    /// # Errors
    /// [`Error::Shape`] if there are too many tokens, [`Error::Parameter`] if a token is not in the vocabulary.
    pub(super) fn forward(&self, ids: &Tensor, longest: i64) -> Result<Tensor> {
        let ids = check_ids(ids, longest, self.weight.size2()?.0, self.weight.device())?;
        Ok(Tensor::f_embedding(&self.weight, &ids, -1, false, false)?)
    }
}

/// Checks the ids of tokens, [b, t] with t up to `longest`, against a vocabulary of `tokens` tokens. Returns the ids as
/// i64 on `device`.
///
/// # Errors
/// [`Error::Shape`] if there are too many tokens, [`Error::Parameter`] if a token is not in the vocabulary.
pub(super) fn check_ids(ids: &Tensor, longest: i64, tokens: i64, device: Device) -> Result<Tensor> {
    match ids.size().as_slice() {
        &[b, t] if b > 0 && (1..=longest).contains(&t) => {}
        got => {
            let expected = format!("[b, 1 to {longest}]");
            return Err(Error::Shape { what: "token ids", got: got.to_vec(), expected });
        }
    }
    let (least, most) = (ids.f_min()?.f_int64_value(&[])?, ids.f_max()?.f_int64_value(&[])?);
    for id in [least, most] {
        if !(0..tokens).contains(&id) {
            return Err(Error::parameter("token ids", id, format!("0 to {}, the ids of the vocabulary", tokens - 1)));
        }
    }
    Ok(ids.f_to_device(device)?.f_to_kind(Kind::Int64)?)
}

/// Marks the tokens of texts that are padded at the end: bool [b, t], true in the first `lengths[i]` places of row i.
/// Returns `None` if no text is padded.
///
/// # Errors
/// [`Error::Parameter`] if there are not b lengths in 0..=t.
pub(super) fn tokens_of(lengths: &[i64], b: i64, t: i64, device: Device) -> Result<Option<Tensor>> {
    if lengths.len() as i64 != b || !lengths.iter().all(|length| (0..=t).contains(length)) {
        let expected = format!("{b} numbers of tokens, each in 0..={t}");
        return Err(Error::parameter("lengths", format!("{lengths:?}"), expected));
    }
    if lengths.iter().all(|length| *length == t) {
        return Ok(None);
    }
    let ends = Tensor::f_from_slice(lengths)?.f_to_device(device)?.f_unsqueeze(1)?;
    Ok(Some(Tensor::f_arange(t, (Kind::Int64, device))?.f_unsqueeze(0)?.f_less_tensor(&ends)?))
}

/// Replaces the states of padding, [b, t, width], by zeros. `tokens` marks the other rows as [`tokens_of`] does.
pub(super) fn without_padding(states: Tensor, tokens: Option<&Tensor>) -> Result<Tensor> {
    match tokens {
        Some(tokens) => Ok(states.f_masked_fill(&tokens.f_logical_not()?.f_unsqueeze(-1)?, 0.0)?),
        None => Ok(states),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_mark_tokens_and_wrong_lengths_are_errors() -> Result<()> {
        let tokens = |lengths: &[i64]| tokens_of(lengths, 2, 3, Device::Cpu);
        assert!(tokens(&[3, 3])?.is_none());
        let marked = tokens(&[2, 0])?.unwrap();
        let states = without_padding(Tensor::ones([2, 3, 1], (Kind::Float, Device::Cpu)), Some(&marked))?;
        assert_eq!(Vec::<f32>::try_from(states.flatten(0, 2))?, [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        for wrong in [&[3][..], &[4, 1], &[-1, 1]] {
            let message = tokens(wrong).unwrap_err().to_string();
            assert!(message.contains("expected 2 numbers of tokens, each in 0..=3"), "{message}");
        }
        Ok(())
    }
}
