//! Embedded conditions of an evaluation, and the layers by which blocks compute shifts, scales and gates from them.

use super::config::Sd3Config;
use crate::error::Result;
use crate::nn::layers::Linear;
use crate::nn::modulated::Modulated;
use crate::nn::time::{Sinusoids, TimestepEmbedding};
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// Width of a timestep's sinusoids.
const SINUSOIDS: i64 = 256;

/// The embedding of the timestep and of the pooled text.
#[derive(Debug)]
pub(super) struct Conditions {
    sinusoids: Sinusoids,
    timestep_embedder: TimestepEmbedding,
    /// Layers of the pooled text, which are built as those of the timestep.
    text_embedder: TimestepEmbedding,
}

impl Conditions {
    pub(super) fn new(w: &Weights, config: &Sd3Config) -> Result<Self> {
        let embedder = |name, inputs| TimestepEmbedding::new(&w.at(name), inputs, config.width(), None);
        Ok(Self {
            sinusoids: Sinusoids::new(SINUSOIDS, false, 0.0, w.device())?,
            timestep_embedder: embedder("timestep_embedder", SINUSOIDS)?,
            text_embedder: embedder("text_embedder", config.pooled_projection_dim)?,
        })
    }

    /// Embeds timesteps, [1 or b], and pooled texts, [b, width of the text], after a SiLU → [b, 1, width]. `kind` is
    /// the kind of the network.
    pub(super) fn forward(&self, timesteps: &Tensor, pooled: &Tensor, kind: Kind) -> Result<Tensor> {
        let time = self.timestep_embedder.forward(&self.sinusoids.of(timesteps)?.f_to_kind(kind)?, None)?;
        let text = self.text_embedder.forward(&pooled.f_to_kind(kind)?, None)?;
        Ok(text.f_add(&time)?.f_silu()?.f_unsqueeze(1)?)
    }
}

/// A layer that computes the modulations of a block's parts from the conditions.
#[derive(Debug)]
pub(super) struct Modulation {
    linear: Linear,
    width: i64,
}

/// Values of a block's parts for each channel, [b, 1, values · width].
#[derive(Debug)]
pub(super) struct Values {
    all: Tensor,
    width: i64,
}

impl Modulation {
    /// Builds a layer with `values` numbers for each channel.
    pub(super) fn new(w: &Weights, width: i64, values: i64) -> Result<Self> {
        Ok(Self { linear: w.at("linear").linear(width, values * width)?, width })
    }

    /// Computes the values of all parts.
    pub(super) fn forward(&self, conditions: &Tensor) -> Result<Values> {
        Ok(Values { all: self.linear.forward(conditions)?, width: self.width })
    }
}

impl Values {
    /// Returns the values with index `i`, [b, 1, width].
    fn value(&self, i: i64) -> Result<Tensor> {
        Ok(self.all.f_narrow(2, i * self.width, self.width)?)
    }

    /// Returns the modulation of the part with index `i`. The values of a part are shift, scale and gate.
    pub(super) fn part(&self, i: i64) -> Result<Modulated> {
        Modulated::new(self.value(3 * i)?, &self.value(3 * i + 1)?, Some(self.value(3 * i + 2)?))
    }

    /// Returns the modulation of the part that ends a stream. Its values are scale and shift.
    pub(super) fn end(&self) -> Result<Modulated> {
        Modulated::new(self.value(1)?, &self.value(0)?, None)
    }
}
