//! Rotary position embedding: queries and keys are rotated by angles that grow with the position.

use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Rotations of queries and keys, one for each token.
///
/// Source: Su et al. (2021), "RoFormer".
#[derive(Debug)]
pub(crate) struct Rotary {
    /// cos and sin of the angles, f32 [tokens, d].
    cos: Tensor,
    sin: Tensor,
    layout: Layout,
}

/// The numbers of a head that are rotated together.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// Number i and number i + d/2, as in transformers' `rotate_half`.
    Halves,
    /// Numbers 2i and 2i + 1, which are a complex number each.
    Pairs,
}

impl Rotary {
    /// Creates the rotations by `angles`, [tokens, d/2]. Angle i rotates number i of a head together with number
    /// i + d/2.
    pub(crate) fn new(angles: &Tensor) -> Result<Self> {
        let both = Tensor::f_cat(&[angles, angles], -1)?;
        Ok(Self { cos: both.f_cos()?, sin: both.f_sin()?, layout: Layout::Halves })
    }

    /// Creates the rotations by `angles`, [tokens, d/2]. Angle i rotates number 2i of a head together with number
    /// 2i + 1.
    pub(crate) fn of_pairs(angles: &Tensor) -> Result<Self> {
        let both = angles.f_repeat_interleave_self_int(2, -1, None)?;
        Ok(Self { cos: both.f_cos()?, sin: both.f_sin()?, layout: Layout::Pairs })
    }

    /// Rotates keys, [b, heads, k · tokens, d]: a hook may add the tokens of other pictures to a context, and each
    /// picture's tokens have the same positions.
    ///
    /// # Errors
    /// [`Error::Shape`] if the keys are those of a part of a picture.
    pub(crate) fn rotate_pictures(&self, keys: &Tensor) -> Result<Tensor> {
        let ((b, heads, count, d), tokens) = (keys.size4()?, self.cos.size2()?.0);
        if count == tokens {
            return self.rotate(keys);
        }
        if count % tokens != 0 {
            let expected = format!("[rows, a multiple of {tokens} tokens, width], because the tokens have positions");
            return Err(Error::Shape {
                what: "the context of self-attention",
                got: vec![b, count, heads * d],
                expected,
            });
        }
        let pictures = keys.f_reshape([b, heads, count / tokens, tokens, d])?;
        Ok(self.rotate(&pictures)?.f_reshape([b, heads, count, d])?)
    }

    /// Rotates [.., tokens, d] in f32; the result has the kind of `x`.
    pub(crate) fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let turned = match self.layout {
            Layout::Halves => {
                let [first, second] = halves(x)?;
                Tensor::f_cat(&[second.f_neg()?, first], -1)?
            }
            Layout::Pairs => {
                let pairs = x.f_unflatten(-1, [-1, 2])?;
                let [first, second] = [pairs.f_select(-1, 0)?, pairs.f_select(-1, 1)?];
                Tensor::f_stack(&[second.f_neg()?, first], -1)?.f_flatten(-2, -1)?
            }
        };
        Ok(x.f_mul(&self.cos)?.f_addcmul(&turned, &self.sin)?.f_to_kind(x.f_kind()?)?)
    }
}

/// Splits the last axis into two halves.
fn halves(x: &Tensor) -> Result<[Tensor; 2]> {
    let half = x.size().last().copied().unwrap_or_default() / 2;
    Ok([x.f_narrow(-1, 0, half)?, x.f_narrow(-1, half, half)?])
}

/// Returns the angles of positions 0..`count` along one axis, f32 [count, width/2]: position · base^(−2k/width).
pub(crate) fn angles(count: i64, width: i64, base: f64, device: Device) -> Result<Tensor> {
    let exponents = Tensor::f_arange_start_step(0, width - 1, 2, (Kind::Double, device))?;
    let frequencies = exponents.f_mul_scalar(-base.ln() / width as f64)?.f_exp()?;
    let positions = Tensor::f_arange(count, (Kind::Double, device))?;
    Ok(positions.f_unsqueeze(1)?.f_mul(&frequencies)?.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_differ_by_the_order_of_numbers() -> Result<()> {
        let (angles, x) = (angles(5, 6, 100.0, Device::Cpu)?, Tensor::arange(30, (Kind::Float, Device::Cpu)).sin());
        let x = x.reshape([5, 6]);
        let pairs = Rotary::of_pairs(&angles)?.rotate(&x)?;
        // Number 2i of a pair is number i of the first half, and number 2i + 1 is number i of the second.
        let order = Tensor::from_slice(&[0i64, 2, 4, 1, 3, 5]);
        let halves = Rotary::new(&angles)?.rotate(&x.index_select(1, &order))?;
        assert!(pairs.index_select(1, &order).allclose(&halves, 1e-6, 1e-6, false), "{pairs} {halves}");
        Ok(())
    }

    #[test]
    fn products_depend_on_the_distance_alone() -> Result<()> {
        let rotary = Rotary::new(&angles(8, 6, 100.0, Device::Cpu)?)?;
        let [q, k] = [0.3f32, -0.7].map(|x| Tensor::from_slice(&[x, 1.0, 0.2, -x, 0.5, 2.0]).expand([8, 6], false));
        let products = rotary.rotate(&q)?.matmul(&rotary.rotate(&k)?.tr());
        let at = |row, column| products.double_value(&[row, column]);
        assert!((at(0, 3) - at(4, 7)).abs() < 1e-5 && (at(0, 3) - at(0, 4)).abs() > 1e-3, "{products}");
        assert_eq!(rotary.rotate(&q)?.get(0), q.get(0), "position 0 is not rotated");
        let [own, twice] = [1, 2].map(|times| k.repeat([times, 1]).view([1, 1, 8 * times, 6]));
        let (own, twice) = (rotary.rotate_pictures(&own)?, rotary.rotate_pictures(&twice)?);
        assert_eq!(twice, Tensor::cat(&[&own, &own], 2), "each picture's tokens have the same positions");
        let message = rotary.rotate_pictures(&twice.narrow(2, 0, 9)).unwrap_err().to_string();
        assert!(message.contains("a multiple of 8 tokens"), "{message}");
        Ok(())
    }
}
