//! The report of a color force: its forced steps, and measurements of the finished picture.

use super::beside::beside;
use super::comparison::compare;
use super::gold::Gold;
use super::measure::{ColorStat, MET, NEAR, Place, measure, within};
use super::repainting::Repainting;
use super::seen_color::Seen;
use super::settings::Settings;
use super::trim::{Trimmed, trim};
use super::warning::ColorWarning;
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::error::{Error, Result};
use crate::guidance::{Curve, Picture, Report, Strip, Swatch};
use crate::saliency::{Competition, FLAT};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

/// Largest CIEDE2000 between a region's mean and the color asked for at which the region counts as one color.
const ONE_COLOR: f64 = 5.0;
/// Smallest share of pixels near the color at which a region counts as one color.
const MOST: f64 = 0.6;
/// Share of pixels with the color below which a connected piece counts as painted in part.
const HALF: f64 = 0.5;
/// Remainder of a region above which its mask cuts an object.
const CUT: f64 = 0.1;
/// Undecided cells as a share of the cells above the cutoff; a region with a larger share may belong to another object.
const DOUBTFUL: f64 = 1.5;
/// Smallest share of lines that are kept.
const LINES: f64 = 0.7;
/// Pixels around a region that took its color, as a share of the region's pixels, above which the thing has grown.
const GROWN: f64 = 0.105;
/// CIEDE2000 by which another thing may change.
const NEIGHBOR: f64 = 20.0;
/// CIEDE2000 above which a force without trimming has missed the color.
const MISSED: f64 = 10.0;

/// The report of a color force in one run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ColorReport {
    /// The phrase that was forced.
    pub phrase: String,
    /// The color that was asked for.
    pub asked: Rgb,
    /// CIEDE2000 between the color asked for and the color that the VAE shows for the force's latent.
    pub representable_delta_e: f64,
    /// Every forced step, in order.
    pub steps: Vec<ForcedStep>,
    /// Measured colors, for every image in which something was forced; empty if the pictures were not decoded.
    pub painted: Vec<PaintedColor>,
    /// Effects of trimming, for every image in which something was forced; empty without trimming.
    pub trimmed: Vec<Trimmed>,
    /// True if all of these conditions hold in every image:
    ///
    /// - The region's color by [`ForceOptions::stat`](super::ForceOptions::stat) is within CIEDE2000 2 of the color
    ///   asked for, and the region's mean is within 5.
    /// - At least .6 of the region's pixels are within CIEDE2000 10. Pixels are counted because a median ignores the
    ///   half with other colors, and the mean of two colors is a third color.
    /// - At least half of the pixels of each connected piece are within CIEDE2000 10 ([`PaintedColor::least_covered`]).
    /// - The mask does not cut its object ([`PaintedColor::remainder`]) and is decided ([`PaintedColor::undecided`]).
    /// - At least .7 of the lines in and around the region are kept ([`PaintedColor::lines_kept`]).
    /// - The color has not spread ([`PaintedColor::grown`]), and no other thing beside the region changed by more than
    ///   CIEDE2000 20 ([`PaintedColor::worst_neighbor`]).
    ///
    /// A force with a clean mask on the wrong object can converge too; look at the masks.
    pub converged: bool,
    /// Words that the phrase competed with in each image, and words that were left out; empty for a saliency without a
    /// competition of words.
    pub competitions: Vec<Competition>,
    /// Warnings about the run.
    pub warnings: Vec<ColorWarning>,
}

/// One forced step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ForcedStep {
    /// 0-based index of the step.
    pub index: usize,
    /// Timestep of Stable Diffusion with the step's noise level, as windows count.
    pub timestep: f64,
    /// Variance V of the step.
    pub variance: f64,
    /// Color variance c. With feedback, each image has its own c, and this is the mean.
    pub color_var: f64,
    /// Strength k = w/(1 + w) under a full mask, 0..1.
    pub strength: f64,
    /// Share of the picture that the mask covers, per image.
    pub areas: Vec<f64>,
    /// True if the saliency of any image is the same everywhere.
    pub flat: bool,
}

