//! The text encoders of Stable Diffusion 3 in a model: CLIP's two, and T5.

use super::read_config::read_config;
use super::sequence_tokenizer::{self, Wanted};
use super::text_encoders::{Learned, TextEncoders};
use crate::conditioning::{Conditioning, Texts};
use crate::error::Result;
use crate::nn::ConfigFile;
use crate::nn::t5::{T5, T5Config};
use crate::prompt::Prompt;
use crate::text::{T5Text, TextOptions};
use crate::weights::{Checkpoint, Weights};
use tch::{Device, Kind, Tensor};

/// Part of a checkpoint with T5.
pub(super) const T5_PART: &str = "text_encoder_3";

/// The text encoders of Stable Diffusion 3. A context has CLIP's columns first and T5's behind them.
#[derive(Debug)]
pub(super) struct Sd3Texts {
    clip: TextEncoders,
    /// T5 with its tokenizer; `None` for a model without T5, whose columns are zeros.
    t5: Option<T5Text>,
    /// Width of the context.
    width: i64,
}

/// Returns the kind of a text encoder in a model of this kind. T5 exceeds the range of f16, so a model in f16 has T5 in
/// bf16.
pub(super) fn kind_of(part: &str, kind: Kind) -> Kind {
    if part == T5_PART && kind == Kind::Half { Kind::BFloat16 } else { kind }
}

/// Loads T5 from `place`, and its tokenizer from `place` or else from `main`. Also returns the weights.
pub(super) fn load_t5(
    place: &Checkpoint,
    main: &Checkpoint,
    (kind, device): (Kind, Device),
) -> Result<(T5Text, Weights)> {
    let config = read_config(place, T5_PART, T5Config::from_json)?;
    let weights = place.weights(T5_PART, kind_of(T5_PART, kind), device)?;
    let hint = "files of weights have no tokenizer of T5; put the folder tokenizer_3 of a Stable Diffusion 3 \
                repository (or the tokenizer.json of google-t5/t5-base in a folder of this name) beside the file";
    let wanted = Wanted { folder: "tokenizer_3", encoder: "T5", ends: 1, rows: config.vocab_size, hint };
    let tokenizer = sequence_tokenizer::load([place, main], &wanted)?;
    Ok((T5Text::new(T5::new(&weights, &config)?, tokenizer), weights))
}

impl Sd3Texts {
    /// Joins CLIP's encoders with T5, for contexts of this width.
    pub(super) const fn new(clip: TextEncoders, t5: Option<T5Text>, width: i64) -> Self {
        Self { clip, t5, width }
    }

    /// Returns CLIP's text encoders.
    pub(super) const fn clip(&self) -> &TextEncoders {
        &self.clip
    }

    /// Returns CLIP's text encoders, to change their options.
    pub(super) const fn clip_mut(&mut self) -> &mut TextEncoders {
        &mut self.clip
    }

    /// Builds the encoders again from `weights`, which returns the tensors of a part, and optionally with a word, which
    /// CLIP reads.
    pub(super) fn again(&self, weights: impl Fn(&str) -> Weights, learned: Option<Learned<'_>>) -> Result<Self> {
        let t5 = self.t5.as_ref().map(|t5| t5.again(&weights(T5_PART))).transpose()?;
        Ok(Self { clip: self.clip.again(weights, learned)?, t5, width: self.width })
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read.
    pub(super) fn describe(&self) -> String {
        format!("{} {:?}", self.clip.describe(), self.t5.as_ref().map(T5Text::describe))
    }

    pub(super) const fn options(&self) -> TextOptions {
        self.clip.options()
    }

    /// Returns the width of the context: T5's, if there is T5.
    pub(super) fn width(&self) -> i64 {
        self.t5.as_ref().map_or(self.width, T5Text::width)
    }

    /// Returns the text with the columns of all encoders' tokens.
    pub(super) fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        let prompt = self.clip.prompt(texts)?;
        let Some(t5) = &self.t5 else {
            let _ = texts.two()?;
            return Ok(prompt);
        };
        let first = self.clip.columns(texts)?;
        Ok(prompt.append(t5.read(texts.third, self.options(), first)?.prompt))
    }

    /// Encodes texts to a context, [1, 77 · chunks + T5's tokens, width], and the pooled texts of both CLIP encoders.
    pub(super) fn encode(&self, texts: Texts<'_>, device: Device) -> Result<Conditioning> {
        let mut conditioning = self.clip_alone(texts, device)?;
        let t5 = match &self.t5 {
            Some(t5) => t5.encode(&t5.read(texts.third, self.options(), 0)?, device)?,
            None => {
                let _ = texts.two()?;
                let length = T5Text::length(self.options()) as i64;
                Tensor::f_zeros([1, length, self.width], (Kind::Float, device))?
            }
        };
        let chunks = conditioning.context.size3()?.1;
        conditioning.unchunked = Some(chunks..chunks + t5.size3()?.1);
        conditioning.context = Tensor::f_cat(&[conditioning.context, t5], 1)?;
        Ok(conditioning)
    }

    /// Encodes texts by CLIP alone, with zeros up to the width of the context.
    pub(super) fn clip_alone(&self, texts: Texts<'_>, device: Device) -> Result<Conditioning> {
        let mut conditioning = self.clip.encode(texts, device)?;
        let missing = self.width() - conditioning.context.size3()?.2;
        conditioning.context = conditioning.context.f_constant_pad_nd([0, missing])?;
        Ok(conditioning)
    }
}
