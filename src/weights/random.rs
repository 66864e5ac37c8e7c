//! Random weights, for networks without a checkpoint. Torch's random generator, which is global state, is not used.

use crate::error::Result;
use tch::Tensor;

/// Creates f32 values that depend on seed and name only; see [`super::Weights::random`].
pub(super) fn tensor(seed: u64, name: &str, shape: &[i64]) -> Result<Tensor> {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = match shape {
        [_, inner @ ..] if !inner.is_empty() => {
            let std = 1.0 / (inner.iter().product::<i64>().max(1) as f64).sqrt();
            // FNV-1a of the name, mixed with the seed.
            let hash =
                name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            let mut state = hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (0..count).map(|_| (std * normal(&mut state)) as f32).collect()
        }
        _ => vec![if name.ends_with("bias") { 0.0 } else { 1.0 }; count.max(0) as usize],
    };
    Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
}

/// Draws a nearly normal value of mean 0 and variance 1: the sum of four 16-bit uniforms out of one SplitMix64 draw.
fn normal(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48);
    // Each uniform has mean 1/2 and variance 1/12, so the sum of four has mean 2 and variance 1/3.
    (sum as f64 / 65535.0 - 2.0) * 3f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_seed_and_name_and_have_spread() -> Result<()> {
        let a = tensor(1, "a.weight", &[64, 16, 3, 3])?;
        assert!((a.std(true).double_value(&[]) * 12.0 - 1.0).abs() < 0.02);
        assert!(a.mean(None).double_value(&[]).abs() < 0.002);
        assert_eq!(a, tensor(1, "a.weight", &[64, 16, 3, 3])?);
        assert_ne!(a, tensor(2, "a.weight", &[64, 16, 3, 3])?);
        assert_ne!(a, tensor(1, "b.weight", &[64, 16, 3, 3])?);
        assert_eq!(tensor(1, "norm.weight", &[2])?, Tensor::from_slice(&[1f32, 1.0]));
        assert_eq!(tensor(1, "norm.bias", &[2])?, Tensor::from_slice(&[0f32, 0.0]));
        Ok(())
    }
}
