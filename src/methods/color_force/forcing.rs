//! The phases of a color force during a run.

use super::comparison::undecided;
use super::feedback::Controlled;
use super::maps::{maps, of_image, picture};
use super::protect::Guarded;
use super::repainting::{Repainting, touched};
use super::report::Trace;
use super::run::{FirstPass, ForceRun, MapSource, Maps, Material};
use super::same_as::color_of;
use super::settings::Settings;
use super::subspace::Subspace;
use super::trim::UNSHOWABLE;
use super::{ColorForce, ColorWarning, Cutoff, Feedback, ForceTarget, ForcedStep, Overlap, Texture};
use crate::attention::CrossAttentionHook;
use crate::branch::BranchInfo;
use crate::conditioning::{Codec, Conditioning};
use crate::diffusion::{Denoised, Predictions, Pulls, Transition};
use crate::error::{Error, Result};
use crate::guidance::{Guidance, GuidanceRun, Plan, Report, Setup};
use crate::saliency::{Competition, SaliencyRun, Seen};
use crate::step::Step;
use crate::window::Window;
use crate::wording::{Note, QUOTED, excerpt};
use std::any::Any;
use tch::{Kind, Tensor};

impl ForceRun {
    /// Makes the state of a pass. `first_pass` is the state of the first pass, if there was one.
    pub(super) fn new(force: &ColorForce, setup: &mut Setup<'_>, first_pass: Option<Box<Self>>) -> Result<Self> {
        let ColorForce { settings, replayed, .. } = force;
        // A force that asked for no first pass takes no maps from another method's first pass.
        let looked = first_pass.filter(|_| !setup.first_pass && settings.options.first_pass.is_some());
        let (known, seen) = match &looked {
            Some(first) => first.findings(setup)?,
            None => (None, None),
        };
        // Every other force acts in both passes, so that the pass that measures shows its effects.
        let measures = setup.first_pass && force.first_pass().is_some();
        let (source, saliency, protected) = match (known, looked) {
            (Some(maps), Some(first)) => {
                let protected: Vec<_> = first.protected.into_iter().map(Guarded::for_next_pass).collect();
                (MapSource::Kept(maps), first.saliency, protected)
            }
            _ => {
                // The force ignores attention outside its window.
                let window = if measures { Window::WHOLE } else { settings.window };
                let saliency = force.saliency.find(window, setup)?;
                let protected = force.protected.iter().map(|protected| protected.find(setup)).collect::<Result<_>>()?;
                let source = if measures { MapSource::FirstPass(FirstPass::default()) } else { MapSource::Live };
                (source, saliency, protected)
            }
        };
        let mut settings = settings.clone();
        match (&settings.same_as, &source) {
            (Some(other), MapSource::Kept(maps)) => {
                let things = (force.protected.as_slice(), protected.as_slice());
                settings.color = color_of(other, things, maps, &settings.options, setup)?;
            }
            (Some(other), MapSource::Live) => {
                let expected = "a force with a first pass, which shows the other thing";
                return Err(Error::parameter("same_as", format!("{other:?}"), expected));
            }
            _ => {}
        }
        let gold = settings.options.gold.latent(settings.color, setup)?;
        let of_colors = settings.options.color_subspace && !measures;
        let subspace = if of_colors { Some(Subspace::of(setup.codec, setup.device)?) } else { None };
        let mask = match &settings.mask {
            Some(region) => Some(region.for_images(setup.grid, setup.images)?.f_to_device(setup.device)?),
            None => None,
        };
        let mut trace = Trace::new(setup.images, setup.codec.cell());
        settings.doubts(setup, saliency.range(), &gold).into_iter().for_each(|doubt| trace.warn(doubt));
        let controlled = |feedback: Feedback| {
            Controlled::new(feedback.floored(settings.options.texture == Texture::Off), settings.color_var, setup)
        };
        let feedback = settings.options.feedback.filter(|_| !measures).map(controlled).transpose()?;
        if let (MapSource::Kept(maps), false) = (&source, saliency.competitions()?.is_empty()) {
            let (range, found) = (saliency.range(), &maps.found);
            trace.undecided = undecided(found, &settings.cutoff.levels(found, range, None)?.0, range)?;
        }
        if let Some(misfit) = feedback.as_ref().and_then(Controlled::misfit) {
            trace.warn(ColorWarning::FeedbackBlind { delta_e: misfit });
        }
        if let MapSource::Kept(Maps { found, material: Some(Material { spared, .. }), .. }) = &source {
            let own = found.f_ge_tensor(&settings.cutoff.levels(found, saliency.range(), None)?.0)?;
            let count = |cells: &Tensor| cells.f_sum(Kind::Double)?.f_double_value(&[]);
            if count(&own.f_logical_and(&spared.f_gt(0.0)?)?)? > 0.5 * count(&own)? {
                trace.warn(ColorWarning::MostlyProtected);
            }
        }
        let mut run = Self {
            settings,
            saliency,
            protected,
            replayed: replayed.clone(),
            gold,
            subspace,
            mask,
            active: false,
            source,
            levels: None,
            feedback,
            trace,
            candidate: setup.candidate,
            repainting: None,
            redrawing: None,
        };
        let mut repainting = run.repainting(seen, setup)?;
        run.redrawing = run.redrawing(repainting.as_mut())?;
        run.repainting = repainting;
        Ok(run)
    }

