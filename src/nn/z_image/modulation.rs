//! The embedded time, and the scales and gates that layers compute from it.

use super::config::ZImageConfig;
use crate::error::Result;
use crate::nn::layers::Linear;
use crate::nn::rms_norm::RmsNorm;
use crate::nn::time::Sinusoids;
use crate::weights::Weights;
use tch::{Kind, Tensor};

/// Width of a time's sinusoids.
const SINUSOIDS: i64 = 256;
/// Epsilon of the norm before the prediction.
const FINAL_EPS: f64 = 1e-6;

/// The time embedding: two linear layers with a SiLU.
#[derive(Debug)]
pub(super) struct TimeEmbedder {
    sinusoids: Sinusoids,
    first: Linear,
    second: Linear,
    /// Factor of the time before its sinusoids.
    scale: f64,
}

impl TimeEmbedder {
    pub(super) fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        Ok(Self {
            sinusoids: Sinusoids::new(SINUSOIDS, false, 0.0, w.device())?,
            first: w.at("mlp.0").linear(SINUSOIDS, config.time_width)?,
            second: w.at("mlp.2").linear(config.time_width, config.time())?,
            scale: config.t_scale,
        })
    }

    /// Embeds times as the network counts them, from 0 for noise to 1 for the picture, [1 or b] → [1 or b, 1, width].
    /// `kind` is the kind of the network.
    pub(super) fn forward(&self, times: &Tensor, kind: Kind) -> Result<Tensor> {
        let sinusoids = self.sinusoids.of(&times.f_mul_scalar(self.scale)?)?.f_to_kind(kind)?;
        Ok(self.second.forward(&self.first.forward(&sinusoids)?.f_silu()?)?.f_unsqueeze(1)?)
    }
}

/// Scale and gate of a part of a layer, [1 or b, 1, width] each; `None` in layers that do not read the time.
#[derive(Debug)]
pub(super) struct Part(Option<[Tensor; 2]>);

impl Part {
    /// Normalises tokens, and then scales them; the result has the kind of the layers.
    pub(super) fn norm(&self, norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        let normed = norm.forward(x)?;
        Ok(match &self.0 {
            Some([scale, _]) => normed.f_mul(scale)?,
            None => normed,
        })
    }

    /// Adds `y`, the normed result of the part, times the gate to the tokens `x`.
    pub(super) fn add(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Ok(match &self.0 {
            Some([_, gate]) => x.f_addcmul(y, gate)?,
            None => x.f_add(y)?,
        })
    }
}

/// A layer that computes the scales and gates of a layer's two parts from the time.
///
/// Source: Peebles and Xie (2022), "Scalable Diffusion Models with Transformers" (adaptive layer norms).
#[derive(Debug)]
pub(super) struct Modulation(Linear);

impl Modulation {
    pub(super) fn new(w: &Weights, config: &ZImageConfig) -> Result<Self> {
        Ok(Self(w.at(0).linear(config.time(), 4 * config.dim)?))
    }

    /// Computes the modulations of attention and feed-forward layer. Gates are in −1..1, by a tanh.
    pub(super) fn forward(&self, time: &Tensor) -> Result<[Part; 2]> {
        let all = self.0.forward(time)?;
        let width = all.size3()?.2 / 4;
        let part = |i: i64| -> Result<Part> {
            let scale = all.f_narrow(2, 2 * i * width, width)?.f_add_scalar(1.0)?;
            Ok(Part(Some([scale, all.f_narrow(2, (2 * i + 1) * width, width)?.f_tanh()?])))
        };
        Ok([part(0)?, part(1)?])
    }

    /// Returns the parts of a layer without a modulation.
    pub(super) const fn none() -> [Part; 2] {
        [Part(None), Part(None)]
    }
}

/// The last layer: a scaled norm, and the prediction of each patch.
#[derive(Debug)]
pub(super) struct FinalLayer {
    modulation: Linear,
    linear: Linear,
}

impl FinalLayer {
    /// Builds the layer for `values` numbers of each patch.
    pub(super) fn new(w: &Weights, config: &ZImageConfig, values: i64) -> Result<Self> {
        Ok(Self {
            modulation: w.at("adaLN_modulation.1").linear(config.time(), config.dim)?,
            linear: w.at("linear").linear(config.dim, values)?,
        })
    }

    /// Computes the patches of the prediction from the picture's tokens, [b, tokens, width] f32.
    pub(super) fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let scale = self.modulation.forward(&time.f_silu()?)?.f_add_scalar(1.0)?;
        let normed = x.f_layer_norm([x.size3()?.2], None::<Tensor>, None::<Tensor>, FINAL_EPS, true)?;
        self.linear.forward(&normed.f_mul(&scale)?.f_to_kind(scale.f_kind()?)?)
    }
}
