//! Qwen3's language model as a text encoder. Anima reads prompts with it.

use super::config::{ConfigFile, Fixed, divides, in_file, layers, read, refuse, sizes};
use super::layers::{Linear, split_heads};
use super::rms_norm::RmsNorm;
use super::rotary::{Rotary, angles};
use super::token_embedding::{TokenEmbedding, tokens_of, without_padding};
use crate::error::Result;
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "Qwen3Config";

/// The configuration of a Qwen3 network, `text_encoder/config.json`; the names are transformers', and the defaults are
/// those of Qwen3-0.6B.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Qwen3Config {
    /// Size of the vocabulary, in tokens.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Width of the feed-forward layers.
    pub intermediate_size: i64,
    /// Number of layers.
    pub num_hidden_layers: i64,
    /// Number of heads of the queries.
    pub num_attention_heads: i64,
    /// Number of heads of keys and values, which divides the number of heads of the queries.
    pub num_key_value_heads: i64,
    /// Width of each head, an even number.
    pub head_dim: i64,
    /// Longest text, in tokens.
    pub max_position_embeddings: i64,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary wavelengths.
    #[serde(deserialize_with = "number_or_default")]
    pub rope_theta: f64,
}

impl Default for Qwen3Config {
    fn default() -> Self {
        Self {
            vocab_size: 151_936,
            hidden_size: 1024,
            intermediate_size: 3072,
            num_hidden_layers: 28,
            num_attention_heads: 16,
            num_key_value_heads: 8,
            head_dim: 128,
            max_position_embeddings: 32768,
            rms_norm_eps: 1e-6,
            rope_theta: ROPE_THETA,
        }
    }
}

/// Base of the rotary wavelengths if a configuration does not say.
const ROPE_THETA: f64 = 1e6;

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("attention_bias", &["false"]),
    ("hidden_act", &["\"silu\""]),
    ("layer_types", &["\"full_attention\""]),
    ("model_type", &["\"qwen3\""]),
    ("rope_scaling", &[]),
    ("use_sliding_window", &["false"]),
];

/// The part of a configuration in which files of transformers 5 state the rotary base.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Newer {
    rope_parameters: Option<RopeParameters>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

fn number_or_default<'de, D: serde::Deserializer<'de>>(number: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(number)?.unwrap_or(ROPE_THETA))
}

impl ConfigFile for Qwen3Config {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let mut config: Self = read(file, text, FIXED)?;
        if let Some(rope) = read::<Newer>(file, text, &[])?.rope_parameters {
            if let Some(kind) = rope.rope_type.filter(|kind| kind != "default") {
                let refused = refuse(NAME, "rope_parameters.rope_type", kind, "only \"default\" is implemented");
                return in_file(Err(refused), file);
            }
            config.rope_theta = rope.rope_theta.unwrap_or(config.rope_theta);
        }
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl Qwen3Config {
    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", self.num_attention_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            sizes(NAME, field, &[value])?;
        }
        if !(f64::MIN_POSITIVE..=1.0).contains(&self.rms_norm_eps) {
            return Err(refuse(NAME, "rms_norm_eps", self.rms_norm_eps, "expected a number above 0 and at most 1"));
        }
        layers(NAME, "num_hidden_layers", &[self.num_hidden_layers])?;
        sizes(NAME, "num_attention_heads", &[self.num_attention_heads * self.head_dim])?;
        divides(NAME, "num_key_value_heads", self.num_key_value_heads, self.num_attention_heads)?;
        if self.head_dim % 2 == 1 {
            return Err(refuse(NAME, "head_dim", self.head_dim, "expected an even number"));
        }
        if !(self.rope_theta >= 1.0 && self.rope_theta <= 1e12) {
            return Err(refuse(NAME, "rope_theta", self.rope_theta, "expected a number in 1..=1e12"));
        }
        Ok(())
    }
}

/// transformers' `Qwen3Model`, which predicts tokens and whose states encode a text.
///
/// ```
/// use impasto::nn::ConfigFile;
/// use impasto::nn::qwen3::{Qwen3, Qwen3Config};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = Qwen3Config::from_json("config.json", r#"{
///     "vocab_size": 50, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
///     "num_key_value_heads": 1, "head_dim": 4
/// }"#)?;
/// let qwen = Qwen3::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// // Two texts: the second one has two tokens and a token of padding.
/// let states = qwen.forward(&Tensor::from_slice2(&[[3i64, 1, 4], [1, 5, 0]]), &[3, 2])?;
/// assert_eq!(states.last().unwrap().size(), [2, 3, 8]);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct Qwen3 {
    embed_tokens: TokenEmbedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    config: Qwen3Config,
}

