//! A block of the transformer: attention and a feed-forward layer of two streams, the picture and the prompt.

use super::attention::{JointAttention, SelfAttention};
use super::config::Sd3Config;
use super::modulation::Modulation;
use crate::attention::{AttentionSite, Place, SiteKind, Tap};
use crate::error::Result;
use crate::nn::layers::{Gelu, Linear};
use crate::weights::Weights;
use tch::Tensor;

/// Number of halvings from the latent's cells to the tokens, which are patches of 2×2 cells.
const HALVINGS: u32 = 1;

/// Returns true for the blocks whose attention shows best where words are in the picture: blocks 6 to 12 of 24.
///
/// Source: Kim et al. (2025), "Seg4Diff: Unveiling Open-Vocabulary Segmentation in Text-to-Image Diffusion
/// Transformers".
const fn finds_words(layer: i64, layers: i64) -> bool {
    4 * layer >= layers && 2 * layer <= layers
}

#[derive(Debug)]
pub(super) struct Block {
    norm1: Modulation,
    norm1_context: Modulation,
    attn: JointAttention,
    /// Self-attention beside the joint attention, in the first blocks of SD 3.5 medium.
    attn2: Option<SelfAttention>,
    ff: FeedForward,
    /// Feed-forward layer of the prompt; `None` in the last block, where the prompt ends.
    ff_context: Option<FeedForward>,
}

impl Block {
    /// Builds the block with index `layer` and adds its attention sites to `sites`.
    pub(super) fn new(w: &Weights, config: &Sd3Config, layer: usize, sites: &mut Vec<AttentionSite>) -> Result<Self> {
        let (width, index) = (config.width(), layer as i64);
        let (dual, last) = (config.dual_attention_layers.contains(&index), index + 1 == config.num_layers);
        let mut site = |name: &str, kind| {
            let path = w.at(name).path().to_owned();
            let mut site = AttentionSite::new(path, kind, Place::Layer(layer), HALVINGS, config.num_attention_heads);
            site.index = sites.len();
            site.finds_words = finds_words(index, config.num_layers);
            sites.push(site.clone());
            site
        };
        Ok(Self {
            norm1: Modulation::new(&w.at("norm1"), width, if dual { 9 } else { 6 })?,
            norm1_context: Modulation::new(&w.at("norm1_context"), width, if last { 2 } else { 6 })?,
            attn: JointAttention::new(&w.at("attn"), config, last, site("attn", SiteKind::Joint))?,
            attn2: match dual {
                true => Some(SelfAttention::new(&w.at("attn2"), config, site("attn2", SiteKind::SelfAttention))?),
                false => None,
            },
            ff: FeedForward::new(&w.at("ff.net"), width)?,
            ff_context: if last { None } else { Some(FeedForward::new(&w.at("ff_context.net"), width)?) },
        })
    }

    /// Applies the block to the tokens of the picture and of the prompt, [b, tokens, width] f32 each. The last block
    /// changes the picture alone.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        context: Tensor,
        conditions: &Tensor,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let (of_picture, of_text) = (self.norm1.forward(conditions)?, self.norm1_context.forward(conditions)?);
        let attention = of_picture.part(0)?;
        let text_attention = if self.ff_context.is_some() { of_text.part(0)? } else { of_text.end()? };
        let (y, text) = self.attn.forward(&attention.norm(x)?, &text_attention.norm(&context)?, tap)?;
        let mut next = attention.add(x, &y)?;
        if let Some(attn2) = &self.attn2 {
            let dual = of_picture.part(2)?; // reads the block's input, not the result of the joint attention
            next = dual.add(&next, &attn2.forward(&dual.norm(x)?, tap)?)?;
        }
        let part = of_picture.part(1)?;
        let next = part.add(&next, &self.ff.forward(&part.norm(&next)?, Linear::forward)?)?;

        let (Some(ff), Some(text)) = (&self.ff_context, text) else { return Ok((next, context)) };
        let context = text_attention.add(&context, &text)?;
        let part = of_text.part(1)?;
        let context = part.add(&context, &ff.forward(&part.norm(&context)?, Linear::forward_prompt)?)?;
        Ok((next, context))
    }
}

/// A feed-forward layer with a GELU in its approximation by tanh.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(w: &Weights, width: i64) -> Result<Self> {
        Ok(Self { proj: w.at("0.proj").linear(width, 4 * width)?, out: w.at(2).linear(4 * width, width)? })
    }

    /// Applies the layer; `apply` is the method for the tokens of a picture or of a prompt.
    fn forward(&self, x: &Tensor, apply: fn(&Linear, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        apply(&self.out, &self.proj.forward_gelu(x, Gelu::Tanh, apply)?)
    }
}
