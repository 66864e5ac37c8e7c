//! Detailing: parts of finished pictures, repainted at full size.

use super::canvas::Canvas;
use super::config::RequestConfig;
use super::detail::{Detail, Thing};
use super::input::{FEATHER, SOFT, describe, gray};
use super::model_view::ModelView;
use super::watch::Watch;
use super::{Request, Seamless};
use crate::color::Rgb;
use crate::error::Result;
use crate::guidance::{Picture, Report};
use crate::mask::{Region, pieces};
use crate::methods::ColorForce;
use crate::raster::{Filter, Raster};
use crate::recipe::Recipe;
use crate::repaint::{Crop, Repaint, soften};
use crate::sampler::CancelToken;
use crate::size::Size;
use crate::wording::Note;
use ndarray::Array2;
use serde_json::json;
use std::borrow::Cow;
use std::collections::HashSet;
use tch::{Device, Tensor};

/// Smallest piece of a mask that is repainted, as a share of the picture.
const LEAST: f64 = 0.0002;
/// Largest number of pieces of one detail.
const MOST: usize = 16;
/// Share of a forced thing that has to lie under a detail's mask, so that its color is forced there too.
const INSIDE: f64 = 0.5;

/// The settings that all details of a request share.
pub(super) struct Detailing<'r> {
    pub model: ModelView<'r>,
    /// Settings of the request, with the prompt as the text encoder reads it.
    pub config: &'r RequestConfig,
    /// Prompt of details that have none of their own.
    pub prompt: &'r str,
    pub cancel: &'r CancelToken,
    /// A copy of the solver that the request sets as a value; `None`: the solver that `config` names, or the
    /// checkpoint's.
    pub solver: Option<&'r Recipe>,
    pub seed: u64,
}

/// A color that was forced on a thing.
struct Forced {
    phrase: String,
    color: Rgb,
    /// The thing's place, white in a picture of the picture's size.
    place: Raster,
}

impl Forced {
    /// Returns the pixels of the thing, row by row.
    fn pixels(&self) -> Vec<bool> {
        let (pixels, _) = self.place.bytes().as_chunks::<3>();
        pixels.iter().map(|[gray, ..]| *gray >= 128).collect()
    }

    /// Returns a force of the color on the place in a part of the picture, which is painted at the size `run`.
    fn force(&self, crop: Crop, run: Size) -> Result<ColorForce> {
        let place = self.place.crop(crop.top..crop.bottom, crop.left..crop.right)?.resize(run, Filter::Bilinear)?;
        let gray =
            |(y, x): (usize, usize)| place.pixel(x as u32, y as u32).map_or(0.0, |pixel| f32::from(pixel.0) / 255.0);
        let region = Array2::from_shape_fn((run.height as usize, run.width as usize), gray);
        Ok(ColorForce::exact(&self.phrase, self.color).saliency(Region::new(region)))
    }
}

