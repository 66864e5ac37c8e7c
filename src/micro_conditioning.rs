//! [`MicroConditioning`]: what SDXL is told about sizes and quality.

use crate::error::{Error, Result};
use crate::size::Size;
use serde::{Deserialize, Serialize};

/// What SDXL is told about the sizes, the crop and the quality of the picture, beside its prompt.
///
/// In training, these numbers said how large each picture had been, which part of it was shown, and how much people liked it. At
/// sampling, large originals and no crop ask for sharp, centered pictures. Sizes and places are in pixels.
///
/// ```no_run
/// # fn main() -> impasto::Result<()> {
/// use impasto::{MicroConditioning, Pipeline, Size, Source};
///
/// let mut pipeline = Pipeline::builder().source(Source::file("sd_xl_base.safetensors")).build()?;
/// let of = |side| MicroConditioning { original_size: Some(Size::new(side, side)), ..MicroConditioning::default() };
/// let request = pipeline.request("a fox in a garden").tune(|config| {
///     config.micro_conditioning = Some(of(4096));
///     config.negative_micro_conditioning = Some(of(512));
/// });
/// let output = request.run()?;
/// # Ok(()) }
/// ```
///
/// Source: "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis" (arXiv 2307.01952), section 2.2; the
/// defaults are those of diffusers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[must_use]
pub struct MicroConditioning {
    /// The size before the picture was resized; `None`: its own.
    pub original_size: Option<Size>,
    /// Left and top of the part that is shown; `None`: 0 and 0.
    pub crop: Option<(u32, u32)>,
    /// The size of the part that is shown, which the refiner is not told; `None`: the picture's own.
    pub target_size: Option<Size>,
    /// How much people would like the picture, 0 to 10, which the refiner alone is told; `None`: 6, and 2.5 for the negative
    /// prompt.
    pub aesthetic_score: Option<f64>,
}

/// Longest side in pixels; the network was trained with some thousands.
const LONGEST: u32 = 1 << 16;

impl MicroConditioning {
    /// Are all numbers in their ranges?
    ///
    /// # Errors
    /// [`Error::Parameter`] for a size of 0 or above 65536 pixels, or a score outside 0..=10.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, size) in [("original_size", self.original_size), ("target_size", self.target_size)] {
            if let Some(size) =
                size.filter(|size| [size.width, size.height].iter().any(|side| !(1..=LONGEST).contains(side)))
            {
                return Err(Error::parameter(name, size, "1 to 65536 pixels each"));
            }
        }
        if let Some((left, top)) = self.crop.filter(|(left, top)| *left.max(top) > LONGEST) {
            return Err(Error::parameter("crop", format!("{left}, {top}"), "up to 65536 pixels each"));
        }
        match self.aesthetic_score.filter(|score| !(0.0..=10.0).contains(score)) {
            Some(score) => Err(Error::parameter("aesthetic_score", score, "0 to 10; 6 is usual")),
            None => Ok(()),
        }
    }

    /// What the negative prompt's branch is told where nothing is said of it: the same, but for the score.
    pub(crate) const fn negative(self) -> Self {
        Self { aesthetic_score: None, ..self }.or_score(2.5)
    }

    /// The same with a score where it has none.
    pub(crate) const fn or_score(mut self, score: f64) -> Self {
        if self.aesthetic_score.is_none() {
            self.aesthetic_score = Some(score);
        }
        self
    }

    /// The numbers as the network reads them, for a picture of (height, width) pixels: original, crop and target, each the
    /// vertical one first; the refiner (`scored`) reads the score in place of the target.
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
