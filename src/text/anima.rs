//! Anima's text networks with their tokenizers.

use super::plain::Plain;
use super::{SequenceTokenizer, TextOptions};
use crate::error::{Error, Result};
use crate::nn::anima_conditioner::AnimaConditioner;
use crate::nn::qwen3::Qwen3;
use crate::prompt::{Prompt, Written};
use crate::weights::Weights;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Largest number of tokens that each of the two tokenizers gives to a prompt, unless the options say another one.
pub(crate) const LENGTH: usize = 512;

/// A prompt as Anima's text networks read it.
#[derive(Debug)]
#[non_exhaustive]
pub struct AnimaTokens {
    /// Ids of Qwen's tokens, which Qwen3 reads; none for an empty text.
    pub source: Vec<i64>,
    /// Ids of T5's tokens, the last of which is the end token. They are the columns of the context.
    pub ids: Vec<i64>,
    /// Weight of each of T5's tokens: the mean weight of its letters, and 1 for a token without letters.
    pub weights: Vec<f32>,
    /// The prompt with the columns of T5's tokens. Words that either tokenizer cuts off have no column.
    pub prompt: Prompt,
}

/// Anima's text networks: Qwen3 reads a prompt, and the text conditioner gives Qwen3's states to the tokens of T5's
/// vocabulary, which are the columns of the context.
///
/// ```no_run
/// use impasto::nn::ConfigFile;
/// use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
/// use impasto::nn::qwen3::{Qwen3, Qwen3Config};
/// use impasto::text::{SequenceTokenizer, TextOptions};
/// use impasto::text::anima::AnimaText;
/// use impasto::weights::Weights;
/// use std::path::Path;
/// use tch::{Device, Kind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let open = |file| Weights::open(Path::new(file), Kind::Float, Device::Cpu);
/// let qwen = Qwen3::new(&open("qwen_3_06b_base.safetensors")?, &Qwen3Config::default())?;
/// let conditioner = AnimaConditioner::new(&open("conditioner.safetensors")?, &AnimaConditionerConfig::default())?;
/// let [tokenizer, t5_tokenizer] = ["qwen.json", "t5.json"].map(std::fs::read);
/// let tokenizer = SequenceTokenizer::from_json(&tokenizer?)?;
/// let t5_tokenizer = SequenceTokenizer::from_json(&t5_tokenizer?)?;
/// let text = AnimaText::new(qwen, conditioner, tokenizer, t5_tokenizer)?;
///
/// let tokens = text.read("1girl, (golden eyes:1.2)", TextOptions::default())?;
/// assert_eq!(text.encode(&tokens)?.size(), [1, 512, 1024]);
/// let columns = tokens.prompt.find("golden eyes")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AnimaText {
    qwen: Qwen3,
    conditioner: AnimaConditioner,
    tokenizer: SequenceTokenizer,
    t5_tokenizer: SequenceTokenizer,
}

impl AnimaText {
    /// Joins the networks with Qwen's tokenizer and T5's.
    ///
    /// # Errors
    /// [`Error::Config`] if the conditioner reads states of another width than Qwen3's.
    pub fn new(
        qwen: Qwen3,
        conditioner: AnimaConditioner,
        tokenizer: SequenceTokenizer,
        t5_tokenizer: SequenceTokenizer,
    ) -> Result<Self> {
        let (width, wanted) = (qwen.config().hidden_size, conditioner.config().source_dim);
        if width != wanted {
            return Err(Error::Config {
                file: "the text conditioner's configuration".into(),
                field: "source_dim".into(),
                value: wanted.to_string(),
                expected: format!("expected {width}, the hidden_size of the text encoder").into(),
            });
        }
        Ok(Self { qwen, conditioner, tokenizer, t5_tokenizer })
    }

