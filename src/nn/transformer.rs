//! Transformers over the cells of a picture, which contain the attention sites.

use super::adapter::Adapter;
use super::layers::{Gated, GroupNorm, LayerNorm, Linear, cells, channels_last, picture, split_heads};
use super::placed_loras::PromptAttention;
use super::token_merging::Groups;
use crate::attention::{AttentionSite, Place, Projections, SiteKind, Tap, add_repeated, repeated};
use crate::error::Result;
use crate::reference::Part;
use crate::step::Grid;
use crate::weights::Weights;
use std::ops::Range;
use tch::Tensor;

/// The attention sites of a network, listed during construction in the order they run.
#[derive(Debug, Default)]
pub(super) struct Sites(Vec<AttentionSite>);

impl Sites {
    fn list(&mut self, w: &Weights, kind: SiteKind, config: &TransformerConfig) -> AttentionSite {
        let mut site = AttentionSite::new(w.path(), kind, config.place, config.halvings, config.heads);
        site.index = self.0.len();
        self.0.push(site.clone());
        site
    }

    /// Returns the list of sites.
    pub(super) fn into_vec(self) -> Vec<AttentionSite> {
        self.0
    }
}

/// The sizes of a [`Transformer`] and its place in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransformerConfig {
    /// Input and output channels.
    pub channels: i64,
    /// Number of attention heads; divides the channels.
    pub heads: i64,
    /// Number of blocks.
    pub depth: i64,
    /// Width of the context.
    pub context: i64,
    /// Groups of the norm.
    pub groups: i64,
    /// True if `proj_in` and `proj_out` are stored as linear layers, false if as 1×1 convolutions.
    pub linear: bool,
    /// Part of the network: down, middle or up.
    pub place: Place,
    /// Number of halvings of the latent grid.
    pub halvings: u32,
}

/// A transformer: blocks of self-attention, cross-attention and a feed-forward layer, beside a shortcut.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<Block>,
    proj_out: Linear,
}

impl Transformer {
    /// Builds a transformer from the weights `w` and adds its attention sites to `sites`.
    pub(super) fn new(w: &Weights, config: &TransformerConfig, sites: &mut Sites) -> Result<Self> {
        let &TransformerConfig { channels, depth, groups, linear, .. } = config;
        let projection = |name| match linear {
            true => w.at(name).linear(channels, channels),
            false => w.at(name).cellwise(channels, channels),
        };
        Ok(Self {
            norm: w.at("norm").group_norm(groups, channels, 1e-6)?,
            proj_in: projection("proj_in")?,
            transformer_blocks: (0..depth)
                .map(|i| Block::new(&w.at("transformer_blocks").at(i), config, sites))
                .collect::<Result<_>>()?,
            proj_out: projection("proj_out")?,
        })
    }

    /// Applies the transformer to `x`, [n, channels, h, w], and `context`, [b, tokens, width] → [b, channels, h, w]. If
    /// n is less than b, the rows of `x` are [`repeated`] from the first cross-attention on.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let (.., height, width) = x.size4()?;
        let grid = Grid::new(height, width);
        // In bf16 on impasto's kernels, `h` is f32, and the blocks add to it without rounding.
        let mut h = self.proj_in.forward_unrounded(&cells(&self.norm.forward(x)?)?)?; // [n, h·w, channels]
        for block in &self.transformer_blocks {
            h = block.forward(h, context, grid, tap)?;
        }
        h = h.f_to_kind(x.f_kind()?)?;
        if channels_last(x) {
            return picture(&self.proj_out.forward_sum(&h, &cells(x)?)?, x);
        }
        add_repeated(picture(&self.proj_out.forward(&h)?, x)?, x)
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Block {
    fn new(w: &Weights, config: &TransformerConfig, sites: &mut Sites) -> Result<Self> {
        let channels = config.channels;
        Ok(Self {
            norm1: w.at("norm1").layer_norm(channels, 1e-5)?,
            attn1: Attention::new(&w.at("attn1"), SiteKind::SelfAttention, config, sites)?,
            norm2: w.at("norm2").layer_norm(channels, 1e-5)?,
            attn2: Attention::new(&w.at("attn2"), SiteKind::Cross, config, sites)?,
            norm3: w.at("norm3").layer_norm(channels, 1e-5)?,
            ff: FeedForward::new(&w.at("ff.net"), channels)?,
        })
    }

    /// Applies the block to the cells `x` of a grid. `x` is taken by value, because the results are added to it in
    /// place where that is possible.
    fn forward(&self, x: Tensor, context: &Tensor, grid: Grid, tap: &mut Tap<'_>) -> Result<Tensor> {
        let normed = self.norm1.forward(&x)?;
        let x = match Groups::find(&x, grid, &self.attn1.site, tap)? {
            Some(groups) => self.attn1.forward_merged(x, &normed, &groups, tap)?,
            None => self.attn1.forward_onto(x, &normed, &normed, tap)?,
        };
        let normed = self.norm2.forward(&x)?;
        let x = self.attn2.forward_onto(x, &normed, context, tap)?;
        let normed = self.norm3.forward(&x)?;
        self.ff.forward_onto(x, &normed)
    }
}

/// Attention of cells to a context, at a site that is visible to hooks.
#[derive(Debug)]
struct Attention {
    site: AttentionSite,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    /// Adapter for the figure, if the weights have one.
    figure: Option<Adapter>,
    /// Adapter for the background, if the weights have one.
    background: Option<Adapter>,
}

/// The projections of an attention site for the cells of one call.
struct Call<'a> {
    site: &'a Attention,
    /// The cells that attend, [b or a divisor of b, h·w, channels].
    cells: &'a Tensor,
}

