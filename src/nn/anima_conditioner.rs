//! Anima's text conditioner: tokens of T5's vocabulary that attend to the states of Qwen3 and become the context of the
//! transformer.

use super::config::{ConfigFile, Fixed, divides, in_file, layers, read, refuse, sizes};
use super::layers::{Gelu, Linear, split_heads};
use super::rms_norm::RmsNorm;
use super::rotary::{Rotary, angles};
use super::token_embedding::{MOST_TOKENS, TokenEmbedding, tokens_of, without_padding};
use crate::error::{Error, Result};
use crate::weights::Weights;
use serde::Deserialize;
use tch::{Kind, Tensor};

/// Epsilon of the norms.
const EPS: f64 = 1e-6;
/// Base of the rotary wavelengths.
const ROPE_THETA: f64 = 10000.0;
/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "AnimaConditionerConfig";

/// The configuration of a text conditioner, `text_conditioner/config.json`; the names and the defaults are diffusers'.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AnimaConditionerConfig {
    /// Width of the text network's states.
    pub source_dim: i64,
    /// Width of the embeddings and of the context.
    pub target_dim: i64,
    /// Width of the blocks.
    pub model_dim: i64,
    /// Number of blocks.
    pub num_layers: i64,
    /// Number of attention heads; divides the width of the blocks.
    pub num_attention_heads: i64,
    /// Width of the feed-forward layers, as a multiple of the width of the blocks.
    pub mlp_ratio: f64,
    /// Size of the vocabulary, in tokens.
    pub target_vocab_size: i64,
    /// Smallest number of rows of the context. A shorter context ends with rows of zeros.
    pub min_sequence_length: i64,
}

impl Default for AnimaConditionerConfig {
    fn default() -> Self {
        Self {
            source_dim: 1024,
            target_dim: 1024,
            model_dim: 1024,
            num_layers: 6,
            num_attention_heads: 16,
            mlp_ratio: 4.0,
            target_vocab_size: 32128,
            min_sequence_length: 512,
        }
    }
}

/// Fields that change the result, and the values that are implemented.
const FIXED: &[Fixed] = &[("use_layer_norm", &["false"]), ("use_self_attention", &["true"])];

impl ConfigFile for AnimaConditionerConfig {
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let config: Self = read(file, text, FIXED)?;
        in_file(config.check(), file)?;
        Ok(config)
    }
}

impl AnimaConditionerConfig {
    fn check(&self) -> Result<()> {
        for (field, value) in [
            ("source_dim", self.source_dim),
            ("target_dim", self.target_dim),
            ("model_dim", self.model_dim),
            ("target_vocab_size", self.target_vocab_size),
        ] {
            sizes(NAME, field, &[value])?;
        }
        layers(NAME, "num_layers", &[self.num_layers])?;
        divides(NAME, "num_attention_heads", self.num_attention_heads, self.model_dim)?;
        if self.head() % 2 == 1 {
            let expected = format!("expected heads of an even width in {} channels", self.model_dim);
            return Err(refuse(NAME, "num_attention_heads", self.num_attention_heads, expected));
        }
        if !(self.mlp_ratio > 0.0 && self.mlp_ratio <= 64.0) {
            return Err(refuse(NAME, "mlp_ratio", self.mlp_ratio, "expected a number above 0 and at most 64"));
        }
        if !(0..=MOST_TOKENS).contains(&self.min_sequence_length) {
            let expected = format!("expected 0 to {MOST_TOKENS} rows");
            return Err(refuse(NAME, "min_sequence_length", self.min_sequence_length, expected));
        }
        Ok(())
    }

    /// Returns the width of a head.
    const fn head(&self) -> i64 {
        self.model_dim / self.num_attention_heads
    }

    /// Returns the width of the feed-forward layers' hidden values.
    fn inner(&self) -> i64 {
        ((self.model_dim as f64 * self.mlp_ratio) as i64).max(1)
    }
}

