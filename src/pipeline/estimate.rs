//! [`Estimate`]: the memory and the time of a run, told in advance.

use super::Request;
use super::adapted::Added;
use super::canvas::Canvas;
use super::config::RequestConfig;
use super::detail::Thing;
use super::detailing::config_of_part;
use super::hires::Enlarge;
use super::measured::Piece;
use super::memory::Memory;
use super::sampling::{self, Sampling};
use super::things::{READ, readable};
use crate::color::Rgb;
use crate::conditioning::Codec;
use crate::diffusion::solver::Solver;
use crate::diffusion::{Denoiser, Noise, Strength};
use crate::error::{Error, Result};
use crate::guidance::{Attached, Combine};
use crate::methods::ColorForce;
use crate::model::Controlled;
use crate::raster::Raster;
use crate::recipe::{Kind as RecipeKind, Recipe};
use crate::sampler::{Rehearsal, Sampler, Start};
use crate::size::Size;
use crate::step::Grid;
use std::borrow::Cow;
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// Largest number of rows of a call that is measured. The time of a larger call grows with its rows.
const MEASURED_ROWS: usize = 8;
/// Longest side in cells of a latent whose decoding is measured. The time of a larger one grows with its area.
const MEASURED_SIDE: i64 = 32;

/// The memory and the time of a run, told in advance by [`Request::estimate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Estimate {
    /// Memory in bytes that the run holds at its peak, beside the loaded model. `None` if it is unknown: on a GPU, for
    /// offloaded weights, and for networks that do not tell their memory
    /// ([`ModelInfo::memory`](crate::model::ModelInfo::memory)).
    ///
    /// The memory counts the tensors of the largest call of the network, those of encoding and decoding, and the
    /// pictures. In runs that hold more than 16 MiB, the measured memory is between 2/3 and 5/4 of the estimate. With
    /// glibc's defaults, a process keeps memory that tensors no longer use, and so holds up to twice the estimate;
    /// `docs/performance.md` has a setting that gives it back. What guidance methods and hooks keep is not counted.
    pub bytes: Option<u64>,
    /// Time of the run. The work of guidance methods is counted as far as it is passes and branches.
    pub time: Duration,
    /// Rows of the largest call of the network; a row is a branch of a picture. A limit of memory makes it smaller.
    pub rows: usize,
}

/// A run of the model within a request.
struct Planned {
    canvas: Canvas,
    /// Strength of image to image; `None`: the whole schedule.
    strength: Option<Strength>,
    /// Steps of the whole schedule.
    steps: usize,
    images: usize,
    best_of: usize,
    /// Number of pictures that the run starts from.
    encoded: usize,
    /// True for the first run of the request.
    is_first: bool,
}

impl Estimate {
    const NOTHING: Self = Self { bytes: Some(0), time: Duration::ZERO, rows: 0 };

    /// Adds the estimate of a run that follows.
    fn then(self, next: Self) -> Self {
        let bytes = self.bytes.zip(next.bytes).map(|(own, next)| own.max(next));
        Self { bytes, time: self.time + next.time, rows: self.rows.max(next.rows) }
    }
}