impl Projections for Call<'_> {
    fn keys_values(&self, context: &Tensor) -> Result<(Tensor, Tensor)> {
        let Attention { site, to_k, to_v, .. } = self.site;
        let [k, v] = match site.is_cross() {
            true => [to_k.forward_prompt(context)?, to_v.forward_prompt(context)?],
            false => [to_k.forward(context)?, to_v.forward(context)?],
        };
        Ok((split_heads(&k, site.heads)?, split_heads(&v, site.heads)?))
    }

    fn adapted(&self, part: Part, rows: Range<i64>, context: &Tensor) -> Result<Option<[Tensor; 3]>> {
        let Attention { site, to_q, to_k, to_v, figure, background, .. } = self.site;
        let adapter = match part {
            Part::Figure => figure,
            Part::Background => background,
        };
        let Some(adapter) = adapter else { return Ok(None) };
        // If there are fewer rows of cells than of contexts, the rows of cells repeat.
        let cells = self.cells.f_narrow(0, rows.start % self.cells.size3()?.0, rows.end - rows.start)?;
        let [q, k, v] = adapter.projected([to_q, to_k, to_v], [&cells, context, context])?;
        Ok(Some([split_heads(&q, site.heads)?, split_heads(&k, site.heads)?, split_heads(&v, site.heads)?]))
    }
}

impl Attention {
    fn new(w: &Weights, kind: SiteKind, config: &TransformerConfig, sites: &mut Sites) -> Result<Self> {
        let channels = config.channels;
        let context = if kind == SiteKind::Cross { config.context } else { channels };
        Ok(Self {
            site: sites.list(w, kind, config),
            to_q: w.at("to_q").linear_without_bias(channels, channels)?,
            to_k: w.at("to_k").linear_without_bias(context, channels)?,
            to_v: w.at("to_v").linear_without_bias(context, channels)?,
            to_out: w.at("to_out.0").linear(channels, channels)?,
            figure: Adapter::find(w, "fg", channels, context)?,
            background: Adapter::find(w, "bg", channels, context)?,
        })
    }

    /// Adds the attention of `x` to `context` to `onto`. If `onto` has fewer rows, they are [`repeated`].
    fn forward_onto(&self, onto: Tensor, x: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let q = split_heads(&self.to_q.forward(x)?, self.site.heads)?; // [b, heads, h·w, d]
        let q = repeated(&q, context.size3()?.0)?;
        let mut attended = tap.attend_projected(&self.site, &q, context, &Call { site: self, cells: x })?;
        if self.site.is_cross() {
            let Self { site, to_k, to_v, .. } = self;
            let split = |k: &Tensor, v: &Tensor| Ok((split_heads(k, site.heads)?, split_heads(v, site.heads)?));
            attended = PromptAttention { site, q: &q, context, to_k, to_v }.with_placed_loras(attended, split)?;
        }
        self.to_out.forward_onto(onto, &attended)
    }

    /// Adds the attention of the cells `x` to each other to `onto`, with one token for each group of cells.
    fn forward_merged(&self, mut onto: Tensor, x: &Tensor, groups: &Groups, tap: &mut Tap<'_>) -> Result<Tensor> {
        let tokens = groups.merge(x)?; // [b, groups, channels]
        let q = split_heads(&self.to_q.forward(&tokens)?, self.site.heads)?;
        let attended = tap.attend_projected(&self.site, &q, &tokens, &Call { site: self, cells: &tokens })?;
        Ok(onto.f_add_(&groups.restore(&self.to_out.forward(&attended)?)?)?)
    }
}

/// The feed-forward layer (GEGLU): one half of the hidden values gates the other half.
#[derive(Debug)]
struct FeedForward {
    proj: Gated,
    out: Linear,
}

impl FeedForward {
    fn new(w: &Weights, channels: i64) -> Result<Self> {
        Ok(Self { proj: w.at("0.proj").gated(channels, 4 * channels)?, out: w.at(2).linear(4 * channels, channels)? })
    }

    /// Adds the layer of `x` to `onto`.
    fn forward_onto(&self, onto: Tensor, x: &Tensor) -> Result<Tensor> {
        self.out.forward_onto(onto, &self.proj.forward(x)?)
    }
}
