//! The phases of a color force during a run.

use super::comparison::undecided;
use super::feedback::Controlled;
use super::finder::Finder;
use super::hold::Hold;
use super::options::ForceOptions;
use super::protect::Protected;
use super::report::Trace;
use super::run::{FirstPass, Forcing, MapSource, Maps};
use super::settings::Settings;
use super::trim::UNSHOWABLE;
use super::{ColorForce, ColorWarning, Feedback, ForceTarget, ForcedStep, Overlap, Texture};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Pulls, Transition};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, Plan, Report, Setup};
use crate::mask::{alike, covered, material, outlined};
use crate::prompt::Prompt;
use crate::recipe::Recipe;
use crate::saliency::is_flat;
use crate::saliency::{Competition, Saliency, Seen};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, QUOTED, excerpt};
use tch::{Kind, Tensor};

impl ColorForce {
    /// Returns the saliency of the force and the saliencies of the protected objects.
    fn saliencies(&mut self) -> Vec<&mut (dyn Saliency + 'static)> {
        let protected = self.protected.iter_mut().map(|protected| &mut *protected.saliency);
        std::iter::once(&mut *self.saliency).chain(protected).collect()
    }

    /// Returns the [`saliencies`](Self::saliencies) that look at the run: none if the run already has their maps.
    fn looking(&mut self) -> Vec<&mut (dyn Saliency + 'static)> {
        if self.run.as_ref().is_some_and(|run| matches!(run.source, MapSource::Kept(..))) {
            return Vec::new();
        }
        self.saliencies()
    }

    /// Returns the maps of a first pass; `None` if the saliency has no map. With `image`, the maps are those of this
    /// image alone, otherwise those of all images. `seen` is the last clean latent of the first pass.
    pub(super) fn first_pass_maps(
        &self,
        seen: Option<&Tensor>,
        image: Option<i64>,
        codec: &dyn Codec,
    ) -> Result<Option<Maps>> {
        let of_image = |x: &Tensor| of_image(x, image);
        let Some(found) = self.saliency.map()?.as_ref().map(of_image).transpose()? else { return Ok(None) };
        let ForceOptions { outlines, material, alike: by_color, .. } = self.settings.options;
        let seen = seen.filter(|_| outlines || by_color).map(of_image).transpose()?;
        let picture = seen.map(|x0| picture(&x0, codec)).transpose()?;
        let found = match &picture {
            Some(picture) if by_color => alike(&found, picture)?,
            _ => found,
        };
        let own = match &picture {
            Some(picture) if outlines => along_outlines(&found, picture, codec.cell(), material)?,
            _ => found.shallow_clone(),
        };
        let others = maps(&self.protected)?;
        let others = others.iter().map(|map| map.as_ref().map(of_image).transpose()).collect::<Result<_>>()?;
        Ok(Some(Maps { own, found, others, picture }))
    }

    /// Returns the competitions of words in the images of the run.
    pub(super) fn contests(&self) -> Result<Vec<Competition>> {
        let all = self.saliency.competitions()?;
        let Some(candidate) = self.run.as_ref().and_then(|run| run.candidate) else { return Ok(all) };
        let own = all.into_iter().filter(|one| one.image as i64 == candidate);
        Ok(own.map(|one| Competition { image: 0, ..one }).collect())
    }

