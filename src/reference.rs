//! Parts and features of a reference picture, and [`SketchColorizer`], the part of a model that reads them.

use crate::conditioning::{Codec, Extra, narrow};
use crate::error::{Error, Result};
use std::ops::Range;
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
/// [`SketchColorizer::features`] returns them. They are an [`Extra`] of a conditioning. Each list has one tensor for
/// each layer of that half, the smallest grid first, or is empty. The features of one branch act in all branches
/// evaluated with it.
///
/// Source: ColorizeDiffusion v2.
#[derive(Debug, Default)]
#[non_exhaustive]
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

impl Extra for ReferenceFeatures {
    fn share(&self) -> Box<dyn Extra> {
        Box::new(self.share())
    }

    fn narrow(&self, images: Range<i64>) -> Result<Box<dyn Extra>> {
        let mut narrowed = self.share();
        if let Some((figure, _)) = &mut narrowed.figure {
            *figure = narrow(figure, &images)?;
        }
        Ok(Box::new(narrowed))
    }
}

/// Features of a sketch for the downsampling half of a UNet, as [`SketchColorizer::sketch`] returns them, as an
/// [`Extra`] of a conditioning. If one branch of a run has features, the features of a branch without any count as
/// zeros.
#[derive(Debug, Default)]
pub struct SketchFeatures(pub Vec<Tensor>);

impl SketchFeatures {
    /// Returns a second handle on the same tensors.
    #[must_use]
    pub(crate) fn share(&self) -> Self {
        Self(self.0.iter().map(Tensor::shallow_clone).collect())
    }

    /// Returns the features times `factor`.
    pub(crate) fn scale(&self, factor: f64) -> Result<Self> {
        self.0.iter().map(|features| Ok(features.f_mul_scalar(factor)?)).collect::<Result<_>>().map(Self)
    }
}

impl Extra for SketchFeatures {
    fn share(&self) -> Box<dyn Extra> {
        Box::new(self.share())
    }

    fn narrow(&self, images: Range<i64>) -> Result<Box<dyn Extra>> {
        let narrowed: Result<_> = self.0.iter().map(|features| narrow(features, &images)).collect();
        Ok(Box::new(Self(narrowed?)))
    }
}

/// The part of a model that colors sketches in the colors of a reference, such as ColorizeDiffusion.
/// [`Colorize`](crate::methods::Colorize) uses it.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::reference::SketchColorizer;
/// use impasto::{Codec, Model, Source};
/// use tch::{Device, Kind, Tensor};
///
/// let model = Model::load(&Source::embedded_colorizer())?;
/// let codec: &dyn Codec = &model;
/// let colorizer = codec.capability::<dyn SketchColorizer>().expect("a model that colors sketches");
/// let blank = Tensor::full([1, 3, 128, 128], -1.0, (Kind::Float, Device::Cpu));
/// assert_eq!(colorizer.sketch(&blank)?.0[0].size()[2..], [16, 16]);
/// # Ok(()) }
/// ```
pub trait SketchColorizer {
    /// Computes the features that a sketch adds in the network's downsampling half. The sketch is
    /// [n, 3, cell·h, cell·w] in -1..=1, with lines of 1 on a ground of -1. The result has a tensor for the network's
    /// first layer, [n, channels, h, w], and one for each level.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape.
    fn sketch(&self, sketch: &Tensor) -> Result<SketchFeatures>;

    /// Marks tokens of a reference, [1, tokens, width], as tokens of one part of the picture, for a model that
    /// distinguishes parts. `threshold`, 0..=1, is the value at which the part's mask was cut. Other models use tokens
    /// unchanged, which is the default.
    ///
    /// # Errors
    /// [`Error::Shape`] for tokens of another width.
    fn part_tokens(&self, tokens: &Tensor, part: Part, threshold: f64) -> Result<Tensor> {
        let _ = (part, threshold);
        Ok(tokens.shallow_clone())
    }

    /// Computes the features of a reference for the network's upsampling half, f32, the smallest grid first. `latent`
    /// is the latent of the reference at the run's size. `tokens` are the vision tower's tokens of the reference.
    /// `ratios` are the reference's own height and width, divided by those of the run. The result is empty for a model
    /// that reads no such features, which is the default.
    ///
    /// # Errors
    /// [`Error::Shape`] for tensors that do not fit the model.
    fn features(&self, of: Feature, latent: &Tensor, tokens: &Tensor, ratios: [f64; 2]) -> Result<Vec<Tensor>> {
        let _ = (of, latent, tokens, ratios);
        Ok(Vec::new())
    }
}

impl dyn SketchColorizer {
    /// Returns this part of a model.
    ///
    /// # Errors
    /// [`Error::MissingFile`] for a model that reads no sketches.
    pub(crate) fn of(codec: &dyn Codec) -> Result<&Self> {
        codec.capability().ok_or_else(|| {
            let (file, place) = ("the sketch encoder".into(), "this model".into());
            let hint = "only models such as ColorizeDiffusion read sketches; use a ControlNet with this model";
            Error::MissingFile { file, place, hint: hint.into() }
        })
    }
}