impl Qwen3 {
    /// Builds a network from the weights `w`. The prefix `model.` of their names is optional.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the configuration contradicts itself,
    /// [`Error::Weights`](crate::Error::Weights) if the weights do not fit it.
    pub fn new(w: &Weights, config: &Qwen3Config) -> Result<Self> {
        config.check()?;
        let model = if w.has("model.embed_tokens.weight") { w.at("model") } else { w.clone() };
        let layer = |i| Layer::new(&model.at("layers").at(i), config);
        let network = Self {
            embed_tokens: TokenEmbedding::new(&model.at("embed_tokens"), config.vocab_size, config.hidden_size)?,
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::new(&model.at("norm"), config.hidden_size, config.rms_norm_eps)?,
            config: config.clone(),
        };
        w.finish()?;
        Ok(network)
    }

    /// Returns the configuration of the network.
    pub(crate) const fn config(&self) -> &Qwen3Config {
        &self.config
    }

    /// Computes the states of the tokens `ids`, i64 [b, t]. Row i has `lengths[i]` tokens, and padding after them. Each
    /// token attends only to itself and to earlier tokens, so padding changes no other row.
    ///
    /// Returns the embeddings and every layer's output, [b, t, hidden_size] f32 each, the last one after the final
    /// norm. Rows of padding are zeros.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if there are more tokens than `max_position_embeddings`,
    /// [`Error::Parameter`](crate::Error::Parameter) if a token is not in the vocabulary, or if `lengths` do not fit.
    pub fn forward(&self, ids: &Tensor, lengths: &[i64]) -> Result<Vec<Tensor>> {
        // Tokens are f32 between the layers, so that sums over many layers are not rounded to half precision.
        let mut x = self.embed_tokens.forward(ids, self.config.max_position_embeddings)?.f_to_kind(Kind::Float)?;
        let (b, t, _) = x.size3()?;
        let tokens = tokens_of(lengths, b, t, x.device())?;
        let rotary = Rotary::new(&angles(t, self.config.head_dim, self.config.rope_theta, x.device())?)?;
        let mut states = Vec::with_capacity(self.layers.len() + 1);
        for layer in &self.layers {
            let next = layer.forward(&x, &rotary)?;
            states.push(without_padding(x, tokens.as_ref())?);
            x = next;
        }
        states.push(without_padding(self.norm.forward(&x)?.f_to_kind(Kind::Float)?, tokens.as_ref())?);
        Ok(states)
    }
}

#[derive(Debug)]
struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Layer {
    fn new(w: &Weights, config: &Qwen3Config) -> Result<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let mlp = w.at("mlp");
        Ok(Self {
            input_layernorm: RmsNorm::new(&w.at("input_layernorm"), width, eps)?,
            self_attn: Attention::new(&w.at("self_attn"), config)?,
            post_attention_layernorm: RmsNorm::new(&w.at("post_attention_layernorm"), width, eps)?,
            gate_proj: mlp.at("gate_proj").linear_without_bias(width, inner)?,
            up_proj: mlp.at("up_proj").linear_without_bias(width, inner)?,
            down_proj: mlp.at("down_proj").linear_without_bias(inner, width)?,
        })
    }

    /// Applies the layer to [b, t, width] f32; the shape and the kind stay.
    fn forward(&self, x: &Tensor, rotary: &Rotary) -> Result<Tensor> {
        let x = x.f_add(&self.self_attn.forward(&self.input_layernorm.forward(x)?, rotary)?)?;
        let y = self.post_attention_layernorm.forward(&x)?;
        let gated = self.gate_proj.forward(&y)?.f_silu_()?.f_mul_(&self.up_proj.forward(&y)?)?;
        Ok(x.f_add(&self.down_proj.forward(&gated)?)?)
    }
}

/// Causal self-attention in which several heads of the queries share a head of keys and values (grouped queries).
#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    o_proj: Linear,
    heads: i64,
    /// Number of heads of keys and values.
    shared: i64,
}