/// The color of the forced region in one finished picture. The region consists of the cells that were in the mask of at
/// least half of the forced steps.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct PaintedColor {
    /// Index of the picture in the batch.
    pub image: usize,
    /// The region's color by [`ForceOptions::stat`](super::ForceOptions::stat); by default the mean in linear light.
    pub color: Rgb,
    /// CIEDE2000 between the region's color and the color asked for.
    pub delta_e: f64,
    /// CIEDE2000 between the region's mean in linear light and the color asked for, for every
    /// [`ForceOptions::stat`](super::ForceOptions::stat).
    pub mean_delta_e: f64,
    /// Share of the region's pixels within CIEDE2000 10 of the color asked for.
    pub coverage: f64,
    /// Share of the picture that the region covers.
    pub area: f64,
    /// Pixels beside the region that still have the region's old color, as a share of the region's pixels. Above .1 the
    /// mask cuts its object. `None` unless there was a first pass to compare with.
    pub remainder: Option<f64>,
    /// Smallest share of pixels within CIEDE2000 10 of the color asked for among the connected pieces, such as two
    /// eyes. The pieces are those of the region and its remainder together. `None` if `remainder` is `None`.
    pub least_covered: Option<f64>,
    /// Share of the dark lines in and around the region, such as outlines, lashes and pupils, that are still there. The
    /// lines are those of the first pass, or those of the new drawing if the thing was redrawn. `None` without lines,
    /// or without a first pass to compare with.
    pub lines_kept: Option<f64>,
    /// Pixels around the region that took the color, as a share of the region's pixels. Above .105 the thing has grown.
    /// `None` unless there was a first pass to compare with.
    pub grown: Option<f64>,
    /// Largest CIEDE2000 between the mean colors of another thing beside the region before and after, such as a mouth
    /// beside skin. Another thing is a piece of one tone, a latent cell or more in area, that no other method changed.
    /// `None` unless there was a first pass to compare with.
    pub worst_neighbor: Option<f64>,
    /// Cells with a saliency near the cutoff, as a share of the cells above the cutoff. Above 1.5 the map hardly
    /// locates the object. `None` unless words competed in a first pass.
    pub undecided: Option<f64>,
    /// True if the model drew the thing anew, because its material was not clear
    /// ([`ForceOptions::redraw`](super::ForceOptions::redraw)).
    pub redrawn: bool,
}

impl PaintedColor {
    /// Measures a region's pixels, [3, pixels] in -1..=1.
    fn new(image: usize, pixels: &Tensor, area: f64, stat: ColorStat, asked: Rgb) -> Result<Self> {
        let measured = measure(pixels, stat, asked)?;
        Ok(Self {
            image,
            color: Rgb::from_linear(measured.light),
            delta_e: measured.delta_e,
            mean_delta_e: measure(pixels, ColorStat::Mean, asked)?.delta_e,
            coverage: within(pixels, asked, NEAR)?,
            area,
            remainder: None,
            least_covered: None,
            lines_kept: None,
            grown: None,
            worst_neighbor: None,
            undecided: None,
            redrawn: false,
        })
    }

    fn is_met(&self) -> bool {
        let halved = self.least_covered.is_some_and(|covered| covered < HALF);
        self.delta_e <= MET && self.mean_delta_e <= ONE_COLOR && self.coverage >= MOST && !halved
    }

    /// Returns true if the map hardly locates the object.
    fn is_undecided(&self) -> bool {
        self.undecided.is_some_and(|undecided| undecided > DOUBTFUL)
    }

    /// Returns true if too many lines are gone.
    fn is_smeared(&self) -> bool {
        self.lines_kept.is_some_and(|kept| kept < LINES)
    }

    /// Returns true if the color spread to the surroundings.
    fn has_grown(&self) -> bool {
        self.grown.is_some_and(|grown| grown > GROWN)
    }

    /// Returns true if another thing changed visibly.
    fn has_changed_others(&self) -> bool {
        self.worst_neighbor.is_some_and(|worst| worst > NEIGHBOR)
    }

    /// Returns true if a person would keep the picture, as far as the figures tell.
    fn is_good(&self) -> bool {
        let is_harmed = self.is_smeared() || self.has_grown() || self.has_changed_others();
        self.is_met() && !self.is_cut() && !self.is_undecided() && !is_harmed
    }

