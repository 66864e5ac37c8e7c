//! Conversion of a request to a recipe, and [`Request::from_png`], which repeats the run of a saved picture.

use super::config::RequestConfig;
use super::recipe::{FORMAT, PngRecipe, RunRecipe, StartRecipe};
use super::stored::Stored;
use super::{Pipeline, Request};
use crate::conditioning::Codec;
use crate::diffusion::solver::{self, Solver};
use crate::diffusion::{Denoiser, SchedulerFamily};
use crate::error::{Error, Result};
use crate::guidance::{Attached, Combine, Guidance, Picture, Report};
use crate::model::{Control, ControlNetwork, hex};
use crate::prompt::{all_texts, unread, unread_against};
use crate::raster::Raster;
use crate::recipe::{Kind, Recipe};
use crate::size::Size;
use crate::wording::{LONG_QUOTE, Note, QUOTED, Remedy, excerpt};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Returns a note about a hint whose ControlNet was not given.
fn no_net() -> Note {
    Remedy::Net.after("the run used a ControlNet; the file has the hint, scale and window")
}

impl<'p> Request<'p> {
    /// Creates a request that repeats the run of a picture, from its PNG, JPEG or WebP file. [`Request::notes`] says
    /// which parts cannot be repeated.
    ///
    /// - A PNG of [`Output::save`](super::Output::save) repeats the run bit for bit on the same machine with the same
    ///   libtorch.
    /// - A file of another program repeats the run as far as its text describes the run. The known texts are those of
    ///   [`Infotext::of`](super::Infotext::of). Exact colors in such a prompt are plain text.
    ///
    /// The file of one picture in a batch repeats the whole batch, because the bits of a picture may depend on the
    /// other pictures. Image i of that batch is image i of the output. `images(1).seed(seed + i)` makes image i alone,
    /// equal except for rounding. The seeds of a variation and of painted areas must then be i higher, too.
    ///
    /// The request consists of the file's settings and of settings that you add afterwards. Guidance methods attached
    /// to the pipeline take no part, because the file holds the methods of the run.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// # let path = std::env::temp_dir().join("impasto-again.png");
    /// use impasto::pipeline::{Pipeline, Request};
    ///
    /// let pipeline = Pipeline::builder().build()?;
    /// let output = pipeline.request("1girl, #ffd700 eyes, hair").seed(7).steps(4).run()?;
    /// output.save(0, &path)?;
    ///
    /// let request = Request::from_png(&pipeline, &path)?;
    /// assert!(request.notes()?.is_empty());
    /// assert_eq!(request.run()?.image(0)?, output.image(0)?);
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] if the file is no picture, or if its recipe is missing or broken;
    /// [`Error::UnknownSolver`].
    pub fn from_png<M: Denoiser + Codec>(pipeline: &'p Pipeline<M>, path: impl AsRef<Path>) -> Result<Self> {
        Self::from_png_with(pipeline, path, &[])
    }

    /// Creates a request as [`from_png`](Self::from_png) does, from a file that holds pictures as thumbnails
    /// ([`KeptPictures::Thumbnails`](super::KeptPictures)). `pictures` are the full pictures, in any order; they are
    /// recognized by their pixels.
    ///
    /// # Errors
    /// The errors of [`from_png`](Self::from_png); [`Error::MissingFile`] with the hash and size of a picture that is
    /// not among `pictures`.
    pub fn from_png_with<M: Denoiser + Codec>(
        pipeline: &'p Pipeline<M>,
        path: impl AsRef<Path>,
        pictures: &[Raster],
    ) -> Result<Self> {
        let bare = Self::new(pipeline.view(), &[], String::new());
        match PngRecipe::by(path.as_ref(), pictures)? {
            PngRecipe::Recipe(recipe) => bare.following(*recipe),
            PngRecipe::Infotext(info) => Ok(bare.told_by(&info)),
        }
    }

    /// Attaches a ControlNet or T2I adapter of the repeated run. The net gets the hint, scale and window that the file
    /// holds. Call this method once for each net, in the order in which the run attached the nets.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::pipeline::{Pipeline, Request};
    /// use impasto::Source;
    ///
    /// let pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
    /// let coloring = pipeline.model().controlnet(&Source::dir("color-controlnet"))?;
    /// let output = Request::from_png(&pipeline, "colored.png")?.net(&coloring)?.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if every hint of the file already has its net; [`Error::Malformed`] for a broken recipe.
    pub fn net(mut self, net: impl Into<ControlNetwork<'p>>) -> Result<Self> {
        let kept = self.kept_controls.pop_front().ok_or_else(|| {
            let expected = Remedy::Control.after("one network for each hint in the file");
            Error::parameter("net", "one network too many", expected)
        })?;
        self.controls.push(Control::from_recipe(net.into(), kept)?);
        self.stored = OnceCell::new();
        Ok(self)
    }

    /// Returns a report for each ControlNet and T2I adapter, with its figures and its hint.
    pub(super) fn control_reports(&self) -> Result<Vec<Report>> {
        let report = |control: &Control<'_>| -> Result<Report> {
            let pictures = control.shown()?.into_iter().map(|hint| Picture::new("hint", hint)).collect();
            Ok(Report { data: control.figures(), pictures, ..Report::new(control.network()) })
        };
        self.controls.iter().map(report).collect()
    }

    /// Returns warnings about the run before it starts, in sentences; empty if there are none.
    /// [`Output::notes`](super::Output::notes) repeats them. Warnings concern
    /// - parts of the run that the request came from, if they cannot be repeated;
    /// - a size that takes much longer than the model's own;
    /// - transparent parts of the picture to start from and of the mask, and a mask of nothing or everything;
    /// - words that the embedded model does not know, and words that could be meant as settings or colors;
    /// - guidance methods and other parts that are too large for a PNG, so that the saved picture does not repeat them;
    /// - a guidance scale that another combination of the branches ignores;
    /// - syntax of the web UI without an effect, such as `<hypernet:ink:1>`, and a weight of the whole prompt;
    /// - pictures and drawings for ControlNets that have another size than the picture.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size that no picture can have, or a prompt that cannot be read.
    pub fn notes(&self) -> Result<Vec<Note>> {
        self.doubts(self.stored.get_or_init(|| self.store()))
    }

    /// Returns the parts as a PNG can hold them. The sizes are known before the run, so that no picture is painted and
    /// then cannot be read again.
    pub(super) fn store(&self) -> Stored {
        let picture = self.picture.iter().map(|(picture, _)| Recipe::of("the picture to start from", &**picture));
        let mask = self.mask.iter().map(|mask| Recipe::of("the mask", &**mask));
        let details = self.config.details.iter().map(|detail| Recipe::of("a detail", detail));
        Stored::of([
            picture.chain(mask).chain(details).collect(),
            self.config.noise.iter().map(|noise| Recipe::of("the noise", noise)).collect(),
            self.solver.iter().map(|solver| self.model.check_readable::<dyn Solver>(solver.recipe()?)).collect(),
            self.combine.iter().map(|combine| self.model.check_readable::<dyn Combine>(combine.recipe()?)).collect(),
            self.guidances.iter().map(Attached::recipe).collect(),
            self.controls.iter().map(|control| control.to_recipe()).collect(),
        ])
    }

    /// Returns the notes of a request whose parts are stored in this way.
    pub(super) fn doubts(&self, stored: &Stored) -> Result<Vec<Note>> {
        let canvas = self.canvas()?;
        let resized = self.controls.iter().filter_map(|control| control.resized(canvas.pixels())).map(Note::from);
        let doubts = [self.doubts_of_size()?, self.model.info.prompt_note(&self.words()?)?, self.idle_scale()];
        let without = self.kept_controls.iter().map(|_| no_net());
        let doubts =
            doubts.into_iter().flatten().chain(self.doubts_of_words()).chain(self.doubts_of_pictures(&canvas)?);
        let doubts = doubts.chain(self.unread()).chain(stored.too_large.iter().cloned());
        Ok(self.notes.iter().cloned().chain(without).chain(doubts).chain(resized).collect())
    }

    /// Returns the texts of the prompt over all steps, with words in place of exact colors.
    fn words(&self) -> Result<String> {
        all_texts(&self.read_colors()?.0, self.config.syntax, self.step_count())
    }

    /// Returns a note if a guidance scale is set that the request's own combination of the branches does not use.
    fn idle_scale(&self) -> Option<Note> {
        let scaled = self.config.guidance_scale.is_some() && !self.model.info.embeds_guidance();
        let set = scaled || self.config.guidance_rescale != 0.0;
        let idle =
            "guidance scale and rescale have no effect, because the request combines the branches in another way";
        (set && self.combine.is_some()).then(|| idle.into())
    }

    /// Returns notes about syntax in the prompts without an effect, each note once.
    fn unread(&self) -> Vec<Note> {
        let RequestConfig { prompt, second_prompt, third_prompt, syntax, .. } = &self.config;
        let RequestConfig { negative, second_negative, third_negative, .. } = &self.config;
        let positive = [Some(prompt), second_prompt.as_ref(), third_prompt.as_ref()].into_iter().flatten();
        let negative = [Some(negative), second_negative.as_ref(), third_negative.as_ref()].into_iter().flatten();
        let all = positive.flat_map(|prompt| unread(prompt, *syntax));
        let mut notes: Vec<Note> = Vec::new();
        for note in all.chain(negative.flat_map(|prompt| unread_against(prompt, *syntax))) {
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        notes
    }

    /// Returns a warning about a size that is far beyond the model's own.
    fn doubts_of_size(&self) -> Result<Option<Note>> {
        /// Ratio of the picture's pixels to those of the model's own size. Above this ratio, a note warns of long steps
        /// and repeated objects.
        const MUCH: f64 = 4.0;
        let (Size { width, height }, own) = (self.canvas()?.size, self.model.defaults());
        let times = f64::from(width) * f64::from(height) / (f64::from(own.width) * f64::from(own.height)).max(1.0);
        if times <= MUCH {
            return Ok(None);
        }
        Ok(Some(Remedy::Enlarge.after(format!(
            "{width}×{height} has {times:.0} times the pixels of {}×{}, this model's own size; a step takes at least \
             {times:.0} times as long, the step's self-attention up to {:.0} times, and things tend to repeat",
            own.width,
            own.height,
            times * times
        ))))
    }

    /// Returns the recipe that repeats this request, whose parts are stored in this way. If no seed is set, this
    /// function draws one.
    pub(super) fn recipe(&self, stored: Stored) -> Result<RunRecipe> {
        let Stored { noise, start, solver, combine, guidances, controls, mut missing, .. } = stored;
        let named = |solver: &dyn Solver| (solver.name(), solver.family());
        let (solver_name, family) = match (&self.solver, &self.config.solver_named) {
            (Some(solver), _) => named(&**solver),
            (None, Some(name)) => named(&*solver::by_name(name)?.0),
            (None, None) => named(&*self.model.scheduler().solver()?),
        };
        let shown = |picture: &Raster| {
            let digest = hex(&Sha256::digest(picture.bytes()), 8);
            format!("{} pixels (SHA-256 of its bytes {digest}…)", picture.size())
        };
        if let Some((picture, _)) = self.picture.as_ref().filter(|_| !start) {
            missing.push(Remedy::Start.after(format!("the run began with a picture of {}", shown(picture))));
        }
        let mask = self.mask.as_ref().filter(|_| !start);
        missing.extend(mask.map(|mask| Remedy::Mask.after(format!("the run had a mask of {}", shown(mask)))));
        if !start && !self.config.details.is_empty() {
            missing.push("the run repainted details under masks that the file does not hold".into());
        }
        if let Some((_, share)) = self.resumed {
            let continued = format!("the run continued another run's latents from the share {share}");
            missing.push(Remedy::Resume.after(continued));
        }
        // If a repeated run lacks a ControlNet, its own recipe also notes that the ControlNet is missing.
        missing.extend(self.kept_controls.iter().map(|_| no_net()));
        let scale = self.config.guidance_scale.unwrap_or(self.model.defaults().guidance_scale);
        let drawn = || self.config.seed.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
        let config = RequestConfig {
            size: Some(self.canvas()?.size),
            steps: Some(self.step_count()),
            seed: if self.config.noise.is_none() { Some(drawn()) } else { None },
            noise: self.config.noise.clone().filter(|_| noise),
            details: if start { self.config.details.clone() } else { Vec::new() },
            clip_skip: self.config.clip_skip.or(self.model.info.clip_skip()),
            // The request ignores a name beside a solver.
            solver_named: self.config.solver_named.clone().filter(|_| self.solver.is_none()),
            // Another combination does not use the default scale.
            guidance_scale: if self.combine.is_none() || self.model.info.embeds_guidance() {
                Some(scale)
            } else {
                self.config.guidance_scale
            },
            ..self.config.clone()
        };
        Ok(RunRecipe {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model: self.model.info.identity()?,
            threads: tch::get_num_threads(),
            config,
            image: 0,
            solver_name: solver_name.into(),
            solver,
            checkpoint_spacing: self.model.scheduler().spacing().ok().filter(|_| family != SchedulerFamily::Lcm),
            combine,
            strength: self.picture.as_ref().map(|(_, strength)| strength.share()),
            start: self.picture.as_ref().filter(|_| start).map(|(picture, strength)| StartRecipe {
                picture: (**picture).clone(),
                strength: *strength,
                mask: self.mask.as_deref().cloned(),
            }),
            guidances,
            controls,
            missing,
        })
    }

    fn following(mut self, recipe: RunRecipe) -> Result<Self> {
        self.compare(&recipe)?;
        self.notes.extend(recipe.missing);
        self.kept_controls = recipe.controls.into();
        if let Some(name) = &recipe.config.solver_named {
            solver::by_name(name)?;
        }
        self.config = recipe.config;
        if let Some(layer) = self.config.clip_skip.filter(|layer| !self.model.reads_clip_layer(*layer)) {
            self.config.clip_skip = None;
            if layer > 1 {
                let told = format!("the prompt was read from layer {layer} of CLIP, which this model does not have");
                self.notes.push(told.into());
            }
        }
        if !self.model.has_unet() {
            self.without_unet();
        }
        if let Some(StartRecipe { picture, strength, mask }) = recipe.start {
            self.picture = Some((Cow::Owned(picture), strength));
            self.mask = mask.map(Cow::Owned);
        }
        self.solver = self.make(recipe.solver)?;
        self.combine = self.make(recipe.combine)?;
        for guidance in recipe.guidances {
            let made = self.make::<dyn Guidance>(Some(guidance))?;
            self.guidances.extend(made.map(|made| Attached::method(made.into())));
        }
        Ok(self)
    }

    /// Resets the settings that only a UNet can follow, and notes those that the run had.
    fn without_unet(&mut self) {
        let (config, unset) = (&mut self.config, RequestConfig::default());
        let (merged, reused) = (config.merge_tokens, config.reuse);
        let told = [
            (config.seamless != unset.seamless).then(|| "the run painted a seamless picture".to_owned()),
            (merged != unset.merge_tokens).then(|| format!("the run merged the share {merged} of the cells")),
            (reused != unset.reuse).then(|| format!("the run computed deep layers once in {reused} steps")),
        ];
        (config.seamless, config.merge_tokens, config.reuse) = (unset.seamless, unset.merge_tokens, unset.reuse);
        self.notes
            .extend(told.into_iter().flatten().map(|told| format!("{told}, which needs a model with a UNet").into()));
    }

    /// Makes the value that a recipe describes. For a value that no reader of the registry knows, adds a note with its
    /// settings.
    fn make<T: ?Sized + Kind>(&mut self, recipe: Option<Recipe>) -> Result<Option<Box<T>>> {
        let Some(recipe) = recipe else { return Ok(None) };
        let registry = self.model.registry;
        // Settings may hold pictures, so only those that are shown are written.
        let shown = (!registry.reads::<T>(&recipe.name)).then(|| excerpt(&recipe.settings.to_string(), LONG_QUOTE));
        match registry.make(recipe) {
            Err(error @ Error::NotRepeatable { .. }) => {
                let told = match shown {
                    Some(settings) => format!("{error}; the settings were {settings}"),
                    None => error.to_string(), // a part of the value is unknown
                };
                self.notes.push(Remedy::OwnPart.after(told));
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// Adds notes about differences in model, machine and versions between the recipe and this process.
    fn compare(&mut self, recipe: &RunRecipe) -> Result<()> {
        let (here, there) = (self.model.info.identity()?, &recipe.model);
        if here.fingerprint != there.fingerprint {
            let [name, print] = [&there.name, &there.fingerprint].map(|text| excerpt(text, QUOTED));
            self.notes.push(Note::from(format!(
                "the picture was made with {name} ({print}); the model here has other weights, another kind of \
                 number or other settings"
            )));
        }
        let shift = there.shift.filter(|_| self.model.scheduler().is_flow());
        self.notes.extend(shift.and_then(|shift| self.shift_note(shift)));
        let rounding = [
            ("the device", &there.device, &here.device),
            ("the kind of number", &there.kind, &here.kind),
            ("the version of impasto", &recipe.version, &env!("CARGO_PKG_VERSION").to_owned()),
            ("the number of libtorch's threads", &recipe.threads.to_string(), &tch::get_num_threads().to_string()),
        ];
        for (what, then, now) in rounding.into_iter().filter(|(_, then, now)| then != now) {
            let then = excerpt(then, QUOTED);
            let told = format!("{what} was {then} for the picture and is {now} here; bits may differ");
            self.notes.push(told.into());
        }
        Ok(())
    }
}