    /// Lets feedback measure the clean latent before the force moves it, and set the next step's color variance.
    fn observe(&mut self, step: &Step, x0: &Tensor, mask: &Tensor) -> Result<()> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(feedback) = &mut run.feedback else { return Ok(()) };
        feedback.look(x0, mask, step, &self.settings)?;
        feedback.diverged().for_each(|image| run.trace.warn(ColorWarning::FeedbackDiverged { image }));
        Ok(())
    }

    /// Returns the pull of this step; `None` if nothing is forced. If `record` is the clean latent before the force,
    /// the step is recorded. Callers pass `record` once per step.
    fn pull(&mut self, step: &Step, record: Option<&Tensor>) -> Result<Option<Pull>> {
        let Some(run) = self.run.as_mut().filter(|run| run.active) else { return Ok(None) };
        let (map, found, others) = match &mut run.source {
            MapSource::FirstPass(FirstPass { first, last }) => {
                if let Some(x0) = record {
                    if first.is_none() && self.settings.covers(step) {
                        *first = Some(x0.shallow_clone());
                    }
                    *last = Some(x0.shallow_clone());
                }
                return Ok(None);
            }
            MapSource::Kept(Maps { own, found, others, .. }) => {
                let share = |map: &Option<Tensor>| map.as_ref().map(Tensor::shallow_clone);
                (Some(own.shallow_clone()), Some(found.shallow_clone()), others.iter().map(share).collect())
            }
            MapSource::Live => {
                let map = self.saliency.map()?;
                let found = map.as_ref().map(Tensor::shallow_clone);
                (map, found, maps(&self.protected)?)
            }
        };
        let (Some(map), Some(found)) = (map, found) else {
            run.trace.warn(ColorWarning::NoSaliency { timestep: step.timestep });
            return Ok(None);
        };
        let (levels, clamped) = self.settings.cutoff.levels(&map, self.saliency.range(), run.levels.as_ref())?;
        if clamped {
            run.trace.warn(ColorWarning::AreaClamped);
        }
        let mut mask = self.settings.mask(&map, &levels, run.mask.as_ref())?;
        run.levels = Some(levels);
        let whole = mask.shallow_clone();
        for (protected, other) in self.protected.iter_mut().zip(&others) {
            if let Some(other) = other {
                let ForceOptions { protect_mode, protect_grow, .. } = self.settings.options;
                mask = protected.spare(&mask, other, &found, protect_mode, protect_grow)?;
            }
        }
        let sum = |mask: &Tensor| mask.f_sum(Kind::Double)?.f_double_value(&[]);
        if !self.protected.is_empty() && sum(&mask)? < 0.5 * sum(&whole)? {
            run.trace.warn(ColorWarning::MostlyProtected);
        }
        let variance = self.settings.variance(step)?;
        let color_vars = match &run.feedback {
            Some(feedback) => feedback.color_vars(),
            None => vec![self.settings.color_var],
        };
        let weights: Vec<f64> = color_vars.iter().map(|c| self.settings.weight(step, variance, *c)).collect();
        let areas = Vec::<f64>::try_from(&mask.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Double)?)?;
        let empty = areas.iter().all(|area| *area == 0.0);
        if let Some(x0) = record {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let (color_var, weight) = (mean(&color_vars), mean(&weights));
            let (index, timestep, flat) = (step.index, step.timestep, is_flat(&map)?);
            let strength = weight / (1.0 + weight);
            let forced = ForcedStep { index, timestep, variance, color_var, strength, areas, flat };
            run.trace.push(forced, &mask, &map, x0)?;
        }
        if empty || weights.iter().all(|weight| *weight == 0.0) {
            return Ok(None);
        }
        let gold = run.gold.latent.shallow_clone();
        let weight = match weights.as_slice() {
            [weight] => mask.f_mul_scalar(*weight)?,
            each => {
                let each = Tensor::f_from_slice(each)?.f_to_kind(Kind::Float)?.f_reshape([-1, 1, 1, 1])?;
                mask.f_mul(&each.f_to_device(mask.device())?)?
            }
        };
        Ok(Some(Pull { gold, weight, mask, saliency: map }))
    }
}

/// Brings a map of latent cells, [n, 1, h, w], to the outlines of a picture, [n, 3, H, W]. `cell` is the side of a
/// latent cell in pixels.
///
/// With `only_material`, a cell of the result is the share of its pixels that are the object's material. If no cell of
/// an image reaches .5, lines and highlights count too. If no cell reaches .5 with them, the map of this image stays as
/// it is.
fn along_outlines(map: &Tensor, picture: &Tensor, cell: i64, only_material: bool) -> Result<Tensor> {
    let place = outlined(map, picture, cell)?;
    let or_else = |inside: &Tensor, other: &Tensor| -> Result<Tensor> {
        let found = covered(inside, cell)?.f_to_device(map.device())?;
        let any = found.f_amax([1i64, 2, 3], true)?.f_ge(0.5)?;
        Ok(found.f_where_self(&any, other)?)
    };
    let whole = or_else(&place, map)?;
    if only_material { or_else(&material(&place, picture)?, &whole) } else { Ok(whole) }
}

/// Returns the row of one image, or all rows. A tensor with one row serves every image.
fn of_image(x: &Tensor, image: Option<i64>) -> Result<Tensor> {
    let row = image.filter(|_| x.size().first() != Some(&1));
    row.map_or_else(|| Ok(x.shallow_clone()), |row| Ok(x.f_narrow(0, row, 1)?))
}

/// Decodes a clean latent: [n, 4, h, w] → [n, 3, H, W].
fn picture(x0: &Tensor, codec: &dyn Codec) -> Result<Tensor> {
    // Images are decoded one by one, so that each image equals the image decoded alone, and memory for one image is
    // enough.
    let images =
        (0..x0.size4()?.0).map(|image| codec.decode(&x0.f_narrow(0, image, 1)?)).collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&images, 0)?)
}

/// Returns the present maps of the protected objects.
fn maps(protected: &[Protected]) -> Result<Vec<Option<Tensor>>> {
    protected.iter().map(|protected| protected.saliency.map()).collect()
}

