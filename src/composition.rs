//! Compositions: pictures of things in boxes, each with a prompt of its own.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::files;
use crate::guidance::{Guidance, Picture};
use crate::json;
use crate::mask::Region;
use crate::methods::image_guidance::GuidanceParams;
use crate::methods::paint_with_words::tint;
use crate::methods::region_prompts::{MOST_REGIONS, USUAL_HOLD};
use crate::methods::{ImageGuidance, RegionPrompt, RegionPrompts};
use crate::raster::{Filter, LARGEST, Raster};
use crate::size::Size;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A background with things in boxes, written and read as JSON.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::composition::Composition;
/// use impasto::Pipeline;
///
/// let composition = Composition::from_json(
///     r#"{
///         "prompt": "green ground, blue sky", "width": 128, "height": 128,
///         "entities": [
///             { "prompt": "a red house, green ground, blue sky", "thing": "red house",
///               "left": 0, "top": 48, "width": 64, "height": 72 },
///             { "prompt": "a yellow sun, blue sky", "thing": "yellow sun",
///               "left": 72, "top": 0, "width": 56, "height": 56, "strength": 0.9 }
///         ]
///     }"#,
/// )?;
/// let pipeline = Pipeline::builder().build()?;
/// let request = pipeline.request(&composition.prompt).negative(&composition.negative);
/// let request = request.size((composition.width, composition.height)).guide(composition.regions()?);
/// let output = request.seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: the composition of FlexDiffuse (`composition/schema.py`), without its style prompts, which have no effect in
/// FlexDiffuse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[must_use]
pub struct Composition {
    /// Prompt of the whole picture and of the space between the boxes.
    pub prompt: String,
    /// Negative prompt: content that the picture should not show.
    #[serde(default)]
    pub negative: String,
    /// Width of the picture in pixels.
    pub width: u32,
    /// Height of the picture in pixels.
    pub height: u32,
    /// Strength with which things are held in their boxes, 0 (not at all) to 10; 2 by default. See
    /// [`RegionPrompts::hold`].
    #[serde(default = "held")]
    pub hold: f64,
    /// Things in boxes; later ones cover earlier ones.
    pub entities: Vec<Entity>,
}

/// A thing in a box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[must_use]
pub struct Entity {
    /// Prompt of the box: the thing and its surroundings.
    pub prompt: String,
    /// Phrase of the prompt that names the thing to hold in the box. Without a phrase, the prompt's objects may appear
    /// anywhere in the picture, and their parts outside the box are lost.
    #[serde(default)]
    pub thing: Option<String>,
    /// Distance from the left edge of the picture in pixels.
    pub left: u32,
    /// Distance from the upper edge of the picture in pixels.
    pub top: u32,
    /// Width of the box in pixels.
    pub width: u32,
    /// Height of the box in pixels.
    pub height: u32,
    /// Share of the entity's own prediction in the box, 0..=1; .8 by default.
    #[serde(default = "usual")]
    pub strength: f64,
    /// File of a picture that guides the words of the prompt. Each named object comes to look like the part of the
    /// picture that resembles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// Share by which each word is moved towards the picture, 0..=1. At .5, the default, the picture's colors appear
    /// and the prompt's objects stay.
    #[serde(default = "half")]
    pub likeness: f64,
}

/// Returns the default of [`Entity::strength`], which is FlexDiffuse's.
const fn usual() -> f64 {
    0.8
}

/// Returns the default of [`Entity::likeness`].
const fn half() -> f64 {
    0.5
}

/// Returns the default of [`Composition::hold`].
const fn held() -> f64 {
    USUAL_HOLD
}

impl Entity {
    /// Creates a thing in the box of `size` pixels whose upper left corner is at (`left`, `top`), at strength .8.
    pub fn new(prompt: impl Into<String>, (left, top): (u32, u32), size: impl Into<Size>) -> Self {
        let Size { width, height } = size.into();
        let (strength, likeness) = (usual(), half());
        Self { prompt: prompt.into(), thing: None, left, top, width, height, strength, image: None, likeness }
    }
}

