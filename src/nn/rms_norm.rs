//! A norm by the root mean square.

use crate::error::Result;
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// A norm of vectors by their root mean square, w·x/√(mean(x²) + ε) over the last axis.
///
/// Source: Zhang and Sennrich (2019), "Root Mean Square Layer Normalization".
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Builds a norm of vectors of `width` numbers.
    pub(crate) fn new(w: &Weights, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: w.tensor("weight", &[width])?, eps })
    }

    /// Normalises each head's part of projected tokens, [b, tokens, heads · width] → [b, heads, tokens, width].
    pub(crate) fn forward_heads(&self, x: &Tensor, heads: i64) -> Result<Tensor> {
        let (b, tokens, all) = x.size3()?;
        let width = all / heads.max(1);
        Ok(self.forward(&x.f_reshape([b, tokens, heads, width])?)?.f_transpose(1, 2)?)
    }

    /// Normalises [.., width] in f32; the shape stays. The result has the kind of the weights.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if impasto_kernels::scales_rows(x, &self.weight) {
            return Ok(impasto_kernels::rms_norm(x, &self.weight, self.eps)?);
        }
        let x = x.f_to_kind(Kind::Float)?;
        let mean = x.f_square()?.f_mean_dim([-1].as_slice(), true, Kind::Float)?;
        let normed = x.f_mul(&mean.f_add_scalar(self.eps)?.f_rsqrt()?)?;
        Ok(normed.f_mul(&self.weight)?.f_to_kind(self.weight.f_kind()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn vectors_get_a_root_mean_square_of_one() -> Result<()> {
        let norm = RmsNorm::new(&Weights::random(1, Kind::Float, Device::Cpu), 4, 1e-6)?;
        let y = norm.forward(&Tensor::from_slice(&[3f32, -3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0]).reshape([2, 4]))?;
        let want = Tensor::from_slice(&[1f32, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).reshape([2, 4]);
        assert!(y.allclose(&want, 1e-5, 1e-5, false), "{y}");
        Ok(())
    }
}