    /// Returns the maps of this first pass, and the content that it held; both are `None` if the saliency has no map.
    fn findings(&self, setup: &Setup<'_>) -> Result<(Option<Maps>, Option<Seen>)> {
        let MapSource::FirstPass(FirstPass { early, first, last }) = &self.source else { return Ok((None, None)) };
        let maps = self.first_pass_maps(last.as_ref(), setup.candidate, setup.codec)?;
        let row = |x: Option<&Tensor>| x.map(|x| of_image(x, setup.candidate)).transpose();
        let material = maps.as_ref().and_then(|maps| maps.material.as_ref());
        let early = early.as_ref().filter(|_| material.is_some_and(Material::is_unclear));
        let first = first.as_ref().map(|first| early.unwrap_or(first));
        let latents = row(first)?.zip(row(last.as_ref())?);
        let found = maps.as_ref().zip(material).map(|(maps, material)| (&maps.found, &material.spared));
        let seen = latents.zip(found).map(|((first, last), (found, spared))| Seen {
            first: first.into(),
            last: last.into(),
            found: found.shallow_clone().into(),
            spared: spared.shallow_clone().into(),
        });
        Ok((maps, seen))
    }

    /// Returns the saliencies that look at the run, that of the force and those of the protected objects: none if the
    /// run already has their maps.
    fn looking(&mut self) -> Vec<&mut dyn SaliencyRun> {
        if matches!(self.source, MapSource::Kept(..)) {
            return Vec::new();
        }
        let protected = self.protected.iter_mut().map(|protected| &mut *protected.saliency);
        std::iter::once(&mut *self.saliency).chain(protected).collect()
    }

    /// Returns the competitions of words in the images of the run.
    pub(super) fn contests(&self) -> Result<Vec<Competition>> {
        let all = self.saliency.competitions()?;
        let Some(candidate) = self.candidate else { return Ok(all) };
        let own = all.into_iter().filter(|one| one.image as i64 == candidate);
        Ok(own.map(|one| Competition { image: 0, ..one }).collect())
    }

    /// Lets feedback measure the clean latent before the force moves it, and set the next step's color variance.
    fn observe(&mut self, step: &Step, x0: &Tensor, mask: &Tensor) -> Result<()> {
        let Some(feedback) = &mut self.feedback else { return Ok(()) };
        feedback.look(x0, mask, step, &self.settings)?;
        feedback.diverged().for_each(|image| self.trace.warn(ColorWarning::FeedbackDiverged { image }));
        Ok(())
    }

