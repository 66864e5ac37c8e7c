//! [`ZImageText`]: Qwen3 with its tokenizer, as Z-Image reads prompts with it.

use super::plain::Plain;
use super::{SequenceTokenizer, TextOptions};
use crate::error::{Error, Result};
use crate::nn::qwen3::Qwen3;
use crate::nn::z_image::MULTIPLE;
use crate::prompt::{Prompt, Written};
use crate::weights::Weights;
use std::ops::Range;
use tch::{Device, Tensor};

/// Largest number of tokens of a prompt with its template, unless the options say another one.
pub(crate) const LENGTH: usize = 512;

/// Qwen3's template for a message of a user and the beginning of the answer, before and behind the message.
const TEMPLATE: [&str; 2] = ["<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"];

/// A prompt as Z-Image's text encoder reads it.
#[derive(Debug)]
pub(crate) struct ZImageTokens {
    /// Ids of the tokens, with those of the template.
    ids: Vec<i64>,
    /// Weight of each id: the mean weight of its letters, and 1 for a token of the template.
    weights: Vec<f32>,
    /// The prompt with the columns of its tokens.
    pub prompt: Prompt,
}

/// Qwen3 with its tokenizer.
#[derive(Debug)]
pub(crate) struct ZImageText {
    qwen: Qwen3,
    tokenizer: SequenceTokenizer,
}

impl ZImageText {
    pub(crate) const fn new(qwen: Qwen3, tokenizer: SequenceTokenizer) -> Self {
        Self { qwen, tokenizer }
    }

    /// Builds the encoder again from its weights.
    ///
    /// # Errors
    /// [`Error::Weights`] if the weights do not fit.
    pub(crate) fn again(&self, w: &Weights) -> Result<Self> {
        Ok(Self { qwen: Qwen3::new(w, self.qwen.config())?, tokenizer: self.tokenizer.clone() })
    }

