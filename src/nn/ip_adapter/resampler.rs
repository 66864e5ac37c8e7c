//! [`Resampler`]: attention of trained latents to the states of an image encoder.

use super::shape::matrix;
use crate::error::Result;
use crate::nn::layers::{LayerNorm, Linear, attention};
use crate::weights::Weights;
use tch::Tensor;

/// Epsilon of all layer norms.
pub(super) const EPS: f64 = 1e-5;
/// Width of an attention head in every published file.
const HEAD: i64 = 64;

/// The Perceiver resampler of Plus files, [b, n, inputs] → [b, tokens, width]. Each layer moves the latents z:
///
/// z ← z + attention of z over (picture, z), z ← z + second·gelu(first·norm(z)).
///
/// Source: Alayrac et al., "Flamingo" (arXiv 2204.14198), as in `resampler.py` of tencent-ailab/IP-Adapter.
#[derive(Debug)]
pub(super) struct Resampler {
    latents: Tensor,
    proj_in: Linear,
    layers: Vec<Layer>,
    proj_out: Linear,
    norm_out: LayerNorm,
    /// Width of the states that are read.
    pub inputs: i64,
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    norm2: LayerNorm,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
    heads: i64,
    norm: LayerNorm,
    first: Linear,
    second: Linear,
}

impl Resampler {
    pub(super) fn new(w: &Weights, width: i64) -> Result<Self> {
        let (inner, inputs) = matrix(w, "proj_in.weight")?;
        let latents = w.shape("latents").unwrap_or_default();
        if !matches!(latents.as_slice(), &[1, tokens, columns] if tokens > 0 && columns == inner) {
            return Err(w.fault(format!(
                "image_proj.latents has shape {latents:?}; expected [1, tokens, {inner}]; download the file again"
            )));
        }
        let layers = (0..).map(|i| w.at("layers").at(i)).take_while(|layer| layer.has("0.to_q.weight"));
        Ok(Self {
            latents: w.tensor("latents", &latents)?,
            proj_in: w.at("proj_in").linear(inputs, inner)?,
            layers: layers.map(|layer| Layer::new(&layer, inner)).collect::<Result<_>>()?,
            proj_out: w.at("proj_out").linear(inner, width)?,
            norm_out: w.at("norm_out").layer_norm(width, EPS)?,
            inputs,
        })
    }

    pub(super) fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let picture = self.proj_in.forward(states)?;
        let mut z = self.latents.f_expand([picture.size3()?.0, -1, -1], false)?.f_contiguous()?;
        for layer in &self.layers {
            z = layer.forward(&picture, &z)?;
        }
        self.norm_out.forward(&self.proj_out.forward(&z)?)
    }
}

impl Layer {
    /// Builds a layer for latents of width `inner`.
    fn new(w: &Weights, inner: i64) -> Result<Self> {
        let (attends, feeds) = (w.at(0), w.at(1));
        let ((rows, _), (wide, _)) = (matrix(&attends, "to_q.weight")?, matrix(&feeds, "1.weight")?);
        if rows % HEAD != 0 {
            return Err(w.fault(format!(
                "{}.to_q.weight has {rows} rows; expected a multiple of {HEAD}, the width of a head; download the file \
                 again",
                attends.path()
            )));
        }
        Ok(Self {
            norm1: attends.at("norm1").layer_norm(inner, EPS)?,
            norm2: attends.at("norm2").layer_norm(inner, EPS)?,
            to_q: attends.at("to_q").linear_without_bias(inner, rows)?,
            to_kv: attends.at("to_kv").linear_without_bias(inner, 2 * rows)?,
            to_out: attends.at("to_out").linear_without_bias(rows, inner)?,
            heads: rows / HEAD,
            norm: feeds.at(0).layer_norm(inner, EPS)?,
            first: feeds.at(1).linear_without_bias(inner, wide)?,
            second: feeds.at(3).linear_without_bias(wide, inner)?,
        })
    }

    /// Moves the latents `z`, [b, tokens, inner], by the picture's states, [b, n, inner].
    fn forward(&self, picture: &Tensor, z: &Tensor) -> Result<Tensor> {
        let (y, u) = (self.norm1.forward(picture)?, self.norm2.forward(z)?);
        let both = self.to_kv.forward(&Tensor::f_cat(&[&y, &u], 1)?)?;
        let half = both.size3()?.2 / 2;
        let (k, v) = (both.f_narrow(2, 0, half)?, both.f_narrow(2, half, half)?);
        let z = self.to_out.forward(&attention(&self.to_q.forward(&u)?, &k, &v, self.heads, false)?)?.f_add_(z)?;
        let fed = self.first.forward(&self.norm.forward(&z)?)?.f_gelu("none")?;
        Ok(self.second.forward(&fed)?.f_add_(&z)?)
    }
}
