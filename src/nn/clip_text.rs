//! CLIP's text tower, which encodes prompts for the UNet.

use super::clip_encoder::{Activation, Encoder, EncoderConfig};
use super::config::{ConfigFile, Fixed, divides, in_file, layers, read, sizes};
use super::layers::{LayerNorm, Linear};
use super::token_embedding::check_ids;
use crate::error::Result;
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "ClipTextConfig";

/// The configuration of a text encoder, `text_encoder/config.json`; the names and the defaults are transformers'.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClipTextConfig {
    /// `CLIPTextModel`, or `CLIPTextModelWithProjection` if the pooled state is projected.
    pub architectures: Vec<String>,
    /// Size of the vocabulary, in tokens.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Width of the projected state.
    pub projection_dim: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of attention heads; divides the width.
    pub num_attention_heads: i64,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: i64,
    /// Activation of the feed-forward layers.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// ID of the end token. In old files the ID is 2, and the largest ID in a row counts as the end token instead.
    pub eos_token_id: i64,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            architectures: vec!["CLIPTextModel".into()],
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            eos_token_id: 49407,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("architectures", &["\"CLIPTextModel\"", "\"CLIPTextModelWithProjection\""]),
    ("hidden_act", &["\"quick_gelu\"", "\"gelu\""]),
];

impl ConfigFile for ClipTextConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl ClipTextConfig {
    /// Returns true if the pooled state is projected.
    pub(crate) fn projects(&self) -> bool {
        self.architectures.iter().any(|name| name.ends_with("WithProjection"))
    }

    fn encoder(&self) -> EncoderConfig {
        EncoderConfig {
            width: self.hidden_size,
            inner: self.intermediate_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            activation: self.hidden_act,
            eps: self.layer_norm_eps,
            causal: true,
        }
    }

    fn check(&self) -> Result<()> {
        sizes(NAME, "vocab_size", &[self.vocab_size])?;
        sizes(NAME, "hidden_size", &[self.hidden_size])?;
        sizes(NAME, "intermediate_size", &[self.intermediate_size])?;
        layers(NAME, "num_hidden_layers", &[self.num_hidden_layers])?;
        sizes(NAME, "max_position_embeddings", &[self.max_position_embeddings])?;
        divides(NAME, "num_attention_heads", self.num_attention_heads, self.hidden_size)
    }
}

/// States of the text tower for tokens [b, t].
#[derive(Debug)]
#[non_exhaustive]
pub struct TextStates {
    /// The embeddings and every layer's output, [b, t, width] each, before the final norm.
    pub hidden_states: Vec<Tensor>,
    /// The last layer's output after the final norm.
    pub last_hidden_state: Tensor,
    /// Row of `last_hidden_state` at the end token, [b, width].
    pub pooler_output: Tensor,
    /// Projection of `pooler_output`, [b, projection_dim], if the checkpoint has a projection.
    pub text_embeds: Option<Tensor>,
}

impl TextStates {
    /// Returns the output of the layer `skip` before the last, without the final norm; `None` if `skip` exceeds the
    /// number of layers.
    pub fn before_last(&self, skip: usize) -> Option<&Tensor> {
        self.hidden_states.iter().rev().nth(skip)
    }
}

/// transformers' `CLIPTextModel`, with or without projection.
#[derive(Debug)]
pub struct ClipText {
    token_embedding: Tensor,
    position_embedding: Tensor,
    encoder: Encoder,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    config: ClipTextConfig,
    device: Device,
}