    /// Returns the width of the context.
    pub(crate) const fn width(&self) -> i64 {
        self.qwen.config().hidden_size
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read, as text.
    pub(crate) fn describe(&self) -> String {
        format!("{:?}", self.qwen.config())
    }

    /// Splits a prompt in Qwen3's template into at most `options.limit` tokens. Markup is read as for
    /// [`AnimaText`](super::anima::AnimaText::read).
    ///
    /// # Errors
    /// The errors of [`SequenceTokenizer::encode`]; [`Error::Parameter`](crate::Error::Parameter) for a weight beyond
    /// ±10000.
    pub(crate) fn read(&self, text: &str, options: TextOptions) -> Result<ZImageTokens> {
        let limit = options.limit.unwrap_or(LENGTH).max(1);
        let plain = Plain::new(text, options.markup)?;
        let [before, behind] = TEMPLATE;
        let tokens = self.tokenizer.encode_any(&format!("{before}{}{behind}", plain.text))?;
        let (first, letters) = (before.chars().count(), plain.text.chars().collect::<Vec<char>>());
        // A token may have letters of both the template and the prompt, such as several line breaks. The space before
        // a word is a letter of the word's token, but is not written inside the word's parentheses.
        let own = |at: &Range<usize>| {
            let [start, end] = [at.start, at.end].map(|letter| letter.saturating_sub(first).min(letters.len()));
            let word = letters.get(start..end)?.iter().position(|letter| !letter.is_whitespace());
            (start < end).then_some(start + word.unwrap_or_default()..end)
        };
        let weight = |at: &Range<usize>| own(at).map_or(1.0, |letters| plain.weight(&letters));
        let weights = tokens.offsets.iter().take(limit).map(weight).collect();
        let places = tokens.offsets.iter().enumerate().filter_map(|(column, at)| Some((column, own(at)?)));
        let (columns, places): (Vec<_>, Vec<_>) =
            places.map(|(column, letters)| ((column < limit).then_some(column as i64), letters)).unzip();
        Ok(ZImageTokens {
            ids: self.tokenizer.cut(tokens.ids, limit),
            weights,
            prompt: Prompt::written(
                Written { text: text.into(), source: plain.source.clone() },
                plain.text.clone(),
                plain.bytes(&places),
                columns,
            )
            .keep_order(),
        })
    }

    /// Computes the context of a prompt, [1, tokens, width] f32: the states of the last layer but one, each multiplied
    /// by its token's weight, and then rows of zeros up to a multiple of 32 tokens.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a token is not in the network's vocabulary.
    pub(crate) fn encode(&self, tokens: &ZImageTokens, device: Device) -> Result<Tensor> {
        let (ids, length) = (Tensor::f_from_slice(&tokens.ids)?.f_unsqueeze(0)?, tokens.ids.len() as i64);
        let mut states = self.qwen.forward(&ids.f_to_device(device)?, &[length])?;
        let _ = states.pop(); // the last layer's
        let shallow = || Error::parameter("num_hidden_layers", 0, "a text encoder of at least 1 layer");
        let states = states.pop().ok_or_else(shallow)?;
        let weights = Tensor::f_from_slice(&tokens.weights)?.f_to_device(device)?.f_unsqueeze(-1)?;
        let rest = (MULTIPLE - length % MULTIPLE) % MULTIPLE;
        Ok(states.f_mul(&weights)?.f_constant_pad_nd([0, 0, 0, rest])?)
    }

    /// Returns the rows by which contexts become equally long: zeros, which the network counts as no tokens.
    ///
    /// # Errors
    /// [`Error::Torch`] only, such as out of memory.
    pub(crate) fn empty_rows(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_zeros([1, MULTIPLE, self.width()], (tch::Kind::Float, device))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::tests::qwen_in_chats;
    use super::*;
    use crate::nn::ConfigFile;
    use crate::nn::qwen3::Qwen3Config;
    use crate::prompt::TokenSpan;
    use tch::Kind;

    fn text() -> Result<ZImageText> {
        let json = r#"{"vocab_size": 110, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}"#;
        let config = Qwen3Config::from_json("config.json", json)?;
        Ok(ZImageText::new(Qwen3::new(&Weights::random(3, Kind::Float, Device::Cpu), &config)?, qwen_in_chats()?))
    }

    #[test]
    fn texts_of_a_changing_prompt_keep_their_order() -> Result<()> {
        let text = text()?;
        let read = |part: &str| Ok::<_, Error>(text.read(part, TextOptions::default())?.prompt);
        let (_, orders) = Prompt::join_texts(vec![read("a cat")?, read("cat, a, é a")?], Vec::new(), 64).unwrap();
        assert_eq!(orders, [None, None]);
        Ok(())
    }

    #[test]
    fn phrases_have_columns_behind_the_template() -> Result<()> {
        let text = text()?;
        let tokens = text.read("é (cat:1.5), cat", TextOptions::default())?;
        // <|im_start|> and "user\n" are six tokens here, and "é" is two.
        let columns = tokens.prompt.find("cat")?;
        assert_eq!(columns, [TokenSpan { start: 8, end: 9 }, TokenSpan { start: 10, end: 11 }]);
        let context = text.encode(&tokens, Device::Cpu)?;
        assert_eq!((context.size(), tokens.ids.len()), (vec![1, 32, 8], 24));
        assert_eq!(context.narrow(1, 24, 8).abs().max().double_value(&[]), 0.0);
        let plain = text.encode(&text.read("é cat, cat", TextOptions::PLAIN)?, Device::Cpu)?;
        assert!(context.get(0).get(8).allclose(&(plain.get(0).get(8) * 1.5), 1e-5, 1e-6, false));
        assert_eq!(context.narrow(1, 9, 23), plain.narrow(1, 9, 23));
        Ok(())
    }

    #[test]
    fn prompts_are_cut_with_their_template() -> Result<()> {
        let (text, options) = (text()?, TextOptions { limit: Some(8), ..TextOptions::default() });
        let tokens = text.read("cat cat cat", options)?;
        assert_eq!((tokens.ids.len(), tokens.weights.len(), tokens.prompt.cut()), (8, 8, Some("cat")));
        assert_eq!(text.encode(&tokens, Device::Cpu)?.size(), [1, 32, 8]);
        let empty = text.read("", TextOptions::default())?;
        assert_eq!((empty.ids.len(), empty.prompt.cut()), (19, None));
        Ok(())
    }
}
