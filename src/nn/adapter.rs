//! Low-rank changes to an attention site's projections, for the figure or the background of a picture.

use super::layers::Linear;
use crate::error::Result;
use crate::weights::Weights;
use tch::Tensor;

/// Low-rank layers for queries, keys and values: up(down(x)) is added to each projection.
///
/// Source: the split adapters of ColorizeDiffusion v1.5.
#[derive(Debug)]
pub(super) struct Adapter([[Linear; 2]; 3]);

impl Adapter {
    /// Builds the adapter for `part` (`fg` or `bg`) from an attention site's weights; `None` if the weights have none.
    /// The shapes of the weights determine the ranks.
    pub(super) fn find(w: &Weights, part: &str, channels: i64, context: i64) -> Result<Option<Self>> {
        let pair = |projection: &str, inputs: i64| -> Result<Option<[Linear; 2]>> {
            let at = |half: &str| w.at(projection).at(format!("lora_{half}_{part}"));
            let Some(&[rank, _]) = at("down").shape("weight").as_deref() else { return Ok(None) };
            Ok(Some([at("down").linear_without_bias(inputs, rank)?, at("up").linear_without_bias(rank, channels)?]))
        };
        let Some(q) = pair("to_q", channels)? else { return Ok(None) };
        let (Some(k), Some(v)) = (pair("to_k", context)?, pair("to_v", context)?) else { return Ok(None) };
        Ok(Some(Self([q, k, v])))
    }

    /// Computes queries, keys and values from the inputs `of`: each plain projection plus the adapter's change.
    pub(super) fn projected(&self, plain: [&Linear; 3], of: [&Tensor; 3]) -> Result<[Tensor; 3]> {
        let changed = |plain: &Linear, [down, up]: &[Linear; 2], x: &Tensor| -> Result<Tensor> {
            Ok(plain.forward(x)?.f_add_(&up.forward(&down.forward(x)?)?)?)
        };
        let (Self([q, k, v]), [to_q, to_k, to_v], [of_q, of_k, of_v]) = (self, plain, of);
        Ok([changed(to_q, q, of_q)?, changed(to_k, k, of_k)?, changed(to_v, v, of_v)?])
    }
}