    /// Returns the pull of this step; `None` if nothing is forced. `x0` is the clean latent before the force. Callers
    /// `record` each step once.
    fn pull(&mut self, step: &Step, x0: &Tensor, record: bool) -> Result<Option<Pull>> {
        if !self.active {
            return Ok(None);
        }
        let (map, found, others) = match &mut self.source {
            MapSource::FirstPass(FirstPass { early, first, last }) => {
                if record {
                    if early.is_none() && first.is_none() && self.settings.redraws(step) {
                        *early = Some(x0.shallow_clone());
                    }
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
            self.trace.warn(ColorWarning::NoSaliency { timestep: step.sd_timestep });
            return Ok(None);
        };
        let repaints = match &mut self.repainting {
            Some(repainting) => repainting.is_possible(x0)?,
            None => false,
        };
        let mut mask = match &self.repainting {
            Some(repainting) if repaints => repainting.share.shallow_clone(),
            _ => {
                let (levels, clamped) = match (self.settings.cutoff, &self.levels) {
                    (Cutoff::At(_), Some(levels)) => (levels.shallow_clone(), false),
                    (cutoff, before) => cutoff.levels(&map, self.saliency.range(), before.as_ref())?,
                };
                if clamped {
                    self.trace.warn(ColorWarning::AreaClamped);
                }
                let mask = self.settings.mask(&map, &levels, self.mask.as_ref())?;
                self.levels = Some(levels);
                mask
            }
        };
        // A first pass's material has no protected pixels.
        if !(repaints && matches!(self.source, MapSource::Kept(_))) {
            let whole = mask.shallow_clone();
            let rule = self.settings.options.protection();
            for (protected, other) in self.protected.iter_mut().zip(&others) {
                if let Some(other) = other {
                    mask = protected.spare(&mask, other, &found, rule)?;
                }
            }
            let sum = |mask: &Tensor| mask.f_sum(Kind::Double)?.f_double_value(&[]);
            if !self.protected.is_empty() && sum(&mask)? < 0.5 * sum(&whole)? {
                self.trace.warn(ColorWarning::MostlyProtected);
            }
        }
        let variance = self.settings.variance(step)?;
        let color_vars = match &self.feedback {
            Some(feedback) => feedback.color_vars(),
            None => vec![self.settings.color_var],
        };
        let weights: Vec<f64> = color_vars.iter().map(|c| self.settings.weight(step, variance, *c)).collect();
        if record {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
            let (color_var, weight) = (mean(&color_vars), mean(&weights));
            let (index, timestep, strength) = (step.index, step.sd_timestep, weight / (1.0 + weight));
            let forced = ForcedStep { index, timestep, variance, color_var, strength, areas: Vec::new(), flat: false };
            self.trace.push(forced, &mask, &map, x0)?;
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            return Ok(None);
        }
        let cells = if repaints { touched(&mask)?.f_to_kind(Kind::Float)? } else { mask.shallow_clone() };
        let weight = match weights.as_slice() {
            [weight] => cells.f_mul_scalar(*weight)?,
            each => {
                let each = Tensor::f_from_slice(each)?.f_to_kind(Kind::Float)?.f_reshape([-1, 1, 1, 1])?;
                cells.f_mul(&each.f_to_device(mask.device())?)?
            }
        };
        let gold = self.gold.latent.shallow_clone();
        Ok(Some(Pull { gold, weight, mask, saliency: if repaints { found } else { map }, repaints }))
    }

    /// Adds a pull on `base` to the pulls of a step.
    fn add(&self, pull: Pull, base: &Tensor, pulls: &mut Pulls) -> Result<()> {
        let Pull { gold, mask, weight, saliency, repaints } = pull;
        if let Some(repainting) = self.repainting.as_ref().filter(|_| repaints) {
            return repainting.add_to(pulls, base, weight, saliency);
        }
        let mut shift = self.settings.options.texture.part(&gold.f_sub(base)?, &mask)?;
        if let Some(subspace) = &self.subspace {
            shift = subspace.part(&shift)?;
        }
        let shift = shift.f_mul(&weight)?;
        match self.settings.options.overlap {
            Overlap::Blend => pulls.add(shift, weight),
            Overlap::Winner => pulls.add_ranked(shift, weight, saliency),
        }
        Ok(())
    }

    /// Returns the repainting of a run that is the same as the first pass up to the force's first step.
    fn repainting(&self, seen: Option<Seen>, setup: &Setup<'_>) -> Result<Option<Repainting>> {
        let Settings { options, color, .. } = &self.settings;
        if !options.repaints() {
            return Ok(None);
        }
        let (seen, matte, picture) = match (&self.source, &self.replayed, seen) {
            (MapSource::Kept(Maps { picture: Some(picture), material: Some(material), .. }), _, Some(seen)) => {
                (seen, material.matte.shallow_clone(), picture.shallow_clone())
            }
            (MapSource::Live, Some(seen), _) if seen.fits(setup.grid, setup.images) => {
                let on_device = seen.on(setup.device)?;
                let picture = picture(&on_device.last.get(), setup.codec)?;
                let matte =
                    self.matte(&on_device.found.get(), &on_device.spared.get(), &picture, setup.codec.cell())?;
                (on_device, matte, picture)
            }
            _ => return Ok(None),
        };
        Repainting::new(&seen, matte, &picture, *color, setup.codec, setup.device).map(Some)
    }
}

/// The pull of a force at one step: the color's latent, the mask, the weight w of each cell, and the saliency.
struct Pull {
    gold: Tensor,
    mask: Tensor,
    weight: Tensor,
    saliency: Tensor,
    /// True if the pull is toward the recolored picture instead of the color's latent.
    repaints: bool,
}

impl GuidanceRun for ForceRun {
    fn outlook(&self, codec: &dyn Codec) -> Result<Vec<f64>> {
        match &self.source {
            // A color that is not known yet gives no outlook.
            MapSource::FirstPass(FirstPass { last: Some(last), .. })
                if self.settings.options.first_pass.is_some() && self.settings.same_as.is_none() =>
            {
                self.promises(last, codec)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn condition(&mut self, branch: &BranchInfo, conditioning: &mut Conditioning, codec: &dyn Codec) -> Result<()> {
        self.looking().into_iter().try_for_each(|saliency| saliency.condition(branch, conditioning, codec))
    }

    fn noise(&mut self, noise: &mut Tensor) -> Result<()> {
        self.looking().into_iter().try_for_each(|saliency| saliency.noise(noise))
    }

    fn plan(&mut self, step: &Step, plan: &mut Plan) -> Result<()> {
        if step.eval == 0 {
            // A first pass may end before the window begins.
            self.active = matches!(self.source, MapSource::FirstPass(_)) || self.settings.covers(step);
        }
        // Outside the window the saliency is not used, so its branches are not evaluated.
        let active = self.active;
        self.looking().into_iter().filter(|_| active).try_for_each(|saliency| saliency.plan(step, plan))
    }

    fn hooks(&mut self) -> Vec<&mut dyn CrossAttentionHook> {
        self.looking().into_iter().flat_map(|saliency| saliency.hooks()).collect()
    }

    fn predicted(&mut self, step: &Step, predictions: &mut Predictions) -> Result<()> {
        let active = self.active;
        self.looking().into_iter().filter(|_| active).try_for_each(|saliency| saliency.predicted(step, predictions))
    }

    fn denoised(&mut self, step: &Step, denoised: &mut Denoised) -> Result<()> {
        for saliency in self.looking() {
            saliency.denoised(step, denoised)?;
        }
        if self.settings.options.target == ForceTarget::Denoised {
            self.redraw(step, &denoised.x0, &denoised.x0, &mut denoised.pulls)?;
        }
        if self.settings.options.target == ForceTarget::Denoised
            && let Some(pull) = self.pull(step, &denoised.x0, step.eval == 0)?
        {
            if step.eval == 0 {
                self.observe(step, &denoised.x0, &pull.mask)?;
            }
            self.add(pull, &denoised.x0, &mut denoised.pulls)?;
        }
        Ok(())
    }

    fn transition(&mut self, step: &Step, transition: &mut Transition) -> Result<()> {
        for saliency in self.looking() {
            saliency.transition(step, transition)?;
        }
        let target = self.settings.options.target;
        if target != ForceTarget::Denoised {
            self.redraw(step, &transition.mean, &transition.x0, &mut transition.pulls)?;
        }
        if target != ForceTarget::Denoised
            && let Some(pull) = self.pull(step, &transition.x0, true)?
        {
            self.observe(step, &transition.x0, &pull.mask)?;
            let base = if target == ForceTarget::Mean { &transition.mean } else { &transition.x0 };
            self.add(pull, base, &mut transition.pulls)?;
        }
        Ok(())
    }

    fn spare(&mut self, exact: &Tensor) -> Result<()> {
        self.looking().into_iter().try_for_each(|saliency| saliency.spare(exact))
    }

    fn finish(&mut self, latent: &mut Tensor, codec: &dyn Codec) -> Result<()> {
        for saliency in self.looking() {
            saliency.finish(latent, codec)?;
        }
        self.recolor_redrawn(latent, codec)?;
        if self.settings.options.trim > 0 && self.gold.delta_e <= UNSHOWABLE {
            let repainting = self.repainting.as_ref().filter(|repainting| repainting.is_used());
            self.trace.trim(latent, &self.settings, codec, repainting)?;
        }
        self.trace.finished(latent);
        Ok(())
    }

    fn exact_cells(&self) -> Result<Option<Tensor>> {
        self.trace.cells()
    }

    fn decoded(&mut self, picture: &Tensor) -> Result<()> {
        for saliency in self.looking() {
            saliency.decoded(picture)?;
        }
        let before = match &self.source {
            MapSource::Kept(maps) => maps.picture.as_ref(),
            _ => None,
        };
        let repainting = self.repainting.as_ref().filter(|repainting| repainting.is_used());
        self.trace.measure(picture, before, &self.settings, repainting)
    }

    fn notes(&self) -> Vec<Note> {
        let phrase = excerpt(&self.settings.phrase, QUOTED);
        let own = self.trace.warnings().into_iter().map(|warning| warning.note());
        let own = own.map(|note| Note { text: format!("\"{phrase}\": {}", note.text).into(), ..note });
        let protected = self.protected.iter().flat_map(|protected| protected.saliency.notes());
        own.chain(self.saliency.notes()).chain(protected).collect()
    }

    fn report(&self) -> Result<Option<Report>> {
        let Settings { phrase, color, .. } = &self.settings;
        self.trace.summary(phrase, *color, &self.gold, self.contests()?).map(Some)
    }

    fn details(&self) -> Result<Vec<Box<dyn Any + Send>>> {
        let Settings { phrase, color, .. } = &self.settings;
        Ok(vec![Box::new(self.trace.report(phrase, *color, &self.gold, self.contests()?)?)])
    }
}
