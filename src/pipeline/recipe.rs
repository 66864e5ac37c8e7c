//! [`RunRecipe`]: everything that makes a run, for files.

use super::config::RequestConfig;
use super::infotext::Infotext;
use crate::diffusion::Spacing;
use crate::diffusion::solver::{self, solver_label, spacing_label};
use crate::error::{Error, Result};
use crate::model::Identity;
use crate::raster::Raster;
use crate::recipe::{Recipe, STRUCTURE, UNPACKED, structure, unpacked};
use crate::size::Size;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Everything that makes a run: what [`Output::save`](super::Output::save) writes beside a picture, and
/// [`Request::from_png`](super::Request::from_png) makes again. Programs read it as JSON under the keyword `impasto`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunRecipe {
    /// Number of this form, 1.
    pub format: u32,
    /// Version of impasto.
    pub version: String,
    /// The model.
    pub model: Identity,
    /// libtorch's threads: sums are split among them, and rounded accordingly.
    pub threads: i32,
    /// Settings of the request. Seed, size and guidance scale are those that the run had, chosen or given.
    #[serde(flatten)]
    pub config: RequestConfig,
    /// Number of this picture in the batch, counted from 0.
    pub image: usize,
    /// Name of the solver.
    pub solver_name: String,
    /// The solver, if it was given as a value.
    pub solver: Option<Recipe>,
    /// The checkpoint's choice of noise levels, unless the solver has timesteps of its own.
    #[serde(default)]
    pub checkpoint_spacing: Option<Spacing>,
    /// The text encoder's layer that was read, counted from the last, which is 1; `None`: as the model was trained.
    #[serde(default)]
    pub clip_skip: Option<usize>,
    /// Another way to combine branches.
    pub combine: Option<Recipe>,
    /// Share of the schedule that was run from a picture, 0..=1.
    pub strength: Option<f64>,
    /// What steered the run, in the order it was attached.
    pub guidances: Vec<Recipe>,
    /// ControlNets' hints, scales and windows, in the order they were attached; [`Request::net`](super::Request::net) gives the nets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Recipe>,
    /// What took part and no file can say, in sentences.
    pub missing: Vec<String>,
}

/// The form that is written.
pub(super) const FORMAT: u32 = 1;
/// Most guidance methods and most ControlNets of a recipe that is read; each one takes time at every step.
const MOST_GUIDANCES: usize = 256;
/// Keyword of the JSON.
const OWN: &str = "impasto";
/// Keyword of the AUTOMATIC1111 web UI's text.
const PARAMETERS: &str = "parameters";

/// What a PNG file says about its run.
pub(super) enum PngRecipe {
    Recipe(Box<RunRecipe>),
    Infotext(Infotext),
}

impl RunRecipe {
    /// Makes it the recipe of one image of several that a run chose among.
    pub(super) fn choose(&mut self, image: usize) -> Result<()> {
        let of_image = |seed: u64| seed.wrapping_add(image as u64);
        let config = &mut self.config;
        config.best_of = 1;
        config.seed = config.seed.map(of_image);
        config.variation = config.variation.map(|(seed, strength)| (of_image(seed), strength));
        config.noise = config.noise.take().map(|noise| noise.of_image(image)).transpose()?;
        Ok(())
    }

    /// The run in the words of the AUTOMATIC1111 web UI, as far as it has any.
    pub fn infotext(&self) -> Infotext {
        let config = &self.config;
        let mut info =
            Infotext { prompt: config.prompt.clone(), negative: config.negative.clone(), ..Infotext::default() };
        info.push("Steps", config.steps);
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
        if let Some(layer) = self.clip_skip {
            info.push("Clip skip", layer);
        }
        if let Some((seed, strength)) = config.variation {
            info.push("Variation seed", seed.wrapping_add(self.image as u64));
            info.push("Variation seed strength", strength);
        }
        if let Some(strength) = self.strength {
            info.push("Denoising strength", strength);
        }
        info.push("RNG", "CPU");
        info.push("Version", format!("impasto {}", self.version));
        info
    }

    /// The choice of noise levels, for the web UI: as it was asked for, else the checkpoint's, where the web UI knows it.
    fn told_spacing(&self) -> Option<Spacing> {
        let named = || solver::by_name(self.config.solver_named.as_deref()?).ok()?.1;
        let trained = [Spacing::Leading, Spacing::Linspace, Spacing::Trailing];
        let own = || self.checkpoint_spacing.filter(|spacing| !trained.contains(spacing));
        self.config.spacing.or_else(named).or_else(own)
    }

    /// Saves a picture with this recipe, as [`Output::save`](super::Output::save) does.
    ///
    /// # Errors
    /// As [`Raster::save_with_texts`]; [`Error::Parameter`] if it unpacks to more than would be read.
    pub(super) fn save(&self, picture: &Raster, path: &Path) -> Result<()> {
        let malformed = |error: serde_json::Error| Error::Malformed {
            file: path.display().to_string(),
            problem: error.to_string(),
        };
        let bytes = unpacked(&serde_json::to_value(self).map_err(malformed)?);
        if bytes > UNPACKED {
            let most = UNPACKED >> 20;
            let expected = format!("maps and pictures of at most {most} MiB; Raster::save writes the picture alone");
            return Err(Error::parameter("recipe", format!("{bytes} bytes"), expected));
        }
        let own = serde_json::to_string(self).map_err(malformed)?;
        picture.save_with_texts(path, &[(PARAMETERS, &self.infotext().to_string()), (OWN, &own)])
    }
}

impl PngRecipe {
    /// Reads what a PNG file says.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] if it is no PNG, says nothing, or something that is not understood.
    pub(super) fn by(path: &Path) -> Result<Self> {
        let malformed = |problem| Error::Malformed { file: path.display().to_string(), problem };
        let texts = Raster::texts_under(path, &[OWN, PARAMETERS])?;
        let text = |keyword| texts.iter().find(|(known, _)| known == keyword).map(|(_, text)| text.as_str());
        if let Some(own) = text(OWN) {
            // Another form may be anything.
            #[derive(Deserialize)]
            struct Form {
                format: u32,
            }
            let broken = |error: serde_json::Error| malformed(format!("its recipe cannot be read: {error}"));
            if structure(own) > STRUCTURE {
                let most = STRUCTURE >> 20;
                return Err(malformed(format!("its recipe has more than {most} MiB of JSON, pictures and maps aside")));
            }
            let own: Value = serde_json::from_str(own).map_err(broken)?;
            let Form { format } = Form::deserialize(&own).map_err(broken)?;
            if format != FORMAT {
                let problem = format!("its recipe has form {format}, and this version of impasto reads form {FORMAT}");
                return Err(malformed(problem));
            }
            if unpacked(&own) > UNPACKED {
                let most = UNPACKED >> 20;
                return Err(malformed(format!("the maps and pictures in its recipe unpack to more than {most} MiB")));
            }
            let recipe: RunRecipe = serde_json::from_value(own).map_err(broken)?;
            let (count, controls) = (recipe.guidances.len(), recipe.controls.len());
            if count.max(controls) > MOST_GUIDANCES {
                return Err(malformed(format!(
                    "its recipe has {count} guidance methods and {controls} ControlNets; expected at most {MOST_GUIDANCES} of each"
                )));
            }
            return Ok(Self::Recipe(Box::new(recipe)));
        }
        let parameters = text(PARAMETERS).map(|text| Self::Infotext(Infotext::parse(text)));
        parameters.ok_or_else(|| {
            malformed(format!(
                "it has no recipe: neither of the texts \"{OWN}\" and \"{PARAMETERS}\"; save with Output::save"
            ))
        })
    }
}
