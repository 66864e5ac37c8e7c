//! Attention of a block: joint attention of picture and prompt, and self-attention of the picture.

use super::config::Sd3Config;
use crate::attention::{AttentionSite, Stream, Tap};
use crate::error::Result;
use crate::nn::layers::{Linear, split_heads};
use crate::nn::rms_norm::RmsNorm;
use crate::weights::Weights;
use tch::Tensor;

/// The method that applies a linear layer: [`Linear::forward`] for a picture's tokens, [`Linear::forward_prompt`] for
/// those of a prompt.
type Apply = fn(&Linear, &Tensor) -> Result<Tensor>;

/// The layers that project the tokens of a stream. Queries and keys are normed for each head, except in SD 3.
#[derive(Debug)]
struct Projections {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    norm_q: Option<RmsNorm>,
    norm_k: Option<RmsNorm>,
    heads: i64,
    apply: Apply,
}

impl Projections {
    /// Builds the layers of the picture's tokens.
    fn of_picture(w: &Weights, config: &Sd3Config) -> Result<Self> {
        Self::new(w, config, ["to_q", "to_k", "to_v", "norm_q", "norm_k"], Linear::forward)
    }

    /// Builds the layers of the prompt's tokens.
    fn of_text(w: &Weights, config: &Sd3Config) -> Result<Self> {
        let names = ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"];
        Self::new(w, config, names, Linear::forward_prompt)
    }

    fn new(w: &Weights, config: &Sd3Config, names: [&str; 5], apply: Apply) -> Result<Self> {
        let [q, k, v, norm_q, norm_k] = names;
        let width = config.width();
        let linear = |name| w.at(name).linear(width, width);
        let norm = |name| {
            config.qk_norm.as_ref().map(|_| RmsNorm::new(&w.at(name), config.attention_head_dim, 1e-6)).transpose()
        };
        Ok(Self {
            to_q: linear(q)?,
            to_k: linear(k)?,
            to_v: linear(v)?,
            norm_q: norm(norm_q)?,
            norm_k: norm(norm_k)?,
            heads: config.num_attention_heads,
            apply,
        })
    }

    /// Projects tokens, [b, tokens, width] → [b, heads, tokens, d].
    fn project(&self, layer: &Linear, norm: Option<&RmsNorm>, x: &Tensor) -> Result<Tensor> {
        let projected = (self.apply)(layer, x)?;
        match norm {
            Some(norm) => norm.forward_heads(&projected, self.heads),
            None => split_heads(&projected, self.heads),
        }
    }

    fn queries(&self, x: &Tensor) -> Result<Tensor> {
        self.project(&self.to_q, self.norm_q.as_ref(), x)
    }

    fn keys_values(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.project(&self.to_k, self.norm_k.as_ref(), x)?, self.project(&self.to_v, None, x)?))
    }

    /// Projects the tokens of a stream. Only the first `asking` tokens get queries.
    fn stream(&self, x: &Tensor, asking: i64) -> Result<Stream> {
        let (k, v) = self.keys_values(x)?;
        Ok(Stream { q: self.queries(&x.f_narrow(1, 0, asking)?)?, k, v })
    }
}

/// Joint attention at a site that is visible to hooks: picture and prompt attend to both in one softmax.
#[derive(Debug)]
pub(super) struct JointAttention {
    site: AttentionSite,
    picture: Projections,
    text: Projections,
    to_out: Linear,
    /// Output layer of the prompt's tokens; `None` in the last block, where they end.
    to_add_out: Option<Linear>,
}

impl JointAttention {
    /// Builds the attention of a block, whose prompt continues unless the block is the `last`.
    pub(super) fn new(w: &Weights, config: &Sd3Config, last: bool, site: AttentionSite) -> Result<Self> {
        let width = config.width();
        Ok(Self {
            site,
            picture: Projections::of_picture(w, config)?,
            text: Projections::of_text(w, config)?,
            to_out: w.at("to_out.0").linear(width, width)?,
            to_add_out: if last { None } else { Some(w.at("to_add_out").linear(width, width)?) },
        })
    }

    /// Computes the attention of the picture's tokens `x` and the prompt's tokens `context`, [b, tokens, width] each.
    /// The prompt's result is `None` in the last block.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor, tap: &mut Tap<'_>) -> Result<(Tensor, Option<Tensor>)> {
        let (cells, tokens) = (x.size3()?.1, context.size3()?.1);
        // In the last block, the result of the prompt's tokens matters to hooks alone.
        let asking = if self.to_add_out.is_some() || tap.reads_prompt(&self.site) { tokens } else { 0 };
        let (picture, text) = (self.picture.stream(x, cells)?, self.text.stream(context, asking)?);
        let project = |context: &Tensor| self.text.keys_values(context);
        let [picture, text] = tap.attend_joint(&self.site, &picture, &text, project)?;
        let text = self.to_add_out.as_ref().map(|to_add_out| to_add_out.forward_prompt(&text)).transpose()?;
        Ok((self.to_out.forward(&picture)?, text))
    }
}

/// Self-attention of the picture at a site that is visible to hooks.
#[derive(Debug)]
pub(super) struct SelfAttention {
    site: AttentionSite,
    picture: Projections,
    to_out: Linear,
}

impl SelfAttention {
    pub(super) fn new(w: &Weights, config: &Sd3Config, site: AttentionSite) -> Result<Self> {
        let picture = Projections::of_picture(w, config)?;
        Ok(Self { site, picture, to_out: w.at("to_out.0").linear(config.width(), config.width())? })
    }

    /// Computes the attention of the tokens `x`, [b, tokens, width], to each other.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap<'_>) -> Result<Tensor> {
        let q = self.picture.queries(x)?;
        let attended = tap.attend(&self.site, &q, x, |context| self.picture.keys_values(context))?;
        self.to_out.forward(&attended)
    }
}
