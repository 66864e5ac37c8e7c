//! The transformer of Stable Diffusion 3 and 3.5 (MMDiT), which predicts the velocity of a flow.

mod attention;
mod block;
mod config;
mod memory;
mod modulation;
mod positions;

pub use config::Sd3Config;

use super::layers::Linear;
use super::patches;
use crate::attention::{AttentionSite, Tap, repeated};
use crate::error::{Error, Result};
use crate::weights::Weights;
use block::Block;
use modulation::{Conditions, Modulation};
use positions::PatchEmbed;
use tch::{Kind, Tensor};

/// diffusers' `SD3Transformer2DModel`: blocks in which the tokens of the picture and of the prompt attend to both.
///
/// ```
/// use impasto::attention::Tap;
/// use impasto::nn::ConfigFile;
/// use impasto::nn::mmdit::{Sd3Config, Sd3Transformer};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = Sd3Config::from_json("config.json", r#"{
///     "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2,
///     "joint_attention_dim": 12, "caption_projection_dim": 16, "pooled_projection_dim": 6, "pos_embed_max_size": 8,
///     "dual_attention_layers": [0], "qk_norm": "rms_norm"
/// }"#)?;
/// let transformer = Sd3Transformer::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let ones = |size: &[i64]| Tensor::f_ones(size, (Kind::Float, Device::Cpu));
/// let (latent, context, pooled) = (ones(&[1, 4, 16, 12])?, ones(&[1, 77, 12])?, ones(&[1, 6])?);
/// let timestep = Tensor::from(700.0);
/// let velocity = transformer.forward(&latent, &timestep, &context, &pooled, &[], &mut Tap::none())?;
/// assert_eq!(velocity.size(), latent.size());
/// let without_a_block = transformer.forward(&latent, &timestep, &context, &pooled, &[1], &mut Tap::none())?;
/// assert_ne!(without_a_block, velocity);
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: Esser et al. (2024), "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis".
#[derive(Debug)]
pub struct Sd3Transformer {
    config: Sd3Config,
    /// Kind of the weights.
    kind: Kind,
    pos_embed: PatchEmbed,
    time_text_embed: Conditions,
    context_embedder: Linear,
    transformer_blocks: Vec<Block>,
    norm_out: Modulation,
    proj_out: Linear,
    sites: Vec<AttentionSite>,
}

impl Sd3Transformer {
    /// Builds a transformer from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &Sd3Config) -> Result<Self> {
        config.check()?;
        let (width, mut sites) = (config.width(), Vec::new());
        let patch = config.patch_size * config.patch_size;
        let transformer = Self {
            kind: w.kind(),
            pos_embed: PatchEmbed::new(&w.at("pos_embed"), config)?,
            time_text_embed: Conditions::new(&w.at("time_text_embed"), config)?,
            context_embedder: w.at("context_embedder").linear(config.joint_attention_dim, width)?,
            transformer_blocks: (0..config.num_layers as usize)
                .map(|layer| Block::new(&w.at("transformer_blocks").at(layer), config, layer, &mut sites))
                .collect::<Result<_>>()?,
            norm_out: Modulation::new(&w.at("norm_out"), width, 2)?,
            proj_out: w.at("proj_out").linear(width, patch * config.out_channels)?,
            sites,
            config: config.clone(),
        };
        w.finish()?;
        Ok(transformer)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &Sd3Config {
        &self.config
    }

    /// Returns the attention sites in the order they run.
    pub fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    /// Computes the velocity for `sample`, [b, out_channels, h, w] in the kind of `sample`.
    ///
    /// - `sample`: the flow's latent, [b, in_channels, h, w] with even h and w.
    /// - `timestep`: 1000 times the time of the flow, one number or a vector of b.
    /// - `context`: [b, tokens, joint_attention_dim]. All tokens take part, padding too.
    /// - `pooled`: the pooled text embedding, [b, pooled_projection_dim].
    /// - `skip`: indexes of blocks that are left out.
    ///
    /// `sample` may have n rows with n dividing b. Row i of the contexts then goes with row i mod n of `sample`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor has another shape, or the sample has more patches than the network has positions.
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        context: &Tensor,
        pooled: &Tensor,
        skip: &[usize],
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let (rows, h, w) = self.check(sample, timestep, context, pooled)?;
        let conditions = self.time_text_embed.forward(&timestep.f_reshape([-1])?, pooled, self.kind)?;
        let patches = self.pos_embed.forward(&sample.f_to_kind(self.kind)?)?;
        // Tokens are f32 between the layers, so that sums over many blocks are not rounded to half precision.
        let mut x = repeated(&patches.f_to_kind(Kind::Float)?, rows)?;
        let embedded = || self.context_embedder.forward_prompt(&context.f_to_kind(self.kind)?);
        let mut text = tap.prompt_tokens(|| Ok(embedded()?.f_to_kind(Kind::Float)?))?;
        let blocks = self.transformer_blocks.iter().enumerate();
        for (_, block) in blocks.filter(|(layer, _)| !skip.contains(layer)) {
            (x, text) = block.forward(&x, text, &conditions, tap)?;
        }
        let y = self.proj_out.forward(&self.norm_out.forward(&conditions)?.end()?.norm(&x)?)?;
        Ok(patches::join(&y, h, w)?.f_to_kind(sample.kind())?)
    }

    /// Checks the shapes of the inputs. Returns the number of contexts, and rows and columns of the sample.
    fn check(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor, pooled: &Tensor) -> Result<(i64, i64, i64)> {
        let shape = |what, got: &Tensor, expected| Err(Error::Shape { what, got: got.size(), expected });
        let (channels, width) = (self.config.in_channels, self.config.joint_attention_dim);
        let (n, h, w) = match sample.size().as_slice() {
            &[n, c, h, w] if c == channels && n > 0 => (n, h, w),
            _ => return shape("the transformer's sample", sample, format!("[b, {channels}, h, w]")),
        };
        let rows = match context.size().as_slice() {
            &[rows, tokens, got] if got == width && tokens > 0 && rows > 0 && rows % n == 0 => rows,
            _ => {
                let expected = format!("[{n} or a multiple, tokens, {width}]");
                return shape("the transformer's context", context, expected);
            }
        };
        let wanted = [rows, self.config.pooled_projection_dim];
        if pooled.size() != wanted {
            return shape("the transformer's pooled text", pooled, format!("{wanted:?}"));
        }
        match timestep.size().as_slice() {
            [] | [1] => Ok((rows, h, w)),
            [times] if *times == rows => Ok((rows, h, w)),
            _ => shape("the transformer's timestep", timestep, format!("one number, or {rows} numbers")),
        }
    }
}
