//! A block of the transformer: self-attention, attention to the prompt, and a feed-forward layer.

use super::config::CosmosConfig;
use super::modulation::{Modulation, Time};
use crate::attention::{AttentionSite, Place, SiteKind, Tap, repeated};
use crate::error::Result;
use crate::nn::layers::{Gelu, Linear, split_heads};
use crate::nn::placed_loras::PromptAttention;
use crate::nn::rms_norm::RmsNorm;
use crate::nn::rotary::Rotary;
use crate::weights::Weights;
use tch::Tensor;

/// Number of halvings from the latent's cells to the tokens, which are patches of 2×2 cells.
const HALVINGS: u32 = 1;

#[derive(Debug)]
pub(super) struct Block {
    norm1: Modulation,
    attn1: Attention,
    norm2: Modulation,
    attn2: Attention,
    norm3: Modulation,
    proj: Linear,
    out: Linear,
}

impl Block {
    /// Builds the block with index `layer` and adds its two attention sites to `sites`.
    pub(super) fn new(
        w: &Weights,
        config: &CosmosConfig,
        layer: usize,
        sites: &mut Vec<AttentionSite>,
    ) -> Result<Self> {
        let (width, hidden) = (config.width(), config.inner_width());
        let modulation = |name| Modulation::new(&w.at(name), width, config.adaln_lora_dim, 3);
        let mut attention = |name, kind, context| {
            Attention::new(&w.at(name), config, context, site(w, name, kind, config, layer, sites))
        };
        Ok(Self {
            norm1: modulation("norm1")?,
            attn1: attention("attn1", SiteKind::SelfAttention, width)?,
            norm2: modulation("norm2")?,
            attn2: attention("attn2", SiteKind::Cross, config.text_embed_dim)?,
            norm3: modulation("norm3")?,
            proj: w.at("ff.net.0.proj").linear_without_bias(width, hidden)?,
            out: w.at("ff.net.2").linear_without_bias(hidden, width)?,
        })
    }

    /// Applies the block to the tokens `x`, [n, tokens, width] f32 → [b, tokens, width] for a context of b rows.
    pub(super) fn forward(
        &self,
        mut x: Tensor,
        time: &Time,
        context: &Tensor,
        rotary: &Rotary,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor> {
        // Each part is a block of its own, so that its tensors are freed before the next part.
        x = {
            let modulated = self.norm1.forward(time)?;
            let y = modulated.norm(&x)?;
            let y = self.attn1.forward(&y, &y, Some(rotary), tap)?;
            let rows = y.size3()?.0; // a hook can make the branches differ already here
            modulated.add(&repeated(&x, rows)?, &y)?
        };
        x = {
            let modulated = self.norm2.forward(time)?;
            let y = self.attn2.forward(&modulated.norm(&x)?, context, None, tap)?;
            modulated.add(&repeated(&x, context.size3()?.0)?, &y)?
        };
        let modulated = self.norm3.forward(time)?;
        let y = self.out.forward(&self.proj.forward_gelu(&modulated.norm(&x)?, Gelu::Exact, Linear::forward)?)?;
        modulated.add(&x, &y)
    }
}

/// Lists an attention site of the block with index `layer`.
fn site(
    w: &Weights,
    name: &str,
    kind: SiteKind,
    config: &CosmosConfig,
    layer: usize,
    sites: &mut Vec<AttentionSite>,
) -> AttentionSite {
    let place = Place::Layer(layer);
    let mut site = AttentionSite::new(w.at(name).path(), kind, place, HALVINGS, config.num_attention_heads);
    site.index = sites.len();
    sites.push(site.clone());
    site
}

/// Attention at a site that is visible to hooks. Queries and keys are normed for each head.
#[derive(Debug)]
struct Attention {
    site: AttentionSite,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    to_out: Linear,
}

impl Attention {
    fn new(w: &Weights, config: &CosmosConfig, context: i64, site: AttentionSite) -> Result<Self> {
        let (width, head) = (config.width(), config.attention_head_dim);
        Ok(Self {
            site,
            to_q: w.at("to_q").linear_without_bias(width, width)?,
            to_k: w.at("to_k").linear_without_bias(context, width)?,
            to_v: w.at("to_v").linear_without_bias(context, width)?,
            norm_q: RmsNorm::new(&w.at("norm_q"), head, 1e-6)?,
            norm_k: RmsNorm::new(&w.at("norm_k"), head, 1e-6)?,
            to_out: w.at("to_out.0").linear_without_bias(width, width)?,
        })
    }

    /// Computes the attention of the tokens `x` to `context`; `rotary` rotates queries and keys.
    fn forward(&self, x: &Tensor, context: &Tensor, rotary: Option<&Rotary>, tap: &mut Tap<'_>) -> Result<Tensor> {
        let heads = self.site.heads;
        let mut q = self.norm_q.forward_heads(&self.to_q.forward(x)?, heads)?;
        if let Some(rotary) = rotary {
            q = rotary.rotate(&q)?;
        }
        q = repeated(&q, context.size3()?.0)?;
        let split = |k: &Tensor, v: &Tensor| {
            let k = self.norm_k.forward_heads(k, heads)?;
            Ok((rotary.map_or(Ok(k.shallow_clone()), |rotary| rotary.rotate_pictures(&k))?, split_heads(v, heads)?))
        };
        let mut attended = tap.attend(&self.site, &q, context, |context| {
            let [k, v] = match self.site.is_cross() {
                true => [self.to_k.forward_prompt(context)?, self.to_v.forward_prompt(context)?],
                false => [self.to_k.forward(context)?, self.to_v.forward(context)?],
            };
            split(&k, &v)
        })?;
        if self.site.is_cross() {
            let Self { site, to_k, to_v, .. } = self;
            attended = PromptAttention { site, q: &q, context, to_k, to_v }.with_placed_loras(attended, split)?;
        }
        self.to_out.forward(&attended)
    }
}