/// diffusers' `AnimaTextConditioner`, which makes the context of Anima's transformer. The rows of the context are
/// tokens of T5's vocabulary, although T5 itself takes no part.
///
/// ```
/// use impasto::nn::ConfigFile;
/// use impasto::nn::anima_conditioner::{AnimaConditioner, AnimaConditionerConfig};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = AnimaConditionerConfig::from_json("config.json", r#"{
///     "source_dim": 12, "target_dim": 8, "model_dim": 8, "num_layers": 2, "num_attention_heads": 2,
///     "target_vocab_size": 50
/// }"#)?;
/// let conditioner = AnimaConditioner::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let source = Tensor::f_ones([1, 3, 12], (Kind::Float, Device::Cpu))?;
/// let context = conditioner.forward(&source, &[3], &Tensor::from_slice2(&[[5i64, 9, 2, 1]]), &[4])?;
/// assert_eq!(context.size(), [1, 512, 8]);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct AnimaConditioner {
    embed: TokenEmbedding,
    /// Projection of the embeddings, if the blocks have another width.
    in_proj: Option<Linear>,
    blocks: Vec<Block>,
    out_proj: Linear,
    norm: RmsNorm,
    config: AnimaConditionerConfig,
    /// Kind of the weights.
    kind: Kind,
}

impl AnimaConditioner {
    /// Builds a conditioner from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &AnimaConditionerConfig) -> Result<Self> {
        config.check()?;
        let (width, target) = (config.model_dim, config.target_dim);
        let in_proj = || w.at("in_proj").linear(target, width);
        let conditioner = Self {
            embed: TokenEmbedding::new(&w.at("embed"), config.target_vocab_size, target)?,
            in_proj: (width != target).then(in_proj).transpose()?,
            blocks: (0..config.num_layers).map(|i| Block::new(&w.at("blocks").at(i), config)).collect::<Result<_>>()?,
            out_proj: w.at("out_proj").linear(width, target)?,
            norm: RmsNorm::new(&w.at("norm"), target, EPS)?,
            config: config.clone(),
            kind: w.kind(),
        };
        w.finish()?;
        Ok(conditioner)
    }

    /// Returns the configuration of the network.
    pub(crate) const fn config(&self) -> &AnimaConditionerConfig {
        &self.config
    }

    /// Computes the context of texts, [b, T, target_dim] f32 with T at least `min_sequence_length`.
    ///
    /// - `source`: the text network's states, [b, L, source_dim]. Row i has `source_lengths[i]` states, and padding
    ///   after them. A row without states adds nothing to the tokens.
    /// - `ids`: T5's tokens, i64 [b, T]. Row i has `lengths[i]` tokens, and padding after them. Their rows of the
    ///   context are zeros.
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor has another shape, [`Error::Parameter`] if a token is not in the vocabulary, or if
    /// lengths do not fit.
    pub fn forward(&self, source: &Tensor, source_lengths: &[i64], ids: &Tensor, lengths: &[i64]) -> Result<Tensor> {
        let x = self.embed.forward(ids, MOST_TOKENS)?;
        let (b, t, _) = x.size3()?;
        let states = match source.size().as_slice() {
            &[rows, states, width] if rows == b && width == self.config.source_dim => states,
            got => {
                let expected = format!("[{b}, tokens, {}]", self.config.source_dim);
                return Err(Error::Shape { what: "the text conditioner's source", got: got.to_vec(), expected });
            }
        };
        let tokens = tokens_of(lengths, b, t, x.device())?;
        let (own, other) = (Keys::new(tokens.as_ref())?, tokens_of(source_lengths, b, states, x.device())?);
        let other = Keys::new(other.as_ref())?;
        let source = source.f_to_device(x.device())?.f_to_kind(self.kind)?;
        let rotary = |count| Rotary::new(&angles(count, self.config.head(), ROPE_THETA, x.device())?);
        let places = [rotary(t)?, rotary(states)?];
        let x = self.in_proj.as_ref().map_or(Ok(x.shallow_clone()), |project| project.forward(&x))?;
        // Tokens are f32 between the layers, so that sums over many layers are not rounded to half precision.
        let mut x = x.f_to_kind(Kind::Float)?;
        for block in &self.blocks {
            x = block.forward(x, &source, &places, [&own, &other])?;
        }
        let context = self.norm.forward(&self.out_proj.forward(&x.f_to_kind(self.kind)?)?)?.f_to_kind(Kind::Float)?;
        let context = without_padding(context, tokens.as_ref())?;
        let rows = (self.config.min_sequence_length - t).max(0);
        Ok(context.f_constant_pad_nd([0, 0, 0, rows])?)
    }
}

