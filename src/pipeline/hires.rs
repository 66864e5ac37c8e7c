//! [`Hires`]: a second run at a larger size.

use super::canvas::Canvas;
use crate::error::{Error, Result};
use crate::json::read_as_text_too;
use crate::raster::{Filter, Raster};
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use tch::Tensor;

/// A second run at a larger size, which starts from the enlarged picture of the first.
///
/// Networks repeat things in pictures that are much larger than their own size. A first run at the network's own size
/// composes the picture, and the second run draws its details. Guidance methods, regions, painted maps and ControlNets
/// act in both runs, each on the run's own grid. The AUTOMATIC1111 web UI calls this "Hires. fix".
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Size;
/// use impasto::pipeline::{Enlarge, Hires, Pipeline};
/// let pipeline = Pipeline::builder().build()?;
/// let large = pipeline.request("a red boat, blue sky").size((128, 128)).seed(7).steps(6).hires(1.5, 0.5).run()?;
/// assert_eq!(large.image(0)?.size(), Size::new(192, 192));
/// let mut hires = Hires::new(1.5, 0.7);
/// (hires.enlarge, hires.steps) = (Enlarge::Latent, Some(8));
/// let request = pipeline.request("a red boat, blue sky").size((128, 128)).tune(|config| config.hires = Some(hires));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Hires {
    /// Factor by which both sides of the picture grow, above 1 and up to 8. The sides become the nearest multiples of
    /// 8.
    pub scale: f64,
    /// Share of the second run's steps that change the enlarged picture, 0..=1; 0.4 to 0.6 is usual. With
    /// [`Enlarge::Latent`], less than 0.5 leaves blur.
    pub strength: f64,
    /// Steps of the second run's whole noise schedule, 1..=1000; `None`: as many as the first run has.
    #[serde(default)]
    pub steps: Option<usize>,
    /// The way in which the first picture is enlarged.
    #[serde(default)]
    pub enlarge: Enlarge,
}

read_as_text_too!(Hires);

/// Reads a second run as users write it: `SCALE` or `SCALE:STRENGTH`. The usual strength is 0.5.
impl FromStr for Hires {
    type Err = Error;

    /// # Errors
    /// [`Error::Parameter`] for any other text.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| part.trim().parse().ok().filter(|number: &f64| number.is_finite());
        let (scale, strength) = text.split_once(':').unwrap_or((text, "0.5"));
        number(scale).zip(number(strength)).map(|(scale, strength)| Self::new(scale, strength)).ok_or_else(|| {
            Error::parameter("hires", format!("{text:?}"), "SCALE or SCALE:STRENGTH, such as 2 or 2:0.4")
        })
    }
}

/// The way in which a picture is enlarged before its second run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Enlarge {
    /// The pixels, by Lanczos' filter.
    #[default]
    Lanczos,
    /// The latent, by bicubic interpolation. Without a decoding and an encoding by the VAE, it takes less time.
    Latent,
}

impl Enlarge {
    /// Returns the name of the upscaler in the AUTOMATIC1111 web UI.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Lanczos => "Lanczos",
            Self::Latent => "Latent (bicubic)",
        }
    }

    /// Returns the way with a name of the AUTOMATIC1111 web UI: the pixels for upscalers that this crate does not have.
    pub(super) fn named(name: &str) -> Self {
        if name.starts_with("Latent") { Self::Latent } else { Self::Lanczos }
    }
}

impl Hires {
    /// Creates a second run at `scale` times the size, with a share `strength` of its steps.
    pub const fn new(scale: f64, strength: f64) -> Self {
        Self { scale, strength, steps: None, enlarge: Enlarge::Lanczos }
    }

    /// Returns the canvas of the second run.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a scale out of range, or a side above `longest` pixels.
    pub(super) fn canvas(&self, first: &Canvas, longest: u32) -> Result<Canvas> {
        if !(self.scale > 1.0 && self.scale <= 8.0) {
            return Err(Error::parameter("hires.scale", self.scale, "above 1 and up to 8; 1.5 to 2 is usual"));
        }
        let side = |side: u32| ((f64::from(side) * self.scale / 8.0).round() as u32 * 8).max(8);
        let size = Size::new(side(first.size.width), side(first.size.height));
        if size.width.max(size.height) > longest {
            let sides = format!("the sides would be {size} pixels, beyond {longest}, the longest side of this model");
            let expected = format!("a smaller scale, because {sides}");
            return Err(Error::parameter("hires.scale", self.scale, expected));
        }
        Ok(Canvas::covering(size, first.cell, first.patch))
    }

