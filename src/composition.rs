//! Pictures composed of things in boxes, each after a prompt of its own.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::files;
use crate::guidance::Guidance;
use crate::guidance::Picture;
use crate::mask::Region;
use crate::methods::image_guidance::GuidanceParams;
use crate::methods::paint_with_words::tinted;
use crate::methods::region_prompts::{MOST_REGIONS, USUAL_HOLD};
use crate::methods::{ImageGuidance, RegionPrompts};
use crate::raster::{Filter, LARGEST, Raster};
use crate::size::Size;
use crate::step::Grid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A background and things in boxes on it, as a value that is written and read as JSON.
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
/// let mut pipeline = Pipeline::builder().build()?;
/// let request = pipeline.request(&composition.prompt).negative(&composition.negative);
/// let request = request.size((composition.width, composition.height)).guide(composition.regions()?);
/// let output = request.seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: the composition of FlexDiffuse (`composition/schema.py`). Its style prompts are left out, as nothing reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Composition {
    /// Of the whole, and of what lies between the boxes.
    pub prompt: String,
    /// What the picture should not look like.
    #[serde(default)]
    pub negative: String,
    /// Of the picture in pixels.
    pub width: u32,
    /// Of the picture in pixels.
    pub height: u32,
    /// Strength with which things are held in their boxes, 0 (not at all) to 10; 2 by default. See [`RegionPrompts::hold`].
    #[serde(default = "held")]
    pub hold: f64,
    /// Later ones lie on earlier ones.
    pub entities: Vec<Entity>,
}

/// A thing in a box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Entity {
    /// What is in the box, and what is around it.
    pub prompt: String,
    /// A phrase of the prompt that is held in the box. Without one, what the prompt names may come to lie anywhere, and what
    /// is outside the box is lost.
    #[serde(default)]
    pub thing: Option<String>,
    /// Pixels from the left edge of the picture.
    pub left: u32,
    /// Pixels from its upper edge.
    pub top: u32,
    /// Of the box, in pixels.
    pub width: u32,
    /// Of the box, in pixels.
    pub height: u32,
    /// How much of its prompt's prediction counts in the box, 0..=1.
    #[serde(default = "usual")]
    pub strength: f64,
    /// File of a picture that the words of its prompt are guided by: what they name comes to look like what resembles it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// Share of the way that each word is moved to the picture, 0..=1; at .5, the default, colors come and the prompt's things stay.
    #[serde(default = "half")]
    pub likeness: f64,
}

/// FlexDiffuse's.
const fn usual() -> f64 {
    0.8
}

/// Of [`Entity::likeness`].
const fn half() -> f64 {
    0.5
}

/// Of [`Composition::hold`].
const fn held() -> f64 {
    USUAL_HOLD
}

impl Entity {
    /// A thing in the box of `size` pixels whose upper left corner is at (`left`, `top`), at strength .8.
    pub fn new(prompt: impl Into<String>, (left, top): (u32, u32), size: impl Into<Size>) -> Self {
        let Size { width, height } = size.into();
        let (strength, likeness) = (usual(), half());
        Self { prompt: prompt.into(), thing: None, left, top, width, height, strength, image: None, likeness }
    }
}

impl Composition {
    /// A background without things.
    pub fn new(prompt: impl Into<String>, size: impl Into<Size>) -> Self {
        let Size { width, height } = size.into();
        Self { prompt: prompt.into(), negative: String::new(), width, height, hold: held(), entities: Vec::new() }
    }

