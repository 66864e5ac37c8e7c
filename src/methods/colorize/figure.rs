//! Figure and background of a reference, and their features in models that read them.

use super::Colorize;
use super::attention::{FigureAndGround, Parted};
use super::preparation::size_ratios;
use super::reading::Read;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::Setup;
use crate::mask::Resample;
use crate::raster::{Filter, Raster};
use crate::reference::{Feature, Part, ReferenceFeatures, SketchColorizer};
use crate::size::Size;
use crate::step::Grid;
use std::ops::Range;
use tch::Tensor;

impl Colorize {
    /// Returns the background of the reference: a separate picture, or the reference with white in place of the figure.
    fn behind(&self, parts: &FigureAndGround, reference: &Raster) -> Result<Raster> {
        if let Some(background) = &parts.background {
            return Ok(background.clone());
        }
        let Size { width, height } = reference.size();
        let figure = parts.reference.resample(Grid::new(height.into(), width.into()), Resample::Area)?;
        let figure = Vec::<f32>::try_from(figure.f_narrow(0, 0, 1)?.f_contiguous()?.f_view([-1])?)?;
        let mut behind = reference.clone();
        for (at, share) in (0..width.saturating_mul(height)).zip(figure) {
            if f64::from(share) >= parts.reference_threshold {
                behind.set(at % width.max(1), at / width.max(1), Rgb(255, 255, 255));
            }
        }
        Ok(behind)
    }

    /// Reads the tokens of figure and background separately; returns `None` without parts or without a reference.
    /// `read` then has the tokens of the figure. `off` are the steps without the reference.
    pub(super) fn parted(&self, setup: &Setup<'_>, off: &[Range<usize>], read: &mut Read) -> Result<Option<Parted>> {
        let (Some(parts), Some(reference)) = (&self.options.parts, &self.reference) else { return Ok(None) };
        let ground = self.read_of(&self.behind(parts, reference)?, setup.codec)?.tokens;
        // A separate background picture has no hole, so it is read like a figure.
        let part = if parts.background.is_some() { Part::Figure } else { Part::Background };
        let colorizer = <dyn SketchColorizer>::of(setup.codec)?;
        let ground = colorizer.part_tokens(&ground, part, parts.reference_threshold)?;
        read.tokens = colorizer.part_tokens(&read.tokens, Part::Figure, parts.threshold)?;
        Ok(Some(Parted {
            figure: read.tokens.shallow_clone(),
            ground,
            adapters: (parts.figure_adapter, parts.ground_adapter),
            mask: parts.sketch.for_images(setup.grid, setup.images)?,
            threshold: parts.threshold,
            shares: (parts.figure, parts.ground, parts.merge),
            off: off.to_vec(),
        }))
    }

    /// Reads features of the reference for the expanding half of the UNet, in a model that has encoders for these
    /// features. `tokens` are the tokens of the reference. Returns `None` if there are no features.
    pub(super) fn features_up(&self, setup: &Setup<'_>, tokens: &Tensor) -> Result<Option<ReferenceFeatures>> {
        let Some(reference) = &self.reference else { return Ok(None) };
        let (grid, cell) = (setup.grid, setup.codec.cell());
        let run = Size::new((grid.w * cell) as u32, (grid.h * cell) as u32);
        let read = |of: Feature, picture: &Raster, tokens: &Tensor| -> Result<Vec<Tensor>> {
            let shown = picture.resize(run, Filter::Bicubic)?.to_tensor(setup.device)?;
            let latent = setup.codec.encode(&shown)?.f_to_device(setup.device)?;
            <dyn SketchColorizer>::of(setup.codec)?.features(of, &latent, tokens, size_ratios(picture.size(), run))
        };
        let mut features = ReferenceFeatures::default();
        let mut behind = None;
        if let Some(parts) = &self.options.parts {
            let picture = self.behind(parts, reference)?;
            let own = self.read_of(&picture, setup.codec)?.tokens;
            let read = read(Feature::Background, &picture, &own)?;
            features.background =
                read.iter().map(|x| Ok(x.f_mul_scalar(parts.features)?)).collect::<Result<Vec<_>>>()?;
            features.figure = Some((parts.sketch.for_images(setup.grid, setup.images)?, parts.threshold));
            behind = parts.background.is_some().then_some((picture, own, parts.merge));
        }
        if self.options.style {
            features.styles = read(Feature::Style, reference, tokens)?;
            if features.styles.is_empty() {
                let expected = "false, because this model has no style encoder; models of version 2 have one";
                return Err(Error::parameter("style", true, expected));
            }
            if let Some((picture, own, merge)) = behind {
                let of_background = read(Feature::Style, &picture, &own)?;
                let both = features.styles.iter().zip(&of_background);
                features.styles = both.map(|(own, other)| Ok(own.f_lerp(other, merge)?)).collect::<Result<_>>()?;
            }
        }
        let some = !(features.background.is_empty() && features.styles.is_empty());
        Ok(some.then_some(features))
    }
}
