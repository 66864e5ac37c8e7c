//! The transformer of Z-Image, which predicts the velocity of a flow.

mod attention;
mod block;
mod captions;
mod config;
mod finite;
mod memory;
mod modulation;
mod positions;

pub(crate) use captions::MULTIPLE;
pub use config::ZImageConfig;

use super::layers::Linear;
use super::patches;
use super::rms_norm::RmsNorm;
use crate::attention::{AttentionSite, SiteKind, Tap, repeated};
use crate::error::{Error, Result};
use crate::step::Grid;
use crate::weights::Weights;
use block::{CaptionLayer, TimedLayer};
use captions::{Group, round_up};
use modulation::{FinalLayer, TimeEmbedder};
use positions::Positions;
use tch::{Kind, Tensor};

/// Name of the layers for patches of 2×2 cells in one frame.
const PATCH: &str = "2-1";

/// diffusers' `ZImageTransformer2DModel`: layers that refine the picture and the caption, and then layers in which the
/// tokens of both attend to all.
///
/// ```
/// use impasto::attention::Tap;
/// use impasto::nn::ConfigFile;
/// use impasto::nn::z_image::{ZImageConfig, ZImageTransformer};
/// use impasto::weights::Weights;
/// use tch::{Device, Kind, Tensor};
///
/// let config = ZImageConfig::from_json("config.json", r#"{
///     "in_channels": 4, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
///     "cap_feat_dim": 12, "axes_dims": [4, 6, 6], "time_width": 8
/// }"#)?;
/// let transformer = ZImageTransformer::new(&Weights::random(7, Kind::Float, Device::Cpu), &config)?;
/// let latent = Tensor::f_ones([1, 4, 16, 12], (Kind::Float, Device::Cpu))?;
/// let caption = Tensor::f_ones([1, 9, 12], (Kind::Float, Device::Cpu))?;
/// let velocity = transformer.forward(&latent, &Tensor::from(0.7), &caption, &mut Tap::none())?;
/// assert_eq!(velocity.size(), latent.size());
/// // Rows of zeros at the end of a context are no tokens of the caption.
/// let padded = caption.f_constant_pad_nd([0, 0, 0, 55])?;
/// assert_eq!(transformer.forward(&latent, &Tensor::from(0.7), &padded, &mut Tap::none())?, velocity);
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: Z-Image Team (2025), "Z-Image: An Efficient Image Generation Foundation Model with Single-Stream Diffusion
/// Transformer".
#[derive(Debug)]
pub struct ZImageTransformer {
    config: ZImageConfig,
    /// Kind of the weights.
    kind: Kind,
    x_embedder: Linear,
    x_pad_token: Tensor,
    t_embedder: TimeEmbedder,
    cap_norm: RmsNorm,
    cap_embedder: Linear,
    cap_pad_token: Tensor,
    noise_refiner: Vec<TimedLayer>,
    context_refiner: Vec<CaptionLayer>,
    layers: Vec<TimedLayer>,
    final_layer: FinalLayer,
    sites: Vec<AttentionSite>,
}