impl ClipText {
    /// Builds a text tower from the weights `w`. The prefix `text_model.` of their names is optional.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &ClipTextConfig) -> Result<Self> {
        config.check()?;
        let &ClipTextConfig { hidden_size: width, vocab_size, max_position_embeddings, layer_norm_eps, .. } = config;
        let project = || w.at("text_projection").linear_without_bias(width, config.projection_dim);
        let model = if w.has("embeddings.token_embedding.weight") { w.clone() } else { w.at("text_model") };
        let embeddings = model.at("embeddings");
        let tower = Self {
            token_embedding: embeddings.at("token_embedding").tensor("weight", &[vocab_size, width])?,
            position_embedding: embeddings
                .at("position_embedding")
                .tensor("weight", &[max_position_embeddings, width])?,
            encoder: Encoder::new(&model.at("encoder"), config.encoder())?,
            final_layer_norm: model.at("final_layer_norm").layer_norm(width, layer_norm_eps)?,
            text_projection: config.projects().then(project).transpose()?,
            config: config.clone(),
            device: w.device(),
        };
        w.finish()?;
        Ok(tower)
    }

    /// Returns the configuration of the network.
    pub(crate) fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Computes all states of the tokens `ids`, i64 [b, t] with t up to `max_position_embeddings`. Each token attends
    /// only to itself and to earlier tokens.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are too many tokens, [`Error::Parameter`] if a token is not in the vocabulary.
    pub fn forward(&self, ids: &Tensor) -> Result<TextStates> {
        let (longest, tokens) = (self.config.max_position_embeddings, self.config.vocab_size);
        let ids = check_ids(ids, longest, tokens, self.device)?;
        let positions = self.position_embedding.f_narrow(0, 0, ids.size2()?.1)?;
        let x = Tensor::f_embedding(&self.token_embedding, &ids, -1, false, false)?.f_add(&positions)?;
        let (hidden_states, last) = self.encoder.forward(x)?;
        let last_hidden_state = self.normed(&last)?;
        let pooler_output = self.pooled(&ids, &last_hidden_state)?;
        let text_embeds = self.text_projection.as_ref().map(|project| project.forward(&pooler_output)).transpose()?;
        Ok(TextStates { hidden_states, last_hidden_state, pooler_output, text_embeds })
    }

    /// Applies the final norm to any hidden state, [b, t, width]. An earlier layer's state with the final norm is known
    /// as "clip skip".
    pub fn normed(&self, hidden_state: &Tensor) -> Result<Tensor> {
        self.final_layer_norm.forward(hidden_state)
    }

    /// Selects the rows of `states`, [b, t, width], at the first end token → [b, width].
    fn pooled(&self, ids: &Tensor, states: &Tensor) -> Result<Tensor> {
        let (b, t, width) = states.size3()?;
        let ends = match self.config.eos_token_id {
            // Old files say 2 and mean the largest ID in the row, which is that of the end token.
            2 => ids.f_eq_tensor(&ids.f_amax([1], true)?)?,
            end => ids.f_eq(end)?,
        };
        // End tokens get the values t, t − 1, … 1 by position, so the first one has the largest. A row without an end
        // token uses its first position.
        let order = Tensor::f_arange(t, (Kind::Int64, self.device))?.f_neg()?.f_add_scalar(t)?;
        let first = ends.f_to_kind(Kind::Int64)?.f_mul(&order)?.f_argmax(1, false)?;
        Ok(states.f_gather(1, &first.f_view([b, 1, 1])?.f_expand([b, 1, width], false)?, false)?.f_squeeze_dim(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tower(eos_token_id: i64) -> Result<ClipText> {
        let config = ClipTextConfig {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            max_position_embeddings: 6,
            eos_token_id,
            ..ClipTextConfig::default()
        };
        ClipText::new(&Weights::random(3, Kind::Float, Device::Cpu), &config)
    }

    #[test]
    fn token_does_not_attend_to_later_tokens() -> Result<()> {
        let (a, b) = (tower(2)?.forward(&Tensor::from_slice2(&[[1i64, 2, 3, 9]]))?, tower(2)?);
        let b = b.forward(&Tensor::from_slice2(&[[1i64, 2, 8, 4]]))?;
        let apart = |from, len| {
            let [a, b] = [&a, &b].map(|states| states.last_hidden_state.narrow(1, from, len));
            (a - b).abs().max().double_value(&[])
        };
        assert!(apart(0, 2) < 1e-6 && apart(2, 1) > 1e-3);
        Ok(())
    }

    #[test]
    fn the_first_end_token_is_pooled() -> Result<()> {
        for (end, ids, first) in [(2, [1i64, 9, 2, 9], 1), (4, [1, 9, 4, 4], 2), (4, [1, 2, 3, 5], 0)] {
            let states = tower(end)?.forward(&Tensor::from_slice2(&[ids]))?;
            assert_eq!(states.pooler_output, states.last_hidden_state.select(1, first));
        }
        Ok(())
    }

    #[test]
    fn token_ids_outside_the_vocabulary_are_errors() -> Result<()> {
        let tower = tower(2)?;
        let message = |ids: &[i64]| tower.forward(&Tensor::from_slice(ids).unsqueeze(0)).unwrap_err().to_string();
        assert!(message(&[1, 10]).contains("token ids is 10"));
        assert!(message(&[-1, 1]).contains("token ids is -1"));
        assert!(message(&[0; 7]).contains("token ids has shape [1, 7]; expected [b, 1 to 6]"));
        Ok(())
    }
}
