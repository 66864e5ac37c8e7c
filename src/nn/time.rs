//! Embeddings of timesteps.

use super::layers::Linear;
use crate::error::Result;
use crate::weights::Weights;
use tch::{Device, Kind, Tensor};

/// Sinusoidal embedding of numbers, with waves of many lengths.
///
/// Source: Attention Is All You Need, 3.5; layout as diffusers' `get_timestep_embedding`.
#[derive(Debug)]
pub(crate) struct Sinusoids {
    frequencies: Tensor,
    sin_first: bool,
    odd: bool,
}

impl Sinusoids {
    /// Creates an embedding of `width` values for each number. The sines are the second half, or the first half if
    /// `sin_first`. An odd width ends with a 0. `shift` is diffusers' `freq_shift`.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) only.
    pub(crate) fn new(width: i64, sin_first: bool, shift: f64, device: Device) -> Result<Self> {
        let half = width / 2;
        // frequency i: 10000^(−i / (half − shift))
        let exponents = Tensor::f_arange(half, (Kind::Float, device))?.f_mul_scalar(-1e4f64.ln())?;
        let frequencies = exponents.f_div_scalar(half as f64 - shift)?.f_exp()?;
        Ok(Self { frequencies, sin_first, odd: width % 2 == 1 })
    }

    /// Embeds a vector of n numbers → f32 [n, width].
    ///
    /// # Errors
    /// [`Error::Torch`](crate::error::Error::Torch) if `values` is not a vector, or is on another device.
    pub(crate) fn of(&self, values: &Tensor) -> Result<Tensor> {
        let angles = values.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&self.frequencies)?;
        let (sin, cos) = (angles.f_sin()?, angles.f_cos()?);
        let both = Tensor::f_cat(&if self.sin_first { [sin, cos] } else { [cos, sin] }, 1)?;
        Ok(if self.odd { both.f_constant_pad_nd([0, 1])? } else { both })
    }
}

/// The time embedding: two linear layers with a SiLU, between the sinusoids and the time projections.
#[derive(Debug)]
pub(crate) struct TimestepEmbedding {
    linear_1: Linear,
    cond_proj: Option<Linear>,
    linear_2: Linear,
}

impl TimestepEmbedding {
    /// Builds the layers from `inputs` numbers to `width`. `condition` is the width of an optional vector that is
    /// embedded with the timestep.
    pub(crate) fn new(w: &Weights, inputs: i64, width: i64, condition: Option<i64>) -> Result<Self> {
        Ok(Self {
            linear_1: w.at("linear_1").linear(inputs, width)?,
            cond_proj: condition.map(|n| w.at("cond_proj").linear_without_bias(n, inputs)).transpose()?,
            linear_2: w.at("linear_2").linear(width, width)?,
        })
    }

    /// Embeds the sinusoids `x`, [n, inputs], and an optional condition, [n, condition] → [n, width].
    pub(crate) fn forward(&self, x: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let x = match (&self.cond_proj, condition) {
            (Some(project), Some(condition)) => x.f_add(&project.forward(condition)?)?,
            _ => x.shallow_clone(),
        };
        self.linear_2.forward(&self.linear_1.forward(&x)?.f_silu()?)
    }
}

/// Time projections of the residual blocks in a part of a network: one linear layer for each block, all computed
/// together.
#[derive(Debug)]
pub(super) struct TimeProjections {
    /// Layers, each with the output widths of its residual blocks.
    layers: Vec<(Linear, Vec<i64>)>,
}

impl TimeProjections {
    /// Joins the layers of residual blocks, in order. Layers in training and offloaded layers stay separate: a joined
    /// layer is a copy, which would miss updates and take memory.
    pub(super) fn new(each: Vec<Linear>) -> Result<Self> {
        let outputs: Vec<i64> = each.iter().map(Linear::outputs).collect();
        let layers = match Linear::join(&each)? {
            Some(one) => vec![(one, outputs)],
            None => each.into_iter().zip(outputs).map(|(layer, outputs)| (layer, vec![outputs])).collect(),
        };
        Ok(Self { layers })
    }

    /// Projects the time embedding after its SiLU, [1 or b, width] → [1 or b, outputs] for each residual block.
    pub(super) fn forward(&self, time: &Tensor) -> Result<Vec<Tensor>> {
        let mut all = Vec::new();
        for (layer, outputs) in &self.layers {
            all.extend(layer.forward(time)?.f_split_with_sizes(outputs.as_slice(), 1)?);
        }
        Ok(all)
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
        let waves = |width, sin_first, shift| Sinusoids::new(width, sin_first, shift, Device::Cpu)?.of(&t);
        assert_eq!(read(waves(2, false, 0.0)?), [cos, sin]);
        assert_eq!(read(waves(3, true, 0.0)?), [sin, cos, 0.0]);
        let shifted = read(waves(4, true, 1.0)?);
        assert!((shifted[1] - 0.5e-4).abs() < 1e-9, "{shifted:?}");
        Ok(())
    }

    #[test]
    fn projections_are_joined_unless_they_are_trained() -> Result<()> {
        let w = crate::weights::Weights::random(1, Kind::Float, Device::Cpu);
        let layers =
            || [3, 5, 2].map(|outputs| w.at(outputs).linear(4, outputs)).into_iter().collect::<Result<Vec<_>>>();
        let time = Tensor::randn([2, 4], (Kind::Float, Device::Cpu));
        let joined = TimeProjections::new(layers()?)?;
        assert_eq!(joined.layers.len(), 1);
        let [together, apart] =
            [joined.forward(&time)?, layers()?.iter().map(|l| l.forward(&time)).collect::<Result<_>>()?];
        for (one, other) in together.iter().zip(&apart) {
            assert!(one.size() == other.size() && one.allclose(other, 1e-6, 1e-6, false), "{one} {other}");
        }
        let trained = crate::weights::Weights::new(
            "training",
            [("weight", vec![3i64, 4]), ("bias", vec![3])]
                .map(|(name, shape)| {
                    (name.to_owned(), Tensor::zeros(&shape, (Kind::Float, Device::Cpu)).set_requires_grad(true))
                })
                .into(),
            Kind::Float,
            Device::Cpu,
        );
        let layers = vec![trained.linear(4, 3)?, trained.linear(4, 3)?];
        assert_eq!(TimeProjections::new(layers)?.layers.len(), 2);
        Ok(())
    }
}