impl ZImageTransformer {
    /// Builds a transformer from the weights `w`.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration contradicts itself, [`Error::Weights`] if the weights do not fit it.
    pub fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        config.check()?;
        let (width, mut sites) = (config.dim, Vec::new());
        let patch = 4 * config.in_channels;
        let mut timed = |name: &str, count: i64, kind: SiteKind| -> Result<Vec<TimedLayer>> {
            (0..count).map(|i| TimedLayer::new(&w.at(name).at(i), config, kind, &mut sites)).collect()
        };
        let noise_refiner = timed("noise_refiner", config.n_refiner_layers, SiteKind::SelfAttention)?;
        let layers = timed("layers", config.n_layers, SiteKind::Joint)?;
        let transformer = Self {
            kind: w.kind(),
            x_embedder: w.at("all_x_embedder").at(PATCH).linear(patch, width)?,
            x_pad_token: w.tensor("x_pad_token", &[1, width])?,
            t_embedder: TimeEmbedder::new(&w.at("t_embedder"), config)?,
            cap_norm: RmsNorm::new(&w.at("cap_embedder.0"), config.cap_feat_dim, config.norm_eps)?,
            cap_embedder: w.at("cap_embedder.1").linear(config.cap_feat_dim, width)?,
            cap_pad_token: w.tensor("cap_pad_token", &[1, width])?,
            noise_refiner,
            context_refiner: (0..config.n_refiner_layers)
                .map(|i| CaptionLayer::new(&w.at("context_refiner").at(i), config))
                .collect::<Result<_>>()?,
            layers,
            final_layer: FinalLayer::new(&w.at("all_final_layer").at(PATCH), config, patch)?,
            sites,
            config: config.clone(),
        };
        w.finish()?;
        Ok(transformer)
    }

    /// Returns the configuration of the network.
    pub const fn config(&self) -> &ZImageConfig {
        &self.config
    }

    /// Returns the attention sites in the order they run: those of the noise refiner, then the joint ones.
    pub fn sites(&self) -> &[AttentionSite] {
        &self.sites
    }

    /// Computes the velocity for `sample`, [b, in_channels, h, w] in the kind of `sample`.
    ///
    /// - `sample`: the flow's latent, [b, in_channels, h, w] with even h and w.
    /// - `timestep`: the time of the flow, 0..=1 with 1 for noise, one number or a vector of b.
    /// - `context`: the states of the captions, [b, tokens, cap_feat_dim]. Rows of zeros at the end of a caption are no
    ///   tokens, so a row of the batch gets what it gets alone. Learned tokens fill each caption to a multiple of 32,
    ///   and rows with other multiples are evaluated one after the other.
    ///
    /// `sample` may have n rows with n dividing b. Row i of the contexts then goes with row i mod n of `sample`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor has another shape, if the network has no positions for so many tokens, or if
    /// captions of one branch of a run belong to different multiples of 32.
    pub fn forward(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let rows = self.check(sample, timestep, context)?;
        let (times, context) = (timestep.f_reshape([-1])?, context.f_to_kind(self.kind)?);
        let lengths = captions::lengths(&context)?;
        let groups = captions::groups(&lengths, tap.branches())?;
        if let [Group { tokens, .. }] = groups.as_slice() {
            return self.evaluate(sample, &times, &context, &lengths, *tokens, tap);
        }
        let (mut parts, mut order) = (Vec::new(), Vec::<i64>::new());
        for Group { tokens, rows, branches } in &groups {
            let at = |x: &Tensor| -> Result<Tensor> {
                let count = x.size().first().copied().unwrap_or(1).max(1);
                let own: Vec<i64> = rows.iter().map(|row| row % count).collect();
                Ok(x.f_index_select(0, &Tensor::f_from_slice(&own)?.f_to_device(x.device())?)?)
            };
            let own: Vec<i64> = rows.iter().filter_map(|row| lengths.get(*row as usize).copied()).collect();
            let times = if times.size1()? > 1 { at(&times)? } else { times.shallow_clone() };
            let (sample, context) = (at(sample)?, at(&context)?);
            parts.push(match branches.as_slice() {
                [] => self.evaluate(&sample, &times, &context, &own, *tokens, &mut Tap::none())?,
                some => self.evaluate(&sample, &times, &context, &own, *tokens, &mut tap.of(some))?,
            });
            order.extend(rows);
        }
        let mut places: Vec<i64> = (0..rows).collect();
        places.sort_by_key(|place| order.get(*place as usize).copied());
        let places = Tensor::f_from_slice(&places)?.f_to_device(sample.device())?;
        Ok(Tensor::f_cat(&parts, 0)?.f_index_select(0, &places)?)
    }

    /// Computes the velocity for captions of `tokens` tokens, learned ones included. `lengths` are the numbers of their
    /// own tokens.
    fn evaluate(
        &self,
        sample: &Tensor,
        times: &Tensor,
        context: &Tensor,
        lengths: &[i64],
        tokens: i64,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        let (n, _, h, w) = sample.size4()?;
        let (rows, grid) = (context.size3()?.0, patches::tokens(Grid::new(h, w)));
        let filling = round_up(grid.cells()) - grid.cells();
        let positions = Positions::new(&self.config, grid, filling, tokens, sample.device())?;
        // The network counts time from noise, 0, to the picture, 1, and predicts the picture minus the noise. The flow
        // counts from the picture to noise, and its velocity is noise minus picture.
        let time = self.t_embedder.forward(&times.f_neg()?.f_add_scalar(1.0)?, self.kind)?;

        let pictures = if times.size1()? > 1 { rows } else { n };
        // Tokens are f32 between the layers, so that sums over many layers are not rounded to half precision.
        let mut x = self.embed(&repeated(sample, pictures)?)?.f_to_kind(Kind::Float)?;
        let mut rest = match filling {
            0 => None,
            count => Some(self.x_pad_token.f_to_kind(Kind::Float)?.f_expand([pictures, count, -1], false)?),
        };
        for layer in &self.noise_refiner {
            (x, rest) = layer.refine(&x, rest.as_ref(), &time, &positions, tap)?;
        }

        let text = tap.prompt_tokens(|| {
            let text = self.caption(context, lengths, tokens)?;
            self.context_refiner.iter().try_fold(text, |text, layer| layer.forward(&text, &positions))
        })?;

        // The tokens that fill the picture's stream stand behind the caption's, so that the picture's own tokens are
        // the cells of a grid for hooks. The order of tokens does not matter to attention.
        let (mut x, mut beside) = (repeated(&x, rows)?, text);
        if let Some(rest) = &rest {
            beside = Tensor::f_cat(&[&beside, &repeated(rest, rows)?], 1)?;
        }
        for layer in &self.layers {
            (x, beside) = layer.join(&x, &beside, &time, &positions, &self.config, tap)?;
        }
        let prediction = patches::join(&self.final_layer.forward(&x, &time)?, h, w)?;
        Ok(prediction.f_neg()?.f_to_kind(sample.kind())?)
    }

    /// Embeds the patches of latents, [b, channels, h, w] → [b, h/2 · w/2, width].
    fn embed(&self, sample: &Tensor) -> Result<Tensor> {
        // The numbers of a patch have the order row, column, channel.
        let patches = patches::split(sample)?.f_unflatten(2, [self.config.in_channels, -1])?;
        self.x_embedder.forward(&patches.f_transpose(2, 3)?.f_flatten(2, 3)?.f_to_kind(self.kind)?)
    }

    /// Embeds captions, and fills them to `tokens` tokens: [b, any tokens, cap_feat_dim] → [b, tokens, width] f32.
    fn caption(&self, context: &Tensor, lengths: &[i64], tokens: i64) -> Result<Tensor> {
        let given = context.size3()?.1;
        let context =
            context.f_narrow(1, 0, given.min(tokens))?.f_constant_pad_nd([0, 0, 0, (tokens - given).max(0)])?;
        let embedded = self.cap_embedder.forward_prompt(&self.cap_norm.forward(&context)?)?;
        let places = Tensor::f_arange(tokens, (Kind::Int64, context.device()))?.f_unsqueeze(0)?;
        let lengths = Tensor::f_from_slice(lengths)?.f_to_device(context.device())?.f_unsqueeze(1)?;
        let is_filling = places.f_ge_tensor(&lengths)?.f_unsqueeze(-1)?;
        Ok(self.cap_pad_token.f_where_self(&is_filling, &embedded)?.f_to_kind(Kind::Float)?)
    }

    /// Checks the shapes of the inputs. Returns the number of contexts.
    fn check(&self, sample: &Tensor, timestep: &Tensor, context: &Tensor) -> Result<i64> {
        let shape = |what, got: &Tensor, expected| Err(Error::Shape { what, got: got.size(), expected });
        let (channels, width) = (self.config.in_channels, self.config.cap_feat_dim);
        let n = match sample.size().as_slice() {
            &[n, c, _, _] if c == channels && n > 0 => n,
            _ => return shape("the transformer's sample", sample, format!("[b, {channels}, h, w]")),
        };
        patches::check(sample)?;
        let rows = match context.size().as_slice() {
            &[rows, tokens, got] if got == width && tokens > 0 && rows > 0 && rows % n == 0 => rows,
            _ => {
                let expected = format!("[{n} or a multiple, tokens, {width}]");
                return shape("the transformer's context", context, expected);
            }
        };
        match timestep.size().as_slice() {
            [] | [1] => Ok(rows),
            [times] if *times == rows => Ok(rows),
            _ => shape("the transformer's timestep", timestep, format!("one number, or {rows} numbers")),
        }
    }
}
