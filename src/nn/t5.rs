//! T5's encoder. SD 3.x reads prompts with it.

use super::config::{ConfigFile, Fixed, in_file, layers, read, refuse, sizes};
use super::layers::{Gelu, Linear, split_heads};
use super::rms_norm::RmsNorm;
use super::token_embedding::{MOST_TOKENS, TokenEmbedding};
use crate::error::Result;
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "T5Config";

/// The configuration of a T5 encoder, `text_encoder_3/config.json`; the names are transformers', and the defaults are
/// those of T5 v1.1 XXL.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct T5Config {
    /// Size of the vocabulary, in tokens.
    pub vocab_size: i64,
    /// Width of the hidden states.
    pub d_model: i64,
    /// Width of each attention head.
    pub d_kv: i64,
    /// Width of the feed-forward layers.
    pub d_ff: i64,
    /// Number of layers.
    pub num_layers: i64,
    /// Number of attention heads.
    pub num_heads: i64,
    /// Number of groups of distances between tokens, an even number. Half of the groups are for either direction.
    pub relative_attention_num_buckets: i64,
    /// Distance from which on all distances are in the last group.
    pub relative_attention_max_distance: i64,
    /// Epsilon of the norms.
    pub layer_norm_epsilon: f64,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            vocab_size: 32128,
            d_model: 4096,
            d_kv: 64,
            d_ff: 10240,
            num_layers: 24,
            num_heads: 64,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[
    ("dense_act_fn", &["\"gelu_new\""]),
    ("feed_forward_proj", &["\"gated-gelu\""]),
    ("is_gated_act", &["true"]),
    ("model_type", &["\"t5\""]),
];

impl ConfigFile for T5Config {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl T5Config {
    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_heads", self.num_heads),
            ("relative_attention_num_buckets", self.relative_attention_num_buckets),
            ("relative_attention_max_distance", self.relative_attention_max_distance),
        ] {
            sizes(NAME, field, &[value])?;
        }
        if !(f64::MIN_POSITIVE..=1.0).contains(&self.layer_norm_epsilon) {
            let expected = "expected a number above 0 and at most 1";
            return Err(refuse(NAME, "layer_norm_epsilon", self.layer_norm_epsilon, expected));
        }
        sizes(NAME, "num_heads", &[self.num_heads * self.d_kv])?;
        layers(NAME, "num_layers", &[self.num_layers])?;
        let (buckets, exact) = (self.relative_attention_num_buckets, self.exact());
        if exact < 1 || buckets % 2 == 1 {
            let expected = "expected an even number of at least 4";
            return Err(refuse(NAME, "relative_attention_num_buckets", buckets, expected));
        }
        if self.relative_attention_max_distance <= exact {
            let expected = format!("expected more than {exact}, a quarter of relative_attention_num_buckets");
            let most = self.relative_attention_max_distance;
            return Err(refuse(NAME, "relative_attention_max_distance", most, expected));
        }
        Ok(())
    }

    /// Returns the number of distances in each direction that have a group of their own.
    const fn exact(&self) -> i64 {
        self.relative_attention_num_buckets / 4
    }

    /// Returns the group of a key that stands `distance` tokens after the query.
    fn bucket(&self, distance: i64) -> i64 {
        let (side, exact) = (self.relative_attention_num_buckets / 2, self.exact());
        let (after, apart) = (if distance > 0 { side } else { 0 }, distance.abs());
        if apart < exact {
            return after + apart;
        }
        // Further groups grow with the logarithm of the distance, in f32 as in the reference.
        let part = |apart: i64| (apart as f32 / exact as f32).ln();
        let along = part(apart) / part(self.relative_attention_max_distance) * (side - exact) as f32;
        after + (exact + along as i64).min(side - 1)
    }
}

/// transformers' `T5EncoderModel` of T5 v1.1, with gated feed-forward layers.
///
/// The network's values exceed the range of f16, so its weights are bf16 or f32.
///
/// ```
/// use impasto::nn::ConfigFile;
/// use impasto::nn::t5::{T5, T5Config};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = T5Config::from_json("config.json", r#"{
///     "vocab_size": 50, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2
/// }"#)?;
/// let t5 = T5::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let states = t5.forward(&Tensor::from_slice2(&[[3i64, 4, 1, 0]]))?;
/// assert_eq!(states.last().unwrap().size(), [1, 4, 8]);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct T5 {
    embedding: TokenEmbedding,
    /// Bias of the scores by group of distances, [groups, heads]. All layers share the first layer's.
    relative_attention_bias: Tensor,
    blocks: Vec<Block>,
    final_layer_norm: RmsNorm,
    config: T5Config,
}

