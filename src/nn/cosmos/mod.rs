//! The transformer of Cosmos-Predict2 on one picture, which predicts the velocity of a flow. Anima uses it.

mod block;
mod config;
mod memory;
mod modulation;
mod positions;
mod rotations;

pub use config::CosmosConfig;

use super::layers::Linear;
use super::patches;
use crate::attention::{AttentionSite, Tap, repeated};
use crate::error::{Error, Result};
use crate::step::Grid;
use crate::weights::Weights;
use block::Block;
use modulation::{Modulation, TimeEmbedding};
use positions::Positions;
use rotations::rotations;
use tch::{Kind, Tensor};

/// diffusers' `CosmosTransformer3DModel` for pictures: blocks of self-attention over patches of 2×2 cells, attention to
/// the prompt, and a feed-forward layer.
///
/// ```
/// use impasto::attention::Tap;
/// use impasto::nn::ConfigFile;
/// use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = CosmosConfig::from_json("config.json", r#"{
///     "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2,
///     "text_embed_dim": 8, "adaln_lora_dim": 4
/// }"#)?;
/// let transformer = CosmosTransformer::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let latent = Tensor::f_ones([1, 4, 16, 12], (Kind::Float, Device::Cpu))?;
/// let context = Tensor::f_ones([1, 77, 8], (Kind::Float, Device::Cpu))?;
/// let velocity = transformer.forward(&latent, &Tensor::from(0.7), &context, &mut Tap::none())?;
/// assert_eq!(velocity.size(), latent.size());
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Debug)]
pub struct CosmosTransformer {
    config: CosmosConfig,
    /// Kind of the weights.
    kind: Kind,
    patch_embed: Linear,
    time_embed: TimeEmbedding,
    positions: Option<Positions>,
    transformer_blocks: Vec<Block>,
    norm_out: Modulation,
    proj_out: Linear,
    sites: Vec<AttentionSite>,
}

impl CosmosTransformer {
    /// Builds a transformer from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &CosmosConfig) -> Result<Self> {
        config.check()?;
        let (width, mut sites) = (config.width(), Vec::new());
        let channels = config.in_channels + i64::from(config.concat_padding_mask);
        let patch: i64 = config.patch_size.iter().product();
        let transformer = Self {
            kind: w.kind(),
            patch_embed: w.at("patch_embed.proj").linear_without_bias(patch * channels, width)?,
            time_embed: TimeEmbedding::new(&w.at("time_embed"), width)?,
            positions: match config.extra_pos_embed_type {
                Some(_) => Some(Positions::new(&w.at("learnable_pos_embed"), config.places(), width)?),
                None => None,
            },
            transformer_blocks: (0..config.num_layers as usize)
                .map(|layer| Block::new(&w.at("transformer_blocks").at(layer), config, layer, &mut sites))
                .collect::<Result<_>>()?,
            norm_out: Modulation::new(&w.at("norm_out"), width, config.adaln_lora_dim, 2)?,
            proj_out: w.at("proj_out").linear_without_bias(width, patch * config.out_channels)?,
            sites,
            config: config.clone(),
        };
        w.finish()?;
        Ok(transformer)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &CosmosConfig {
        &self.config
    }

    /// Returns the attention sites in the order they run.
    pub fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    /// Computes the velocity for `sample`, [b, out_channels, h, w] in the kind of `sample`.
    ///
    /// - `sample`: the flow's latent, [b, in_channels, h, w] with even h and w.
    /// - `timestep`: one number or a vector of b: the times of the flow, 0..=1.
    /// - `context`: [b, tokens, text_embed_dim]. All tokens take part, padding too.
    ///
    /// `sample` may have n rows with n dividing b, if all rows share one timestep. Row i of the contexts then goes with
    /// row i mod n of `sample`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor has another shape.
    pub fn forward(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let (h, w) = self.check(sample, timestep, context)?;
        let times = timestep.f_reshape([-1])?.f_mul_scalar(self.config.timestep_scale)?;
        let time = self.time_embed.forward(&times, self.kind)?;
        let sample_rows = if times.size1()? > 1 { context.size3()?.0 } else { sample.size4()?.0 };
        let patches = patches::split(&repeated(sample, sample_rows)?)?.f_to_kind(self.kind)?;
        // The padding channel is the last of the input and holds zeros.
        let pad: i64 = if self.config.concat_padding_mask { self.config.patch_size.iter().product() } else { 0 };
        let patches = if pad > 0 { patches.f_constant_pad_nd([0, pad])? } else { patches };
        let rotary =
            rotations(Grid::new(h, w), self.config.attention_head_dim, self.config.rope_scale, sample.device())?;
        let context = context.f_to_kind(self.kind)?;
        // Tokens are f32 between the layers, so that sums over many blocks are not rounded to half precision.
        let mut x = self.patch_embed.forward(&patches)?.f_to_kind(Kind::Float)?;
        let places =
            self.positions.as_ref().map(|positions| positions.of(patches::tokens(Grid::new(h, w)))).transpose()?;
        for block in &self.transformer_blocks {
            if let Some(places) = &places {
                x = x.f_add(places)?;
            }
            x = block.forward(x, &time, &context, &rotary, tap)?;
        }
        let y = self.proj_out.forward(&self.norm_out.forward(&time)?.norm(&x)?)?;
        Ok(patches::join(&y, h, w)?.f_to_kind(sample.kind())?)
    }

    /// Checks the shapes of the inputs, and returns rows and columns of the sample.
    fn check(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor) -> Result<(i64, i64)> {
        let shape = |what, got: &Tensor, expected| Error::Shape { what, got: got.size(), expected };
        let channels = self.config.in_channels;
        let &[n, c, h, w] = sample.size().as_slice() else {
            return Err(shape("the transformer's sample", sample, format!("[b, {channels}, h, w]")));
        };
        if c != channels || n == 0 {
            return Err(shape("the transformer's sample", sample, format!("[b, {channels}, h, w]")));
        }
        let width = self.config.text_embed_dim;
        let rows = match context.size().as_slice() {
            &[rows, tokens, got] if got == width && tokens > 0 && rows > 0 && rows % n == 0 => rows,
            _ => {
                let expected = format!("[{n} or a multiple, tokens, {width}]");
                return Err(shape("the transformer's context", context, expected));
            }
        };
        match timestep.size().as_slice() {
            [] | [1] => Ok((h, w)),
            [times] if *times == rows => Ok((h, w)),
            _ => Err(shape("the transformer's timestep", timestep, format!("one number, or {rows} numbers"))),
        }
    }
}
