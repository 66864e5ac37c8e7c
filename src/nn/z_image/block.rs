//! A layer of the transformer: attention and a feed-forward layer, each between two norms.

use super::attention::{Apply, Attention};
use super::config::ZImageConfig;
use super::finite::finite;
use super::modulation::{Modulation, Part};
use super::positions::Positions;
use crate::attention::{AttentionSite, Place, SiteKind, Tap, repeated};
use crate::error::Result;
use crate::nn::layers::Linear;
use crate::nn::rms_norm::RmsNorm;
use crate::weights::Weights;
use tch::Tensor;

/// Number of halvings from the latent's cells to the tokens, which are patches of 2×2 cells.
const HALVINGS: u32 = 1;

/// A layer for any tokens.
#[derive(Debug)]
struct Layer {
    attention: Attention,
    attention_norm1: RmsNorm,
    attention_norm2: RmsNorm,
    ffn_norm1: RmsNorm,
    ffn_norm2: RmsNorm,
    feed_forward: FeedForward,
}

impl Layer {
    fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        let norm = |name| RmsNorm::new(&w.at(name), config.dim, config.norm_eps);
        Ok(Self {
            attention: Attention::new(&w.at("attention"), config)?,
            attention_norm1: norm("attention_norm1")?,
            attention_norm2: norm("attention_norm2")?,
            ffn_norm1: norm("ffn_norm1")?,
            ffn_norm2: norm("ffn_norm2")?,
            feed_forward: FeedForward::new(&w.at("feed_forward"), config)?,
        })
    }

    /// Returns the tokens as attention reads them.
    fn before(&self, x: &Tensor, [attention, _]: &[Part; 2]) -> Result<Tensor> {
        attention.norm(&self.attention_norm1, x)
    }

    /// Adds the result of attention to the tokens `x`, and then that of the feed-forward layer. The result of
    /// attention may have more rows than `x`.
    fn after(&self, x: &Tensor, attended: &Tensor, [attention, feed]: &[Part; 2], apply: Apply) -> Result<Tensor> {
        let x = repeated(x, attended.size3()?.0)?;
        let x = attention.add(&x, &self.attention_norm2.forward(attended)?)?;
        let y = self.feed_forward.forward(&feed.norm(&self.ffn_norm1, &x)?, apply)?;
        feed.add(&x, &self.ffn_norm2.forward(&y)?)
    }
}

/// A layer that refines a caption's tokens, without the time.
#[derive(Debug)]
pub(super) struct CaptionLayer(Layer);

impl CaptionLayer {
    pub(super) fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        Ok(Self(Layer::new(w, config)?))
    }

    /// Refines the tokens of captions, [b, tokens, width] f32.
    pub(super) fn forward(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let (Self(layer), parts) = (self, Modulation::none());
        let attended = layer.attention.of_caption(&layer.before(x, &parts)?, positions)?;
        layer.after(x, &attended, &parts, Linear::forward_prompt)
    }
}

/// A layer that reads the time, at an attention site that is visible to hooks: a layer that refines a picture alone,
/// or a layer in which picture and caption attend to both.
#[derive(Debug)]
pub(super) struct TimedLayer {
    layer: Layer,
    modulation: Modulation,
    site: AttentionSite,
}

impl TimedLayer {
    /// Builds a layer and adds its site to `sites`.
    pub(super) fn new(
        w: &Weights,
        config: &ZImageConfig,
        kind: SiteKind,
        sites: &mut Vec<AttentionSite>,
    ) -> Result<Self> {
        let path = w.at("attention").path().to_owned();
        let mut site = AttentionSite::new(path, kind, Place::Layer(sites.len()), HALVINGS, config.n_heads);
        site.index = sites.len();
        sites.push(site.clone());
        let modulation = Modulation::new(&w.at("adaLN_modulation"), config)?;
        Ok(Self { layer: Layer::new(w, config)?, modulation, site })
    }

    /// Refines the tokens of pictures `x`, and the tokens that fill their stream, [n, tokens, width] f32 each.
    pub(super) fn refine(
        &self,
        x: &Tensor,
        filling: Option<&Tensor>,
        time: &Tensor,
        positions: &Positions,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (Self { layer, site, .. }, parts) = (self, self.modulation.forward(time)?);
        // A hook may make the branches differ, and the tokens of both kinds attend to each other.
        let filling = match filling {
            Some(filling) => Some(repeated(filling, x.size3()?.0)?),
            None => None,
        };
        let others = filling.as_ref().map(|filling| layer.before(filling, &parts)).transpose()?;
        let own = layer.before(x, &parts)?;
        let (attended, others) = layer.attention.of_picture(&own, others.as_ref(), positions, site, tap)?;
        let filling = match (filling, others) {
            (Some(filling), Some(others)) => Some(layer.after(&filling, &others, &parts, Linear::forward_prompt)?),
            _ => None,
        };
        Ok((layer.after(x, &attended, &parts, Linear::forward)?, filling))
    }

    /// Applies the layer to the tokens of pictures `x` and to the other tokens `beside`, which begin with the
    /// caption's, [b, tokens, width] f32 each.
    pub(super) fn join(
        &self,
        x: &Tensor,
        beside: &Tensor,
        time: &Tensor,
        positions: &Positions,
        config: &ZImageConfig,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (Self { layer, site, .. }, parts) = (self, self.modulation.forward(time)?);
        let (own, others) = (layer.before(x, &parts)?, layer.before(beside, &parts)?);
        let [own, others] = layer.attention.joint(&own, &others, positions, site, config, tap)?;
        let beside = layer.after(beside, &others, &parts, Linear::forward_prompt)?;
        Ok((layer.after(x, &own, &parts, Linear::forward)?, beside))
    }
}

/// A feed-forward layer with a gate (SwiGLU).
///
/// Source: Shazeer (2020), "GLU Variants Improve Transformer".
#[derive(Debug)]
struct FeedForward {
    w1: Linear,
    w2: Linear,
    w3: Linear,
}

impl FeedForward {
    fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        let (width, hidden) = (config.dim, config.inner_width());
        Ok(Self {
            w1: w.at("w1").linear_without_bias(width, hidden)?,
            w2: w.at("w2").linear_without_bias(hidden, width)?,
            w3: w.at("w3").linear_without_bias(width, hidden)?,
        })
    }

    /// Applies the layer; `apply` is the method for the tokens of a picture or for others.
    fn forward(&self, x: &Tensor, apply: Apply) -> Result<Tensor> {
        let gated = apply(&self.w1, x)?.f_silu_()?.f_mul_(&apply(&self.w3, x)?)?;
        finite(apply(&self.w2, &finite(gated)?)?)
    }
}