impl Composition {
    /// Creates a composition of a background without things.
    pub fn new(prompt: impl Into<String>, size: impl Into<Size>) -> Self {
        let Size { width, height } = size.into();
        Self { prompt: prompt.into(), negative: String::new(), width, height, hold: held(), entities: Vec::new() }
    }

    /// Reads a JSON file. Image paths are relative to its folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] with the line, if the file is not JSON of this form; the errors of
    /// [`check`](Self::check).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path, files::LARGEST_CONFIG)?;
        let mut composition = Self::read(&text, &path.display().to_string())?;
        for image in composition.entities.iter_mut().filter_map(|entity| entity.image.as_mut()) {
            *image = path.parent().map_or_else(|| image.clone(), |folder| folder.join(&*image));
        }
        Ok(composition)
    }

    /// Reads JSON with `prompt`, `width`, `height`, `entities` and optionally `negative` and `hold`. Each entity has
    /// `prompt`, `left`, `top`, `width`, `height` and optionally `thing`, `strength`, `image` (a path) and `likeness`.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn from_json(text: &str) -> Result<Self> {
        Self::read(text, "composition")
    }

    fn read(text: &str, file: &str) -> Result<Self> {
        let malformed = |error: serde_json::Error| Error::Malformed { file: file.into(), problem: error.to_string() };
        let composition: Self = json::parse(text).map_err(malformed)?;
        composition.check()?;
        Ok(composition)
    }

    /// Returns the composition as JSON for [`from_json`](Self::from_json).
    ///
    /// # Errors
    /// [`Error::Malformed`] for an image path that is not UTF-8.
    pub fn to_json(&self) -> Result<String> {
        let malformed =
            |error: serde_json::Error| Error::Malformed { file: "composition".into(), problem: error.to_string() };
        serde_json::to_string_pretty(self).map_err(malformed)
    }

    /// Checks that there are things, that each has a prompt and a box on the canvas, and that all numbers are in range.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first failed check. The check of boxes names every box that is not inside the
    /// canvas.
    pub fn check(&self) -> Result<()> {
        if self.entities.is_empty() {
            return Err(Error::parameter(
                "entities",
                "empty",
                "at least one entity; for a background alone, use a plain request",
            ));
        }
        if self.entities.len() > MOST_REGIONS {
            return Err(Error::parameter(
                "entities",
                self.entities.len(),
                format!("at most {MOST_REGIONS} entities; remove some"),
            ));
        }
        if self.width == 0 || self.height == 0 {
            let value = format!("{} × {}", self.width, self.height);
            return Err(Error::parameter("canvas", value, "sides above 0 pixels; most models need multiples of 8"));
        }
        let unnamed = self.entities.iter().position(|entity| entity.prompt.trim().is_empty());
        if let Some(number) = unnamed {
            return Err(Error::parameter(
                "entity",
                format!("number {number} without a prompt, counted from 0"),
                "a prompt that says what the entity's box shows",
            ));
        }
        let outside: Vec<String> =
            self.entities.iter().filter(|entity| !self.holds(entity)).map(|entity| entity.to_string()).collect();
        if !outside.is_empty() {
            let expected = format!(
                "boxes of at least one pixel inside the canvas of {} × {}; move or shrink the boxes",
                self.width, self.height
            );
            return Err(Error::parameter("entity", outside.join("; "), expected));
        }
        if let Some(entity) = self.entities.iter().find(|entity| !(0.0..=1.0).contains(&entity.likeness)) {
            let value = format!("{} for \"{}\"", entity.likeness, entity.prompt);
            return Err(Error::parameter(
                "likeness",
                value,
                "0..=1; .5 takes the colors of the picture and keeps the things of the prompt",
            ));
        }
        let regions = RegionPrompts::default().hold(self.hold);
        self.entities.iter().fold(regions, |regions, entity| regions.region(self.region_prompt(entity))).check()
    }

    /// Returns true if an entity's box has pixels and is inside the canvas.
    fn holds(&self, entity: &Entity) -> bool {
        let ends =
            |start: u32, length: u32, side: u32| length > 0 && u64::from(start) + u64::from(length) <= side.into();
        ends(entity.left, entity.width, self.width) && ends(entity.top, entity.height, self.height)
    }

    /// Returns the things as a guidance method for a request for [`prompt`](Self::prompt), of the composition's size or
    /// any size of its aspect.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check), and those of [`Raster::open`] for images.
    pub fn regions(&self) -> Result<RegionPrompts> {
        self.check()?;
        let mut bytes = 0;
        self.entities.iter().try_fold(RegionPrompts::default().hold(self.hold), |regions, entity| {
            let region = self.region_prompt(entity);
            let Some(path) = &entity.image else { return Ok(regions.region(region)) };
            let picture = Raster::open(path)?;
            bytes += picture.bytes().len() as u64;
            if bytes > LARGEST {
                let value = format!("one of several pictures with {bytes} bytes of pixels so far");
                return Err(Error::parameter(
                    "image",
                    value,
                    format!("at most {} MiB of pixels in all pictures together; use smaller pictures", LARGEST >> 20),
                ));
            }
            let max_guidance = entity.likeness;
            let all = GuidanceParams { linear: (1.0, 1.0), snap: false, max_guidance, ..GuidanceParams::off() };
            Ok(regions.region(region.guided(ImageGuidance::new(&picture).tune(|params| *params = all))))
        })
    }

    /// Returns an entity's region with its prompt, without its picture.
    fn region_prompt(&self, entity: &Entity) -> RegionPrompt {
        let region = RegionPrompt::new(self.region(entity), &entity.prompt, entity.strength);
        entity.thing.iter().fold(region, RegionPrompt::thing)
    }

    /// Returns the region of an entity's box.
    fn region(&self, entity: &Entity) -> Region {
        let share = |start: u32, length: u32, side: u32| {
            let (start, length, side) = (f64::from(start), f64::from(length), f64::from(side));
            start / side..((start + length) / side)
        };
        Region::rect(share(entity.left, entity.width, self.width), share(entity.top, entity.height, self.height))
    }

    /// Draws small pictures of the layout before a run: all boxes in order, then each box alone. Each single box is
    /// captioned with its prompt and filled with its image.
    ///
    /// # Errors
    /// The errors of [`regions`](Self::regions).
    pub fn preview(&self) -> Result<Vec<Picture>> {
        self.check()?;
        let scale = f64::from(SIDE) / f64::from(self.width.max(self.height));
        let scaled = |side: u32| ((f64::from(side) * scale).round() as i64).max(1);
        let panel = Grid::new(scaled(self.height), scaled(self.width));
        let paper = Raster::flat(PAPER, (panel.w as u32, panel.h as u32));
        let (mut all, mut boxes) = (paper.clone(), Vec::new());
        for (entity, ink) in self.entities.iter().zip(INKS.into_iter().cycle()) {
            let mask = self.region(entity).resample(panel, Default::default())?.f_mul_scalar(entity.strength)?;
            all = tint(&mask.f_get(0)?, &all, ink)?;
            let mut alone = tint(&mask.f_get(0)?, &paper, ink)?;
            if let Some(path) = &entity.image {
                let at = |start: u32| (f64::from(start) * scale) as u32;
                let [h, w] = [entity.height, entity.width].map(|side| at(side).max(1));
                alone.paste(&Raster::open(path)?.resize((w, h), Filter::Box)?, at(entity.left), at(entity.top));
            }
            boxes.push(Picture::new(&entity.prompt, alone));
        }
        boxes.insert(0, Picture::new(&self.prompt, all));
        Ok(boxes)
    }
}

impl std::fmt::Display for Entity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" at {}, {} of {} × {}", self.prompt, self.left, self.top, self.width, self.height)
    }
}

const PAPER: Rgb = Rgb(245, 245, 245);
/// Colors of the boxes, in turn.
const INKS: [Rgb; 6] =
    [Rgb(214, 69, 65), Rgb(52, 120, 190), Rgb(60, 150, 90), Rgb(230, 170, 50), Rgb(140, 90, 170), Rgb(70, 170, 180)];
/// Length of a panel's longer side in pixels.
const SIDE: u32 = 192;