    /// Reads a JSON file. Paths of images begin in its folder.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] if it is not such JSON, with the line; what [`check`](Self::check) finds.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = files::read_text(path, files::LARGEST_CONFIG)?;
        let mut composition = Self::read(&text, &path.display().to_string())?;
        for image in composition.entities.iter_mut().filter_map(|entity| entity.image.as_mut()) {
            *image = path.parent().map_or_else(|| image.clone(), |folder| folder.join(&*image));
        }
        Ok(composition)
    }

    /// Reads JSON: `prompt`, `width`, `height`, `entities` and if need be `negative` and `hold`; of each entity `prompt`,
    /// `left`, `top`, `width`, `height` and if need be `thing`, `strength`, `image` (a path) and `likeness`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_json(text: &str) -> Result<Self> {
        Self::read(text, "composition")
    }

    fn read(text: &str, file: &str) -> Result<Self> {
        let malformed = |error: serde_json::Error| Error::Malformed { file: file.into(), problem: error.to_string() };
        let composition: Self = serde_json::from_str(text).map_err(malformed)?;
        composition.check()?;
        Ok(composition)
    }

    /// As JSON, to be read again.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a strength that is not a number.
    pub fn to_json(&self) -> Result<String> {
        let malformed =
            |error: serde_json::Error| Error::Malformed { file: "composition".into(), problem: error.to_string() };
        serde_json::to_string_pretty(self).map_err(malformed)
    }

    /// Are there things, with prompts, in boxes on the canvas?
    ///
    /// # Errors
    /// [`Error::Parameter`] with every box that is not.
    pub fn check(&self) -> Result<()> {
        if self.entities.is_empty() {
            return Err(Error::parameter("entities", "empty", "at least one; a background alone is a plain request"));
        }
        if self.entities.len() > MOST_REGIONS {
            return Err(Error::parameter("entities", self.entities.len(), format!("at most {MOST_REGIONS} things")));
        }
        if self.width == 0 || self.height == 0 {
            let value = format!("{} × {}", self.width, self.height);
            return Err(Error::parameter("canvas", value, "a width and height above 0; models want multiples of 8"));
        }
        let unnamed = self.entities.iter().position(|entity| entity.prompt.trim().is_empty());
        if let Some(number) = unnamed {
            return Err(Error::parameter("entity", format!("number {number} without a prompt"), "what is in its box"));
        }
        let outside: Vec<String> =
            self.entities.iter().filter(|entity| !self.holds(entity)).map(|entity| entity.to_string()).collect();
        if !outside.is_empty() {
            let expected = format!("boxes of a pixel or more inside the canvas of {} × {}", self.width, self.height);
            return Err(Error::parameter("entity", outside.join("; "), expected));
        }
        if let Some(entity) = self.entities.iter().find(|entity| !(0.0..=1.0).contains(&entity.likeness)) {
            let value = format!("{} for \"{}\"", entity.likeness, entity.prompt);
            return Err(Error::parameter(
                "likeness",
                value,
                "0..=1; .5 brings a picture's colors and keeps the prompt's things",
            ));
        }
        let regions = RegionPrompts::default().hold(self.hold);
        self.entities.iter().fold(regions, |regions, entity| self.with(regions, entity)).check()
    }

    /// Is an entity's box on the canvas?
    fn holds(&self, entity: &Entity) -> bool {
        let ends =
            |start: u32, length: u32, side: u32| length > 0 && u64::from(start) + u64::from(length) <= side.into();
        ends(entity.left, entity.width, self.width) && ends(entity.top, entity.height, self.height)
    }

    /// The things as a guidance of a request for [`prompt`](Self::prompt), of the composition's size or any of its aspect.
    ///
    /// # Errors
    /// As [`check`](Self::check); those of [`Raster::open`] for images.
    pub fn regions(&self) -> Result<RegionPrompts> {
        self.check()?;
        let mut bytes = 0;
        self.entities.iter().try_fold(RegionPrompts::default().hold(self.hold), |regions, entity| {
            let regions = self.with(regions, entity);
            let Some(path) = &entity.image else { return Ok(regions) };
            let picture = Raster::open(path)?;
            bytes += picture.bytes().len() as u64;
            if bytes > LARGEST {
                let value = format!("pictures of more than {bytes} bytes");
                return Err(Error::parameter(
                    "image",
                    value,
                    format!("at most {} MiB of pixels in all", LARGEST >> 20),
                ));
            }
            let words = GuidanceParams { linear: (1.0, 1.0), snap: false, ..GuidanceParams::off() };
            let guide = ImageGuidance::new(&picture).params(words).tune(|params| params.max_guidance = entity.likeness);
            Ok(regions.guided(guide))
        })
    }

    fn with(&self, regions: RegionPrompts, entity: &Entity) -> RegionPrompts {
        let Entity { prompt, strength, .. } = entity;
        match &entity.thing {
            Some(thing) => regions.thing(self.region(entity), prompt, thing, *strength),
            None => regions.add(self.region(entity), prompt, *strength),
        }
    }

    /// Where an entity is.
    fn region(&self, entity: &Entity) -> Region {
        let share = |start: u32, length: u32, side: u32| {
            let (start, length, side) = (f64::from(start), f64::from(length), f64::from(side));
            start / side..((start + length) / side)
        };
        Region::rect(share(entity.left, entity.width, self.width), share(entity.top, entity.height, self.height))
    }

    /// Small pictures of the layout, before anything is painted: all boxes in order, then each box alone with its prompt as the
    /// caption and its image inside.
    ///
    /// # Errors
    /// As [`regions`](Self::regions).
    pub fn preview(&self) -> Result<Vec<Picture>> {
        self.check()?;
        let scale = f64::from(SIDE) / f64::from(self.width.max(self.height));
        let scaled = |side: u32| ((f64::from(side) * scale).round() as i64).max(1);
        let panel = Grid::new(scaled(self.height), scaled(self.width));
        let paper = Raster::flat(PAPER, (panel.w as u32, panel.h as u32));
        let (mut all, mut boxes) = (paper.clone(), Vec::new());
        for (entity, ink) in self.entities.iter().zip(INKS.into_iter().cycle()) {
            let mask = self.region(entity).resampled(panel, Default::default())?.f_mul_scalar(entity.strength)?;
            all = tinted(&mask.f_get(0)?, &all, ink)?;
            let mut alone = tinted(&mask.f_get(0)?, &paper, ink)?;
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
/// Of the boxes, in turn.
const INKS: [Rgb; 6] =
    [Rgb(214, 69, 65), Rgb(52, 120, 190), Rgb(60, 150, 90), Rgb(230, 170, 50), Rgb(140, 90, 170), Rgb(70, 170, 180)];
/// Pixels of the longer side of a panel.
const SIDE: u32 = 192;
