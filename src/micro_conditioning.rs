//! [`MicroConditioning`]: SDXL's conditions on sizes and quality.

use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// SDXL's conditions on the size, crop and quality of the picture, beside its prompt.
///
/// In training, these numbers gave each picture's size, the part of it that was shown, and how much people liked it. At
/// sampling, a large original size and a crop offset of 0 give sharp, centered pictures. Sizes and positions are in
/// pixels.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::{MicroConditioning, Pipeline, Size, Source};
///
/// let pipeline = Pipeline::builder().source(Source::file("sd_xl_base.safetensors")).build()?;
/// let of = |side| MicroConditioning { original_size: Some(Size::new(side, side)), ..MicroConditioning::default() };
/// let request = pipeline.request("a fox in a garden").tune(|config| {
///     config.micro_conditioning = Some(of(4096));
///     config.negative_micro_conditioning = Some(of(512));
/// });
/// let output = request.run()?;
/// # Ok(()) }
/// ```
///
/// Source: "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (arXiv 2307.01952), section
/// 2.2; the defaults are those of diffusers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[must_use]
pub struct MicroConditioning {
    /// Size of the picture before it was resized; `None`: the size of the generated picture.
    pub original_size: Option<Size>,
    /// Left and top edge of the part that is shown; `None`: 0 and 0.
    pub crop: Option<(u32, u32)>,
    /// Size of the part that is shown, which the refiner does not read; `None`: the size of the generated picture.
    pub target_size: Option<Size>,
    /// Aesthetic score of the picture, 0 to 10, which only the refiner reads; `None`: 6, and 2.5 for the negative
    /// prompt.
    pub aesthetic_score: Option<f64>,
}

read_as_text_too!(MicroConditioning);

/// Reads conditions as users write them: names and values with commas between them, such as
/// `original_size=4096x4096,crop=0x0,aesthetic_score=6`.
impl FromStr for MicroConditioning {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for another name, or a value of another form.
    fn from_str(text: &str) -> Result<Self> {
        let mut read = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = match name.trim() {
                "original_size" => value.parse().map(|size| read.original_size = Some(size)).is_ok(),
                "target_size" => value.parse().map(|size| read.target_size = Some(size)).is_ok(),
                "crop" => value.parse().map(|offset: Size| read.crop = Some((offset.width, offset.height))).is_ok(),
                "aesthetic_score" => value.trim().parse().map(|score| read.aesthetic_score = Some(score)).is_ok(),
                _ => false,
            };
            if !known {
                let expected = "original_size=WIDTHxHEIGHT, crop=LEFTxTOP, target_size=WIDTHxHEIGHT or \
                                aesthetic_score=NUMBER, with commas between them";
                return Err(Error::parameter("micro_conditioning", format!("{part:?}"), expected));
            }
        }
        Ok(read)
    }
}

/// Largest side or crop offset in pixels; the network was trained with some thousands.
const LONGEST: u32 = 1 << 16;

impl MicroConditioning {
    /// Checks that all numbers are in their ranges.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size of 0 or above 65536 pixels, or a score outside 0..=10.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, size) in [("original_size", self.original_size), ("target_size", self.target_size)] {
            if let Some(size) =
                size.filter(|size| [size.width, size.height].iter().any(|side| !(1..=LONGEST).contains(side)))
            {
                return Err(Error::parameter(name, size, "a width and a height of 1 to 65536 pixels"));
            }
        }
        if let Some((left, top)) = self.crop.filter(|(left, top)| *left.max(top) > LONGEST) {
            return Err(Error::parameter(
                "crop",
                format!("{left}, {top}"),
                "a left and a top offset of 0 to 65536 pixels",
            ));
        }
        match self.aesthetic_score.filter(|score| !(0.0..=10.0).contains(score)) {
            Some(score) => Err(Error::parameter("aesthetic_score", score, "0 to 10; 6 is usual")),
            None => Ok(()),
        }
    }

    /// Returns the defaults for the negative prompt's branch: these conditions with a score of 2.5.
    pub(crate) const fn negative(self) -> Self {
        Self { aesthetic_score: None, ..self }.or_score(2.5)
    }

    /// Returns these conditions with `score` if they have none.
    pub(crate) const fn or_score(mut self, score: f64) -> Self {
        if self.aesthetic_score.is_none() {
            self.aesthetic_score = Some(score);
        }
        self
    }

    /// Returns the numbers in the network's order, for a picture of (height, width) pixels: original size, crop and
    /// target size, each with the vertical number first. The refiner (`scored`) reads the score instead of the target
    /// size.
    pub(crate) fn numbers(&self, (height, width): (f32, f32), scored: bool) -> Vec<f32> {
        let sides = |size: Option<Size>| size.map_or([height, width], |size| [size.height as f32, size.width as f32]);
        let mut numbers = sides(self.original_size).to_vec();
        numbers.extend(self.crop.map_or([0.0; 2], |(left, top)| [top as f32, left as f32]));
        if scored {
            numbers.push(self.aesthetic_score.unwrap_or(6.0) as f32);
        } else {
            numbers.extend(sides(self.target_size));
        }
        numbers
    }
}