impl Detailing<'_> {
    /// Repaints the details of the picture at `image` in the batch, one after the other. `reports` are those of the run
    /// that made the picture; the reports of the details are returned.
    pub(super) fn repaint(
        &self,
        picture: &mut Raster,
        image: usize,
        reports: &[Report],
        watch: &mut Watch<'_>,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<Report>> {
        let mut told = Vec::new();
        let canvas = Canvas::covering(picture.size(), 1, 1);
        for detail in &self.config.details {
            if self.is_ended(notes) {
                break;
            }
            let (mask, soft) = match &detail.thing {
                Thing::Named(thing) => {
                    let description = describe(&self.config.prompt, self.config, self.model)?;
                    (thing.find(self.model, picture, &description, &canvas)?.mask(thing.grow)?, SOFT)
                }
                Thing::Under(mask) => (mask.clone(), 0.0),
            };
            let gray = soften(&gray(&mask, &canvas)?, self.config.soften.unwrap_or(soft))?;
            let found = self.found(detail, &gray, picture.size())?;
            if found.is_empty() {
                notes.push(Note::from(format!("{} is too small to be repainted", named(detail))));
            }
            let forced = find_forced(reports, image, picture.size())?;
            for (number, (crop, pixels)) in found.into_iter().enumerate() {
                if self.is_ended(notes) {
                    break;
                }
                watch.stage += 1;
                let part = Part { detail, crop, pixels, gray: &gray, forced: &forced };
                let mut own = self.repaint_part(picture, &part, watch, notes)?;
                own.iter_mut().for_each(|report| {
                    report.name = format!("{} {}: {}", named(detail), number + 1, report.name);
                });
                told.append(&mut own);
            }
        }
        Ok(told)
    }

    /// Returns true if the request ends early, and notes that details are left out.
    fn is_ended(&self, notes: &mut Vec<Note>) -> bool {
        let note = Note::from("details were left out, because the run was ended early");
        let ended = self.cancel.finishes_early();
        if ended && !notes.contains(&note) {
            notes.push(note);
        }
        ended
    }

    /// Returns the parts of a detail, each with its pixels: the connected pieces of its mask, where pieces whose parts
    /// would overlap are one.
    fn found(&self, detail: &Detail, gray: &Tensor, size: Size) -> Result<Vec<(Crop, Vec<usize>)>> {
        let inside: Vec<bool> = Vec::<f32>::try_from(&gray.f_flatten(0, -1)?)?.iter().map(|gray| *gray > 0.0).collect();
        let least = (LEAST * inside.len() as f64).max(1.0);
        let large = pieces(inside, size.width as usize).into_iter().filter(|piece| piece.len() as f64 >= least);
        let mut large: Vec<Vec<usize>> = large.collect();
        large.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        large.truncate(MOST);
        let own = self.own_size();
        let part = |of: Crop| of.pad(detail.padding, size).in_aspect_of(own, size);
        let mut found: Vec<(Crop, Vec<usize>)> = Vec::new();
        for piece in large {
            let Some(mut around) = Crop::around(&piece, size.width) else { continue };
            let mut pixels = piece;
            while let Some(at) = found
                .iter()
                .position(|(other, _)| part(*other).has_middle_of(around) || part(around).has_middle_of(*other))
            {
                let (other, mut more) = found.swap_remove(at);
                around = around.with(other);
                pixels.append(&mut more);
            }
            found.push((around, pixels));
        }
        Ok(found.into_iter().map(|(around, pixels)| (part(around), pixels)).collect())
    }

    /// Returns the model's own size.
    fn own_size(&self) -> Size {
        let defaults = self.model.defaults();
        Size::new(defaults.width, defaults.height)
    }

    /// Repaints one part of the picture.
    fn repaint_part(
        &self,
        picture: &mut Raster,
        part: &Part<'_>,
        watch: &mut Watch<'_>,
        notes: &mut Vec<Note>,
    ) -> Result<Vec<Report>> {
        let Part { detail, crop, .. } = part;
        let (all, size) = (picture.size(), crop.size());
        let mask = part.mask(all)?;
        let scale = self.scale(size);
        let run = enlarge(size, scale, self.model.longest_side());
        let cut = |raster: &Raster| raster.crop(crop.top..crop.bottom, crop.left..crop.right);
        let before = cut(picture)?;
        let shown = before.resize(run, Filter::Lanczos)?;
        let hidden = cut(&Raster::from_tensor(&mask.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_repeat([1, 3, 1, 1])?)?)?;
        let hidden = hidden.resize(run, Filter::Bilinear)?;
        let mut request = Request::new(self.model, &[], String::new());
        request.config = config_of_part(detail, self.config, self.prompt, run);
        request.config.seed = Some(self.seed);
        for (phrase, color) in &detail.colors {
            request = request.guide(ColorForce::exact(phrase, *color));
        }
        for forced in part.forced_there() {
            request = request.guide(forced.force(*crop, run)?);
        }
        request.solver = self.solver.map(|solver| self.model.registry.make(solver.clone())).transpose()?;
        request.picture = Some((Cow::Owned(shown), detail.strength.into()));
        request.mask = Some(Cow::Owned(hidden));
        let output = request.cancel(self.cancel).run_watched(watch)?;
        notes.extend(output.notes.iter().filter(|note| !notes.contains(note)).cloned().collect::<Vec<_>>());
        let painted = output.image(0)?.resize(size, Filter::Lanczos)?;
        let mut with = picture.clone();
        with.paste(&painted, crop.left, crop.top);
        let feather = self.config.feather.unwrap_or(FEATHER) / scale;
        let repaint = Repaint::new(&picture.to_tensor(Device::Cpu)?, &mask, feather)?;
        let (joined, seams) = repaint.join(&with.to_tensor(Device::Cpu)?, false, None)?;
        *picture = Raster::from_tensor(&joined)?;
        let after = cut(picture)?;
        let measured = measured(&output.reports, &before, &after)?;
        let data = json!({ "crop": crop, "size": run, "seams": seams, "colors": measured });
        let pictures = vec![Picture::new("before", before), Picture::new("after", after)];
        let mut reports = output.reports;
        reports.push(Report { data, pictures, ..Report::new("detail") });
        Ok(reports)
    }

    /// Returns the factor by which a part of some size is enlarged: to about the area of the model's own size. The
    /// factor is below 1 only if the part is larger than any picture that the model paints.
    fn scale(&self, size: Size) -> f64 {
        let area = |size: Size| f64::from(size.width.max(1)) * f64::from(size.height.max(1));
        let most = f64::from(self.model.longest_side()) / f64::from(size.width.max(size.height).max(1));
        (area(self.own_size()) / area(size)).sqrt().max(1.0).min(most)
    }
}

/// A part of a picture that a detail repaints.
struct Part<'d> {
    detail: &'d Detail,
    crop: Crop,
    /// Pixels of the part's mask.
    pixels: Vec<usize>,
    /// The detail's mask, [1, 1, H, W] in 0..=1.
    gray: &'d Tensor,
    forced: &'d [Forced],
}