    /// Enlarges finished pictures, [n, 3, H, W] in -1..=1 on the CPU.
    pub(super) fn pixels(pictures: &[Raster], canvas: &Canvas) -> Result<Tensor> {
        let laid = pictures.iter().map(|picture| canvas.lay(picture, Filter::Lanczos)).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&laid, 0)?)
    }

    /// Enlarges finished latents, [n, c, h, w], from the canvas `first` to a larger one. The area of the first pictures
    /// becomes the area of the larger pictures, because cells beyond the pictures are cut off in both runs.
    pub(super) fn latents(latents: &Tensor, first: &Canvas, larger: &Canvas) -> Result<Tensor> {
        // Without cells beyond the pictures, libtorch's own ratio of the grids is that of the pictures.
        let is_cut = first.pixels() != first.size || larger.pixels() != larger.size;
        let ratio = |own: u32, larger: u32| is_cut.then(|| f64::from(larger) / f64::from(own.max(1)));
        let rows = ratio(first.size.height, larger.size.height);
        let columns = ratio(first.size.width, larger.size.width);
        Ok(latents.f_upsample_bicubic2d([larger.grid.h, larger.grid.w], false, rows, columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn sides_grow_to_multiples_of_eight() -> Result<()> {
        let first = Canvas::covering(Size::new(100, 64), 8, 1);
        assert_eq!(Hires::new(1.5, 0.5).canvas(&first, 4096)?.size, Size::new(152, 96));
        for scale in [1.0, 0.5, 8.1, f64::NAN] {
            let error = Hires::new(scale, 0.5).canvas(&first, 4096).expect_err("refused").to_string();
            assert!(error.contains("hires.scale is") && error.contains("above 1 and up to 8"), "{error}");
        }
        for (side, longest) in [(1024, 4096), (400, 3072)] {
            let first = Canvas::covering(Size::new(side, 8), 8, 1);
            let error = Hires::new(8.0, 0.5).canvas(&first, longest).expect_err("refused").to_string();
            assert!(error.contains(&format!("beyond {longest}")), "{error}");
        }
        Ok(())
    }

    #[test]
    fn larger_latent_keeps_the_pictures_edges() -> Result<()> {
        // 125 of 126 columns are inside the first picture, and all 188 are inside the larger one.
        let first = Canvas::covering(Size::new(1000, 16), 8, 2);
        let larger = Hires::new(1.5, 0.5).canvas(&first, 4096)?;
        assert_eq!((first.grid.w, larger.size.width, larger.grid.w), (126, 1504, 188));
        // The place of each column's middle, as a share of the picture.
        let places = |canvas: &Canvas| {
            let middles = Tensor::arange(canvas.grid.w, (Kind::Float, Device::Cpu)) + 0.5;
            middles * (canvas.cell as f64 / f64::from(canvas.size.width))
        };
        let latents = places(&first).reshape([1, 1, 1, 126]).repeat([1, 1, 2, 1]);
        let enlarged = Hires::latents(&latents, &first, &larger)?;
        assert_eq!(enlarged.size(), [1, 1, larger.grid.h, 188]);
        let off = (enlarged.select(2, 0).flatten(0, -1) - places(&larger)).abs();
        let off = off.narrow(0, 4, 180).max().double_value(&[]);
        assert!(off < 1e-3, "{off}, where a cell is 5e-3");
        Ok(())
    }

    #[test]
    fn whole_latent_is_enlarged_by_its_grid() -> Result<()> {
        let first = Canvas::covering(Size::new(64, 32), 8, 2);
        let larger = Hires::new(1.5, 0.5).canvas(&first, 4096)?;
        let latents = (Tensor::arange(32i64, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape([1, 1, 4, 8]);
        let want = latents.f_upsample_bicubic2d([6, 12], false, None, None)?;
        assert_eq!(Hires::latents(&latents, &first, &larger)?, want);
        Ok(())
    }
}
