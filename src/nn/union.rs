//! The parts of a ControlNet union beside those of a ControlNet: hints of several types for one network.

pub use super::control_type::ControlType;

use super::clip_encoder::Activation;
use super::config::{refuse, sizes};
use super::layers::{LayerNorm, Linear};
use super::time::{Sinusoids, TimestepEmbedding};
use super::unet::config::UnetConfig;
use crate::error::{Error, Result};
use crate::weights::Weights;
use tch::{Device, Kind, Tensor};

/// A hint of a ControlNet union, for [`ControlNet::embed_union`](super::ControlNet::embed_union).
#[derive(Clone, Copy, Debug)]
pub struct UnionHint<'h> {
    /// The hint, [b, conditioning_channels, 8h, 8w] in 0..=1.
    pub hint: &'h Tensor,
    /// Type of the hint.
    pub control_type: ControlType,
    /// Factor of the hint beside other hints. The factor of a single hint belongs to the residuals, and is not used.
    pub scale: f64,
}

/// Name in errors of a configuration that does not come from a file.
const NAME: &str = "ControlNetConfig";
/// Largest number of types; published networks have 8 at most.
const MOST_TYPES: i64 = 64;
/// Largest number of layers; published networks have one.
const MOST_LAYERS: i64 = 16;
const EPS: f64 = 1e-5;

/// Sizes that only a union has.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnionSizes {
    /// Number of types.
    pub types: i64,
    /// Number of transformer layers.
    pub layers: i64,
}

impl UnionSizes {
    /// Checks the sizes, and the setting of `unet` that a union needs.
    pub(super) fn check(self, unet: &UnetConfig) -> Result<()> {
        if !(1..=MOST_TYPES).contains(&self.types) {
            return Err(refuse(NAME, "num_control_type", self.types, format!("expected 1 to {MOST_TYPES} types")));
        }
        if !(1..=MOST_LAYERS).contains(&self.layers) {
            return Err(refuse(NAME, "num_trans_layer", self.layers, format!("expected 1 to {MOST_LAYERS} layers")));
        }
        sizes(NAME, "addition_time_embed_dim", &[unet.addition_time_embed_dim.unwrap_or_default()])
    }
}

/// The layers of a union that a plain ControlNet lacks, under the names in the files.
#[derive(Debug)]
pub(super) struct Union {
    type_proj: Sinusoids,
    control_add_embedding: TimestepEmbedding,
    /// A vector for each type, [types, channels].
    task_embedding: Tensor,
    transformer_layes: Vec<TokenLayer>,
    spatial_ch_projs: Linear,
}

impl Union {
    /// Builds the layers of a network whose first level has `channels` channels; `time` is the width of the time
    /// embedding.
    pub(super) fn new(w: &Weights, unet: &UnetConfig, of: UnionSizes, channels: i64, time: i64) -> Result<Self> {
        let UnionSizes { types, layers } = of;
        let width = unet.addition_time_embed_dim.unwrap_or_default();
        let layers = (0..layers).map(|i| TokenLayer::new(&w.at("transformer_layes").at(i), channels));
        Ok(Self {
            type_proj: Sinusoids::new(width, !unet.flip_sin_to_cos, unet.freq_shift, Device::Cpu)?,
            control_add_embedding: TimestepEmbedding::new(&w.at("control_add_embedding"), types * width, time, None)?,
            task_embedding: w.tensor("task_embedding", &[types, channels])?,
            transformer_layes: layers.collect::<Result<_>>()?,
            spatial_ch_projs: w.at("spatial_ch_projs").linear(channels, channels)?,
        })
    }

    /// Returns the number of a type, after checking that the network knows the type.
    fn number(&self, control_type: ControlType) -> Result<i64> {
        let known = self.task_embedding.size2()?.0;
        match control_type as i64 {
            number if number < known => Ok(number),
            _ => {
                let expected = format!("one of the first {known} types; only a ProMax net knows the others");
                Err(Error::parameter("control_type", format!("{control_type:?}"), expected))
            }
        }
    }