/// The keys that take part in attention.
#[derive(Debug)]
struct Keys {
    /// True for each key that takes part, [b, 1, 1, keys]. All keys of a row without any count as taking part.
    mask: Option<Tensor>,
    /// True for rows without any key, [b, 1, 1, 1], whose attention is zero. `None` if there are none.
    empty: Option<Tensor>,
}

impl Keys {
    /// Creates the keys that `tokens`, bool [b, keys], marks.
    fn new(tokens: Option<&Tensor>) -> Result<Self> {
        let Some(tokens) = tokens else { return Ok(Self { mask: None, empty: None }) };
        let tokens = tokens.f_unsqueeze(1)?.f_unsqueeze(1)?;
        let empty = tokens.f_any_dim(-1, true)?.f_logical_not()?;
        let mask = Some(tokens.f_logical_or(&empty)?);
        let has_empty = empty.f_any()?.f_int64_value(&[])? != 0;
        Ok(Self { mask, empty: has_empty.then_some(empty) })
    }
}

#[derive(Debug)]
struct Block {
    norm_self_attn: RmsNorm,
    self_attn: Attention,
    norm_cross_attn: RmsNorm,
    cross_attn: Attention,
    norm_mlp: RmsNorm,
    mlp: [Linear; 2],
}

impl Block {
    fn new(w: &Weights, config: &AnimaConditionerConfig) -> Result<Self> {
        let (width, inner) = (config.model_dim, config.inner());
        let norm = |name| RmsNorm::new(&w.at(name), width, EPS);
        Ok(Self {
            norm_self_attn: norm("norm_self_attn")?,
            self_attn: Attention::new(&w.at("self_attn"), config, width)?,
            norm_cross_attn: norm("norm_cross_attn")?,
            cross_attn: Attention::new(&w.at("cross_attn"), config, config.source_dim)?,
            norm_mlp: norm("norm_mlp")?,
            mlp: [w.at("mlp.0").linear(width, inner)?, w.at("mlp.2").linear(inner, width)?],
        })
    }

    /// Applies the block to the tokens `x`, [b, T, width] f32; the shape and the kind stay. `places` and `keys` are
    /// those of the tokens and of the source.
    fn forward(&self, x: Tensor, source: &Tensor, places: &[Rotary; 2], keys: [&Keys; 2]) -> Result<Tensor> {
        let ([own, other], [tokens, states]) = (places, keys);
        let y = self.norm_self_attn.forward(&x)?;
        let x = x.f_add(&self.self_attn.forward(&y, &y, [own, own], tokens)?)?;
        let y = self.norm_cross_attn.forward(&x)?;
        let x = x.f_add(&self.cross_attn.forward(&y, source, [own, other], states)?)?;
        let [first, second] = &self.mlp;
        let hidden = first.forward_gelu(&self.norm_mlp.forward(&x)?, Gelu::Exact, Linear::forward)?;
        Ok(x.f_add(&second.forward(&hidden)?)?)
    }
}

#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    o_proj: Linear,
    heads: i64,
}

impl Attention {
    fn new(w: &Weights, config: &AnimaConditionerConfig, source: i64) -> Result<Self> {
        let (width, head) = (config.model_dim, config.head());
        Ok(Self {
            q_proj: w.at("q_proj").linear_without_bias(width, width)?,
            k_proj: w.at("k_proj").linear_without_bias(source, width)?,
            v_proj: w.at("v_proj").linear_without_bias(source, width)?,
            q_norm: RmsNorm::new(&w.at("q_norm"), head, EPS)?,
            k_norm: RmsNorm::new(&w.at("k_norm"), head, EPS)?,
            o_proj: w.at("o_proj").linear_without_bias(width, width)?,
            heads: config.num_attention_heads,
        })
    }

