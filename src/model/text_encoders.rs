//! The text encoders of a model, each with its tokenizer, and what they make of a prompt together.

use super::configured;
use crate::conditioning::Conditioning;
use crate::error::{Error, Result};
use crate::nn::{ClipText, ClipTextConfig};
use crate::prompt::Prompt;
use crate::text::Tokenizer;
use crate::weights::{Checkpoint, Weights};
use tch::{Device, Kind, Tensor};

/// One text encoder, or the two of SDXL.
#[derive(Debug)]
pub(super) struct TextEncoders {
    encoders: Vec<TextEncoder>,
    /// Is the last layer but one read, without its norm, and the whole text pooled beside it?
    xl: bool,
    /// Is an empty prompt nothing at all, rather than what the encoders make of it?
    zero_if_empty: bool,
}

#[derive(Debug)]
pub(super) struct TextEncoder {
    /// `text_encoder` or `text_encoder_2`.
    pub part: String,
    pub tokenizer: Tokenizer,
    pub tower: ClipText,
}

impl TextEncoders {
    /// None yet.
    pub const fn new(xl: bool, zero_if_empty: bool) -> Self {
        Self { encoders: Vec::new(), xl, zero_if_empty }
    }

    /// Adds the encoder `part` from `place`, and its tokenizer from there or from `main`.
    pub fn load(
        &mut self,
        part: &str,
        place: &Checkpoint,
        main: &Checkpoint,
        kind: Kind,
        device: Device,
    ) -> Result<Weights> {
        let mut config = configured(place, part, ClipTextConfig::from_json)?;
        if part == "text_encoder" {
            // Only the second one's projection is ever read.
            config.architectures = vec!["CLIPTextModel".into()];
        }
        let w = place.weights(part, kind, device)?;
        let tower = ClipText::new(&w, &config)?;
        let folder = if part.ends_with('2') { "tokenizer_2" } else { "tokenizer" };
        let tokenizer = match tokenizer(place, folder) {
            Err(Error::MissingFile { .. }) => tokenizer(main, folder)?,
            other => other?,
        };
        self.encoders.push(TextEncoder { part: part.into(), tokenizer, tower });
        Ok(w)
    }

    /// The same with other encoders, made of these.
    pub fn map(&self, change: impl FnMut(&TextEncoder) -> Result<TextEncoder>) -> Result<Self> {
        Ok(Self { encoders: self.encoders.iter().map(change).collect::<Result<_>>()?, ..*self })
    }

    /// The width of each one's states.
    pub fn widths(&self) -> Vec<i64> {
        self.encoders.iter().map(|encoder| encoder.tower.config().hidden_size).collect()
    }

    /// Width of the context.
    pub fn width(&self) -> i64 {
        self.widths().iter().sum()
    }

    /// Width of the pooled text, where there is one.
    pub fn pooled_width(&self) -> Option<i64> {
        let config = self.encoders.last()?.tower.config();
        (self.xl && config.projects()).then_some(config.projection_dim)
    }

    /// The text with the places of the first encoder's tokens.
    pub fn prompt(&self, text: &str) -> Result<Prompt> {
        match self.encoders.first() {
            Some(encoder) => encoder.tokenizer.prompt(text),
            None => Err(Error::Tokenizer("the model has no text encoder".into())),
        }
    }

    /// What they make of a text each. The states stand side by side.
    pub fn encode(&self, texts: [&str; 2], device: Device) -> Result<Conditioning> {
        let mut parts = Vec::with_capacity(self.encoders.len());
        let mut pooled = None;
        let count = self.encoders.len();
        for (encoder, text) in self.encoders.iter().zip(if count == 1 { [texts[0]; 2] } else { texts }) {
            let ids = Tensor::f_from_slice(&encoder.tokenizer.padded(text)?)?.f_unsqueeze(0)?;
            let states = encoder.tower.forward(&ids.f_to_device(device)?)?;
            let read = match states.before_last(1) {
                Some(state) if self.xl => state.shallow_clone(),
                _ => states.last_hidden_state,
            };
            parts.push(read.f_to_kind(Kind::Float)?);
            pooled = states.text_embeds;
        }
        let mut context = Tensor::f_cat(&parts, -1)?;
        let mut pooled = pooled.map(|pooled| pooled.f_to_kind(Kind::Float)).transpose()?;
        if self.zero_if_empty && texts == [""; 2] {
            context = context.f_zeros_like()?;
            pooled = pooled.map(|pooled| pooled.f_zeros_like()).transpose()?;
        }
        let mut conditioning = Conditioning::new(context);
        conditioning.pooled = pooled.filter(|_| self.xl);
        Ok(conditioning)
    }
}

/// The tokenizer in `folder`: `tokenizer.json`, else vocabulary and merges.
pub(super) fn tokenizer(checkpoint: &Checkpoint, folder: &str) -> Result<Tokenizer> {
    if let Some(json) = checkpoint.read(&format!("{folder}/tokenizer.json"))? {
        return Tokenizer::from_json(&json);
    }
    let file = |name: &str| checkpoint.read(&format!("{folder}/{name}"));
    match (file("vocab.json")?, file("merges.txt")?) {
        (Some(vocab), Some(merges)) => {
            let (special, config) = (file("special_tokens_map.json")?, file("tokenizer_config.json")?);
            Tokenizer::from_vocab(&vocab, &merges, special.as_deref(), config.as_deref())
        }
        _ => Err(Error::MissingFile {
            file: format!("{folder}/tokenizer.json, or vocab.json and merges.txt,"),
            place: checkpoint.to_string(),
            hint: "a diffusers folder has them",
        }),
    }
}
