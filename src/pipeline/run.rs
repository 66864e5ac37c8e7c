//! [`Request::run`]: the stages of a request, one run of the model each.

use super::Seamless;
use super::adapted::Added;
use super::canvas::Canvas;
use super::config::RequestConfig;
use super::detail::Detail;
use super::detailing::Detailing;
use super::hires::{Enlarge, Hires};
use super::input::Input;
use super::memory::Memory;
use super::recipe::RunRecipe;
use super::sampling::{self, Sampling};
use super::stored::Stored;
use super::watch::Watch;
use super::{Output, Request, Timing};
use crate::diffusion::solver::Solver;
use crate::diffusion::{Noise, Strength};
use crate::error::{Error, Result};
use crate::guidance::{Attached, Details, Report, check_rescale};
use crate::mask::Region;
use crate::methods::ColorForce;
use crate::model::{Controlled, Identity, check_reuse};
use crate::nn::token_merging::check_merge_tokens;
use crate::prompt::PromptColor;
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::saliency::Occurrence;
use crate::sampler::{Ended, Origin, Progress, Run, Sampler, Start};
use crate::wording::Note;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::Tensor;

/// Largest number of exact colors in a prompt.
const MOST_COLORS: usize = 32;

/// Largest number of details of a request.
const MOST_DETAILS: usize = 64;

/// The place, the input and the schedule of one run.
struct Stage {
    canvas: Canvas,
    input: Input,
    /// Strength of image to image; `None`: the whole schedule.
    strength: Option<Strength>,
    /// Steps of the whole schedule.
    steps: usize,
    /// Steps of the first run, in the second run of the request.
    first_steps: Option<usize>,
    /// Seed of the first image.
    seed: u64,
    images: usize,
    best_of: usize,
}

/// A request before the tags of networks were taken out of its prompts, and the model without these networks.
struct Given {
    config: RequestConfig,
    identity: Identity,
}

impl Given {
    /// Puts the prompts and the model back into the recipe of the run.
    fn restore(self, recipe: &mut RunRecipe) {
        let RequestConfig { prompt, second_prompt, third_prompt, details, .. } = self.config;
        let config = &mut recipe.config;
        (config.prompt, config.second_prompt, config.third_prompt) = (prompt, second_prompt, third_prompt);
        if !config.details.is_empty() {
            config.details = details;
        }
        recipe.model = self.identity;
    }
}

/// The result of one run.
struct Painted {
    /// The pictures; empty after a run that ended early.
    images: Vec<Raster>,
    latents: Tensor,
    notes: Vec<Note>,
    reports: Vec<Report>,
    details: Details,
    /// Index of the image in the first pass that the run continued with, if it was chosen among several.
    candidate: Option<usize>,
}