/// The pull of a force at one step: the color's latent, the mask, the weight w of each cell, and the saliency.
struct Pull {
    gold: Tensor,
    mask: Tensor,
    weight: Tensor,
    saliency: Tensor,
}

impl Pull {
    /// Returns w times the part of gold − base that `texture` applies.
    fn shift(&self, base: &Tensor, texture: Texture) -> Result<Tensor> {
        Ok(texture.part(&self.gold.f_sub(base)?, &self.mask)?.f_mul(&self.weight)?)
    }

    fn add_to(self, pulls: &mut Pulls, shift: Tensor, overlap: Overlap) {
        match overlap {
            Overlap::Blend => pulls.add(shift, self.weight),
            Overlap::Winner => pulls.add_ranked(shift, self.weight, self.saliency),
        }
    }
}

impl Guidance for ColorForce {
    fn check(&self) -> Result<()> {
        self.settings.check()?;
        if let Some(setter) = self.misplaced {
            let expected = "an exact force with its default saliency; for your own Daam, set its options by tune";
            return Err(Error::parameter(setter, format!("set for {:?}", self.settings.phrase), expected));
        }
        for protected in &self.protected {
            protected.cutoff.check()?;
            protected.saliency.check()?;
            if protected.phrase.eq_ignore_ascii_case(&self.settings.phrase) {
                let expected = "a phrase other than the forced phrase";
                return Err(Error::parameter("protect", format!("{:?}", protected.phrase), expected));
            }
        }
        self.saliency.check()
    }