    /// Computes the summand of the time embedding that tells the types of all hints, [1, width].
    pub(super) fn time(&self, types: &[ControlType], options: (Kind, Device)) -> Result<Tensor> {
        let mut given = vec![0f32; self.task_embedding.size2()?.0 as usize];
        for control_type in types {
            let number = self.number(*control_type)? as usize;
            given.get_mut(number).into_iter().for_each(|share| *share = 1.0);
        }
        if types.is_empty() {
            let expected = "the type of each hint, because this ControlNet is a union";
            return Err(Error::parameter("control_types", "empty", expected));
        }
        let waves = self.type_proj.of(&Tensor::f_from_slice(&given)?)?; // [types, width]
        let waves = waves.f_reshape([1, -1])?.f_to_device(options.1)?.f_to_kind(options.0)?;
        self.control_add_embedding.forward(&waves, None)
    }

    /// Sums embedded hints, [b, channels, h, w] each, with a shift of their channels.
    ///
    /// The reference attends over the batch, although the layer is meant to attend over the hints. With one picture in
    /// the batch, its softmax has one entry. Each token is therefore computed by itself, in batches of any size.
    pub(super) fn sum(&self, embedded: &[(Tensor, ControlType, f64)]) -> Result<Tensor> {
        let several = embedded.len() > 1;
        let mut sum: Option<Tensor> = None;
        for (hint, control_type, scale) in embedded {
            let scale = if several { *scale } else { 1.0 };
            let task = self.task_embedding.f_narrow(0, self.number(*control_type)?, 1)?;
            // f = scale·(mean(e) + task)
            let means = hint.f_mean_dim([2i64, 3].as_slice(), false, None)?;
            let mut token = means.f_add(&task)?.f_mul_scalar(scale)?; // [b, channels]
            for layer in &self.transformer_layes {
                token = layer.forward(&token)?;
            }
            let shift = self.spatial_ch_projs.forward(&token)?.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
            let own = hint.f_add(&shift)?.f_mul_scalar(scale)?; // scale·(e + projection(token))
            sum = Some(match sum {
                Some(sum) => sum.f_add(&own)?,
                None => own,
            });
        }
        sum.ok_or_else(|| Error::parameter("hints", "none", "at least one hint"))
    }
}

/// A pre-norm transformer layer for tokens that attend to themselves alone, so that attention gives the token's value.
#[derive(Debug)]
struct TokenLayer {
    ln_1: LayerNorm,
    /// Projection to values: weight and bias.
    value: [Tensor; 2],
    out_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
}

impl TokenLayer {
    fn new(w: &Weights, channels: i64) -> Result<Self> {
        let (attn, mlp) = (w.at("attn"), w.at("mlp"));
        // The projections of queries, keys and values are stored as one.
        let value = |x: Tensor| x.f_narrow(0, 2 * channels, channels);
        let weight = attn.tensor("in_proj_weight", &[3 * channels, channels])?;
        let bias = attn.tensor("in_proj_bias", &[3 * channels])?;
        Ok(Self {
            ln_1: w.at("ln_1").layer_norm(channels, EPS)?,
            value: [value(weight)?, value(bias)?],
            out_proj: attn.at("out_proj").linear(channels, channels)?,
            ln_2: w.at("ln_2").layer_norm(channels, EPS)?,
            c_fc: mlp.at("c_fc").linear(channels, 4 * channels)?,
            c_proj: mlp.at("c_proj").linear(4 * channels, channels)?,
        })
    }

    /// Applies the layer to tokens, [b, channels].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [weight, bias] = &self.value;
        let value = self.ln_1.forward(x)?.f_linear(weight, Some(bias))?;
        let x = self.out_proj.forward(&value)?.f_add(x)?;
        let hidden = Activation::QuickGelu.of(&self.c_fc.forward(&self.ln_2.forward(&x)?)?)?;
        Ok(self.c_proj.forward(&hidden)?.f_add(&x)?)
    }
}
