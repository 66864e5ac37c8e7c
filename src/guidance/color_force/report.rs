//! What a color force did: recorded per forced step, measured in the finished picture.

use super::gold::Gold;
use crate::color::{Lab, Rgb, linear_mean};
use crate::error::{Error, Result};
use crate::guidance::Report;
use crate::raster::Raster;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

/// What a color force did in one run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ColorReport {
    /// What was forced.
    pub phrase: String,
    /// The color that was asked for.
    pub asked: Rgb,
    /// CIEDE2000 between it and what the VAE can show of it.
    pub representable_delta_e: f64,
    /// Every forced step, in order.
    pub steps: Vec<ForcedStep>,
    /// What came out, for every image in which something was forced; empty if the pictures were not decoded.
    pub painted: Vec<PaintedColor>,
    /// What the user should know.
    pub warnings: Vec<ColorWarning>,
}

/// One forced step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ForcedStep {
    /// Training timestep.
    pub timestep: f64,
    /// Variance V of the step.
    pub variance: f64,
    /// Color variance c.
    pub color_var: f64,
    /// Strength k = w/(1 + w) under a full mask, 0..1.
    pub strength: f64,
    /// Share of the picture that the mask covers, per image.
    pub areas: Vec<f64>,
    /// Is the saliency of any image the same everywhere?
    pub flat: bool,
}

/// The color of the forced region in one finished picture: the cells that at least half of the forced steps had in
/// their mask.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct PaintedColor {
    /// Index of the picture in the batch.
    pub image: usize,
    /// Mean color, averaged in linear light.
    pub color: Rgb,
    /// CIEDE2000 to the color asked for.
    pub delta_e: f64,
    /// Share of the region's pixels within CIEDE2000 10 of the color asked for.
    pub coverage: f64,
    /// Share of the picture that the region covers.
    pub area: f64,
}

