//! [`ReadingBlock`]: cross-attention of rows to tokens, and a feed-forward layer, each with a norm and a shortcut.

use super::layers::{LayerNorm, Linear, attention};
use crate::error::Result;
use crate::weights::Weights;
use tch::Tensor;

/// Width of an attention head.
const HEAD: i64 = 64;

/// A block in which rows `x` read tokens: x += attention(norm(x), tokens), then x += W₂ SiLU(W₁ norm(x)).
#[derive(Debug)]
pub(super) struct ReadingBlock {
    norms: [LayerNorm; 2],
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    feed_forward: [Linear; 2],
    heads: i64,
}

impl ReadingBlock {
    /// Builds a block of the given width from its parts: both norms, the attention and the feed-forward layer. Heads
    /// have 64 channels.
    pub(super) fn new(norms: [Weights; 2], attention: &Weights, feed_forward: &Weights, width: i64) -> Result<Self> {
        let plain = |name: &str| attention.at(name).linear_without_bias(width, width);
        let [first, second] = norms;
        Ok(Self {
            norms: [first.layer_norm(width, 1e-5)?, second.layer_norm(width, 1e-5)?],
            to_q: plain("to_q")?,
            to_k: plain("to_k")?,
            to_v: plain("to_v")?,
            to_out: attention.at("to_out.0").linear(width, width)?,
            feed_forward: [feed_forward.at(0).linear(width, 4 * width)?, feed_forward.at(2).linear(4 * width, width)?],
            heads: (width / HEAD).max(1),
        })
    }

    /// Applies the block: `x` [b, rows, width] and `tokens` [b, tokens, width] → [b, rows, width].
    pub(super) fn forward(&self, x: &Tensor, tokens: &Tensor) -> Result<Tensor> {
        let ([first, second], [into, out]) = (&self.norms, &self.feed_forward);
        let (k, v) = (self.to_k.forward(tokens)?, self.to_v.forward(tokens)?);
        let read = attention(&self.to_q.forward(&first.forward(x)?)?, &k, &v, self.heads, false)?;
        let x = self.to_out.forward(&read)?.f_add_(x)?;
        Ok(out.forward(&into.forward(&second.forward(&x)?)?.f_silu_()?)?.f_add_(&x)?)
    }
}