impl Part<'_> {
    /// Returns the mask of this part alone, [1, 1, H, W] in 0..=1.
    fn mask(&self, Size { width, height }: Size) -> Result<Tensor> {
        let mut own = vec![0f32; width as usize * height as usize];
        self.pixels.iter().filter_map(|pixel| own.get_mut(*pixel).map(|own| *own = 1.0)).for_each(drop);
        let own = Tensor::f_from_slice(&own)?.f_reshape([1, 1, i64::from(height), i64::from(width)])?;
        Ok(self.gray.f_mul(&own)?)
    }

    /// Returns the colors that the run forced on things in the part. A description of the detail's own says which
    /// colors its things have, so that the part gets no others.
    fn forced_there(&self) -> Vec<&Forced> {
        if self.detail.prompt.is_some() {
            return Vec::new();
        }
        let here: HashSet<usize> = self.pixels.iter().copied().collect();
        let is_inside = |forced: &&Forced| {
            let own: Vec<usize> =
                forced.pixels().iter().enumerate().filter_map(|(at, own)| own.then_some(at)).collect();
            own.iter().filter(|at| here.contains(at)).count() as f64 >= INSIDE * own.len().max(1) as f64
        };
        let is_told = |forced: &Forced| self.detail.colors.iter().any(|(phrase, _)| *phrase == forced.phrase);
        self.forced.iter().filter(is_inside).filter(|forced| !is_told(forced)).collect()
    }
}

/// Returns the settings of the run that repaints a part at the size `run`. `config` has the settings of the request,
/// and `prompt` is the prompt of details that have none of their own.
pub(super) fn config_of_part(detail: &Detail, config: &RequestConfig, prompt: &str, run: Size) -> RequestConfig {
    RequestConfig {
        prompt: detail.prompt.clone().unwrap_or_else(|| prompt.to_owned()),
        negative: detail.negative.clone().unwrap_or_else(|| config.negative.clone()),
        steps: detail.steps.or(config.steps),
        noise: None,
        size: Some(run),
        images: 1,
        best_of: 1,
        variation: None,
        mask_where: None,
        soften: None,
        hires: None,
        details: Vec::new(),
        seamless: Seamless::No,
        ..config.clone()
    }
}

/// Returns the name of a detail in reports and notes.
fn named(detail: &Detail) -> String {
    match &detail.thing {
        Thing::Named(thing) => format!("detail \"{}\"", thing.phrase),
        Thing::Under(_) => "detail".into(),
    }
}

/// Returns the size of a part enlarged by a factor, in multiples of 8 pixels and at most `longest` pixels.
fn enlarge(size: Size, scale: f64, longest: u32) -> Size {
    let side = |side: u32| ((f64::from(side) * scale / 8.0).round() as u32 * 8).min(longest).max(8);
    Size::new(side(size.width), side(size.height))
}

/// Returns the last map that a report has of an image, at the size of a picture; `None` without maps.
fn last_map(report: &Report, image: usize, size: Size) -> Result<Option<Raster>> {
    let mut maps = report.pictures.iter().filter(|picture| picture.is_map() && picture.image == Some(image));
    maps.next_back().map(|map| map.raster()?.resize(size, Filter::Bilinear)).transpose()
}

/// Returns the colors that a run forced in one of its images.
fn find_forced(reports: &[Report], image: usize, size: Size) -> Result<Vec<Forced>> {
    let mut forced = Vec::new();
    for report in reports {
        for swatch in report.swatches.iter().filter(|swatch| swatch.image == Some(image)) {
            if let Some(place) = last_map(report, image, size)? {
                forced.push(Forced { phrase: swatch.label.clone(), color: swatch.asked, place });
            }
        }
    }
    Ok(forced)
}

/// Returns the CIEDE2000 differences of the colors that a part's run forced, in the part before and after.
fn measured(reports: &[Report], before: &Raster, after: &Raster) -> Result<Vec<serde_json::Value>> {
    let mut all = Vec::new();
    for forced in find_forced(reports, 0, before.size())? {
        let pixels = forced.pixels();
        let [before, after] = [before, after].map(|part| median(part, &pixels).delta_e(forced.color));
        all.push(json!({ "phrase": forced.phrase, "asked": forced.color, "before": before, "after": after }));
    }
    Ok(all)
}

/// Returns the median, channel by channel, of some pixels of a picture.
fn median(picture: &Raster, inside: &[bool]) -> Rgb {
    let (pixels, _) = picture.bytes().as_chunks::<3>();
    let channel = |at: usize| {
        let own = pixels.iter().zip(inside).filter(|(_, inside)| **inside);
        let mut values: Vec<u8> = own.filter_map(|(pixel, _)| pixel.get(at).copied()).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Rgb(channel(0), channel(1), channel(2))
}
