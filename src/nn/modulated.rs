//! Shifts, scales and gates by which a condition changes the parts of a transformer's blocks.

use crate::error::Result;
use tch::Tensor;

/// Number that is added to the variance of a token.
const EPSILON: f64 = 1e-6;

/// Shift, scale and gate of a part of a block, [1 or b, 1, width] each.
///
/// Source: Peebles and Xie (2022), "Scalable Diffusion Models with Transformers" (adaptive layer norms).
#[derive(Debug)]
pub(crate) struct Modulated {
    shift: Tensor,
    scale: Tensor,
    gate: Option<Tensor>,
}

impl Modulated {
    /// Creates a modulation by 1 + `scale`, and by a gate if the part is added to its input.
    pub(crate) fn new(shift: Tensor, scale: &Tensor, gate: Option<Tensor>) -> Result<Self> {
        Ok(Self { shift, scale: scale.f_add_scalar(1.0)?, gate })
    }

    /// Normalises the tokens `x`, [b, tokens, width] f32, and then scales and shifts them; the result has the kind of
    /// the layers.
    pub(crate) fn norm(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, _, width) = x.size3()?;
        let [weight, bias] = [&self.scale, &self.shift].map(|x| x.f_reshape([-1, width]));
        let (weight, bias) = (weight?, bias?);
        if [1, rows].contains(&weight.size2()?.0) && impasto_kernels::normalizes_rows(x, (&weight, &bias)) {
            return Ok(impasto_kernels::layer_norm(x, (&weight, &bias), EPSILON)?);
        }
        let normed = x.f_layer_norm([width], None::<Tensor>, None::<Tensor>, EPSILON, true)?;
        Ok(self.shift.f_addcmul(&normed, &self.scale)?.f_to_kind(self.scale.f_kind()?)?)
    }

    /// Adds `y`, the result of the part, times the gate to the tokens `x`.
    pub(crate) fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(match &self.gate {
            Some(gate) => x.f_addcmul(y, gate)?,
            None => x.f_add(y)?,
        })
    }
}