impl Request<'_> {
    /// Runs the request and returns its pictures.
    ///
    /// # Errors
    /// - [`Error::Parameter`] for a size, number of steps or images, strength, share or scale out of range.
    /// - [`Error::Parameter`] for a mask without a picture, or micro-conditioning for a model that reads none.
    /// - [`Error::Parameter`] for a second prompt and a model with one text encoder.
    /// - [`Error::UnknownSolver`] for the name of an unknown solver.
    /// - [`Error::Config`] if the checkpoint names a sampler that this crate does not have, and none was chosen.
    /// - [`Error::Cancelled`].
    /// - [`Error::Parameter`] for a memory limit ([`RequestConfig::memory_limit`](super::RequestConfig::memory_limit))
    ///   that a single branch of a single picture exceeds.
    /// - The errors of [`Controlled::new`] for ControlNets.
    /// - The errors of guidance methods, with the method's name.
    pub fn run(mut self) -> Result<Output> {
        let (on_step, on_preview) = (self.on_step.take(), self.on_preview.take());
        if let Some((0, _)) = on_preview {
            return Err(Error::parameter("on_preview", "every 0 steps", "every 1 or more steps"));
        }
        let mut watch = Watch { model: self.model, on_step, on_preview, stage: 0 };
        self.run_watched(&mut watch)
    }

    /// Runs the request as [`run`](Self::run) does. The callbacks of `watch` are called in place of the request's own.
    pub(super) fn run_watched(mut self, watch: &mut Watch<'_>) -> Result<Output> {
        let stored = self.stored.take().unwrap_or_else(|| self.store());
        let begun = Instant::now();
        let mut notes = self.doubts(&stored)?;
        let given = Given { config: self.config.clone(), identity: self.model.info.identity()? };
        let Some(added) = Added::take(&mut self.config, self.model.folders, self.model.info.clip_skip())? else {
            return self.run_on_model(stored, given, notes, begun, watch);
        };
        let view = self.model;
        let adaptation = view.adapted.adapt(view.network, &added)?;
        notes.extend(adaptation.notes.iter().cloned());
        let mut request: Request<'_> = self;
        request.model = view.on(&adaptation.model);
        let output = request.run_on_model(stored, given, notes, begun, watch);
        view.adapted.keep(added, adaptation);
        output
    }

    /// Runs a request whose prompts name no networks. `given` is the request as it was before.
    fn run_on_model(
        mut self,
        stored: Stored,
        given: Given,
        mut notes: Vec<Note>,
        begun: Instant,
        watch: &mut Watch<'_>,
    ) -> Result<Output> {
        let mut timing = Timing::default();
        notes.extend(self.model.info.notes());
        let mut recipe = self.recipe(stored)?;
        given.restore(&mut recipe);
        self.check()?;
        let written = self.config.prompt.clone();
        let colors = self.take_colors_of_the_prompt()?;
        let canvas = self.canvas()?;
        // A network that reads patches is no UNet, and is refused at any size when the run begins.
        let is_cut = canvas.pixels() != canvas.size && self.model.network.patch() == 1;
        if self.config.seamless != Seamless::No && is_cut {
            let expected = "sides that are multiples of 8, because cells beyond an edge have no opposite edge";
            return Err(Error::parameter("seamless", format!("set for {} pixels", canvas.size), expected));
        }
        let picture = self.picture.as_ref().map(|(picture, _)| &**picture);
        let input = Input::new(picture, self.mask.as_deref(), &self.config, self.model, &canvas)?;
        self.force(colors, input.thing.as_ref());
        let hires = self.config.hires.clone();
        let longest = self.model.longest_side();
        let hires = hires.map(|hires| Ok::<_, Error>((hires.canvas(&canvas, longest)?, hires))).transpose()?;
        let stage = Stage {
            canvas,
            input,
            strength: self.picture.as_ref().map(|(_, strength)| *strength),
            steps: self.step_count(),
            first_steps: None,
            seed: recipe.config.seed.unwrap_or_default(),
            images: self.config.images,
            best_of: self.config.best_of,
        };
        timing.text += begun.elapsed();
        let stays = self.stays();
        let mut painted = if stays { self.keep(stage)? } else { self.paint(stage, watch, &mut timing)? };
        recipe.config.images = painted.latents.size4()?.0 as usize;
        if let Some(candidate) = painted.candidate {
            recipe.choose(candidate)?;
            self.config.noise.clone_from(&recipe.config.noise);
            self.config.variation = recipe.config.variation;
        }
        notes.append(&mut painted.notes);
        let ends = self.cancel.finishes_early();
        if ends && hires.is_some() {
            notes.push(Note::from("the second run was left out, because the run was ended early"));
        }
        if let Some((larger, hires)) = hires.filter(|_| !ends) {
            let input = match hires.enlarge {
                Enlarge::Lanczos => Input::of_picture(Hires::pixels(&painted.images, &larger)?),
                Enlarge::Latent => Input::of_latent(Hires::latents(&painted.latents, &canvas, &larger)?),
            };
            watch.stage += 1;
            let stage = Stage {
                canvas: larger,
                input,
                strength: Some(hires.strength.into()),
                steps: hires.steps.unwrap_or_else(|| self.step_count()),
                first_steps: Some(self.step_count()),
                seed: recipe.config.seed.unwrap_or_default(),
                images: recipe.config.images,
                best_of: 1,
            };
            painted = self.paint(stage, watch, &mut timing)?;
            notes.extend(painted.notes.drain(..).filter(|note| !notes.contains(note)).collect::<Vec<_>>());
        }
        let Painted { mut images, latents, mut reports, details, .. } = painted;
        if !self.config.details.is_empty() {
            let begun = Instant::now();
            // A solver that no recipe describes cannot be copied, so the checkpoint's solver takes its place.
            let solver = self.solver.as_ref().map(|solver| solver.recipe()).filter(|recipe| {
                let made = |recipe: &Recipe| self.model.registry.make::<dyn Solver>(recipe.clone()).is_ok();
                recipe.as_ref().is_ok_and(made)
            });
            let solver = solver.transpose()?;
            let seed = recipe.config.seed.unwrap_or_default();
            let (model, config, cancel) = (self.model, &self.config, &self.cancel);
            // A picture that stays has no forced things, so the colors of the prompt are for its details.
            let prompt = if stays { &written } else { &config.prompt };
            let mut told = Vec::new();
            for (index, picture) in images.iter_mut().enumerate() {
                let solver = solver.as_ref();
                let detailing =
                    Detailing { model, config, prompt, cancel, solver, seed: seed.wrapping_add(index as u64) };
                told.append(&mut detailing.repaint(picture, index, &reports, watch, &mut notes)?);
            }
            reports.append(&mut told);
            timing.details = begun.elapsed();
        }
        Ok(Output { images, latents, seed: recipe.config.seed, notes, reports, timing, recipe, details })
    }

    /// Checks settings that no later part of the run checks.
    pub(super) fn check(&self) -> Result<()> {
        let config = &self.config;
        if config.micro_conditioning.or(config.negative_micro_conditioning).is_some()
            && !self.model.info.reads_micro_conditioning()
        {
            let expected = "an SDXL model or the SDXL refiner; other models read only the prompt, so leave this unset";
            return Err(Error::parameter("micro_conditioning", "set for this model", expected));
        }
        let follows = [("hires", config.hires.is_some()), ("detail", !config.details.is_empty())];
        if let (Some(_), Some((name, _))) = (config.until, follows.into_iter().find(|(_, is_set)| *is_set)) {
            let expected = "no `until`, because the following run starts from a finished picture";
            return Err(Error::parameter(name, "set for a run that ends early", expected));
        }
        if config.details.len() > MOST_DETAILS {
            let expected = format!("at most {MOST_DETAILS}, because each is a run of its own");
            return Err(Error::parameter("details", config.details.len(), expected));
        }
        config.details.iter().try_for_each(Detail::check)?;
        if config.hires.is_some() && (self.mask.is_some() || config.mask_where.is_some()) {
            let expected = "no mask, because the kept pixels have no larger size; enlarge the picture first";
            return Err(Error::parameter("hires", "set for a run with a mask", expected));
        }
        check_reuse(config.reuse)?;
        check_merge_tokens(config.merge_tokens)?;
        // Another combination of the branches ignores the rescale, but the file of a picture still holds it.
        check_rescale(config.guidance_rescale)
    }

    /// Returns the exact colors of the prompt, and leaves the prompt as the text encoder reads it.
    pub(super) fn take_colors_of_the_prompt(&mut self) -> Result<Vec<PromptColor>> {
        let (prompt, colors) = self.read_colors()?;
        if colors.len() > MOST_COLORS {
            let expected =
                format!("at most {MOST_COLORS}, because each color becomes a force; write other colors as words");
            return Err(Error::parameter("colors in the prompt", colors.len(), expected));
        }
        if !colors.is_empty() {
            self.config.prompt = prompt;
        }
        Ok(colors)
    }

    /// Forces the exact colors of the prompt. `thing` is the place of the thing that the run repaints. As long as the
    /// run keeps the shape of this thing, exact forces on it need not find it again.
    pub(super) fn force(&mut self, colors: Vec<PromptColor>, thing: Option<&Region>) {
        let keeps_shape = self.picture.as_ref().is_some_and(|(_, strength)| strength.share() < 1.0);
        let named = self.config.mask_where.as_ref().filter(|_| keeps_shape).map(|thing| thing.phrase.trim().to_owned());
        for PromptColor { phrase, color, nth, .. } in colors {
            let occurrence = nth.map_or(Occurrence::All, Occurrence::Nth);
            let is_thing = named.as_ref().is_some_and(|named| named.eq_ignore_ascii_case(&phrase));
            let force = ColorForce::exact_at(phrase, color, occurrence);
            let force = match thing.filter(|_| is_thing) {
                Some(place) => force.saliency(place.clone()),
                None => force,
            };
            self.guidances.push(Attached::method(Arc::new(force)));
        }
        let Some((named, place)) = named.zip(thing) else { return };
        for attached in &mut self.guidances {
            let placed = attached.settings_as::<ColorForce>().and_then(|force| force.placed(&named, place));
            if let Some(force) = placed {
                *attached = Attached::method(Arc::new(force));
            }
        }
    }

    /// Returns the picture to start from, unchanged, as the pictures of a stage: at strength 0, only details change.
    fn keep(&self, stage: Stage) -> Result<Painted> {
        let Stage { canvas, input, images, .. } = stage;
        let Origin::Picture(picture) = input.origin() else {
            let expected = "a picture to start from, because nothing is painted at strength 0";
            return Err(Error::parameter("strength", 0, expected));
        };
        let latents = self.model.network.encode(picture)?.f_repeat([images as i64, 1, 1, 1])?;
        let kept = canvas.cut(picture)?.into_iter().cycle().take(images).collect();
        Ok(Painted {
            images: kept,
            latents,
            notes: Vec::new(),
            reports: Vec::new(),
            details: Details::default(),
            candidate: None,
        })
    }

    /// Makes the pictures of one stage. Times are added to `timing`.
    fn paint(&mut self, stage: Stage, watch: &mut Watch<'_>, timing: &mut Timing) -> Result<Painted> {
        let Stage { canvas, mut input, strength, steps, first_steps, seed, images, best_of } = stage;
        let begun = Instant::now();
        let hints = self.control_reports()?;
        let controlled = Controlled::sized(self.model.network, &self.controls, Some(canvas.pixels()))?;
        let config = &self.config;
        let controlled = controlled.seamless(config.seamless)?.reuse(config.reuse)?;
        let controlled = controlled.merge_tokens(config.merge_tokens)?;
        let left = self.resumed.filter(|_| watch.stage == 0);
        let rows = left.and_then(|(latents, _)| usize::try_from(*latents.size().first()?).ok());
        let images = rows.map_or(images, |rows| images.max(rows));
        let parts = Memory {
            network: &controlled,
            canvas,
            images,
            encoded: match input.origin() {
                Origin::Picture(pictures) => pictures.size4()?.0 as usize,
                _ => 0,
            },
            decoded: if config.until.is_none() { images } else { 0 },
            batching: config.batching,
            limit: config.memory_limit,
        };
        let parts = parts.parts()?;
        let controlled = controlled.most_pictures(parts.pictures);
        let (own_solver, own_combine) = (self.solver.is_some(), self.combine.is_some());
        let (own, left_share) = (self.solver.take(), left.map(|(_, share)| share));
        let scheduler = self.model.scheduler().on(canvas.grid)?;
        let mut sampling = Sampling::new(own, config, &scheduler, steps, strength, left_share)?;
        let note = sampling.note.take();
        let sampler = sampling.sampler(config, self.model, self.combine.take(), parts.rows).cancel(&self.cancel);
        let sampler = self.guidances.iter_mut().map(Attached::lend).fold(sampler, Sampler::attached);
        let seeded = |seed| Noise::seeded(seed).kind(config.noise_kind);
        let noise = config.noise.clone().unwrap_or_else(|| seeded(seed));
        let origin = match left {
            Some(_) if !matches!(input.origin(), Origin::Noise) => {
                let expected = "no picture to start from; begin with one or the other";
                return Err(Error::parameter("resume", "another request's latents", expected));
            }
            Some((latents, _)) => Origin::Unfinished(latents),
            None => input.origin(),
        };
        let start = Start {
            images,
            best_of,
            first_steps,
            origin,
            mask: input.mask.as_ref(),
            masked_content: config.masked_content,
            variation: config.variation.map(|(seed, strength)| (seeded(seed), strength)),
            ..sampling::start(config, canvas.grid, noise)
        };
        let (mut first_pass, mut shown) = (Vec::new(), Duration::ZERO);
        let seen = |run: &Run<'_, '_>, progress: &Progress| {
            let begun = Instant::now();
            first_pass.push(progress.took);
            watch.see(run, progress)?;
            shown += begun.elapsed();
            Ok(())
        };
        let mut run = sampler.start_watched(&controlled, start, seen)?;
        timing.text += begun.elapsed().saturating_sub(shown + first_pass.iter().sum::<Duration>());
        timing.first_pass.append(&mut first_pass);
        let mut early = None;
        while let Some(progress) = run.step()? {
            timing.steps.push(progress.took);
            watch.see(&run, &progress)?;
            let (index, count) = (progress.step.index, progress.step.count);
            if self.cancel.finishes_early() && index + 1 < count && self.config.until.is_none() {
                run.cut_short();
                let ended =
                    format!("the run was ended after {} of {count} steps; its recipe takes them all", index + 1);
                early = Some(Note::from(ended));
            }
        }
        let ended = Instant::now();
        let _ = run.finish()?;
        let mut notes: Vec<Note> = note.into_iter().chain(early).collect();
        let mut images = Vec::new();
        if self.config.until.is_none() {
            let pictures = run.decode_and(|painted, exact| input.join(painted, exact))?;
            images = canvas.cut(&pictures)?;
            notes.extend(self.model.info.decoding_note(canvas.grid));
        }
        timing.decode += ended.elapsed();
        if config.reuse > 1 && controlled.count_reused() == 0 {
            let idle = "every step was computed whole, because a method reads attention in the deep layers, or there was \
                        only one step";
            notes.push(Note::from(format!("reuse did nothing: {idle}")));
        }
        if config.merge_tokens > 0.0 && controlled.count_merged() == 0 {
            let idle = "a method reads or changes self-attention at the largest grid in every step, a LoRA acts in a \
                        part of the picture, or the picture is small";
            notes.push(Note::from(format!("merge_tokens did nothing: {idle}")));
        }
        notes.extend(run.notes());
        let mut reports = run.reports()?;
        reports.extend(hints);
        reports.extend(if images.is_empty() { None } else { input.report(&canvas)? });
        let (latents, candidate) = (run.latent().shallow_clone(), run.candidate());
        let Ended { solver, combine, details } = run.end()?;
        self.solver = own_solver.then_some(solver);
        self.combine = own_combine.then_some(combine);
        Ok(Painted { images, latents, notes, reports, details, candidate })
    }
}
