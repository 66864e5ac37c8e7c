//! Anima's text networks in a model, with their tokenizers.

use super::read_config::read_config;
use super::sequence_tokenizer::{self, Wanted};
use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::nn::ConfigFile;
use crate::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
use crate::nn::qwen3::{Qwen3, Qwen3Config};
use crate::prompt::Prompt;
use crate::text::TextOptions;
use crate::text::anima::AnimaText;
use crate::weights::{Checkpoint, Weights};
use tch::{Device, Kind, Tensor};

/// Part of a checkpoint with Qwen3.
const QWEN: &str = "text_encoder";
/// Part of a checkpoint with the text conditioner.
const CONDITIONER: &str = "text_conditioner";

/// Anima's text networks in a model.
#[derive(Debug)]
pub(super) struct AnimaTexts {
    text: AnimaText,
    options: TextOptions,
}

impl AnimaTexts {
    /// Loads the networks: Qwen3 from `place`, the conditioner from `main`, and the tokenizers from `place` or else
    /// from `main`. Also returns the weights, by part.
    pub(super) fn load(
        place: &Checkpoint,
        main: &Checkpoint,
        options: TextOptions,
        (kind, device): (Kind, Device),
    ) -> Result<(Self, [(&'static str, Weights); 2])> {
        let qwen = read_config(place, QWEN, Qwen3Config::from_json)?;
        let conditioner = read_config(main, CONDITIONER, AnimaConditionerConfig::from_json)?;
        let weights =
            [(QWEN, place.weights(QWEN, kind, device)?), (CONDITIONER, main.weights(CONDITIONER, kind, device)?)];
        let hint = "files of weights have no tokenizers; put the folders tokenizer (of Qwen/Qwen3-0.6B) and \
                    t5_tokenizer (with tokenizer.json of google-t5/t5-base) beside the file";
        let tokenizer = |place, folder, encoder, ends, rows| {
            sequence_tokenizer::load([place, main], &Wanted { folder, encoder, ends, rows, hint })
        };
        // Qwen3's own folder has the tokenizer of Qwen3 alone.
        let of_t5 = if place.is_part() { main } else { place };
        let [(_, of_qwen), (_, of_conditioner)] = &weights;
        let text = AnimaText::new(
            Qwen3::new(of_qwen, &qwen)?,
            AnimaConditioner::new(of_conditioner, &conditioner)?,
            tokenizer(place, "tokenizer", "Qwen3", 0, qwen.vocab_size)?,
            tokenizer(of_t5, "t5_tokenizer", "T5", 1, conditioner.target_vocab_size)?,
        )?;
        Ok((Self { text, options }, weights))
    }

    /// Builds the networks again from `weights`, which returns the tensors of a part.
    pub(super) fn again(&self, weights: impl Fn(&str) -> Weights) -> Result<Self> {
        Ok(Self { text: self.text.again(&weights(QWEN), &weights(CONDITIONER))?, options: self.options })
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
        let context = self.text.encode(&self.text.read(text, self.options)?)?;
        Ok(Conditioning::new(context.f_to_device(device)?))
    }

    /// Returns the row by which contexts become equally long: zeros, as the network was trained with behind a prompt.
    pub(super) fn empty_row(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_zeros([1, 1, self.width()], (Kind::Float, device))?)
    }

    /// Checks that no layer of a text encoder is chosen: the conditioner was trained on Qwen3's last one.
    pub(super) fn check_clip_skip(clip_skip: Option<usize>) -> Result<()> {
        match clip_skip {
            Some(skip) => Err(Error::parameter("clip_skip", skip, "none for Anima, which has no CLIP")),
            None => Ok(()),
        }
    }
}
