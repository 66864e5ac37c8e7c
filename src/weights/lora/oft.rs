//! [`Oft`]: rotations of a layer's outputs.

use super::product::float;
use crate::error::Result;
use tch::{Kind, Tensor};

/// Rotations of blocks of outputs. The change is W' − W, where W' is the rotated weight. Each block B of the file
/// becomes R = (I + Q)(I − Q)⁻¹ with Q = B − Bᵀ.
///
/// Blocks [n, b, b] are diagonal OFT: W' = Rᵀ · W for each of the n blocks of b rows. Blocks [stages, n, b, b] are
/// BOFT: each stage shuffles the rows, rotates the blocks by R, and undoes the shuffle. `rescale` then multiplies the
/// rows of W'.
///
/// Source: Qiu et al. (2023), "Controlling Text-to-Image Diffusion by Orthogonal Finetuning"; Liu et al. (2024),
/// "Parameter-Efficient Orthogonal Finetuning via Butterfly Factorization"; LyCORIS.
#[derive(Debug)]
pub(super) struct Oft {
    pub blocks: Tensor,
    pub rescale: Option<Tensor>,
    /// Upper bound of ‖Q‖ for each output, where Q is all blocks together; 0 for none.
    pub constraint: f64,
}

/// A number that is added to ‖Q‖ before the comparison with the constraint.
const EPSILON: f64 = 1e-8;
/// Largest number of stages, which a layer of 2⁶² outputs would have.
const MOST_STAGES: i64 = 62;

impl Oft {
    /// Returns true if the blocks rotate all outputs of a weight.
    pub(super) fn fits(&self, weight: &[i64]) -> bool {
        let &[outputs, _, ..] = weight else { return false };
        let rescales = self.rescale.as_ref().is_none_or(|x| {
            let size = x.size();
            size.first() == Some(&outputs) && x.numel() as i64 == outputs
        });
        let rotates = match *self.blocks.size() {
            [n, b, other] => b == other && n.checked_mul(b) == Some(outputs),
            [stages, n, b, other] => {
                let is_whole = b == other && b >= 2 && b % 2 == 0 && n.checked_mul(b) == Some(outputs);
                let pairs = |width: i64| width <= outputs && outputs % (2 * width) == 0;
                is_whole && (1..=MOST_STAGES).contains(&stages) && widths(stages, b).all(pairs)
            }
            _ => false,
        };
        rotates && rescales
    }

    /// Computes the change of a weight that [fits](Self::fits).
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch), if the weight has another number of outputs.
    pub(super) fn compute(&self, w: &Tensor) -> Result<Tensor> {
        let rotations = self.rotations(w)?;
        let rows = w.f_flatten(1, -1)?; // [o, i·h·w]
        let (outputs, inside) = rows.size2()?;
        let mut turned = match *self.blocks.size() {
            [n, b, _] => rotations.f_transpose(-2, -1)?.f_matmul(&rows.f_reshape([n, b, inside])?)?,
            [stages, n, b, _] => {
                let mut turned = rows;
                for (stage, width) in widths(stages, b).enumerate() {
                    let shuffle = |x: &Tensor, shape: [i64; 4]| -> Result<Tensor> {
                        Ok(x.f_reshape(shape)?.f_transpose(1, 2)?.f_reshape([n, b, inside])?)
                    };
                    turned = shuffle(&turned, [-1, 2, width, inside])?;
                    turned = rotations.f_select(0, stage as i64)?.f_matmul(&turned)?;
                    turned = shuffle(&turned, [-1, width, 2, inside])?;
                }
                turned
            }
            _ => rows,
        }
        .f_reshape([outputs, inside])?;
        if let Some(rescale) = &self.rescale {
            turned = turned.f_mul(&float(rescale, w.device())?.f_reshape([outputs, 1])?)?;
        }
        Ok(turned.f_reshape(w.size())?.f_sub(w)?)
    }

    /// Computes R for each block, on the weight's device: […, b, b].
    fn rotations(&self, w: &Tensor) -> Result<Tensor> {
        let blocks = float(&self.blocks, w.device())?;
        let mut q = blocks.f_sub(&blocks.f_transpose(-2, -1)?)?;
        let outputs = w.size().first().copied().unwrap_or_default();
        let (norm, most) = (q.f_norm()?.f_double_value(&[])? + EPSILON, self.constraint * outputs as f64);
        if self.constraint > 0.0 && norm > most {
            q = q.f_mul_scalar(most / norm)?;
        }
        let identity = Tensor::f_eye(q.size().last().copied().unwrap_or_default(), (Kind::Float, w.device()))?;
        Ok(identity.f_add(&q)?.f_matmul(&identity.f_sub(&q)?.f_inverse()?)?)
    }
}

/// Returns the distance of the rows that each stage of BOFT brings together: half a block, times a power of 2.
fn widths(stages: i64, block: i64) -> impl Iterator<Item = i64> {
    (0..stages.min(MOST_STAGES)).map(move |stage| (block / 2).saturating_mul(1 << stage))
}
