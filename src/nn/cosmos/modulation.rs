//! The time of a flow, and the layers by which blocks compute shifts, scales and gates from it.

use crate::error::Result;
use crate::nn::layers::Linear;
use crate::nn::modulated::Modulated;
use crate::nn::rms_norm::RmsNorm;
use crate::nn::time::Sinusoids;
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// The time embedding of a Cosmos transformer.
#[derive(Debug)]
pub(super) struct TimeEmbedding {
    sinusoids: Sinusoids,
    norm: RmsNorm,
    linear_1: Linear,
    linear_2: Linear,
}

/// An embedded time, for every block.
#[derive(Debug)]
pub(super) struct Time {
    /// The normed sinusoids after a SiLU, [1 or b, width], from which every block computes its own modulation.
    own: Tensor,
    /// Modulation that all blocks share, [1 or b, 3·width].
    shared: Tensor,
}

impl TimeEmbedding {
    pub(super) fn new(w: &Weights, width: i64) -> Result<Self> {
        let mlp = w.at("t_embedder");
        Ok(Self {
            sinusoids: Sinusoids::new(width, false, 0.0, w.device())?,
            norm: RmsNorm::new(&w.at("norm"), width, 1e-6)?,
            linear_1: mlp.at("linear_1").linear_without_bias(width, width)?,
            linear_2: mlp.at("linear_2").linear_without_bias(width, 3 * width)?,
        })
    }

    /// Embeds times, [1 or b], for a network of a kind.
    pub(super) fn forward(&self, times: &Tensor, kind: Kind) -> Result<Time> {
        let sinusoids = self.sinusoids.of(times)?.f_to_kind(kind)?;
        let shared = self.linear_2.forward(&self.linear_1.forward(&sinusoids)?.f_silu()?)?;
        Ok(Time { own: self.norm.forward(&sinusoids)?.f_silu()?, shared })
    }
}

/// Layers of low rank that compute a part's shift, scale and perhaps gate from the time (AdaLN-LoRA).
///
/// Source: Peebles and Xie (2022), "Scalable Diffusion Models with Transformers" (adaptive layer norms).
#[derive(Debug)]
pub(super) struct Modulation {
    linear_1: Linear,
    linear_2: Linear,
    width: i64,
    /// Number of values for each channel: 2 (shift and scale) or 3 (with a gate).
    values: i64,
}

impl Modulation {
    pub(super) fn new(w: &Weights, width: i64, rank: i64, values: i64) -> Result<Self> {
        Ok(Self {
            linear_1: w.at("linear_1").linear_without_bias(width, rank)?,
            linear_2: w.at("linear_2").linear_without_bias(rank, values * width)?,
            width,
            values,
        })
    }

    /// Computes what the time does to a part of a block.
    pub(super) fn forward(&self, time: &Time) -> Result<Modulated> {
        let own = self.linear_2.forward(&self.linear_1.forward(&time.own)?)?;
        let all = own.f_add(&time.shared.f_narrow(1, 0, self.values * self.width)?)?.f_unsqueeze(1)?;
        let value = |i: i64| all.f_narrow(2, i * self.width, self.width);
        let gate = if self.values > 2 { Some(value(2)?) } else { None };
        Modulated::new(value(0)?, &value(1)?, gate)
    }
}
