//! [`RunRecipe`]: the settings that repeat a run, for files.

use super::Seamless;
use super::config::RequestConfig;
use super::foreign::PARAMETERS;
use super::hires::Hires;
use super::infotext::{Infotext, OLD_TIMELINES, Program, SYNTAX};
use crate::diffusion::solver::{self, solver_label, spacing_label};
use crate::diffusion::{Spacing, Strength};
use crate::error::{Error, Result};
use crate::files;
use crate::json;
use crate::model::Identity;
use crate::prompt::PromptSyntax;
use crate::raster::Raster;
use crate::recipe::{Extent, KeptPictures, Recipe, TEXT, UNPACKED, complete, thin};
use crate::size::Size;
use crate::wording::{Note, Remedy};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The settings that repeat a run. [`Output::save`](super::Output::save) writes them beside a picture, and
/// [`Request::from_png`](super::Request::from_png) reads them. Other programs find the settings as JSON in the PNG text
/// with the keyword `impasto`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecipe {
    /// Version of the recipe's format, 1.
    pub format: u32,
    /// Version of impasto that made the picture.
    pub version: String,
    /// Identity of the model.
    pub model: Identity,
    /// Number of libtorch's threads. Sums are split among the threads, which changes their rounding.
    pub threads: i32,
    /// Settings of the request. Seed, size and guidance scale are the values that the run used, even if the request did
    /// not set them.
    #[serde(flatten)]
    pub config: RequestConfig,
    /// Index of this picture in the batch, from 0.
    pub image: usize,
    /// Name of the solver.
    pub solver_name: String,
    /// The solver, if it was given as a value.
    pub solver: Option<Recipe>,
    /// The checkpoint's spacing of noise levels, unless the solver has timesteps of its own.
    #[serde(default)]
    pub checkpoint_spacing: Option<Spacing>,
    /// Combination of branches, if the request set one.
    pub combine: Option<Recipe>,
    /// Strength of image to image: the share of the schedule that was run from a picture, 0..=1.
    pub strength: Option<f64>,
    /// Picture that the run started from, with its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRecipe>,
    /// Guidance methods of the run, in the order in which they were attached.
    pub guidances: Vec<Recipe>,
    /// Hints, scales and windows of ControlNets, in the order in which they were attached.
    /// [`Request::net`](super::Request::net) supplies the nets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Recipe>,
    /// Parts of the run that no file can hold.
    pub missing: Vec<Note>,
}

/// The picture that a run started from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StartRecipe {
    /// The picture.
    pub picture: Raster,
    /// Strength of image to image.
    pub strength: Strength,
    /// Mask of the part that the run repainted; `None`: the run repainted the whole picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Raster>,
}

/// Version of the recipe format that is written and read.
pub(super) const FORMAT: u32 = 1;
/// Largest number of guidance methods, and of ControlNets, in a recipe that is read. Each one takes time at every step.
pub(super) const MOST_GUIDANCES: usize = 256;
/// Largest number of missing pictures that an error names.
const MOST_NAMED: usize = 8;
/// Keyword of the recipe's JSON in a PNG file.
const OWN: &str = "impasto";

/// Description of a run in a picture's file.
pub(super) enum PngRecipe {
    Recipe(Box<RunRecipe>),
    Infotext(Infotext),
}

impl RunRecipe {
    /// Changes the recipe to that of `image`, which the run chose among several.
    pub(super) fn choose(&mut self, image: usize) -> Result<()> {
        let of_image = |seed: u64| seed.wrapping_add(image as u64);
        let config = &mut self.config;
        config.best_of = 1;
        config.seed = config.seed.map(of_image);
        config.variation = config.variation.map(|(seed, strength)| (of_image(seed), strength));
        config.noise = config.noise.take().map(|noise| noise.of_image(image)).transpose()?;
        Ok(())
    }

    /// Returns the run as a text of the AUTOMATIC1111 web UI, as far as such a text can describe the run.
    pub fn infotext(&self) -> Infotext {
        let config = &self.config;
        let mut info = Infotext {
            prompt: config.prompt.clone(),
            negative: config.negative.clone(),
            program: Program::Impasto,
            ..Infotext::default()
        };
        if let Some(steps) = config.steps {
            info.push("Steps", steps);
        }
        info.push("Sampler", solver_label(&self.solver_name));
        if let Some(spacing) = self.told_spacing() {
            info.push("Schedule type", spacing_label(spacing));
        }
        if let Some(scale) = config.guidance_scale {
            info.push("CFG scale", scale);
        }
        if let Some(seed) = config.seed {
            info.push("Seed", seed.wrapping_add(self.image as u64));
        }
        if let Some(Size { width, height }) = config.size {
            info.push("Size", format!("{width}x{height}"));
        }
        info.push("Model", &self.model.name);
        if let Some(shift) = self.model.shift {
            info.push("Shift", shift);
        }
        if let Some(layer) = config.clip_skip {
            info.push("Clip skip", layer);
        }
        if let Some((seed, strength)) = config.variation {
            info.push("Variation seed", seed.wrapping_add(self.image as u64));
            info.push("Variation seed strength", strength);
        }
        if let Some(strength) = self.strength.or_else(|| Some(config.hires.as_ref()?.strength)) {
            info.push("Denoising strength", strength);
        }
        if let Some(Hires { scale, steps, enlarge, .. }) = &config.hires {
            info.push("Hires upscale", scale);
            if let Some(steps) = steps {
                info.push("Hires steps", steps);
            }
            info.push("Hires upscaler", enlarge.label());
        }
        if config.seamless == Seamless::Both {
            info.push("Tiling", "True");
        }
        if config.merge_tokens > 0.0 {
            info.push("Token merging ratio", config.merge_tokens);
        }
        match config.syntax {
            PromptSyntax::WebUi => {}
            PromptSyntax::OldWebUi => info.push(OLD_TIMELINES, "True"),
            PromptSyntax::Plain => info.push(SYNTAX, "Plain"),
        }
        info.push("RNG", "CPU");
        info.push("Version", format!("impasto {}", self.version));
        info
    }