    /// Computes the attention of `x` to `source`. `places` rotate the queries and the keys.
    fn forward(&self, x: &Tensor, source: &Tensor, places: [&Rotary; 2], keys: &Keys) -> Result<Tensor> {
        let [queries_at, keys_at] = places;
        let q = queries_at.rotate(&self.q_norm.forward_heads(&self.q_proj.forward(x)?, self.heads)?)?;
        let k = keys_at.rotate(&self.k_norm.forward_heads(&self.k_proj.forward(source)?, self.heads)?)?;
        let v = split_heads(&self.v_proj.forward(source)?, self.heads)?;
        let y = Tensor::f_scaled_dot_product_attention(&q, &k, &v, keys.mask.as_ref(), 0.0, false, None::<f64>, false)?;
        let y = match &keys.empty {
            Some(empty) => y.f_masked_fill(empty, 0.0)?,
            None => y,
        };
        self.o_proj.forward(&y.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn tiny() -> Result<AnimaConditioner> {
        let json = r#"{"source_dim": 6, "target_dim": 8, "model_dim": 12, "num_layers": 2, "num_attention_heads": 3,
                       "target_vocab_size": 9, "min_sequence_length": 5}"#;
        let config = AnimaConditionerConfig::from_json("config.json", json)?;
        AnimaConditioner::new(&Weights::random(3, Kind::Float, Device::Cpu), &config)
    }

    #[test]
    fn text_gets_the_same_rows_alone_and_in_a_batch() -> Result<()> {
        let conditioner = tiny()?;
        let source = Tensor::randn([3, 4, 6], (Kind::Float, Device::Cpu));
        let ids = Tensor::from_slice2(&[[1i64, 2, 3], [4, 5, 0], [6, 0, 0]]);
        let batch = conditioner.forward(&source, &[4, 2, 0], &ids, &[3, 2, 1])?;
        assert_eq!(batch.size(), [3, 5, 8]);
        for (row, (states, tokens)) in [(4, 3), (2, 2), (1, 1)].into_iter().enumerate() {
            let row = row as i64;
            let own = source.narrow(0, row, 1).narrow(1, 0, states);
            let lengths = if row == 2 { [0] } else { [states] };
            let alone = conditioner.forward(&own, &lengths, &ids.narrow(0, row, 1).narrow(1, 0, tokens), &[tokens])?;
            assert!(batch.narrow(0, row, 1).allclose(&alone, 1e-5, 1e-6, false), "row {row}");
            assert_eq!(alone.narrow(1, tokens, 5 - tokens).abs().max().double_value(&[]), 0.0);
        }
        Ok(())
    }

    #[test]
    fn wrong_shapes_and_settings_are_named() -> Result<()> {
        let source = Tensor::zeros([1, 4, 5], (Kind::Float, Device::Cpu));
        let wrong = tiny()?.forward(&source, &[4], &Tensor::from_slice2(&[[1i64]]), &[1]).unwrap_err().to_string();
        assert!(
            wrong.contains("the text conditioner's source has shape [1, 4, 5]; expected [1, tokens, 6]"),
            "{wrong}"
        );
        let message = |json| AnimaConditionerConfig::from_json("config.json", json).unwrap_err().to_string();
        assert!(message(r#"{"use_layer_norm": true}"#).contains("use_layer_norm is true"));
        assert!(message(r#"{"num_attention_heads": 3}"#).contains("num_attention_heads is 3; it must divide 1024"));
        assert!(message(r#"{"model_dim": 1024, "num_attention_heads": 1024}"#).contains("heads of an even width"));
        assert!(message(r#"{"min_sequence_length": -1}"#).contains("min_sequence_length is -1"));
        Ok(())
    }
}