impl T5 {
    /// Builds an encoder from the weights `w`. The embedding is `shared.weight` or, in files without it,
    /// `encoder.embed_tokens.weight`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) if the configuration contradicts itself,
    /// [`Error::Weights`](crate::Error::Weights) if the weights do not fit it.
    pub fn new(w: &Weights, config: &T5Config) -> Result<Self> {
        config.check()?;
        let encoder = w.at("encoder");
        let has_own = encoder.has("embed_tokens.weight") && !w.has("shared.weight");
        let embedding = if has_own { encoder.at("embed_tokens") } else { w.at("shared") };
        let block = encoder.at("block");
        let bias = block.at("0.layer.0.SelfAttention.relative_attention_bias");
        let network = Self {
            embedding: TokenEmbedding::new(&embedding, config.vocab_size, config.d_model)?,
            relative_attention_bias: bias
                .tensor("weight", &[config.relative_attention_num_buckets, config.num_heads])?,
            blocks: (0..config.num_layers).map(|i| Block::new(&block.at(i), config)).collect::<Result<_>>()?,
            final_layer_norm: RmsNorm::new(&encoder.at("final_layer_norm"), config.d_model, config.layer_norm_epsilon)?,
            config: config.clone(),
        };
        w.finish()?;
        Ok(network)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &T5Config {
        &self.config
    }

    /// Computes the last layer's states of the tokens `ids`, i64 [b, t] → [b, t, d_model] f32, after the final norm.
    /// All tokens take part, padding too.
    ///
    /// # Errors
    /// The errors of [`forward`](Self::forward).
    pub fn states(&self, ids: &Tensor) -> Result<Tensor> {
        let (mut x, bias) = self.begin(ids)?;
        for block in &self.blocks {
            x = block.forward(x, &bias)?;
        }
        Ok(self.final_layer_norm.forward(&x)?.f_to_kind(Kind::Float)?)
    }

    /// Computes the states of the tokens `ids`, i64 [b, t]. All tokens take part, padding too.
    ///
    /// Returns the embeddings and every layer's output, [b, t, d_model] f32 each, the last one after the final norm.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) if `ids` has another shape,
    /// [`Error::Parameter`](crate::Error::Parameter) if a token is not in the vocabulary.
    pub fn forward(&self, ids: &Tensor) -> Result<Vec<Tensor>> {
        let (mut x, bias) = self.begin(ids)?;
        let mut states = vec![x.shallow_clone()];
        for block in &self.blocks {
            x = block.forward(x, &bias)?;
            states.push(x.shallow_clone());
        }
        states.pop();
        states.push(self.final_layer_norm.forward(&x)?.f_to_kind(Kind::Float)?);
        Ok(states)
    }

    /// Returns the embeddings of tokens, and the bias of their scores.
    fn begin(&self, ids: &Tensor) -> Result<(Tensor, Tensor)> {
        // Tokens are f32 between the layers, because they exceed the range of f16 and the precision of bf16.
        let x = self.embedding.forward(ids, MOST_TOKENS)?.f_to_kind(Kind::Float)?;
        let bias = self.bias(x.size3()?.1, x.device())?;
        Ok((x, bias))
    }

    /// Returns what the scores of `tokens` tokens gain by their distances, [1, heads, tokens, tokens].
    fn bias(&self, tokens: i64, device: Device) -> Result<Tensor> {
        let buckets: Vec<i64> = (1 - tokens..tokens).map(|distance| self.config.bucket(distance)).collect();
        let buckets = Tensor::f_from_slice(&buckets)?.f_to_device(device)?;
        let by_distance = self.relative_attention_bias.f_index_select(0, &buckets)?; // [2·tokens − 1, heads]
        let places = Tensor::f_arange(tokens, (Kind::Int64, device))?;
        let distances = places.f_unsqueeze(0)?.f_sub(&places.f_unsqueeze(1)?)?.f_add_scalar(tokens - 1)?;
        let bias = Tensor::f_embedding(&by_distance, &distances, -1, false, false)?; // [tokens, tokens, heads]
        Ok(bias.f_permute([2, 0, 1])?.f_unsqueeze(0)?.f_contiguous()?)
    }
}

#[derive(Debug)]
struct Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    heads: i64,
    feed_forward_norm: RmsNorm,
    wi_0: Linear,
    wi_1: Linear,
    wo: Linear,
}