/// What is doubtful about a force, though not wrong. Displayed as a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum ColorWarning {
    /// No step of the schedule is inside the window.
    #[error("no step of this schedule has a timestep in {min}..={max}, so nothing was forced")]
    NeverActive {
        /// Smallest forced timestep.
        min: f64,
        /// Largest forced timestep.
        max: f64,
    },
    /// No map can reach the cutoff.
    #[error("saliency_cutoff is {cutoff}, but this saliency reaches {range} at most")]
    CutoffOutOfReach {
        /// The cutoff.
        cutoff: f64,
        /// The largest value of a map.
        range: f64,
    },
    /// `color_var` is far from what is known to work.
    #[error("color_var is {color_var}; below 10 regions turn into solid blocks, above 200 little happens")]
    UnusualVariance {
        /// The variance.
        color_var: f64,
    },
    /// The VAE cannot show the color.
    #[error("the VAE shows this color no closer than CIEDE2000 {delta_e:.1}")]
    ColorNotRepresentable {
        /// CIEDE2000 of the round trip.
        delta_e: f64,
    },
    /// The saliency had no map when one was needed.
    #[error("the saliency had no map at timestep {timestep:.0}; does its window cover that of the force?")]
    NoSaliency {
        /// Training timestep.
        timestep: f64,
    },
    /// Nothing was above the cutoff.
    #[error("image {image}: nothing reached the cutoff in {steps} of {of} forced steps; lower saliency_cutoff")]
    EmptyMask {
        /// Index in the batch.
        image: usize,
        /// Number of steps with an empty mask.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// The mask covers most of the picture.
    #[error("image {image}: the mask covers more than 80 % in {steps} of {of} forced steps; raise saliency_cutoff")]
    LargeMask {
        /// Index in the batch.
        image: usize,
        /// Number of steps with such a mask.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
    /// Saliency is the same everywhere and reaches the cutoff nowhere.
    #[error("the saliency is the same everywhere in {steps} of {of} forced steps")]
    FlatSaliency {
        /// Number of such steps.
        steps: usize,
        /// Number of forced steps.
        of: usize,
    },
}

/// Everything one run leaves behind.
#[derive(Debug)]
pub(super) struct Trace {
    images: i64,
    cell: i64,
    steps: Vec<ForcedStep>,
    /// Per forced step [n, h, w] f32 on the CPU.
    masks: Vec<Tensor>,
    saliency: Vec<Tensor>,
    painted: Vec<PaintedColor>,
    warnings: Vec<ColorWarning>,
}

impl Trace {
    pub fn new(images: i64, cell: i64) -> Self {
        let (steps, painted) = (Vec::new(), Vec::new());
        Self { images, cell, steps, masks: Vec::new(), saliency: Vec::new(), painted, warnings: Vec::new() }
    }

    pub fn warn(&mut self, warning: ColorWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// What was doubtful before the run, then what the steps show.
    pub fn warnings(&self) -> Vec<ColorWarning> {
        let of = self.steps.len();
        let count = |doubtful: &dyn Fn(&ForcedStep) -> bool| self.steps.iter().filter(|step| doubtful(step)).count();
        let mut warnings = self.warnings.clone();
        let flat = count(&|step| step.flat && step.areas.contains(&0.0));
        warnings.extend((flat > 0).then_some(ColorWarning::FlatSaliency { steps: flat, of }));
        for image in 0..self.images as usize {
            let area = |step: &ForcedStep| step.areas.get(image).copied().unwrap_or_default();
            let empty = count(&|step| area(step) == 0.0);
            warnings.extend((empty > 0).then_some(ColorWarning::EmptyMask { image, steps: empty, of }));
            // Where saliency is the same everywhere on purpose, a full mask is too.
            let large = count(&|step| area(step) > 0.8 && !step.flat);
            warnings.extend((large > 0).then_some(ColorWarning::LargeMask { image, steps: large, of }));
        }
        warnings
    }

    /// Records a forced step. `mask` and `saliency` are [n, 1, h, w].
    pub fn push(&mut self, step: ForcedStep, mask: &Tensor, saliency: &Tensor) -> Result<()> {
        self.steps.push(step);
        let keep = |map: &Tensor| -> Result<Tensor> {
            let map = map.f_squeeze_dim(1)?.f_expand([self.images, -1, -1], false)?;
            Ok(map.f_to_device(Device::Cpu)?)
        };
        self.masks.push(keep(mask)?);
        self.saliency.push(keep(saliency)?);
        Ok(())
    }

    pub fn masks(&self) -> Result<Tensor> {
        stacked(&self.masks)
    }

    pub fn saliency(&self) -> Result<Tensor> {
        stacked(&self.saliency)
    }

    /// Measures the picture, [n, 3, H, W] in -1..=1, where at least half of the forced steps had the mask. (A single
    /// step's mask flickers, the last one's most: attention says least when the picture is done.)
    pub fn measure(&mut self, picture: &Tensor, asked: Rgb) -> Result<()> {
        self.painted.clear();
        if self.masks.is_empty() {
            return Ok(());
        }
        let mask = stacked(&self.masks)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
        let picture = picture.f_to_device(Device::Cpu)?.f_clamp(-1.0, 1.0)?;
        let (_, _, height, width) = picture.size4()?;
        let masks = mask.f_ge(0.5)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
        let masks = masks.f_upsample_nearest2d([height, width], None, None)?;
        for image in 0..self.images {
            let mask = masks.f_narrow(0, image, 1)?;
            let area = mask.f_mean(Kind::Double)?.f_double_value(&[])?;
            if area == 0.0 {
                continue;
            }
            let inside = self.interior(&mask)?.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
            let pixels = picture.f_select(0, image)?.f_flatten(1, -1)?.f_index_select(1, &inside)?; // [3, pixels]
            let mean = linear_mean(&pixels)?;
            let within = pixels_within(&pixels, asked, 10.0)?;
            let delta_e = Lab::from_linear(mean).delta_e(asked.lab());
            self.painted.push(PaintedColor {
                image: image as usize,
                color: Rgb::from_linear(mean),
                delta_e,
                coverage: within,
                area,
            });
        }
        Ok(())
    }

    /// The mask without a border of one latent cell, if that leaves at least half of it: decoders blend neighbours.
    fn interior(&self, mask: &Tensor) -> Result<Tensor> {
        let border = self.cell;
        // Eroding is dilating the outside; beyond the picture there is no outside.
        let outside = mask.f_neg()?.f_add_scalar(1.0)?;
        let outside = outside.f_max_pool2d([2 * border + 1; 2], [1, 1], [border; 2], [1, 1], false)?;
        let eroded = outside.f_neg()?.f_add_scalar(1.0)?;
        let left = eroded.f_sum(Kind::Double)?.f_double_value(&[])?;
        let all = mask.f_sum(Kind::Double)?.f_double_value(&[])?;
        Ok(if left >= 0.5 * all { eroded } else { mask.shallow_clone() })
    }

    pub fn report(&self, phrase: &str, asked: Rgb, gold: &Gold) -> Result<ColorReport> {
        Ok(ColorReport {
            phrase: phrase.into(),
            asked,
            representable_delta_e: gold.delta_e,
            steps: self.steps.clone(),
            painted: self.painted.clone(),
            warnings: self.warnings(),
        })
    }

    /// The report for files: figures as JSON, and the mask of every forced step and image as a picture.
    pub fn summary(&self, phrase: &str, asked: Rgb, gold: &Gold) -> Result<Report> {
        let data = serde_json::to_value(self.report(phrase, asked, gold)?)
            .map_err(|error| Error::Malformed { file: "color report".into(), problem: error.to_string() })?;
        let mut images = Vec::new();
        for image in 0..self.images {
            for (step, mask) in self.steps.iter().zip(&self.masks) {
                let gray = mask.f_narrow(0, image, 1)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
                let picture = Raster::from_tensor(&gray.f_expand([3, -1, -1], false)?)?;
                images.push((format!("image {image}, t = {:.0}", step.timestep), picture));
            }
        }
        Ok(Report { name: format!("ColorForce \"{phrase}\""), data, images })
    }
}

/// Share of pixels ([3, pixels] in -1..=1) within a CIEDE2000 of a color.
fn pixels_within(pixels: &Tensor, asked: Rgb, delta_e: f64) -> Result<f64> {
    let bytes = pixels.f_add_scalar(1.0)?.f_mul_scalar(127.5)?.f_round()?.f_to_kind(Kind::Uint8)?;
    let bytes = Vec::<u8>::try_from(&bytes.f_transpose(0, 1)?.f_contiguous()?.f_flatten(0, -1)?)?;
    let asked = asked.lab();
    let (mut near, mut all) = (0usize, 0usize);
    for pixel in bytes.chunks_exact(3) {
        if let [r, g, b] = *pixel {
            all += 1;
            near += usize::from(Rgb(r, g, b).lab().delta_e(asked) <= delta_e);
        }
    }
    Ok(near as f64 / all.max(1) as f64)
}

fn stacked(steps: &[Tensor]) -> Result<Tensor> {
    if steps.is_empty() {
        return Err(Error::NoMaps("ColorForce"));
    }
    Ok(Tensor::f_stack(steps, 0)?)
}
