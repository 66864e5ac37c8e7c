//! A request as a recipe, and [`Request::from_png`]: the run again, from what its picture says.

use super::config::RequestConfig;
use super::infotext::Infotext;
use super::recipe::{FORMAT, PngRecipe, RunRecipe};
use super::{Pipeline, Request};
use crate::conditioning::Codec;
use crate::diffusion::SchedulerFamily;
use crate::diffusion::solver::{self, Solver};
use crate::error::{Error, Result};
use crate::guidance::{Picture, Report};
use crate::model::{Control, hex};
use crate::nn::ControlNet;
use crate::raster::Raster;
use crate::recipe::Recipe;
use crate::size::Size;
use sha2::{Digest, Sha256};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// The note about a hint whose ControlNet was not given.
const NO_NET: &str = "a ControlNet took part, whose hint, scale and window are in the file; give the net by net";

impl<'p> Request<'p> {
    /// The run that made a picture, as a request: of a PNG file that [`Output::save`](super::Output::save) wrote, the same run,
    /// bit for bit on the same machine with the same libtorch; of one that the AUTOMATIC1111 web UI or a program like it wrote,
    /// as far as its words go. [`Request::notes`] says what cannot be repeated.
    ///
    /// A picture of a batch repeats the whole batch, because its bits may depend on its neighbors: image i of the file's batch is
    /// image i of the output. Alone, and equal but for rounding, it is `images(1).seed(seed + i)`, with
    /// the seeds of a variation and of painted areas i higher, too.
    ///
    /// The run is made of what the file says and of what is added to the request. Guidances attached to the pipeline take no
    /// part: those of the run are in the file.
    ///
    /// ```
    /// # fn main() -> impasto::Result<()> {
    /// # let path = std::env::temp_dir().join("impasto-again.png");
    /// use impasto::pipeline::{Pipeline, Request};
    ///
    /// let mut pipeline = Pipeline::builder().build()?;
    /// let output = pipeline.request("1girl, #ffd700 eyes, hair").seed(7).steps(4).run()?;
    /// output.save(0, &path)?;
    ///
    /// let request = Request::from_png(&mut pipeline, &path)?;
    /// assert!(request.notes()?.is_empty());
    /// assert_eq!(request.run()?.image(0)?, output.image(0)?);
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] if it is no PNG, has no recipe, or a broken one; [`Error::UnknownSolver`].
    pub fn from_png(pipeline: &'p mut Pipeline, path: impl AsRef<Path>) -> Result<Self> {
        let bare = Self::new(&pipeline.model, &mut [], String::new());
        match PngRecipe::by(path.as_ref())? {
            PngRecipe::Recipe(recipe) => bare.following(*recipe),
            PngRecipe::Infotext(info) => Ok(bare.in_words(&info)),
        }
    }

    /// Gives a ControlNet of the run that is repeated: it is shown the hint that the file has, with its scale and in its window. Several
    /// are given in the order in which they were attached.
    ///
    /// ```no_run
    /// # fn main() -> impasto::Result<()> {
    /// use impasto::pipeline::{Pipeline, Request};
    /// use impasto::Source;
    ///
    /// let mut pipeline = Pipeline::builder().source(Source::file("sd15.safetensors")).build()?;
    /// let coloring = pipeline.model().controlnet(&Source::dir("color-controlnet"))?;
    /// let output = Request::from_png(&mut pipeline, "colored.png")?.net(&coloring)?.run()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if every hint of the file has its net already; [`Error::Malformed`] for a broken recipe.
    pub fn net(mut self, net: &'p ControlNet) -> Result<Self> {
        let kept = self.kept_controls.pop_front().ok_or_else(|| {
            let expected = "as many nets as the file has hints; Request::control attaches others";
            Error::parameter("net", "one more", expected)
        })?;
        self.controls.push(Control::again(net, kept)?);
        Ok(self)
    }

    /// The hints that ControlNets were shown, for reports.
    pub(super) fn control_reports(&self) -> Result<Vec<Report>> {
        let report = |control: &Control<'_>| -> Result<Report> {
            let told = Report::new("ControlNet").data(control.figures());
            Ok(match control.shown()? {
                Some(hint) => told.picture(Picture::new("hint", hint)),
                None => told,
            })
        };
        self.controls.iter().map(report).collect()
    }

    /// Doubts before the run, in sentences, which [`Output::notes`](super::Output::notes) has too: what cannot be repeated
    /// of the run that the request came from, how much longer a size takes than the model's own, words that the embedded model
    /// does not know, and ControlNets' pictures and drawings of another size than the picture. Empty if nothing is.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size that no picture can have, or a prompt that cannot be read.
    pub fn notes(&self) -> Result<Vec<String>> {
        let (grid, cell) = (self.grid()?, self.model.cell());
        let size = Size::new((grid.w * cell) as u32, (grid.h * cell) as u32);
        let resized = self.controls.iter().filter_map(|control| control.resized(size));
        let doubts = [self.doubts_of_size()?, self.model.doubts_of(&self.understood()?.0)?];
        let without = self.kept_controls.iter().map(|_| NO_NET.to_owned());
        Ok(self.notes.iter().cloned().chain(without).chain(doubts.into_iter().flatten()).chain(resized).collect())
    }

    /// What is to be told of a size that is far beyond the model's own.
    fn doubts_of_size(&self) -> Result<Option<String>> {
        /// Times the pixels that a checkpoint wants from which on time and repetitions are worth a note.
        const MUCH: f64 = 4.0;
        let (grid, cell, own) = (self.grid()?, self.model.cell(), self.model.defaults());
        let (width, height) = (grid.w * cell, grid.h * cell);
        let times = (width * height) as f64 / (f64::from(own.width) * f64::from(own.height)).max(1.0);
        if times <= MUCH {
            return Ok(None);
        }
        Ok(Some(format!(
            "{width}×{height} has {times:.0} times the pixels of {}×{}, this model's own size: a step takes at least {times:.0} times \
             as long, its self-attention up to {:.0} times, and things tend to repeat; a picture of the model's own size, enlarged and \
             repainted by Request::start, is quicker and better",
            own.width,
            own.height,
            times * times
        )))
    }

    /// What makes this request again. Its seed is drawn here if none is set.
    pub(super) fn recipe(&self) -> Result<RunRecipe> {
        let mut missing = Vec::new();
        let mut told = |recipe: Result<Recipe>| match recipe {
            Ok(recipe) => Some(recipe),
            Err(error) => {
                missing.push(error.to_string());
                None
            }
        };
        let attached = self.attached.iter().map(|guidance| guidance.recipe());
        let controls = self.controls.iter().filter_map(|control| told(control.recipe())).collect();
        let guidances = attached.chain(self.guidances.iter().map(|guidance| guidance.recipe()));
        let guidances = guidances.filter_map(&mut told).collect();
        let solver = self.solver.as_ref().and_then(|solver| told(solver.recipe()));
        let combine = self.combine.as_ref().and_then(|combine| told(combine.recipe()));
        let named = |solver: &dyn Solver| (solver.name(), solver.family());
        let (solver_name, family) = match (&self.solver, &self.config.solver_named) {
            (Some(solver), _) => named(&**solver),
            (None, Some(name)) => named(&*solver::by_name(name)?.0),
            (None, None) => named(&*self.model.scheduler().solver()?),
        };
        let shown = |picture: &Raster| {
            let digest = hex(&Sha256::digest(picture.bytes()), 8);
            format!("{}×{} pixels (SHA-256 of its bytes {digest}…)", picture.width(), picture.height())
        };
        if let Some((picture, strength)) = self.picture {
            missing.push(format!("it began with a picture of {}; give it by start with {strength:?}", shown(picture)));
        }
        missing.extend(self.mask.map(|mask| format!("it had a mask of {}; give it by mask", shown(mask))));
        if let Some((_, share)) = self.resumed {
            missing.push(format!("it went on with another run's latents; give them by resume, with the share {share}"));
        }
        // A run without a net that it was to have is told of it again.
        missing.extend(self.kept_controls.iter().map(|_| NO_NET.to_owned()));
        let grid = self.grid()?;
        let [height, width] = [grid.h, grid.w].map(|cells| (cells * self.model.cell()) as u32);
        let scale = self.config.guidance_scale.unwrap_or(self.model.defaults().guidance_scale);
        let drawn = || self.config.seed.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
        let config = RequestConfig {
            size: Some(Size::new(width, height)),
            seed: if self.config.noise.is_none() { Some(drawn()) } else { None },
            guidance_scale: Some(scale),
            ..self.config.clone()
        };
        Ok(RunRecipe {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            model: self.model.identity()?,
            threads: tch::get_num_threads(),
            config,
            image: 0,
            solver_name: solver_name.into(),
            solver,
            checkpoint_spacing: self.model.scheduler().spacing().ok().filter(|_| family != SchedulerFamily::Lcm),
            clip_skip: self.model.text_options().clip_skip,
            combine,
            strength: self.picture.map(|(_, strength)| strength.share()),
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
        self.solver = self.made(recipe.solver, Recipe::solver, "solver")?;
        self.combine = self.made(recipe.combine, Recipe::combine, "combine")?;
        for guidance in recipe.guidances {
            if let Some(made) = self.made(Some(guidance), Recipe::guidance, "guide")? {
                self.guidances.push(made);
            }
        }
        Ok(self)
    }

    /// What a recipe makes; if it is none of this crate's, a note says to give it by a setter.
    fn made<T>(
        &mut self,
        recipe: Option<Recipe>,
        make: fn(&Recipe) -> Result<T>,
        setter: &'static str,
    ) -> Result<Option<T>> {
        let Some(recipe) = recipe else { return Ok(None) };
        match make(&recipe) {
            Err(error @ Error::NotRepeatable { .. }) => {
                let settings = &recipe.settings;
                self.notes.push(format!("{error}; give it by Request::{setter}, its settings were {settings}"));
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    /// Notes in what the machine here differs from the recipe's.
    fn compare(&mut self, recipe: &RunRecipe) -> Result<()> {
        let (here, there) = (self.model.identity()?, &recipe.model);
        if here.fingerprint != there.fingerprint {
            let (name, print) = (&there.name, &there.fingerprint);
            self.notes.push(format!(
                "it was made with {name} ({print}); the model here has other weights, another kind of them or another reading"
            ));
        }
        let rounding = [
            ("on", &there.device, &here.device),
            ("in", &there.kind, &here.kind),
            ("by impasto", &recipe.version, &env!("CARGO_PKG_VERSION").to_owned()),
            ("with libtorch's threads numbering", &recipe.threads.to_string(), &tch::get_num_threads().to_string()),
        ];
        for (how, then, now) in rounding.into_iter().filter(|(_, then, now)| then != now) {
            self.notes.push(format!("it was made {how} {then}, here it is {now}: bits may differ"));
        }
        Ok(())
    }

    fn in_words(mut self, info: &Infotext) -> Self {
        self.config.prompt = info.prompt.clone();
        self.config.negative = info.negative.clone();
        let (mut schedule, mut variation) = (None, (None, None));
        let mut unread = Vec::new();
        for (name, value) in &info.fields {
            let read = match name.as_str() {
                "Steps" => value.parse().map(|steps| self.config.steps = steps).is_ok(),
                "CFG scale" => value.parse().map(|scale| self.config.guidance_scale = Some(scale)).is_ok(),
                "Seed" => value.parse().map(|seed| self.config.seed = Some(seed)).is_ok(),
                "Size" => {
                    let sides = value.split_once('x').and_then(|(w, h)| w.parse().ok().zip(h.parse().ok()));
                    self.config.size = sides.map(|(width, height)| Size::new(width, height)).or(self.config.size);
                    sides.is_some()
                }
                "Sampler" => {
                    let known = solver::by_name(value);
                    if let Err(error) = &known {
                        self.notes.push(format!("{error} (the checkpoint's own sampler is used)"));
                    }
                    self.config.solver_named = known.ok().map(|_| value.clone());
                    true
                }
                "Schedule type" => {
                    schedule = Some(value);
                    true
                }
                "Variation seed" => value.parse().map(|seed| variation.0 = Some(seed)).is_ok(),
                "Variation seed strength" => value.parse().map(|strength| variation.1 = Some(strength)).is_ok(),
                "Clip skip" => value.parse() == Ok(self.model.text_options().clip_skip.unwrap_or(1)),
                "RNG" | "Model" | "Model hash" | "Version" => true,
                _ => false,
            };
            if !read {
                unread.push(format!("{name} {value}"));
            }
        }
        if let (Some(seed), Some(strength)) = variation {
            self.config.variation = Some((seed, strength));
        }
        if let (Some(schedule), Some(sampler)) = (schedule, &self.config.solver_named) {
            let both = format!("{sampler} {schedule}");
            match solver::by_name(&both) {
                Ok(_) => self.config.solver_named = Some(both),
                Err(_) => unread.push(format!("Schedule type {schedule}")),
            }
        }
        if let Some(model) = info.field("Model") {
            self.notes.push(format!("it was made with the model {model}; whether this is it, its words do not say"));
        }
        if info.field("RNG") != Some("CPU") {
            self.notes.push("its noise may be a GPU's, which this seed does not give".into());
        }
        if info.prompt.contains("<lora:") || info.prompt.contains("<hypernet:") {
            self.notes.push(
                "networks named in the prompt as <lora:…> are text here; see Model::with_lora and Builder::model"
                    .into(),
            );
        }
        if !unread.is_empty() {
            self.notes.push(format!("not repeated: {}", unread.join("; ")));
        }
        self
    }
}
