//! Words for a reference picture: its parts, and features of it.
//!
//! Models that color sketches like a reference read them ([`Codec::part_tokens`](crate::Codec::part_tokens),
//! [`Codec::reference_features`](crate::Codec::reference_features)).

use tch::Tensor;

/// A part of a picture that a network may have adapters for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// What the picture is of.
    Figure,
    /// What is behind it.
    Background,
}

/// A side of a reference that has features of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// What is behind its figure.
    Background,
    /// Its style.
    Style,
}

/// Features of a reference for the expanding half of a UNet, as [`ReferenceEncoder`](crate::nn::ReferenceEncoder)s make them: one for each
/// of its layers, the smallest grid first. Either list may be empty.
///
/// Source: ColorizeDiffusion v2.
#[derive(Debug, Default)]
pub struct ReferenceFeatures {
    /// Of the background, [1, cells, channels] each.
    pub background: Vec<Tensor>,
    /// Share of the figure in each cell, [1 or n, 1, h, w] at the latent's size, and the least share of a cell that keeps what is its own.
    /// Without it all cells take the background's features.
    pub figure: Option<(Tensor, f64)>,
    /// Of the style, [1, 2 · channels] each.
    pub styles: Vec<Tensor>,
}

impl ReferenceFeatures {
    /// A second handle on the same tensors.
    #[must_use]
    pub fn share(&self) -> Self {
        let share = |all: &[Tensor]| all.iter().map(Tensor::shallow_clone).collect();
        Self {
            background: share(&self.background),
            figure: self.figure.as_ref().map(|(mask, threshold)| (mask.shallow_clone(), *threshold)),
            styles: share(&self.styles),
        }
    }
}
