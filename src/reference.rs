//! Parts and features of a reference picture.
//!
//! Models that color sketches like a reference read them with [`Codec::part_tokens`](crate::Codec::part_tokens) and
//! [`Codec::reference_features`](crate::Codec::reference_features).

use tch::Tensor;

/// A part of a picture that a network may have adapters for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The main subject of the picture.
    Figure,
    /// The space behind the figure.
    Background,
}

/// An aspect of a reference picture for which a model computes separate features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// The background behind the figure.
    Background,
    /// The style of the reference.
    Style,
}

/// Features of a reference for the upsampling half of a UNet, as
/// [`Codec::reference_features`](crate::Codec::reference_features) returns them. Each list has one tensor for each
/// layer of that half, the smallest grid first, or is empty.
///
/// Source: ColorizeDiffusion v2.
#[derive(Debug, Default)]
pub struct ReferenceFeatures {
    /// Features of the background, [1, cells, channels] each.
    pub background: Vec<Tensor>,
    /// Share of the figure in each cell, [1 or n, 1, h, w] at the latent's size, and the share above which a cell
    /// ignores the background's features. `None`: all cells take the background's features.
    pub figure: Option<(Tensor, f64)>,
    /// Features of the style, [1, 2 · channels] each.
    pub styles: Vec<Tensor>,
}

impl ReferenceFeatures {
    /// Returns a second handle on the same tensors.
    #[must_use]
    pub(crate) fn share(&self) -> Self {
        let share = |all: &[Tensor]| all.iter().map(Tensor::shallow_clone).collect();
        Self {
            background: share(&self.background),
            figure: self.figure.as_ref().map(|(mask, threshold)| (mask.shallow_clone(), *threshold)),
            styles: share(&self.styles),
        }
    }
}
