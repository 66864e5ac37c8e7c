//! Timesteps as vectors.

use super::layers::Linear;
use crate::error::Result;
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// Sinusoids of `values`, a vector of n: f32 [n, width]. The second half of the width has the sines, or the first if
/// `sin_first`. `shift` is diffusers' `freq_shift`.
///
/// Source: Attention Is All You Need, 3.5; layout as diffusers' `get_timestep_embedding`.
pub fn sinusoids(values: &Tensor, width: i64, sin_first: bool, shift: f64) -> Result<Tensor> {
    let half = width / 2;
    let frequencies = Tensor::f_arange(half, (Kind::Float, values.device()))?;
    // frequency i: 10000^(−i / (half − shift))
    let frequencies = frequencies.f_mul_scalar(-1e4f64.ln())?.f_div_scalar(half as f64 - shift)?.f_exp()?;
    let angles = values.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&frequencies)?;
    let (sin, cos) = (angles.f_sin()?, angles.f_cos()?);
    let both = Tensor::f_cat(&if sin_first { [sin, cos] } else { [cos, sin] }, 1)?;
    Ok(if width % 2 == 1 { both.f_constant_pad_nd([0, 1])? } else { both })
}

/// Two linear layers between sinusoids and what the resnets add.
#[derive(Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    cond_proj: Option<Linear>,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// From `inputs` numbers to `width`; with `condition`, a vector of that width may be given beside the timestep.
    pub fn new(w: &Weights, inputs: i64, width: i64, condition: Option<i64>) -> Result<Self> {
        Ok(Self {
            linear_1: w.at("linear_1").linear(inputs, width)?,
            cond_proj: condition.map(|n| w.at("cond_proj").linear_without_bias(n, inputs)).transpose()?,
            linear_2: w.at("linear_2").linear(width, width)?,
        })
    }

    /// [n, inputs] and perhaps [n, condition] → [n, width].
    pub fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let x = match (&self.cond_proj, condition) {
            (Some(project), Some(condition)) => x.f_add(&project.forward(condition)?)?,
            _ => x.shallow_clone(),
        };
        self.linear_2.forward(&self.linear_1.forward(&x)?.f_silu()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_swapped_and_odd_widths_padded() -> Result<()> {
        let t = Tensor::from_slice(&[0.5f64]);
        let read = |x: Tensor| Vec::<f32>::try_from(x.flatten(0, -1)).unwrap();
        let (sin, cos) = (0.5f32.sin(), 0.5f32.cos());
        assert_eq!(read(sinusoids(&t, 2, false, 0.0)?), [cos, sin]);
        assert_eq!(read(sinusoids(&t, 3, true, 0.0)?), [sin, cos, 0.0]);
        let shifted = read(sinusoids(&t, 4, true, 1.0)?);
        assert!((shifted[1] - 0.5e-4).abs() < 1e-9, "{shifted:?}");
        Ok(())
    }
}
