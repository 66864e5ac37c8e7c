//! The transformer that CLIP's text and vision towers share.

use super::kernels::among_kernels;
use super::layers::{LayerNorm, Linear, attention};
use crate::error::Result;
use crate::weights::Weights;
use serde::Deserialize;
use tch::Tensor;

/// Activation between the two feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// x·σ(1.702·x), of OpenAI's CLIP.
    QuickGelu,
    /// x·Φ(x), of OpenCLIP.
    Gelu,
}

impl Activation {
    pub(super) fn of(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::QuickGelu => x.f_mul(&x.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            Self::Gelu => x.f_gelu("none")?,
        })
    }
}

/// Sizes and settings of the encoder in a text or vision tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct EncoderConfig {
    pub width: i64,
    /// Width of the feed-forward layers.
    pub inner: i64,
    pub layers: i64,
    pub heads: i64,
    pub activation: Activation,
    /// Epsilon of the layer norms.
    pub eps: f64,
    /// True if a token attends only to itself and to earlier tokens.
    pub causal: bool,
}

/// The layers of a tower, which run in order.
#[derive(Debug)]
pub(super) struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    /// Builds the layers from `layers.0`, `layers.1` and so on in `w`.
    pub(super) fn new(w: &Weights, config: EncoderConfig) -> Result<Self> {
        let layers = (0..config.layers).map(|i| Layer::new(&w.at("layers").at(i), config));
        Ok(Self { layers: layers.collect::<Result<_>>()? })
    }

    /// Applies all layers to `x`, [b, tokens, width]. Returns `x` followed by every layer's output, and the last output
    /// once more.
    pub(super) fn forward(&self, mut x: Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        let _serial = among_kernels(&x)?;
        let mut states = vec![x.shallow_clone()];
        for layer in &self.layers {
            x = layer.forward(&x)?;
            states.push(x.shallow_clone());
        }
        Ok((states, x))
    }
}

#[derive(Debug)]
struct Layer {
    layer_norm1: LayerNorm,
    self_attn: SelfAttention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(w: &Weights, config: EncoderConfig) -> Result<Self> {
        let EncoderConfig { width, eps, .. } = config;
        Ok(Self {
            layer_norm1: w.at("layer_norm1").layer_norm(width, eps)?,
            self_attn: SelfAttention::new(&w.at("self_attn"), config)?,
            layer_norm2: w.at("layer_norm2").layer_norm(width, eps)?,
            mlp: Mlp::new(&w.at("mlp"), config)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.self_attn.forward(&self.layer_norm1.forward(x)?)?.f_add_(x)?;
        Ok(self.mlp.forward(&self.layer_norm2.forward(&x)?)?.f_add_(&x)?)
    }
}

#[derive(Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: i64,
    causal: bool,
}

impl SelfAttention {
    fn new(w: &Weights, config: EncoderConfig) -> Result<Self> {
        let EncoderConfig { width, heads, causal, .. } = config;
        Ok(Self {
            q_proj: w.at("q_proj").linear(width, width)?,
            k_proj: w.at("k_proj").linear(width, width)?,
            v_proj: w.at("v_proj").linear(width, width)?,
            out_proj: w.at("out_proj").linear(width, width)?,
            heads,
            causal,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.q_proj.forward(x)?, self.k_proj.forward(x)?, self.v_proj.forward(x)?);
        self.out_proj.forward(&attention(&q, &k, &v, self.heads, self.causal)?)
    }
}

#[derive(Debug)]
struct Mlp {
    fc1: Linear,
    activation: Activation,
    fc2: Linear,
}

impl Mlp {
    fn new(w: &Weights, config: EncoderConfig) -> Result<Self> {
        let EncoderConfig { width, inner, activation, .. } = config;
        Ok(Self { fc1: w.at("fc1").linear(width, inner)?, activation, fc2: w.at("fc2").linear(inner, width)? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc2.forward(&self.activation.of(&self.fc1.forward(x)?)?)
    }
}