impl Attention {
    fn new(w: &Weights, config: &Qwen3Config) -> Result<Self> {
        let &Qwen3Config { hidden_size: width, head_dim, rms_norm_eps, .. } = config;
        let (heads, shared) = (config.num_attention_heads, config.num_key_value_heads);
        Ok(Self {
            q_proj: w.at("q_proj").linear_without_bias(width, heads * head_dim)?,
            k_proj: w.at("k_proj").linear_without_bias(width, shared * head_dim)?,
            v_proj: w.at("v_proj").linear_without_bias(width, shared * head_dim)?,
            q_norm: RmsNorm::new(&w.at("q_norm"), head_dim, rms_norm_eps)?,
            k_norm: RmsNorm::new(&w.at("k_norm"), head_dim, rms_norm_eps)?,
            o_proj: w.at("o_proj").linear_without_bias(heads * head_dim, width)?,
            heads,
            shared,
        })
    }

    fn forward(&self, x: &Tensor, rotary: &Rotary) -> Result<Tensor> {
        // [b, heads, t, head_dim]
        let q = rotary.rotate(&self.q_norm.forward_heads(&self.q_proj.forward(x)?, self.heads)?)?;
        let k = rotary.rotate(&self.k_norm.forward_heads(&self.k_proj.forward(x)?, self.shared)?)?;
        let v = split_heads(&self.v_proj.forward(x)?, self.shared)?;
        let grouped = self.shared < self.heads;
        let y = Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, None::<f64>, grouped)?;
        self.o_proj.forward(&y.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn rotary_base_is_read_from_both_places() -> Result<()> {
        let base = |json: &str| Qwen3Config::from_json("config.json", json).map(|config| config.rope_theta);
        assert_eq!(base("{}")?, 1e6);
        assert_eq!(base(r#"{"rope_theta": 5000.0}"#)?, 5000.0);
        assert_eq!(
            base(r#"{"rope_theta": null, "rope_parameters": {"rope_theta": 7e4, "rope_type": "default"}}"#)?,
            7e4
        );
        let message = |json: &str| base(json).unwrap_err().to_string();
        assert!(
            message(r#"{"rope_parameters": {"rope_type": "yarn"}}"#).contains("rope_parameters.rope_type is \"yarn\"")
        );
        assert!(message(r#"{"rope_scaling": {"factor": 4.0}}"#).contains("config.json: rope_scaling"));
        assert!(message(r#"{"num_key_value_heads": 3}"#).contains("num_key_value_heads is 3; it must divide 16"));
        assert!(message(r#"{"head_dim": 7}"#).contains("expected an even number"));
        assert!(message(r#"{"rope_theta": 0.5}"#).contains("rope_theta is 0.5"));
        assert!(message(r#"{"rms_norm_eps": -1.0}"#).contains("rms_norm_eps is -1.0"));
        Ok(())
    }

    fn tiny() -> Result<Qwen3Config> {
        let json = r#"{"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2,
                       "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}"#;
        Qwen3Config::from_json("config.json", json)
    }

    #[test]
    fn names_may_have_the_prefix_of_language_models() -> Result<()> {
        let (config, ids) = (tiny()?, Tensor::from_slice2(&[[1i64, 8, 0]]));
        let drawn = Weights::random(3, Kind::Float, Device::Cpu);
        let states = Qwen3::new(&drawn, &config)?.forward(&ids, &[3])?;
        let tensors = drawn.drawn()?.into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor));
        let head = ("lm_head.weight".to_owned(), Tensor::zeros([9, 8], (Kind::Float, Device::Cpu)));
        let w = Weights::new("a file", tensors.chain([head]).collect(), Kind::Float, Device::Cpu);
        assert_eq!(Qwen3::new(&w, &config)?.forward(&ids, &[3])?, states);
        assert_eq!(w.report().unused, []);
        Ok(())
    }

    #[test]
    fn padding_changes_no_other_row() -> Result<()> {
        let config = tiny()?;
        let qwen = Qwen3::new(&Weights::random(3, Kind::Float, Device::Cpu), &config)?;
        let alone = qwen.forward(&Tensor::from_slice2(&[[1i64, 2]]), &[2])?;
        let padded = qwen.forward(&Tensor::from_slice2(&[[1i64, 2, 0], [3, 4, 5]]), &[2, 3])?;
        for (alone, padded) in alone.iter().zip(&padded) {
            let row = padded.narrow(0, 0, 1);
            assert!(row.narrow(1, 0, 2).allclose(alone, 1e-5, 1e-6, false));
            assert_eq!(row.get(0).get(2).abs().sum(Kind::Float).double_value(&[]), 0.0);
        }
        assert!(qwen.forward(&Tensor::from_slice2(&[[1i64, 2]]), &[3]).unwrap_err().to_string().contains("lengths"));
        assert!(qwen.forward(&Tensor::from_slice2(&[[1i64, 9]]), &[2]).unwrap_err().to_string().contains("0 to 8"));
        Ok(())
    }
}