    /// Returns the spacing of noise levels for the web UI: the requested spacing, or else the checkpoint's if the web
    /// UI has a name for it.
    fn told_spacing(&self) -> Option<Spacing> {
        let named = || solver::by_name(self.config.solver_named.as_deref()?).ok()?.1;
        let trained = [Spacing::Leading, Spacing::Linspace, Spacing::Trailing];
        let own = || self.checkpoint_spacing.filter(|spacing| !trained.contains(spacing));
        self.config.spacing.or_else(named).or_else(own)
    }

    /// Saves a picture with this recipe by `write`, as [`Output::save`](super::Output::save) does.
    ///
    /// # Errors
    /// [`Error::Parameter`] if `path` does not end in .png; the errors of `write` and of [`png`](Self::png).
    pub(super) fn save(&self, picture: &Raster, path: &Path, kept: KeptPictures, write: files::Write) -> Result<()> {
        let (infotext, own) = self.texts(&path.display().to_string(), kept)?;
        picture.save_with_texts(path, &[(PARAMETERS, &infotext), (OWN, &own)], write)
    }

    /// Returns the bytes of a PNG with this recipe and other texts, as [`Output::png`](super::Output::png) does.
    ///
    /// # Errors
    /// The errors of [`Raster::to_png`].
    pub(super) fn png(&self, picture: &Raster, kept: KeptPictures, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        let (infotext, own) = self.texts("PNG", kept)?;
        let recipe = [(PARAMETERS, infotext.as_str()), (OWN, own.as_str())];
        picture.to_png(&[&recipe, texts].concat())
    }

    /// Returns the AUTOMATIC1111 web UI's text and the recipe's JSON. Errors name `file`.
    fn texts(&self, file: &str, kept: KeptPictures) -> Result<(String, String)> {
        let malformed = |error: serde_json::Error| Error::Malformed { file: file.into(), problem: error.to_string() };
        let own = match kept {
            KeptPictures::Whole => serde_json::to_string(self).map_err(malformed)?,
            KeptPictures::Thumbnails => {
                let mut settings = serde_json::to_value(self).map_err(malformed)?;
                thin(&mut settings)?;
                settings.to_string()
            }
        };
        Ok((self.infotext().to_string(), own))
    }
}

impl PngRecipe {
    /// Reads the description of a run from a picture's file. Thumbnails in the description are replaced by the full
    /// pictures among `pictures`.
    ///
    /// # Errors
    /// - [`Error::Io`].
    /// - [`Error::Malformed`] if the file is no picture, or if its description of the run is missing or cannot be read.
    /// - [`Error::MissingFile`] if the full picture of a thumbnail is not among `pictures`.
    pub(super) fn by(path: &Path, pictures: &[Raster]) -> Result<Self> {
        let malformed = |problem| Error::Malformed { file: path.display().to_string(), problem };
        let texts = Raster::texts_under(path, &[&[OWN], Infotext::KEYWORDS].concat())?;
        let text = |keyword| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        if let Some(own) = text(OWN) {
            // The version is read first, because a recipe of another format may have any fields.
            #[derive(Deserialize)]
            struct Form {
                format: u32,
            }
            let broken =
                |error| malformed(format!("the recipe in the file cannot be read: {}", json::short_error(error)));
            let mut own: Value = json::parse(own).map_err(broken)?;
            let Form { format } = Form::deserialize(&own).map_err(broken)?;
            if format != FORMAT {
                let problem = format!(
                    "the recipe has format {format}; expected format {FORMAT}; use the version of impasto that wrote \
                     the file"
                );
                return Err(malformed(problem));
            }
            let mut missing = complete(&mut own, pictures)?;
            if !missing.is_empty() {
                let more = missing.split_off(missing.len().min(MOST_NAMED)).len();
                missing.extend((more > 0).then(|| format!("{more} more")));
                let (file, place) = (format!("the picture {}", missing.join(", ")), path.display().to_string());
                let hint = Remedy::FullPicture.after("the file has only a thumbnail");
                return Err(Error::MissingFile { file, place, hint });
            }
            if !Extent::of(&own).fits() {
                let [most, text] = [UNPACKED, TEXT].map(|bytes| bytes >> 20);
                return Err(malformed(format!(
                    "the recipe's maps and pictures are too large; expected at most {most} MiB, or {text} MiB as text; \
                     use a file that impasto wrote"
                )));
            }
            // Versions without the setting read all prompts without this syntax.
            if let Value::Object(fields) = &mut own {
                fields.entry("syntax").or_insert_with(|| json!(PromptSyntax::Plain));
            }
            let recipe: RunRecipe = serde_json::from_value(own).map_err(broken)?;
            let (count, controls) = (recipe.guidances.len(), recipe.controls.len());
            if count.max(controls) > MOST_GUIDANCES {
                return Err(malformed(format!(
                    "the recipe has {count} guidance methods and {controls} ControlNets; expected at most \
                     {MOST_GUIDANCES} of each; repeat the run with fewer of them"
                )));
            }
            return Ok(Self::Recipe(Box::new(recipe)));
        }
        let info = Infotext::of(&texts).map(Self::Infotext);
        info.ok_or_else(|| {
            malformed(format!(
                "the file has no recipe; expected a text \"{OWN}\" or \"{PARAMETERS}\", or the text of another known \
                 program; use a file that impasto wrote"
            ))
        })
    }
}