impl Block {
    fn new(w: &Weights, config: &T5Config) -> Result<Self> {
        let &T5Config { d_model, d_ff, num_heads, layer_norm_epsilon, .. } = config;
        let inner = num_heads * config.d_kv;
        let (attention, dense) = (w.at("layer.0.SelfAttention"), w.at("layer.1.DenseReluDense"));
        let norm = |name| RmsNorm::new(&w.at(name), d_model, layer_norm_epsilon);
        Ok(Self {
            attention_norm: norm("layer.0.layer_norm")?,
            q: attention.at("q").linear_without_bias(d_model, inner)?,
            k: attention.at("k").linear_without_bias(d_model, inner)?,
            v: attention.at("v").linear_without_bias(d_model, inner)?,
            o: attention.at("o").linear_without_bias(inner, d_model)?,
            heads: num_heads,
            feed_forward_norm: norm("layer.1.layer_norm")?,
            wi_0: dense.at("wi_0").linear_without_bias(d_model, d_ff)?,
            wi_1: dense.at("wi_1").linear_without_bias(d_model, d_ff)?,
            wo: dense.at("wo").linear_without_bias(d_ff, d_model)?,
        })
    }

    /// Applies the block to [b, t, width] f32; the shape and the kind stay.
    fn forward(&self, x: Tensor, bias: &Tensor) -> Result<Tensor> {
        let y = self.attention_norm.forward(&x)?;
        let heads = |layer: &Linear| split_heads(&layer.forward(&y)?, self.heads);
        let (q, k, v) = (heads(&self.q)?, heads(&self.k)?, heads(&self.v)?);
        // Scores are not divided by the root of the width.
        let y = Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(bias), 0.0, false, 1.0, false)?;
        let x = x.f_add(&self.o.forward(&y.f_transpose(1, 2)?.f_flatten(2, 3)?)?)?;
        let y = self.feed_forward_norm.forward(&x)?;
        let gated = self.wi_0.forward_gelu(&y, Gelu::Tanh, Linear::forward)?.f_mul_(&self.wi_1.forward(&y)?)?;
        Ok(x.f_add(&self.wo.forward(&gated)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_distances_are_exact_and_then_logarithmic() {
        let config = T5Config::default();
        let groups = |distances: &[i64]| distances.iter().map(|distance| config.bucket(*distance)).collect::<Vec<_>>();
        assert_eq!(
            groups(&[0, -1, -7, -8, -11, -12, -16, -32, -64, -127, -128, -5000]),
            [0, 1, 7, 8, 8, 9, 10, 12, 14, 15, 15, 15]
        );
        assert_eq!(groups(&[1, 7, 8, 16, 500]), [17, 23, 24, 26, 31]);
    }

    #[test]
    fn embedding_is_read_by_either_name() -> Result<()> {
        let json = r#"{"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}"#;
        let config = T5Config::from_json("config.json", json)?;
        let drawn = Weights::random(3, Kind::Float, Device::Cpu);
        let ids = Tensor::from_slice2(&[[1i64, 8, 0]]);
        let states = T5::new(&drawn, &config)?.forward(&ids)?;
        let mut tensors = drawn.drawn()?;
        let shared = tensors.remove("shared.weight").unwrap();
        tensors.insert("encoder.embed_tokens.weight".into(), shared);
        let w = Weights::new("a file", tensors, Kind::Float, Device::Cpu);
        assert_eq!(T5::new(&w, &config)?.forward(&ids)?, states);
        Ok(())
    }

    #[test]
    fn unimplemented_settings_are_refused_by_name() {
        let message = |json| T5Config::from_json("config.json", json).unwrap_err().to_string();
        assert!(message(r#"{"feed_forward_proj": "relu"}"#).contains("config.json: feed_forward_proj is \"relu\""));
        assert!(message(r#"{"relative_attention_num_buckets": 3}"#).contains("an even number of at least 4"));
        assert!(message(r#"{"relative_attention_max_distance": 8}"#).contains("expected more than 8"));
        assert!(message(r#"{"num_layers": 0}"#).contains("num_layers is 0"));
    }
}