impl<'p> Request<'p> {
    /// Estimates the memory and the time of the run, without making the run.
    ///
    /// The time comes from one call of the network and one decoding, which are measured once for each size, number of
    /// branches and number of pictures, and kept in the pipeline. So the first estimate takes about as long as a step,
    /// and later ones take milliseconds. The time counts these parts:
    ///
    /// - the evaluations of all steps, as the solver makes them, for all branches and pictures
    /// - the first pass that exact colors take, and the first passes of [`best_of`](Self::best_of)
    /// - the second run at a larger size ([`hires`](Self::hires))
    /// - the evaluations that use deep layers again ([`RequestConfig::reuse`]), as if no hook took part at these layers
    /// - one part of each picture for each detail ([`detail`](Self::detail)), because the parts are not found yet
    ///
    /// Values and hooks that are lent to this request ([`attach`](Self::attach), [`hook`](Self::hook)) are left out.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// let pipeline = impasto::Pipeline::builder().build()?;
    /// let request = pipeline.request("a red boat").steps(8).images(4);
    /// let estimate = request.estimate()?;
    /// println!("{:.1} s", estimate.time.as_secs_f64());
    /// if let Some(bytes) = estimate.bytes {
    ///     println!("{} MiB beside the model", bytes >> 20);
    /// }
    /// // With a limit of memory, the batch is split: into calls of fewer rows.
    /// let limited = request.tune(|config| config.memory_limit = Some(32)).estimate()?;
    /// assert!(limited.bytes <= Some(32 << 20) && limited.rows <= estimate.rows);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`run`](Self::run) for settings, prompts and phrases; those of the first call of the network.
    pub fn estimate(&self) -> Result<Estimate> {
        self.check()?;
        let mut own = self.for_rehearsal()?;
        let _ = Added::take(&mut own.config, self.model.folders, None)?; // LoRAs change no times
        let colors = own.take_colors_of_the_prompt()?;
        own.force(colors, None);
        let canvas = own.canvas()?;
        let hires = own.config.hires.clone();
        let longest = own.model.longest_side();
        let hires = hires.map(|hires| Ok::<_, Error>((hires.canvas(&canvas, longest)?, hires))).transpose()?;
        let strength = own.picture.as_ref().map(|(_, strength)| *strength);
        let (steps, images, best_of) = (own.step_count(), own.pictures(), own.config.best_of);
        let mut sum = Estimate::NOTHING;
        let first = Planned {
            canvas,
            strength,
            steps,
            images,
            best_of,
            encoded: usize::from(strength.is_some()),
            is_first: true,
        };
        if !own.stays() {
            sum = sum.then(own.estimate_run(&first)?);
        }
        if let Some((canvas, hires)) = hires {
            let (strength, steps) = (Some(hires.strength.into()), hires.steps.unwrap_or(steps));
            let encoded = if hires.enlarge == Enlarge::Lanczos { images } else { 0 };
            let second = Planned { canvas, strength, steps, images, best_of: 1, encoded, is_first: false };
            sum = sum.then(own.estimate_run(&second)?);
        }
        for part in own.parts_of_details()? {
            let one = part.estimate()?;
            sum = sum.then(Estimate { time: one.time.saturating_mul(images.try_into().unwrap_or(u32::MAX)), ..one });
        }
        Ok(sum)
    }

    /// Returns the number of pictures.
    fn pictures(&self) -> usize {
        let rows = self.resumed.and_then(|(latents, _)| usize::try_from(*latents.size().first()?).ok());
        self.config.images.max(rows.unwrap_or_default())
    }

    /// Returns the same request with a state of its own, to begin its runs without making them.
    fn for_rehearsal(&self) -> Result<Self> {
        let mut own = Self::new(self.model, &[], String::new());
        own.config = self.config.clone();
        own.guidances = self.guidances.iter().filter_map(Attached::again).collect();
        own.solver = self.copy_of::<dyn Solver>(self.solver.as_ref().map(|solver| solver.recipe()))?;
        own.combine = self.copy_of::<dyn Combine>(self.combine.as_ref().map(|combine| combine.recipe()))?;
        own.picture.clone_from(&self.picture);
        own.resumed = self.resumed;
        own.controls.clone_from(&self.controls);
        own.cancel = self.cancel.clone();
        Ok(own)
    }

    /// Makes a copy of a part of the request from its recipe; `None` if no recipe describes the part.
    fn copy_of<T: ?Sized + RecipeKind>(&self, recipe: Option<Result<Recipe>>) -> Result<Option<Box<T>>> {
        let made = recipe.map(|recipe| recipe.and_then(|recipe| self.model.registry.make::<T>(recipe)));
        match made.transpose() {
            Err(Error::NotRepeatable { .. }) => Ok(None),
            made => made,
        }
    }

