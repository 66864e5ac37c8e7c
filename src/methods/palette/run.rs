//! The state of a palette in one run.

use super::choice::Target;
use super::recoloring::{Recoloring, distance, shares};
use super::report::{PaintedPalette, PaletteReport};
use crate::color::{Rgb, labs};
use crate::conditioning::Codec;
use crate::error::Result;
use crate::guidance::{GuidanceRun, Report};
use crate::wording::Note;
use serde_json::json;
use std::any::Any;
use tch::{Device, Tensor};

/// Distance in L\*a\*b\* above which a note says that the picture differs from its palette.
const FAR: f64 = 12.0;
/// Improvement of the distance below which trimming ends.
const GAIN: f64 = 0.2;
/// Share of a cell with an exact color from which the cell stays.
const EXACT: f64 = 0.05;

/// A [`Palette`](super::Palette) in one run.
pub(super) struct PaletteRun {
    swatches: Vec<(Rgb, f64)>,
    targets: Vec<Target>,
    shading: f64,
    trim: usize,
    /// Share of each cell to which other methods give an exact color, [1 or n, 1, h, w].
    exact: Option<Tensor>,
    /// Rounds of trimming of each image.
    rounds: Vec<usize>,
    painted: Vec<PaintedPalette>,
}

impl PaletteRun {
    pub(super) fn new(swatches: Vec<(Rgb, f64)>, shading: f64, trim: usize) -> Self {
        let targets = swatches.iter().map(|(color, share)| Target { color: color.lab(), share: *share }).collect();
        Self { swatches, targets, shading, trim, exact: None, rounds: Vec::new(), painted: Vec::new() }
    }

    /// Returns true for each pixel of an image, of H × W = `size` pixels, that has no exact color.
    fn free(&self, image: i64, size: [i64; 2]) -> Result<Vec<bool>> {
        let Some(exact) = &self.exact else { return Ok(vec![true; (size[0] * size[1]) as usize]) };
        let row = image.min(exact.size4()?.0 - 1);
        let pixels = exact.f_narrow(0, row, 1)?.f_to_device(Device::Cpu)?.f_upsample_nearest2d(size, None, None)?;
        Ok(Vec::try_from(&pixels.f_lt(EXACT)?.f_flatten(0, -1)?)?)
    }

    /// Moves one image's finished latent, [1, channels, h, w], by the difference between its picture and the same
    /// picture in the palette's colors, and returns the number of further rounds that brought the colors nearer.
    fn recolor(&self, image: i64, latent: &mut Tensor, codec: &dyn Codec) -> Result<usize> {
        let recoloring = Recoloring { targets: &self.targets, shading: self.shading };
        let picture = |latent: &Tensor| -> Result<Tensor> {
            Ok(codec.decode(latent)?.f_to_device(Device::Cpu)?.f_clamp(-1.0, 1.0)?.f_squeeze_dim(0)?)
        };
        let mut seen = picture(latent)?;
        let (_, h, w) = seen.size3()?;
        let free = self.free(image, [h, w])?;
        let kept = match &self.exact {
            Some(exact) => Some(exact.f_narrow(0, image.min(exact.size4()?.0 - 1), 1)?.f_lt(EXACT)?),
            None => None,
        };
        let wanted = recoloring.of(&seen, &free)?;
        let device = latent.device();
        let encoded = |picture: &Tensor| codec.encode(&picture.f_unsqueeze(0)?.f_to_device(device)?);
        let goal = encoded(&wanted)?;
        let mut left = f64::INFINITY;
        for round in 0..=self.trim {
            let mut change = goal.f_sub(&encoded(&seen)?)?.f_to_device(latent.device())?;
            if let Some(kept) = &kept {
                change = change.f_mul(&kept.f_to_device(latent.device())?)?;
            }
            let moved = latent.f_add(&change)?;
            let after = picture(&moved)?;
            let now = distance(&labs(&after)?, &self.targets);
            if now > left - GAIN {
                return Ok(round - 1);
            }
            (*latent, seen, left) = (moved, after, now);
        }
        Ok(self.trim)
    }
}

impl GuidanceRun for PaletteRun {
    fn spare(&mut self, exact: &Tensor) -> Result<()> {
        self.exact = Some(exact.shallow_clone());
        Ok(())
    }

    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        let (mut images, mut rounds) = (Vec::new(), Vec::new());
        for image in 0..latent.size4()?.0 {
            let mut own = latent.f_narrow(0, image, 1)?;
            rounds.push(self.recolor(image, &mut own, codec)?);
            images.push(own);
        }
        self.rounds = rounds;
        *latent = Tensor::f_cat(&images, 0)?;
        Ok(())
    }

    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        let measure = |image: i64| -> Result<PaintedPalette> {
            let colors = labs(&picture.f_get(image)?)?;
            let (distance, shares) = (distance(&colors, &self.targets), shares(&colors, &self.targets));
            let rounds = self.rounds.get(image as usize).copied().unwrap_or_default();
            Ok(PaintedPalette { image: image as usize, distance, shares, rounds })
        };
        self.painted = (0..picture.size4()?.0).map(measure).collect::<Result<_>>()?;
        Ok(())
    }

    fn notes(&self) -> Vec<Note> {
        let far = self.painted.iter().filter(|painted| painted.distance > FAR);
        let told = |painted: &PaintedPalette| {
            let PaintedPalette { image, distance, .. } = painted;
            format!("the colors of picture {} differ from the palette by {distance:.0} in CIE Lab", image + 1)
        };
        far.map(|painted| told(painted).into()).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let mut report = Report::new("Palette");
        report.data = json!({ "swatches": self.swatches, "painted": self.painted });
        Ok(Some(report))
    }

    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        Ok(vec![Box::new(PaletteReport { painted: self.painted.clone() })])
    }

    fn name(&self) -> &'static str {
        "Palette"
    }
}