    /// Builds the networks again from the weights of Qwen3 and of the conditioner.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights do not fit.
    pub(crate) fn again(&self, qwen: &Weights, conditioner: &Weights) -> Result<Self> {
        Ok(Self {
            qwen: Qwen3::new(qwen, self.qwen.config())?,
            conditioner: AnimaConditioner::new(conditioner, self.conditioner.config())?,
            tokenizer: self.tokenizer.clone(),
            t5_tokenizer: self.t5_tokenizer.clone(),
        })
    }

    /// Returns the width of the context.
    pub(crate) const fn width(&self) -> i64 {
        self.conditioner.config().target_dim
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read, as text.
    pub(crate) fn describe(&self) -> String {
        format!("{:?} {:?}", self.qwen.config(), self.conditioner.config())
    }

    /// Splits a prompt into tokens. With `options.markup`, `(word:1.3)`, `[word]` and `\(` are read as
    /// [`parse`](crate::prompt::parse) describes, and `BREAK` is a space; otherwise, they are plain text. Each
    /// tokenizer gives at most `options.limit` tokens. A weight multiplies the rows of its word's tokens;
    /// `options.emphasis` does not count.
    ///
    /// # Errors
    /// The errors of [`SequenceTokenizer::encode`]; [`Error::Parameter`](crate::Error::Parameter) for a weight beyond
    /// ±10000.
    pub fn read(&self, text: &str, options: TextOptions) -> Result<AnimaTokens> {
        let limit = options.limit.unwrap_or(LENGTH).max(1);
        let plain = Plain::new(text, options.markup)?;
        let (qwen, t5) = (self.tokenizer.encode(&plain.text)?, self.t5_tokenizer.encode(&plain.text)?);
        let ends = self.t5_tokenizer.ends();
        let content = t5.offsets.get(..t5.offsets.len().saturating_sub(ends)).unwrap_or_default();

        // Qwen3 does not see the text from this letter on.
        let cut = qwen.offsets.get(limit).map(|letters| letters.start);
        let is_read = |at: usize, letters: &Range<usize>| at + ends < limit && cut.is_none_or(|cut| letters.end <= cut);
        let columns =
            content.iter().enumerate().map(|(at, letters)| is_read(at, letters).then_some(at as i64)).collect();

        let ids = self.t5_tokenizer.cut(t5.ids, limit);
        let own = content.iter().take(ids.len().saturating_sub(ends)).map(|letters| plain.weight(letters));
        let ones = std::iter::repeat_n(1.0, ends);
        Ok(AnimaTokens {
            weights: own.chain(ones).collect(),
            source: self.tokenizer.cut(qwen.ids, limit),
            ids,
            prompt: Prompt::written(
                Written { text: text.into(), source: plain.source.clone() },
                plain.text.clone(),
                plain.bytes(content),
                columns,
            ),
        })
    }

    /// Computes the context of a prompt, [1, tokens, width] f32 with 512 tokens for Anima: a row for each of T5's
    /// tokens, multiplied by the token's weight, then rows of zeros.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a token is not in a network's vocabulary.
    pub fn encode(&self, tokens: &AnimaTokens) -> Result<Tensor> {
        let row = |ids: &[i64]| Tensor::f_from_slice(ids)?.f_unsqueeze(0);
        let states = tokens.source.len() as i64;
        // The conditioner's attention has no key at all for an empty text.
        let read = if states > 0 { self.qwen.forward(&row(&tokens.source)?, &[states])?.pop() } else { None };
        let nothing = || Tensor::f_zeros([1, 1, self.qwen.config().hidden_size], (Kind::Float, Device::Cpu));
        let source = read.map_or_else(nothing, Ok)?;
        let context = self.conditioner.forward(&source, &[states], &row(&tokens.ids)?, &[tokens.ids.len() as i64])?;
        if tokens.weights.iter().all(|weight| *weight == 1.0) {
            return Ok(context);
        }
        let mut weights = tokens.weights.clone();
        weights.resize(context.size3()?.1 as usize, 1.0);
        let weights = Tensor::f_from_slice(&weights)?.f_to_device(context.device())?.f_unsqueeze(-1)?;
        Ok(context.f_mul(&weights)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::tests::{qwen, t5};
    use super::*;
    use crate::nn::ConfigFile;
    use crate::nn::anima_conditioner::AnimaConditionerConfig;
    use crate::nn::qwen3::Qwen3Config;
    use crate::prompt::TokenSpan;

    fn text(source_dim: i64) -> Result<AnimaText> {
        let w = |seed| Weights::random(seed, Kind::Float, Device::Cpu);
        let config = r#"{"vocab_size": 101, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}"#;
        let network = Qwen3::new(&w(1), &Qwen3Config::from_json("config.json", config)?)?;
        let config = format!(
            r#"{{"source_dim": {source_dim}, "target_dim": 4, "model_dim": 4, "num_layers": 1,
                 "num_attention_heads": 1, "target_vocab_size": 100}}"#
        );
        let conditioner = AnimaConditioner::new(&w(2), &AnimaConditionerConfig::from_json("config.json", &config)?)?;
        AnimaText::new(network, conditioner, qwen()?, t5()?)
    }

    #[test]
    fn phrases_are_found_at_the_columns_of_t5() -> Result<()> {
        let text = text(8)?;
        let tokens = text.read("é (cat:1.5) BREAK cat", TextOptions::default())?;
        assert_eq!(tokens.ids, [3, 2, 4, 4, 1]);
        assert_eq!(tokens.weights, [1.0, 1.0, 1.5, 1.0, 1.0]);
        let columns = [TokenSpan { start: 2, end: 3 }, TokenSpan { start: 3, end: 4 }];
        assert_eq!((tokens.prompt.find("cat")?.as_slice(), tokens.prompt.cut()), (&columns[..], None));
        let (weighed, plain) = (text.encode(&tokens)?, text.encode(&text.read("é cat cat", TextOptions::PLAIN)?)?);
        assert_eq!(weighed.size(), [1, 512, 4]);
        assert!(weighed.get(0).get(2).allclose(&(plain.get(0).get(2) * 1.5), 1e-5, 1e-6, false));
        assert_eq!(weighed.narrow(1, 3, 509), plain.narrow(1, 3, 509));
        Ok(())
    }

    #[test]
    fn empty_text_has_the_end_token_alone() -> Result<()> {
        let text = text(8)?;
        let tokens = text.read("", TextOptions::default())?;
        assert_eq!((tokens.source.len(), tokens.ids.as_slice()), (0, &[1][..]));
        let context = text.encode(&tokens)?;
        assert!(context.get(0).get(0).abs().max().double_value(&[]) > 0.1 && !bool::try_from(context.isnan().any())?);
        assert_eq!(context.narrow(1, 1, 511).abs().max().double_value(&[]), 0.0);
        Ok(())
    }

    #[test]
    fn words_beyond_either_limit_are_cut_off() -> Result<()> {
        let text = text(8)?;
        let long = text.read(&format!("{}a cat", "cat ".repeat(510)), TextOptions::PLAIN)?;
        assert_eq!((long.ids.len(), long.weights.len(), long.ids.last()), (512, 512, Some(&1)));
        // "a" is the 511th word and has two tokens in T5's vocabulary, of which one is kept.
        assert_eq!((long.source.len(), long.prompt.cut()), (512, Some("a cat")));
        assert!(matches!(long.prompt.find("a"), Err(Error::PhraseTruncated { .. })));
        let unknown = text.read(&format!("{} cat", "é".repeat(300)), TextOptions::PLAIN)?;
        assert_eq!((unknown.source.len(), unknown.ids.as_slice()), (512, &[3, 2, 4, 1][..]));
        assert_eq!(unknown.prompt.find("cat").map_err(|error| error.to_string()).ok(), None);
        assert!(text.read("cat", TextOptions::default())?.prompt.cut().is_none());
        Ok(())
    }

    #[test]
    fn networks_of_other_widths_are_an_error() {
        let message = text(6).unwrap_err().to_string();
        assert!(message.contains("source_dim is 6; expected 8, the hidden_size of the text encoder"), "{message}");
    }
}