    /// Returns true if the region ends within an object.
    fn is_cut(&self) -> bool {
        self.remainder.is_some_and(|remainder| remainder > CUT)
    }
}

/// The record of everything that a force does in one run.
#[derive(Debug)]
pub(super) struct Trace {
    images: i64,
    cell: i64,
    steps: Vec<ForcedStep>,
    /// Masks of the forced steps, [n or 1, 1, h, w] f32 on the run's device, as `saliency` is.
    masks: Vec<Tensor>,
    saliency: Vec<Tensor>,
    seen: Seen,
    painted: Vec<PaintedColor>,
    trimmed: Vec<Trimmed>,
    /// Undecided cells of each image's map in the first pass, as a share of the cells above the cutoff; empty unless
    /// words competed.
    pub undecided: Vec<f64>,
    warnings: Vec<ColorWarning>,
}

impl Trace {
    pub(super) fn new(images: i64, cell: i64) -> Self {
        let (steps, masks, saliency) = (Vec::new(), Vec::new(), Vec::new());
        let (painted, trimmed, undecided, warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { images, cell, steps, masks, saliency, seen: Seen::default(), painted, trimmed, undecided, warnings }
    }

    /// Returns the cells of the last forced step, [n, 1, h, w]; `None` if no step was forced.
    pub(super) fn cells(&self) -> Result<Option<Tensor>> {
        self.masks.last().map(|mask| Ok(self.of_images(mask)?.f_unsqueeze(1)?)).transpose()
    }

    pub(super) fn warn(&mut self, warning: ColorWarning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Returns the recorded warnings, then the warnings that follow from the steps and from the measurements.
    pub(super) fn warnings(&self) -> Vec<ColorWarning> {
        let of = self.steps.len();
        let count = |doubtful: &dyn Fn(&ForcedStep) -> bool| self.steps.iter().filter(|step| doubtful(step)).count();
        let mut warnings = self.warnings.clone();
        let flat = count(&|step| step.flat && step.areas.contains(&0.0));
        warnings.extend((flat > 0).then_some(ColorWarning::FlatSaliency { steps: flat, of }));
        for image in 0..self.images as usize {
            let area = |step: &ForcedStep| step.areas.get(image).copied().unwrap_or_default();
            let empty = count(&|step| area(step) == 0.0);
            warnings.extend((empty > 0).then_some(ColorWarning::EmptyMask { image, steps: empty, of }));
            // A saliency that is the same everywhere on purpose makes a full mask, which needs no warning.
            let large = count(&|step| area(step) > 0.8 && !step.flat);
            warnings.extend((large > 0).then_some(ColorWarning::LargeMask { image, steps: large, of }));
        }
        let missed = self.trimmed.iter().filter(|one| one.after > MET);
        warnings.extend(missed.map(|one| ColorWarning::NotConverged { image: one.image, delta_e: one.after }));
        let trims = !self.trimmed.is_empty();
        let missed = self.painted.iter().filter(|one| !trims && one.delta_e > MISSED);
        warnings.extend(missed.map(|one| ColorWarning::NotConverged { image: one.image, delta_e: one.delta_e }));
        let cut = self.painted.iter().filter(|one| one.is_cut());
        warnings.extend(
            cut.map(|one| ColorWarning::Cut { image: one.image, remainder: one.remainder.unwrap_or_default() }),
        );
        let doubtful = self.painted.iter().filter(|one| one.is_undecided());
        warnings.extend(doubtful.map(|one| {
            let undecided = one.undecided.unwrap_or_default();
            ColorWarning::Undecided { image: one.image, undecided }
        }));
        let smeared = self.painted.iter().filter(|one| one.is_smeared());
        warnings.extend(smeared.map(|one| {
            let kept = one.lines_kept.unwrap_or_default();
            ColorWarning::LinesLost { image: one.image, kept }
        }));
        let grown = self.painted.iter().filter(|one| one.has_grown());
        warnings.extend(grown.map(|one| {
            let share = one.grown.unwrap_or_default();
            ColorWarning::Grown { image: one.image, share }
        }));
        let changed = self.painted.iter().filter(|one| one.has_changed_others());
        warnings.extend(changed.map(|one| {
            let delta_e = one.worst_neighbor.unwrap_or_default();
            ColorWarning::NeighborChanged { image: one.image, delta_e }
        }));
        let uneven = self.painted.iter().filter(|one| one.delta_e <= MET && !one.is_met());
        warnings.extend(uneven.map(|one| {
            let &PaintedColor { image, mean_delta_e, coverage, .. } = one;
            let least_covered = one.least_covered.unwrap_or(coverage);
            ColorWarning::Uneven { image, mean_delta_e, coverage, least_covered }
        }));
        warnings
    }

    /// Records a forced step, and computes its areas. `mask` and `saliency` are [n or 1, 1, h, w]; `x0` is the clean
    /// latent before the force, [n, c, h, w]. Numbers that only a report needs are computed by the report, because each
    /// operation on a tensor takes some of the time of a small model.
    pub(super) fn push(&mut self, step: ForcedStep, mask: &Tensor, saliency: &Tensor, x0: &Tensor) -> Result<()> {
        let areas = of_images(mask, |cells| cells.iter().copied().map(f64::from).sum::<f64>() / cells.len() as f64)?;
        let range = |cells: &[f32]| {
            let most = cells.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            most - cells.iter().copied().fold(f32::INFINITY, f32::min)
        };
        let flat = of_images(saliency, range)?.into_iter().any(|range| f64::from(range) < FLAT);
        self.steps.push(ForcedStep { areas, flat, ..step });
        self.seen.step(x0, mask)?;
        self.masks.push(mask.shallow_clone());
        self.saliency.push(saliency.shallow_clone());
        Ok(())
    }

    /// Returns a map of each image, [n, h, w] on the CPU.
    fn of_images(&self, map: &Tensor) -> Result<Tensor> {
        let map = map.f_to_device(Device::Cpu)?.f_squeeze_dim(1)?;
        Ok(map.f_expand([self.images, -1, -1], false)?)
    }

    fn stack(&self, maps: &[Tensor]) -> Result<Tensor> {
        if maps.is_empty() {
            return Err(Error::NoMaps("ColorForce"));
        }
        let maps: Vec<Tensor> = maps.iter().map(|map| self.of_images(map)).collect::<Result<_>>()?;
        Ok(Tensor::f_stack(&maps, 0)?)
    }

    /// Returns the timesteps of the forced steps, as windows count.
    pub(super) fn timesteps(&self) -> Vec<f64> {
        self.steps.iter().map(|step| step.timestep).collect()
    }

    pub(super) fn masks(&self) -> Result<Tensor> {
        self.stack(&self.masks)
    }

    pub(super) fn saliency(&self) -> Result<Tensor> {
        self.stack(&self.saliency)
    }

    /// Returns the cells that were in the mask of at least half of the forced steps, [n, h, w] of 0 and 1; `None` if no
    /// step was forced. The mask of a single step flickers, most of all the mask of the last step, because attention
    /// says least about a finished picture.
    pub(super) fn region(&self) -> Result<Option<Tensor>> {
        if self.masks.is_empty() {
            return Ok(None);
        }
        let mean = self.masks()?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
        Ok(Some(mean.f_ge(0.5)?.f_to_kind(Kind::Float)?))
    }

    /// Keeps the latent that will be decoded, [n, c, h, w].
    pub(super) fn finished(&mut self, latent: &Tensor) {
        self.seen.latent = Some(latent.shallow_clone());
    }

    /// Measures the picture, [n, 3, H, W] in -1..=1, in the region.
    /// `before` is the first pass's picture, if there was one.
    pub(super) fn measure(
        &mut self,
        picture: &Tensor,
        before: Option<&Tensor>,
        settings: &Settings,
        repainting: Option<&Repainting>,
    ) -> Result<()> {
        self.painted.clear();
        let Some(region) = self.region()? else { return Ok(()) };
        self.seen.picture(picture)?;
        let (picture, picture_size) = (picture.f_to_device(Device::Cpu)?.f_clamp(-1.0, 1.0)?, picture.size());
        for image in 0..self.images {
            let mask = region.f_select(0, image)?;
            let picture = picture.f_select(0, image)?;
            let place = match repainting {
                Some(repainting) => Place::of_share(&repainting.share_of(image)?, self.cell)?,
                None => Place::of(&mask, &picture, self.cell, settings.options.outlines)?,
            };
            let Some(pixels) = place.pixels(&picture)? else { continue };
            let area = mask.f_mean(Kind::Double)?.f_double_value(&[])?;
            let mut painted = PaintedColor::new(image as usize, &pixels, area, settings.options.stat, settings.color)?;
            painted.undecided = self.undecided.get(image as usize).copied();
            let redrawn = repainting.and_then(|repainting| repainting.redrawn(image));
            painted.redrawn = redrawn.is_some();
            if let Some(before) = before.filter(|before| before.size().get(1..) == picture_size.get(1..)) {
                let before = before.f_select(0, image)?.f_to_device(Device::Cpu)?.f_clamp(-1.0, 1.0)?;
                let told = compare(&before, &picture, place.inside(), self.cell, settings.color)?;
                painted.remainder = Some(told.remainder);
                painted.least_covered = Some(told.least_covered);
                painted.lines_kept = match redrawn {
                    // What was redrawn has lines of its own.
                    Some(redrawn) => {
                        let redrawn = redrawn.f_select(0, 0)?.f_clamp(-1.0, 1.0)?;
                        compare(&redrawn, &picture, place.inside(), self.cell, settings.color)?.lines_kept
                    }
                    None => told.lines_kept,
                };
                let size = [picture.size3()?.1, picture.size3()?.2];
                let others = repainting.map(|repainting| repainting.others(image, size)).transpose()?.flatten();
                let beside = beside(&before, &picture, place.inside(), others.as_ref(), self.cell, settings.color)?;
                painted.grown = Some(beside.grown);
                painted.worst_neighbor = Some(beside.neighbor);
            }
            self.painted.push(painted);
        }
        Ok(())
    }

    /// Trims every image of a finished latent, [n, c, h, w], in the region.
    pub(super) fn trim(
        &mut self,
        latent: &mut Tensor,
        settings: &Settings,
        codec: &dyn Codec,
        repainting: Option<&Repainting>,
    ) -> Result<()> {
        self.trimmed.clear();
        let Some(region) = self.region()? else { return Ok(()) };
        for image in 0..self.images {
            let mask = region.f_select(0, image)?;
            if repainting.is_none() && mask.f_sum(Kind::Double)?.f_double_value(&[])? == 0.0 {
                continue;
            }
            let one = latent.f_narrow(0, image, 1)?;
            let Some((moved, trimmed)) = trim(&one, &mask, image as usize, settings, codec, repainting)? else {
                continue;
            };
            latent.f_narrow(0, image, 1)?.f_copy_(&moved)?;
            self.trimmed.push(trimmed);
        }
        Ok(())
    }

    pub(super) fn report(
        &self,
        phrase: &str,
        asked: Rgb,
        gold: &Gold,
        competitions: Vec<Competition>,
    ) -> Result<ColorReport> {
        Ok(ColorReport {
            phrase: phrase.into(),
            asked,
            representable_delta_e: gold.delta_e,
            steps: self.steps.clone(),
            painted: self.painted.clone(),
            trimmed: self.trimmed.clone(),
            converged: self.painted.len() == self.images as usize && self.painted.iter().all(PaintedColor::is_good),
            competitions,
            warnings: self.warnings(),
        })
    }

    /// Returns the report for files: figures, colors and curves, and the mask of every forced step and image.
    pub(super) fn summary(
        &self,
        phrase: &str,
        asked: Rgb,
        gold: &Gold,
        competitions: Vec<Competition>,
    ) -> Result<Report> {
        let data = serde_json::to_value(self.report(phrase, asked, gold, competitions)?)
            .map_err(|error| Error::Malformed { file: "color report".into(), problem: error.to_string() })?;
        let mut report = Report { data, ..Report::new(format!("ColorForce \"{phrase}\"")) };
        for painted in &self.painted {
            let (image, delta_e) = (Some(painted.image), painted.delta_e);
            report.swatches.push(Swatch { image, delta_e, ..Swatch::new(phrase, asked, painted.color) });
        }
        let curve = |of: &dyn Fn(&ForcedStep) -> f64| self.steps.iter().map(|step| (step.index, of(step))).collect();
        report.curves.push(Curve::new("strength of the force, 0 to 1", curve(&|step| step.strength)));
        for image in 0..self.images as usize {
            let area = |step: &ForcedStep| 100.0 * step.areas.get(image).copied().unwrap_or_default();
            report.curves.push(Curve { image: Some(image), ..Curve::new("mask, % of the picture", curve(&area)) });
            let colors = self.steps.iter().map(|step| step.index).zip(self.seen.colors(image as i64)?);
            let colors: Vec<(usize, Rgb)> = colors.filter_map(|(step, color)| Some((step, color?))).collect();
            if !colors.is_empty() {
                let strip = Strip::new(format!("\"{phrase}\" as the model saw it"), colors);
                report.strips.push(Strip { image: Some(image), ..strip });
            }
            for (step, mask) in self.steps.iter().zip(&self.masks) {
                let mask = self.of_images(mask)?.f_select(0, image as i64)?;
                let picture = Picture::map("mask", &mask);
                report.pictures.push(picture.image(image).step(step.index));
            }
        }
        Ok(report)
    }
}

/// Computes a number from the cells of each image of a map, [n, 1, h, w].
fn of_images<T>(map: &Tensor, number: impl Fn(&[f32]) -> T) -> Result<Vec<T>> {
    let (images, _, h, w) = map.size4()?;
    let cells = Vec::<f32>::try_from(&map.f_flatten(0, -1)?)?;
    Ok(cells.chunks((h * w).max(1) as usize).take(images as usize).map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A region that has each color on the given number of pixels.
    fn painted(colors: &[(Rgb, i64)], stat: ColorStat, asked: Rgb) -> Result<PaintedColor> {
        let of = |&(Rgb(r, g, b), count): &(Rgb, i64)| {
            let color = Tensor::from_slice(&[r, g, b]).to_kind(Kind::Float) / 127.5 - 1.0;
            color.unsqueeze(1).expand([3, count], false)
        };
        PaintedColor::new(0, &Tensor::cat(&colors.iter().map(of).collect::<Vec<_>>(), 1), 0.1, stat, asked)
    }

    #[test]
    fn region_of_several_colors_is_not_met() -> Result<()> {
        let (red, blue, purple) = (Rgb(255, 0, 0), Rgb(0, 0, 255), Rgb(188, 0, 188));
        // The mean of red and blue is purple, but no pixel is.
        let halves = painted(&[(red, 50), (blue, 50)], ColorStat::Mean, purple)?;
        assert!(halves.delta_e < 1.0 && halves.coverage == 0.0 && !halves.is_met(), "{halves:?}");
        let thirds = painted(&[(red, 40), (purple, 20), (blue, 40)], ColorStat::Median, purple)?;
        assert!(thirds.delta_e < 1.0 && thirds.mean_delta_e < 1.0 && !thirds.is_met(), "{thirds:?}");
        // The median is red although a third of the region is blue.
        let collar = painted(&[(red, 65), (blue, 35)], ColorStat::Median, red)?;
        assert!(collar.delta_e == 0.0 && collar.coverage > 0.5 && !collar.is_met(), "{collar:?}");
        let plain = painted(&[(red, 80), (Rgb(200, 20, 20), 20)], ColorStat::Median, red)?; // a crease
        assert!(plain.is_met(), "{plain:?}");
        assert!(plain.is_good());
        for harmed in [
            PaintedColor { grown: Some(0.2), ..plain },
            PaintedColor { worst_neighbor: Some(30.0), ..plain },
            PaintedColor { lines_kept: Some(0.5), ..plain },
        ] {
            assert!(harmed.is_met() && !harmed.is_good(), "the color is met, and the picture is harmed: {harmed:?}");
        }
        let halved = PaintedColor { least_covered: Some(0.4), ..plain };
        assert!(!halved.is_met(), "one of its pieces was painted in part: {halved:?}");
        Ok(())
    }
}