    fn first_pass(&self) -> Option<f64> {
        let protected = self.protected.iter().map(|protected| &*protected.saliency);
        let others = std::iter::once(&*self.saliency).chain(protected).filter_map(|saliency| saliency.first_pass());
        self.settings.options.first_pass.into_iter().chain(others).reduce(f64::min)
    }

    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        match self.run.as_ref().map(|run| &run.source) {
            Some(MapSource::FirstPass(FirstPass { last: Some(last), .. }))
                if self.settings.options.first_pass.is_some() =>
            {
                self.promises(last, codec)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn begin(&mut self, setup: &mut Setup<'_>) -> Result<()> {
        let (known, seen) = match self.run.take().map(|run| run.source) {
            // A force that asked for no first pass takes no maps from another method's first pass.
            Some(MapSource::FirstPass(seen)) if !setup.first_pass && self.settings.options.first_pass.is_some() => {
                let maps = self.first_pass_maps(seen.last.as_ref(), setup.candidate, setup.codec)?;
                let row = |x: Option<Tensor>| x.map(|x| of_image(&x, setup.candidate)).transpose();
                (maps, row(seen.first)?.zip(row(seen.last)?).map(|(first, last)| Seen { first, last }))
            }
            _ => (None, None),
        };
        self.protected.iter_mut().for_each(Protected::forget);
        let settings = &self.settings;
        if let Finder::Attention(daam) = &mut self.saliency {
            // The force ignores attention outside its window.
            daam.read_in(if setup.first_pass { Window::WHOLE } else { settings.window });
        }
        let source = match known {
            Some(maps) => MapSource::Kept(maps),
            None => {
                self.saliency.begin(setup)?;
                self.protected.iter_mut().try_for_each(|protected| protected.saliency.begin(setup))?;
                if setup.first_pass { MapSource::FirstPass(FirstPass::default()) } else { MapSource::Live }
            }
        };
        let gold = settings.options.gold.latent(settings.color, setup)?;
        let mask = match &settings.mask {
            Some(region) => Some(region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?),
            None => None,
        };
        let mut trace = Trace::new(setup.images, setup.codec.cell());
        settings.doubts(setup, self.saliency.range(), &gold).into_iter().for_each(|doubt| trace.warn(doubt));
        let controlled = |feedback: Feedback| {
            Controlled::new(feedback.floored(settings.options.texture == Texture::Off), settings.color_var, setup)
        };
        let feedback = settings.options.feedback.filter(|_| !setup.first_pass).map(controlled).transpose()?;
        if let (MapSource::Kept(maps), false) = (&source, self.saliency.competitions()?.is_empty()) {
            let (range, found) = (self.saliency.range(), &maps.found);
            trace.undecided = undecided(found, &settings.cutoff.levels(found, range, None)?.0, range)?;
        }
        if let Some(misfit) = feedback.as_ref().and_then(Controlled::misfit) {
            trace.warn(ColorWarning::FeedbackBlind { delta_e: misfit });
        }
        let candidate = setup.candidate;
        let seen = seen.as_ref().or(self.replayed.as_ref()).filter(|_| settings.options.material);
        let hold = seen.map(|seen| Hold::new(seen, setup.device)).transpose()?;
        self.run = Some(Forcing { gold, mask, active: false, source, levels: None, feedback, trace, candidate, hold });
        Ok(())
    }

    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.looking().into_iter().try_for_each(|saliency| saliency.condition(branch, conditioning, codec))
    }

    fn prompt(&mut self, prompt: &Prompt, codec: &dyn Codec) -> Result<Option<Prompt>> {
        let mut replaced = None;
        // Before `begin`, the state is that of an earlier run, so it does not say whether the saliencies look.
        for saliency in self.saliencies() {
            replaced = saliency.prompt(replaced.as_ref().unwrap_or(prompt), codec)?.or(replaced);
        }
        Ok(replaced)
    }

    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.looking().into_iter().try_for_each(|saliency| saliency.noise(noise))
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        let has_first_pass = self.first_pass().is_some();
        let Some(run) = &mut self.run else { return Ok(()) };
        if step.eval == 0 {
            // A first pass may end before the window begins.
            run.active = match run.source {
                MapSource::FirstPass(_) => has_first_pass,
                _ => self.settings.covers(step),
            };
        }
        // Outside the window the saliency is not used, so its branches are not evaluated.
        let active = run.active;
        self.looking().into_iter().filter(|_| active).try_for_each(|saliency| saliency.plan(step, plan))
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.looking().into_iter().flat_map(|saliency| saliency.hooks()).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        let active = self.run.as_ref().is_some_and(|run| run.active);
        self.looking().into_iter().filter(|_| active).try_for_each(|saliency| saliency.predicted(step, predictions))
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        for saliency in self.looking() {
            saliency.denoised(step, denoised)?;
        }
        if self.settings.options.target == ForceTarget::Denoised
            && let Some(pull) = self.pull(step, (step.eval == 0).then_some(&denoised.x0))?
        {
            if step.eval == 0 {
                self.observe(step, &denoised.x0, &pull.mask)?;
            }
            if let Some(hold) = self.run.as_mut().and_then(|run| run.hold.as_mut()) {
                hold.add_to(&mut denoised.pulls, &denoised.x0, &denoised.x0, &pull.saliency, &pull.mask)?;
            }
            let shift = pull.shift(&denoised.x0, self.settings.options.texture)?;
            pull.add_to(&mut denoised.pulls, shift, self.settings.options.overlap);
        }
        Ok(())
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        for saliency in self.looking() {
            saliency.transition(step, transition)?;
        }
        let target = self.settings.options.target;
        if target != ForceTarget::Denoised
            && let Some(pull) = self.pull(step, Some(&transition.x0))?
        {
            self.observe(step, &transition.x0, &pull.mask)?;
            let base = if target == ForceTarget::Mean { &transition.mean } else { &transition.x0 };
            if let Some(hold) = self.run.as_mut().and_then(|run| run.hold.as_mut()) {
                hold.add_to(&mut transition.pulls, &transition.x0, base, &pull.saliency, &pull.mask)?;
            }
            let shift = pull.shift(base, self.settings.options.texture)?;
            pull.add_to(&mut transition.pulls, shift, self.settings.options.overlap);
        }
        Ok(())
    }

    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        for saliency in self.looking() {
            saliency.finish(latent, codec)?;
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        if self.settings.options.trim > 0 && run.gold.delta_e <= UNSHOWABLE {
            run.trace.trim(latent, &self.settings, codec)?;
        }
        run.trace.finished(latent);
        Ok(())
    }

    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        for saliency in self.looking() {
            saliency.decoded(picture)?;
        }
        match &mut self.run {
            Some(run) => {
                let before = match &run.source {
                    MapSource::Kept(maps) => maps.picture.as_ref(),
                    _ => None,
                };
                run.trace.measure(picture, before, &self.settings)
            }
            None => Ok(()),
        }
    }

    fn notes(&self) -> Vec<Note> {
        let phrase = excerpt(&self.settings.phrase, QUOTED);
        let own = self.run.iter().flat_map(|run| run.trace.warnings()).map(|warning| warning.note());
        let own = own.map(|note| Note { text: format!("\"{phrase}\": {}", note.text).into(), ..note });
        let protected = self.protected.iter().flat_map(|protected| protected.saliency.notes());
        own.chain(self.saliency.notes()).chain(protected).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Settings { phrase, color, .. } = &self.settings;
        let Some(run) = &self.run else { return Ok(None) };
        run.trace.summary(phrase, *color, &run.gold, self.contests()?).map(Some)
    }

    fn recipe(&self) -> Result<Recipe> {
        self.written()
    }

    fn name(&self) -> &'static str {
        "ColorForce"
    }
}
