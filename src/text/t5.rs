//! [`T5Text`]: T5's encoder with its tokenizer, as Stable Diffusion 3 reads prompts with it.

use super::plain::Plain;
use super::{SequenceTokenizer, TextOptions};
use crate::error::Result;
use crate::nn::t5::T5;
use crate::prompt::{Prompt, Written};
use crate::weights::Weights;
use tch::{Device, Tensor};

/// Number of tokens of a prompt, padding included, unless the options say another one.
pub(crate) const LENGTH: usize = 256;

/// A prompt as T5 reads it.
#[derive(Debug)]
pub(crate) struct T5Tokens {
    /// Ids of the tokens, the end token and padding.
    ids: Vec<i64>,
    /// Weight of each id: the mean weight of its letters, and 1 for an id without letters.
    weights: Vec<f32>,
    /// The prompt with the columns of its tokens.
    pub prompt: Prompt,
}

/// T5's encoder with its tokenizer.
#[derive(Debug)]
pub(crate) struct T5Text {
    t5: T5,
    tokenizer: SequenceTokenizer,
}

impl T5Text {
    pub(crate) const fn new(t5: T5, tokenizer: SequenceTokenizer) -> Self {
        Self { t5, tokenizer }
    }

    /// Returns the number of tokens of each prompt, padding included.
    pub(crate) fn length(options: TextOptions) -> usize {
        options.limit.unwrap_or(LENGTH).max(1)
    }

    /// Builds the encoder again from its weights.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if the weights do not fit.
    pub(crate) fn again(&self, w: &Weights) -> Result<Self> {
        Ok(Self { t5: T5::new(w, self.t5.config())?, tokenizer: self.tokenizer.clone() })
    }

    /// Returns the width of the states.
    pub(crate) const fn width(&self) -> i64 {
        self.t5.config().d_model
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read, as text.
    pub(crate) fn describe(&self) -> String {
        format!("{:?}", self.t5.config())
    }

    /// Splits a prompt into tokens, whose columns in the context begin at `first`. Markup is read as for
    /// [`AnimaText`](super::anima::AnimaText::read).
    ///
    /// # Errors
    /// The errors of [`SequenceTokenizer::encode`]; [`Error::Parameter`](crate::Error::Parameter) for a weight beyond
    /// ±10000.
    pub(crate) fn read(&self, text: &str, options: TextOptions, first: i64) -> Result<T5Tokens> {
        let (length, ends) = (Self::length(options), self.tokenizer.ends());
        let plain = Plain::new(text, options.markup)?;
        let tokens = self.tokenizer.encode(&plain.text)?;
        let content = tokens.offsets.get(..tokens.offsets.len().saturating_sub(ends)).unwrap_or_default();
        let read = length.saturating_sub(ends);
        let columns = (0..content.len()).map(|at| (at < read).then_some(first + at as i64)).collect();
        let mut weights: Vec<f32> = content.iter().take(read).map(|letters| plain.weight(letters)).collect();
        weights.resize(length, 1.0);
        let places = plain.bytes(content);
        Ok(T5Tokens {
            ids: self.tokenizer.pad(tokens.ids, length),
            weights,
            prompt: Prompt::written(Written { text: text.into(), source: plain.source }, plain.text, places, columns),
        })
    }

    /// Computes the states of a prompt, [1, tokens, width] f32, each multiplied by its token's weight. Padding takes
    /// part.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) if a token is not in the network's vocabulary.
    pub(crate) fn encode(&self, tokens: &T5Tokens, device: Device) -> Result<Tensor> {
        let ids = Tensor::f_from_slice(&tokens.ids)?.f_unsqueeze(0)?.f_to_device(device)?;
        let states = self.t5.states(&ids)?;
        if tokens.weights.iter().all(|weight| *weight == 1.0) {
            return Ok(states);
        }
        Ok(states.f_mul(&Tensor::f_from_slice(&tokens.weights)?.f_to_device(device)?.f_unsqueeze(-1)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::tests::t5;
    use super::*;
    use crate::nn::ConfigFile;
    use crate::nn::t5::T5Config;
    use crate::prompt::TokenSpan;
    use tch::Kind;

    fn text() -> Result<T5Text> {
        let json = r#"{"vocab_size": 100, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}"#;
        let config = T5Config::from_json("config.json", json)?;
        Ok(T5Text::new(T5::new(&Weights::random(3, Kind::Float, Device::Cpu), &config)?, t5()?))
    }

    #[test]
    fn phrases_have_columns_behind_those_of_clip() -> Result<()> {
        let (text, options) = (text()?, TextOptions::default());
        let tokens = text.read("é (cat:1.5), cat", options, 77)?;
        let columns = tokens.prompt.find("cat")?;
        assert_eq!(columns, [TokenSpan { start: 79, end: 80 }, TokenSpan { start: 81, end: 82 }]);
        let states = text.encode(&tokens, Device::Cpu)?;
        assert_eq!(states.size(), [1, 256, 8]);
        let plain = text.encode(&text.read("é cat, cat", TextOptions::PLAIN, 77)?, Device::Cpu)?;
        assert!(states.get(0).get(2).allclose(&(plain.get(0).get(2) * 1.5), 1e-5, 1e-6, false));
        assert_eq!(states.narrow(1, 3, 253), plain.narrow(1, 3, 253));
        Ok(())
    }

    #[test]
    fn words_beyond_the_limit_are_cut_off() -> Result<()> {
        let text = text()?;
        let options = TextOptions { limit: Some(3), ..TextOptions::default() };
        let tokens = text.read("cat cat cat", options, 0)?;
        assert_eq!((tokens.ids.as_slice(), tokens.prompt.cut()), (&[4, 4, 1][..], Some("cat")));
        assert_eq!(text.encode(&tokens, Device::Cpu)?.size(), [1, 3, 8]);
        Ok(())
    }
}
