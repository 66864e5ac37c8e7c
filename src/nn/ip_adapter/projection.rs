//! [`Projection`]: the projection of an image encoder's output to tokens.

use super::form::Form;
use super::resampler::{EPS, Resampler};
use super::shape::matrix;
use crate::error::{Error, Result};
use crate::nn::clip_vision::{ClipVisionConfig, VisionStates};
use crate::nn::layers::{LayerNorm, Linear};
use crate::weights::Weights;
use tch::Tensor;

/// The projection of an image encoder's output to tokens, [b, tokens, width].
#[derive(Debug)]
pub(super) enum Projection {
    /// tokens = norm(proj·x) for the embedding x of the whole picture.
    Plain { proj: Linear, norm: LayerNorm, tokens: i64, inputs: i64 },
    /// token = norm(second·gelu(first·x)) for each state x.
    FullFace { first: Linear, second: Linear, norm: LayerNorm, inputs: i64 },
    /// Attention of trained latents to the states.
    Plus(Resampler),
}

impl Projection {
    /// Builds the projection from `w`, with tokens of `width` columns.
    pub(super) fn new(w: &Weights, form: Form, width: i64) -> Result<Self> {
        match form {
            Form::Plain => Self::plain(w, width),
            Form::FullFace => Self::full_face(&w.at("proj"), width),
            Form::Plus => Ok(Self::Plus(Resampler::new(w, width)?)),
        }
    }

    fn plain(w: &Weights, width: i64) -> Result<Self> {
        let (rows, inputs) = matrix(w, "proj.weight")?;
        if rows % width != 0 {
            return Err(w.fault(format!(
                "image_proj.proj.weight has {rows} rows; expected a multiple of {width}, the width of \
                 ip_adapter.1.to_k_ip.weight; download the file again"
            )));
        }
        let (proj, norm) = (w.at("proj").linear(inputs, rows)?, w.at("norm").layer_norm(width, EPS)?);
        Ok(Self::Plain { proj, norm, tokens: rows / width, inputs })
    }

    fn full_face(w: &Weights, width: i64) -> Result<Self> {
        let (inner, inputs) = matrix(w, "0.weight")?;
        Ok(Self::FullFace {
            first: w.at(0).linear(inputs, inner)?,
            second: w.at(2).linear(inner, width)?,
            norm: w.at(3).layer_norm(width, EPS)?,
            inputs,
        })
    }

    /// Checks that the projection reads the output of an image encoder.
    ///
    /// # Errors
    /// A description of the encoder that the adapter needs.
    pub(super) fn check(&self, encoder: &ClipVisionConfig) -> std::result::Result<(), String> {
        let wide = |width: i64, names: &[(i64, &str)]| {
            let name = names.iter().find(|(own, _)| *own == width);
            name.map_or_else(|| width.to_string(), |(_, name)| format!("{width} ({name})"))
        };
        let (wants, has, names): (_, _, &[_]) = match self {
            Self::Plain { inputs, .. } => {
                (*inputs, encoder.projection_dim, &[(1024, "ViT-H"), (1280, "bigG"), (768, "ViT-L"), (512, "ViT-B")])
            }
            Self::FullFace { inputs, .. } | Self::Plus(Resampler { inputs, .. }) => {
                (*inputs, encoder.hidden_size, &[(1280, "ViT-H"), (1664, "bigG"), (1024, "ViT-L"), (768, "ViT-B")])
            }
        };
        if wants == has {
            return Ok(());
        }
        let what = if matches!(self, Self::Plain { .. }) { "with embeddings of width" } else { "with states of width" };
        Err(format!(
            "this adapter wants an image encoder {what} {}; the given one has {}; load the image encoder that the \
             adapter was trained with",
            wide(wants, names),
            wide(has, names)
        ))
    }

    /// Returns what the projection reads of the image encoder's output: the embedding, [b, e], or the states before the
    /// last layer, [b, 1 + patches, h].
    pub(super) fn input(&self, states: VisionStates) -> Result<Tensor> {
        let VisionStates { image_embeds, mut hidden_states, .. } = states;
        let read = match self {
            Self::Plain { .. } => image_embeds,
            Self::FullFace { .. } | Self::Plus(_) => {
                let _last = hidden_states.pop();
                hidden_states.pop()
            }
        };
        read.ok_or_else(|| {
            let expected = "one with visual_projection (CLIPVisionModelWithProjection) and at least one layer";
            Error::parameter("image encoder", "without the output that the IP-Adapter reads", expected)
        })
    }

    /// Projects an input to tokens, [b, e] or [b, n, h] → [b, tokens, width].
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain { proj, norm, tokens, .. } => norm.forward(&proj.forward(x)?.f_unflatten(1, [*tokens, -1])?),
            Self::FullFace { first, second, norm, .. } => {
                norm.forward(&second.forward(&first.forward(x)?.f_gelu("none")?)?)
            }
            Self::Plus(resampler) => resampler.forward(x),
        }
    }
}
