//! [`TextStack`]: the text networks of a model, of one of the kinds that models have.

use super::anima_texts::AnimaTexts;
use super::sd3_texts::Sd3Texts;
use super::text_encoders::{Learned, TextEncoders};
use super::z_image_texts::ZImageTexts;
use crate::conditioning::{Conditioning, Texts};
use crate::error::{Error, Result};
use crate::prompt::Prompt;
use crate::text::{self, TextOptions};
use crate::weights::Weights;
use tch::{Device, Tensor};

/// The text networks of a model.
#[derive(Debug)]
pub(super) enum TextStack {
    /// CLIP's text encoders: one, or the two of SDXL.
    Clip(TextEncoders),
    /// Qwen3 with Anima's text conditioner.
    Anima(Box<AnimaTexts>),
    /// CLIP's two text encoders and T5.
    Sd3(Box<Sd3Texts>),
    /// Qwen3 with Z-Image's template.
    ZImage(Box<ZImageTexts>),
}

impl TextStack {
    /// Returns CLIP's text encoders; `None` for another kind.
    pub(super) const fn clip(&self) -> Option<&TextEncoders> {
        match self {
            Self::Clip(encoders) => Some(encoders),
            Self::Sd3(texts) => Some(texts.clip()),
            Self::Anima(_) | Self::ZImage(_) => None,
        }
    }

    /// Sets the layer of CLIP that prompts are read from, counted from the last one.
    ///
    /// # Errors
    /// Those of [`check_clip_skip`](Self::check_clip_skip).
    pub(super) fn set_clip_skip(&mut self, layer: usize) -> Result<()> {
        self.check_clip_skip(Some(layer))?;
        match self {
            Self::Clip(encoders) => encoders.set_clip_skip(layer),
            Self::Sd3(texts) => texts.clip_mut().set_clip_skip(layer),
            Self::Anima(_) | Self::ZImage(_) => {} // refused by the check
        }
        Ok(())
    }

    /// Builds the networks again from `weights`, which returns the tensors of a part, and optionally with a word.
    pub(super) fn again(&self, weights: impl Fn(&str) -> Weights, learned: Option<Learned<'_>>) -> Result<Self> {
        Ok(match self {
            Self::Clip(encoders) => Self::Clip(encoders.again(weights, learned)?),
            Self::Anima(texts) => Self::Anima(Box::new(texts.again(weights)?)),
            Self::Sd3(texts) => Self::Sd3(Box::new(texts.again(weights, learned)?)),
            Self::ZImage(texts) => Self::ZImage(Box::new(texts.again(weights)?)),
        })
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read. They are part of the model's
    /// fingerprint.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Clip(encoders) => encoders.describe(),
            Self::Anima(texts) => texts.describe(),
            Self::Sd3(texts) => texts.describe(),
            Self::ZImage(texts) => texts.describe(),
        }
    }

    /// Returns the options for reading prompts.
    pub(super) const fn options(&self) -> TextOptions {
        match self {
            Self::Clip(encoders) => encoders.options(),
            Self::Anima(texts) => texts.options(),
            Self::Sd3(texts) => texts.options(),
            Self::ZImage(texts) => texts.options(),
        }
    }

    /// Returns the number of columns of the context of a long prompt, in a single chunk where prompts have chunks.
    pub(super) const fn columns(&self) -> usize {
        match self {
            Self::Clip(_) => text::LENGTH,
            Self::Anima(_) => text::anima::LENGTH,
            Self::Sd3(_) => text::LENGTH + text::t5::LENGTH,
            Self::ZImage(_) => text::z_image::LENGTH,
        }
    }

    /// Returns the width of each encoder's states.
    pub(super) fn widths(&self) -> Vec<i64> {
        match self {
            Self::Clip(encoders) => encoders.widths(),
            Self::Anima(texts) => vec![texts.width()],
            Self::Sd3(texts) => texts.clip().widths(),
            Self::ZImage(texts) => vec![texts.width()],
        }
    }

    /// Returns the width of the context.
    pub(super) fn width(&self) -> i64 {
        match self {
            Self::Sd3(texts) => texts.width(),
            _ => self.widths().iter().sum(),
        }
    }

    /// Returns the width of the pooled text, if any.
    pub(super) fn width_of_pooled(&self) -> Option<i64> {
        self.clip()?.pooled_width()
    }

    /// Returns the texts, each with the positions of its encoder's tokens.
    pub(super) fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        match self {
            Self::Clip(encoders) => encoders.prompt(texts.two()?),
            Self::Anima(own) => own.prompt(texts.only()?),
            Self::Sd3(own) => own.prompt(texts),
            Self::ZImage(own) => own.prompt(texts.only()?),
        }
    }

    /// Encodes texts to a context, [1, tokens, width], and a pooled text where the network reads one.
    pub(super) fn encode(&self, texts: Texts<'_>, device: Device) -> Result<Conditioning> {
        match self {
            Self::Clip(encoders) => encoders.encode(texts.two()?, device),
            Self::Anima(own) => own.encode(texts.only()?, device),
            Self::Sd3(own) => own.encode(texts, device),
            Self::ZImage(own) => own.encode(texts.only()?, device),
        }
    }

    /// Encodes texts without words to an empty chunk, [1, tokens, width].
    pub(super) fn empty_chunk(&self, texts: Texts<'_>, device: Device) -> Result<Tensor> {
        Ok(match self {
            Self::Sd3(own) => own.clip_alone(texts, device)?.context,
            Self::Anima(own) => own.empty_row(device)?,
            Self::ZImage(own) => own.empty_rows(device)?,
            Self::Clip(_) => self.encode(texts, device)?.context,
        })
    }

    /// Returns the words of a text, in lower case, that the first encoder has no token for; none for an encoder that
    /// splits most words.
    pub(super) fn find_spelled(&self, text: &str) -> Result<Vec<String>> {
        self.clip().map_or_else(|| Ok(Vec::new()), |encoders| encoders.find_spelled(text))
    }

    /// Checks that a picture's CLIP features can take the place of a text's states: CLIP alone reads prompts.
    ///
    /// # Errors
    /// [`Error::Parameter`] for other networks.
    pub(super) fn check_vision(&self) -> Result<()> {
        let reader = match self {
            Self::Clip(_) => return Ok(()),
            Self::Anima(_) | Self::ZImage(_) => "Qwen3",
            Self::Sd3(_) => "T5",
        };
        let expected = "a model whose prompts CLIP alone reads: Stable Diffusion 1, 2 or XL";
        Err(Error::parameter("picture", format!("a guide for prompts that {reader} reads"), expected))
    }

    /// Returns CLIP's normed state at the end token of a text, [width] f32; `None` without CLIP.
    pub(super) fn end_state(&self, text: &str, device: Device) -> Result<Option<Tensor>> {
        self.clip().map_or(Ok(None), |encoders| encoders.end_state(text, device))
    }

    /// Checks that the networks can read prompts from a layer of CLIP, if one is chosen.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::error::Error::Parameter) for a layer that CLIP does not have, and for networks
    /// without CLIP.
    pub(super) fn check_clip_skip(&self, clip_skip: Option<usize>) -> Result<()> {
        match self {
            Self::Clip(encoders) => encoders.check_clip_skip(clip_skip),
            Self::Anima(_) => AnimaTexts::check_clip_skip(clip_skip),
            Self::Sd3(texts) => texts.clip().check_clip_skip(clip_skip),
            Self::ZImage(_) => ZImageTexts::check_clip_skip(clip_skip),
        }
    }
}
