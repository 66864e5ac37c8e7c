//! Z-Image's text encoder in a model, with its tokenizer.

use super::read_config::read_config;
use super::sequence_tokenizer::{self, Wanted};
use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::nn::ConfigFile;
use crate::nn::qwen3::{Qwen3, Qwen3Config};
use crate::prompt::Prompt;
use crate::text::{TextOptions, ZImageText};
use crate::weights::{Checkpoint, Weights};
use tch::{Device, Kind, Tensor};

/// Part of a checkpoint with Qwen3.
pub(super) const QWEN: &str = "text_encoder";

/// Z-Image's text encoder in a model.
#[derive(Debug)]
pub(super) struct ZImageTexts {
    text: ZImageText,
    options: TextOptions,
}

impl ZImageTexts {
    /// Loads Qwen3 from `place`, and its tokenizer from `place` or else from `main`. Also returns the weights.
    pub(super) fn load(
        place: &Checkpoint,
        main: &Checkpoint,
        options: TextOptions,
        (kind, device): (Kind, Device),
    ) -> Result<(Self, Weights)> {
        let config = read_config(place, QWEN, Qwen3Config::from_json)?;
        let weights = place.weights(QWEN, kind, device)?;
        let hint = "files of weights have no tokenizer; put the folder tokenizer (of Tongyi-MAI/Z-Image-Turbo or \
                    Qwen/Qwen3-4B) beside the file";
        let wanted = Wanted { folder: "tokenizer", encoder: "Qwen3", ends: 0, rows: config.vocab_size, hint };
        let tokenizer = sequence_tokenizer::load([place, main], &wanted)?;
        Ok((Self { text: ZImageText::new(Qwen3::new(&weights, &config)?, tokenizer), options }, weights))
    }

    /// Builds the encoder again from `weights`, which returns the tensors of a part.
    pub(super) fn again(&self, weights: impl Fn(&str) -> Weights) -> Result<Self> {
        Ok(Self { text: self.text.again(&weights(QWEN))?, options: self.options })
    }

    /// Returns the settings, beside the weights, that determine how a prompt is read.
    pub(super) fn describe(&self) -> String {
        self.text.describe()
    }

    pub(super) const fn options(&self) -> TextOptions {
        self.options
    }

    /// Returns the width of the context.
    pub(super) const fn width(&self) -> i64 {
        self.text.width()
    }

    pub(super) fn prompt(&self, text: &str) -> Result<Prompt> {
        Ok(self.text.read(text, self.options)?.prompt)
    }

    pub(super) fn encode(&self, text: &str, device: Device) -> Result<Conditioning> {
        Ok(Conditioning::new(self.text.encode(&self.text.read(text, self.options)?, device)?))
    }

    /// Returns the rows by which contexts become equally long.
    pub(super) fn empty_rows(&self, device: Device) -> Result<Tensor> {
        self.text.empty_rows(device)
    }

    /// Checks that no layer of a text encoder is chosen: the network was trained on the last layer but one of Qwen3.
    pub(super) fn check_clip_skip(clip_skip: Option<usize>) -> Result<()> {
        match clip_skip {
            Some(skip) => Err(Error::parameter("clip_skip", skip, "none for Z-Image, which has no CLIP")),
            None => Ok(()),
        }
    }
}
