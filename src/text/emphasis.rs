//! Emphasis: the effect of word weights on a text encoder's states.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Effect of word weights on a text encoder's states. If all weights are 1, states stay the same, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emphasis {
    /// Multiplies states by their weights, then scales each chunk back to its original mean, as the AUTOMATIC1111 web
    /// UI does.
    #[default]
    Original,
    /// Multiplies states by their weights, without restoring the mean.
    NoNorm,
    /// Moves states away from the states of an empty prompt, or towards these states, as ComfyUI does:
    /// empty + (state − empty)·weight.
    Interpolate,
}

impl Emphasis {
    /// Weights `states`, [chunks, 77, width] f32, by `weights`, [chunks, 77]. `empty` returns the empty prompt's
    /// states, [1, 77, width].
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only.
    pub(crate) fn apply(
        self,
        states: &Tensor,
        weights: &Tensor,
        empty: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let weights = weights.f_unsqueeze(-1)?;
        match self {
            Self::Interpolate => {
                let empty = empty()?;
                Ok(empty.f_add(&states.f_sub(&empty)?.f_mul(&weights)?)?)
            }
            Self::NoNorm => Ok(states.f_mul(&weights)?),
            Self::Original => {
                let weighed = states.f_mul(&weights)?;
                let mean = |x: &Tensor| x.f_mean_dim([1i64, 2].as_slice(), true, Kind::Float);
                let (before, after) = (mean(states)?, mean(&weighed)?);
                // A mean near 0 cannot be restored, nor become one: the factor would be huge, 0, or 0/0.
                let (one, other) = (before.f_abs()?, after.f_abs()?);
                let lost = one.f_minimum(&other)?.f_le_tensor(&one.f_maximum(&other)?.f_mul_scalar(1e-6)?)?;
                let back = before.f_div(&after)?.f_masked_fill(&lost, 1.0)?;
                Ok(weighed.f_mul(&back)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::Noise;

    #[test]
    fn every_emphasis_weights_states_by_its_rule() -> Result<()> {
        let states = Noise::shared(1).draw(&[2, 77, 8])? + 0.5;
        let empty = || Noise::shared(2).draw(&[1, 77, 8]);
        let weights = Tensor::ones([2, 77], tch::kind::FLOAT_CPU);
        let _ = weights.narrow(0, 0, 1).narrow(1, 3, 1).fill_(1.5);
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        let word = |x: &Tensor| x.narrow(0, 0, 1).narrow(1, 3, 1);

        let plain = Emphasis::NoNorm.apply(&states, &weights, empty)?;
        assert!(apart(&word(&plain), &(word(&states) * 1.5)) < 1e-6);
        assert_eq!(plain.get(1), states.get(1), "the other chunk stays");

        let original = Emphasis::Original.apply(&states, &weights, empty)?;
        let mean = |x: &Tensor| x.mean(Kind::Double).double_value(&[]);
        assert!((mean(&original.get(0)) - mean(&states.get(0))).abs() < 1e-6);

        let balanced = Tensor::f_cat(&[&states, &-&states], 2)?; // each mean is 0, also of weighed states
        let original = Emphasis::Original.apply(&balanced, &weights, empty)?;
        assert_eq!(original, Emphasis::NoNorm.apply(&balanced, &weights, empty)?, "a mean of 0 is not restored");

        let between = Emphasis::Interpolate.apply(&states, &weights, empty)?;
        let e = empty()?.narrow(1, 3, 1);
        assert!(apart(&word(&between), &(&e + (word(&states) - &e) * 1.5)) < 1e-5);
        Ok(())
    }
}