    /// Returns requests for one part of each detail, at the model's own size.
    fn parts_of_details(&self) -> Result<Vec<Request<'p>>> {
        let defaults = self.model.defaults();
        let size = Size::new(defaults.width, defaults.height);
        let part = |detail: &super::Detail| {
            let mut part = Request::new(self.model, &[], String::new());
            part.config = config_of_part(detail, &self.config, &self.config.prompt, size);
            part.solver = self.copy_of::<dyn Solver>(self.solver.as_ref().map(|solver| solver.recipe()))?;
            part.picture = Some((Cow::Owned(Raster::flat(Rgb(0, 0, 0), size)), detail.strength.into()));
            if let Thing::Named(thing) = &detail.thing {
                part.config.mask_where = Some(thing.clone());
            }
            let colors = detail.colors.iter().map(|(phrase, color)| ColorForce::exact(phrase, *color));
            Ok(colors.fold(part, Request::guide))
        };
        self.config.details.iter().map(part).collect()
    }

    /// Estimates one run of the model.
    fn estimate_run(&self, planned: &Planned) -> Result<Estimate> {
        let &Planned { canvas, strength, steps, images, best_of, encoded, is_first } = planned;
        let solver = self.copy_of::<dyn Solver>(self.solver.as_ref().map(|solver| solver.recipe()))?;
        let combine = self.copy_of::<dyn Combine>(self.combine.as_ref().map(|combine| combine.recipe()))?;
        let config = &self.config;
        let network = Controlled::sized(self.model.network, &self.controls, Some(canvas.pixels()))?;
        let network = network.seamless(config.seamless)?.reuse(config.reuse)?.merge_tokens(config.merge_tokens)?;
        let parts = self.memory(&network, planned).parts()?;
        let network = network.most_pictures(parts.pictures);
        let left = self.resumed.filter(|_| is_first).map(|(_, share)| share);
        let scheduler = self.model.scheduler().on(canvas.grid)?;
        let sampling = Sampling::new(solver, config, &scheduler, steps, strength, left)?;
        let sampler = sampling.sampler(config, self.model, combine, parts.rows).cancel(&self.cancel);
        let sampler = self.guidances.iter().filter_map(Attached::again).fold(sampler, Sampler::attached);
        let start = Start { images, best_of, ..sampling::start(config, canvas.grid, Noise::seeded(0)) };
        let mut rehearsal = sampler.rehearse(&network, start)?;
        let (branches, at_once) = rehearsal.largest_call();
        let mut row = self.time_of_row(&mut rehearsal, canvas.grid, false)?;
        if let again @ 1.. = config.reuse.saturating_sub(1) as u32 {
            let reused = self.time_of_row(&mut rehearsal, canvas.grid, true)?;
            row = (row + reused * again) / (again + 1);
        }
        let rows: usize = rehearsal.passes.iter().map(|(count, images)| count * images).sum();
        let mut time = rehearsal.text + row.mul_f64((rows * rehearsal.branches()) as f64);
        if config.mask_where.is_some() {
            let area = readable(self.model, canvas.size).cells() as f64 / canvas.grid.cells().max(1) as f64;
            time += row.mul_f64(READ as f64 * area);
        }
        if config.until.is_none() {
            time += self.time_of_vae(&network, Piece::Decode, canvas.grid)?.mul_f64(images as f64);
        }
        if encoded > 0 {
            time += self.time_of_vae(&network, Piece::Encode, canvas.grid)?.mul_f64(encoded as f64);
        }
        let bytes = self.memory(&network, planned).peak((branches, at_once), parts);
        Ok(Estimate { bytes, time, rows: branches * at_once })
    }

    /// Returns the memory of one run of the model.
    fn memory<'n>(&self, network: &'n Controlled<'n>, planned: &Planned) -> Memory<'n> {
        let &Planned { canvas, images, encoded, .. } = planned;
        let RequestConfig { until, batching, memory_limit: limit, .. } = self.config;
        let decoded = if until.is_none() { images } else { 0 };
        Memory { network, canvas, images, encoded, decoded, batching, limit }
    }

    /// Returns the time that a call of the network takes for each row: one that computes all layers, or one that has
    /// `reused` the deep layers of an earlier call.
    fn time_of_row(&self, rehearsal: &mut Rehearsal<'_, '_>, grid: Grid, reused: bool) -> Result<Duration> {
        let (branches, images) = rehearsal.largest_call();
        let branches = branches.min(MEASURED_ROWS);
        let images = images.min((MEASURED_ROWS / branches.max(1)).max(1));
        let (controls, seamless) = (self.controls.len(), self.config.seamless);
        let merged = (1000.0 * self.config.merge_tokens).round() as u32;
        let piece = Piece::Call { grid, branches, images, controls, seamless, merged, reused };
        let time = self.model.measured.time(piece, || rehearsal.call(branches, images, reused))?;
        Ok(time.div_f64((branches * images).max(1) as f64))
    }

    /// Returns the time in which the VAE processes one picture.
    fn time_of_vae(&self, network: &Controlled<'_>, piece: fn(Grid) -> Piece, grid: Grid) -> Result<Duration> {
        let part = Grid::new(grid.h.min(MEASURED_SIDE), grid.w.min(MEASURED_SIDE));
        let (options, cell) = ((Kind::Float, network.device()), network.cell());
        let time = self.model.measured.time(piece(part), || {
            let _no_grad = tch::no_grad_guard();
            let latent = Tensor::f_zeros([1, network.channels(), part.h, part.w], options)?;
            let picture = Tensor::f_zeros([1, 3, part.h * cell, part.w * cell], options)?;
            let begun = Instant::now();
            let result = match piece(part) {
                Piece::Encode(_) => network.encode(&picture)?,
                _ => network.decode(&latent)?,
            };
            let _ = result.f_sum(Kind::Float)?.f_double_value(&[])?; // waits for the device
            Ok(begun.elapsed())
        })?;
        Ok(time.mul_f64(grid.cells() as f64 / part.cells().max(1) as f64))
    }
}
