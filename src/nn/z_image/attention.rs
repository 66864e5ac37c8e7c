//! Attention of a layer: of a picture alone, of a caption alone, and of both.

use super::config::ZImageConfig;
use super::finite::finite;
use super::positions::Positions;
use crate::attention::{AttentionSite, Stream, Tap, repeated};
use crate::error::Result;
use crate::nn::layers::{Linear, split_heads};
use crate::nn::rms_norm::RmsNorm;
use crate::nn::rotary::Rotary;
use crate::weights::Weights;
use tch::Tensor;

/// The method that applies a linear layer: [`Linear::forward`] for a picture's tokens, [`Linear::forward_prompt`] for
/// the others.
pub(super) type Apply = fn(&Linear, &Tensor) -> Result<Tensor>;

/// Epsilon of the norms of queries and keys.
const EPS: f64 = 1e-5;

/// The layers of attention, which all tokens share. Queries and keys are normed for each head, and then rotated.
#[derive(Debug)]
pub(super) struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    norm_q: RmsNorm,
    norm_k: RmsNorm,
    to_out: Linear,
    heads: i64,
}

impl Attention {
    pub(super) fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        let (width, heads) = (config.dim, config.n_heads);
        let linear = |name| w.at(name).linear_without_bias(width, width);
        let norm = |name| RmsNorm::new(&w.at(name), width / heads, EPS);
        Ok(Self {
            to_q: linear("to_q")?,
            to_k: linear("to_k")?,
            to_v: linear("to_v")?,
            norm_q: norm("norm_q")?,
            norm_k: norm("norm_k")?,
            to_out: linear("to_out.0")?,
            heads,
        })
    }

    /// Computes the queries of tokens, [b, tokens, width] → [b, heads, tokens, d].
    fn queries(&self, x: &Tensor, rotary: &Rotary, apply: Apply) -> Result<Tensor> {
        rotary.rotate(&self.norm_q.forward_heads(&apply(&self.to_q, x)?, self.heads)?)
    }

    /// Computes the keys of tokens before their rotation, and the values.
    fn keys_values(&self, x: &Tensor, apply: Apply) -> Result<[Tensor; 2]> {
        let k = self.norm_k.forward_heads(&apply(&self.to_k, x)?, self.heads)?;
        Ok([k, split_heads(&apply(&self.to_v, x)?, self.heads)?])
    }

    fn stream(&self, x: &Tensor, rotary: &Rotary, apply: Apply) -> Result<Stream> {
        let [k, v] = self.keys_values(x, apply)?;
        Ok(Stream { q: self.queries(x, rotary, apply)?, k: rotary.rotate(&k)?, v })
    }

    /// Applies the output layer.
    fn output(&self, x: &Tensor, apply: Apply) -> Result<Tensor> {
        finite(apply(&self.to_out, x)?)
    }

    /// Computes the attention of a caption's tokens to each other.
    pub(super) fn of_caption(&self, x: &Tensor, positions: &Positions) -> Result<Tensor> {
        let attended = plain(&self.stream(x, &positions.caption, Linear::forward_prompt)?)?;
        self.output(&attended, Linear::forward_prompt)
    }

    /// Computes the attention of a picture's tokens `x` and the tokens `filling` that fill its stream, [n, tokens,
    /// width] each. Hooks take part in the attention of the picture's tokens. A hook may make the branches differ, so
    /// the results may have more rows than `x`.
    pub(super) fn of_picture(
        &self,
        x: &Tensor,
        filling: Option<&Tensor>,
        positions: &Positions,
        site: &AttentionSite,
        tap: &mut Tap<'_>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let q = self.queries(x, &positions.picture, Linear::forward)?;
        let all = match filling {
            Some(filling) => Tensor::f_cat(&[x, filling], 1)?,
            None => x.shallow_clone(),
        };
        let attended = tap.attend(site, &q, &all, |context| {
            let [k, v] = self.keys_values(context, Linear::forward)?;
            Ok((positions.stream.rotate_pictures(&k)?, v))
        })?;
        let filling = filling.map(|filling| {
            let [k, v] = self.keys_values(&all, Linear::forward)?;
            let q = self.queries(filling, &positions.filling, Linear::forward_prompt)?;
            let attended = plain(&Stream { q, k: positions.stream.rotate(&k)?, v })?;
            self.output(&attended, Linear::forward_prompt)
        });
        Ok((self.output(&attended, Linear::forward)?, filling.transpose()?))
    }

    /// Computes the attention of a picture's tokens `x` and of the other tokens `beside`, which begin with the
    /// caption's, [b, tokens, width] each, to all of them.
    pub(super) fn joint(
        &self,
        x: &Tensor,
        beside: &Tensor,
        positions: &Positions,
        site: &AttentionSite,
        config: &ZImageConfig,
        tap: &mut Tap<'_>,
    ) -> Result<[Tensor; 2]> {
        let picture = self.stream(x, &positions.picture, Linear::forward)?;
        let others = self.stream(beside, &positions.beside, Linear::forward_prompt)?;
        // Other tokens that a hook attends to are those of a caption.
        let project = |context: &Tensor| {
            let [k, v] = self.keys_values(context, Linear::forward_prompt)?;
            let rotary = Positions::of_caption(config, context.size3()?.1, context.device())?;
            Ok((rotary.rotate(&k)?, v))
        };
        let [picture, others] = tap.attend_joint(site, &picture, &others, project)?;
        Ok([self.output(&picture, Linear::forward)?, self.output(&others, Linear::forward_prompt)?])
    }
}

/// Computes attention without hooks → [b, queries, heads · d]. Keys may have more rows than queries have.
fn plain(stream: &Stream) -> Result<Tensor> {
    let q = repeated(&stream.q, stream.k.size4()?.0)?;
    let y = Tensor::f_scaled_dot_product_attention(
        &q,
        &stream.k,
        &stream.v,
        None::<Tensor>,
        0.0,
        false,
        None::<f64>,
        false,
    )?;
    Ok(y.f_transpose(1, 2)?.f_flatten(2, 3)?)
}
