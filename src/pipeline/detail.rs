//! [`Detail`]: a part of the finished picture that is repainted at full size.

use super::mask_where::MaskWhere;
use super::text_forms::split_number;
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use crate::raster::Raster;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A part of the finished picture that is repainted at full size.
///
/// A small face has few cells of the latent, so a network draws it badly. After the run, the part around the thing is
/// cut out, enlarged to the model's own size, repainted there by image to image under a mask, scaled back and blended
/// into the picture. All other pixels keep their bits. Things that lie apart are repainted one after the other. An
/// exact color that the run forced on a thing in the part is forced again.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::pipeline::{Detail, Pipeline};
/// use impasto::{Raster, Rgb};
/// let pipeline = Pipeline::builder().build()?;
/// # let small = pipeline.request("1girl, eyes, hair, shirt").seed(7).steps(4).run()?;
/// # let mut scene = Raster::flat(Rgb(60, 120, 90), (256, 256));
/// # scene.paste(&small.image(0)?.resize((96, 96), impasto::raster::Filter::Lanczos)?, 100, 120);
/// let mut face = Raster::flat(Rgb(0, 0, 0), (256, 256));
/// face.paste(&Raster::flat(Rgb(255, 255, 255), (80, 72)), 108, 128);
/// let mut detail = Detail::under(face);
/// detail.prompt = Some("1girl, #ffd700 eyes, hair".into());
/// let output = pipeline.request("1girl, eyes, hair").start(&scene, 0.0).steps(8).detail(detail).run()?;
/// let by_phrase = pipeline.request("1girl, eyes, hair").steps(8).detail("eyes");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Detail {
    /// The thing to repaint.
    pub thing: Thing,
    /// Description of the repainted part; `None`: the prompt of the request. A color before a word is painted exactly.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Description of what the part should not show; `None`: the negative prompt of the request.
    #[serde(default)]
    pub negative: Option<String>,
    /// Share of the steps that change the part, above 0 and up to 1. The default is 0.4.
    #[serde(default = "strength")]
    pub strength: f64,
    /// Steps of the whole noise schedule, 1..=1000; `None`: as many as the request has.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Pixels around the thing that the network sees, 0..=4096, in pixels of the finished picture. The default is 32.
    #[serde(default = "padding")]
    pub padding: u32,
    /// Phrases of the description and exact colors of the things that they name, beside the colors in the description.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schemars", schemars(with = "Vec<(String, String)>"))]
    pub colors: Vec<(String, Rgb)>,
}

/// The thing that a [`Detail`] repaints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Thing {
    /// The thing that a phrase names, found in the finished picture.
    Named(MaskWhere),
    /// The thing under a mask, white where the picture is repainted. The mask is resized to the picture.
    #[cfg_attr(feature = "schemars", schemars(with = "String"))]
    Under(Raster),
}

read_as_text_too!(Detail);

/// Reads a detail as users write it: `PHRASE`, `PHRASE:STRENGTH`, `PHRASE=PROMPT` or `PHRASE=PROMPT:STRENGTH`.
impl FromStr for Detail {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for an empty phrase or prompt, or a strength that is not finite.
    fn from_str(text: &str) -> Result<Self> {
        let (words, given) = split_number("detail", text)?;
        let (phrase, prompt) = match words.split_once('=') {
            Some((phrase, prompt)) => (phrase.trim(), Some(prompt.trim().to_owned())),
            None => (words, None),
        };
        if phrase.is_empty() || prompt.as_ref().is_some_and(String::is_empty) {
            let expected = "PHRASE, PHRASE=PROMPT or PHRASE=PROMPT:STRENGTH, such as \"eyes=1girl, gold eyes:0.5\"";
            return Err(Error::parameter("detail", format!("{text:?}"), expected));
        }
        Ok(Self { prompt, strength: given.unwrap_or(strength()), ..Self::of(phrase) })
    }
}

/// Returns the default strength.
const fn strength() -> f64 {
    0.4
}

/// Returns the default padding in pixels.
const fn padding() -> u32 {
    32
}

impl Detail {
    /// Creates a detail of the thing that a phrase names.
    pub fn of(thing: impl Into<MaskWhere>) -> Self {
        Self::new(Thing::Named(thing.into()))
    }

    /// Creates a detail of the thing under a mask.
    pub const fn under(mask: Raster) -> Self {
        Self::new(Thing::Under(mask))
    }

    const fn new(thing: Thing) -> Self {
        let (strength, padding) = (strength(), padding());
        Self { thing, prompt: None, negative: None, strength, steps: None, padding, colors: Vec::new() }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a strength or a padding out of range.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.strength > 0.0 && self.strength <= 1.0) {
            return Err(Error::parameter(
                "details.strength",
                self.strength,
                "above 0 and up to 1; 0.3 to 0.6 is usual",
            ));
        }
        if self.padding > 4096 {
            return Err(Error::parameter("details.padding", self.padding, "0 to 4096 pixels; 32 is usual"));
        }
        Ok(())
    }
}

impl From<&str> for Detail {
    /// Creates a detail of the thing that a phrase names.
    fn from(phrase: &str) -> Self {
        Self::of(phrase)
    }
}

impl From<String> for Detail {
    /// Creates a detail of the thing that a phrase names.
    fn from(phrase: String) -> Self {
        Self::of(phrase)
    }
}
