//! [`Sketch`]: the lines of a picture, white on black when drawn, and 1 on lines and 0 elsewhere for a network.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::mask::otsu;
use crate::raster::{Filter, Raster};
use crate::size::Size;
use crate::wording::Remedy;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// The lines of a picture, one bit for each pixel: the first channel of a hint for a ControlNet of edges and strokes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Raster", from = "Raster")]
pub struct Sketch {
    lines: Vec<bool>,
    size: Size,
}

/// Smallest difference in lightness, on a scale of 0 to 255, at which ink and paper can be told apart.
const LEAST_CONTRAST: u8 = 32;

impl Sketch {
    /// Creates a sketch from `lines`, row by row, as many as `size` has pixels.
    pub(super) fn new(lines: Vec<bool>, size: Size) -> Self {
        Self { lines, size }
    }

    /// Creates a sketch without lines.
    pub fn blank(size: impl Into<Size>) -> Self {
        let size = size.into();
        Self { lines: vec![false; size.width as usize * size.height as usize], size }
    }

    /// Finds the lines of line art: a drawing, or a scan with paper that is not quite white. Otsu's threshold separates
    /// light from dark, and the rarer side is the ink. Light lines on a dark ground are thus found as well.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the lightness of ink and paper differs by less than 32 of 255, as on an empty sheet; use
    /// [`Sketch::blank`] for an empty sheet.
    ///
    /// Source: Otsu (1979), "A Threshold Selection Method from Gray-Level Histograms".
    pub fn of_line_art(drawing: &Raster) -> Result<Self> {
        // The luma of ITU-R 601, as in Pillow's mode "L".
        let light: Vec<u8> = drawing
            .bytes()
            .chunks_exact(3)
            .map(|pixel| match pixel {
                &[r, g, b] => {
                    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 0x8000) >> 16) as u8
                }
                _ => 0,
            })
            .collect();
        let least = light.iter().min().copied().unwrap_or_default();
        let most = light.iter().max().copied().unwrap_or_default();
        if most - least < LEAST_CONTRAST {
            let value = format!("of lightness {least} to {most} on a scale of 0 to 255");
            let expected = Remedy::BlankSketch.after(format!("ink and paper that differ by {LEAST_CONTRAST} or more"));
            return Err(Error::parameter("line art", value, expected));
        }
        let shares: Vec<f64> = light.iter().map(|value| f64::from(*value) / 255.0).collect();
        let (threshold, _) = otsu(&shares);
        let dark = shares.iter().filter(|value| **value < threshold).count();
        let ink_is_dark = 2 * dark <= shares.len();
        let lines = shares.iter().map(|value| (*value < threshold) == ink_is_dark).collect();
        Ok(Self { lines, size: drawing.size() })
    }

    /// Returns the width and the height in pixels.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Returns true if there is a line `x` columns from the left and `y` rows from the top; false outside the picture.
    pub fn is_line(&self, x: u32, y: u32) -> bool {
        let inside = x < self.size.width && y < self.size.height;
        inside && self.lines.get(y as usize * self.size.width as usize + x as usize).copied().unwrap_or_default()
    }

    /// Returns a picture with white lines on black, the form that ControlNets for edges were trained on.
    pub fn raster(&self) -> Raster {
        let mut picture = Raster::flat(Rgb(0, 0, 0), self.size);
        for y in 0..self.size.height {
            (0..self.size.width).filter(|x| self.is_line(*x, y)).for_each(|x| picture.set(x, y, Rgb(255, 255, 255)));
        }
        picture
    }

    /// Returns the lines at another size. A pixel becomes a line if lines cover a quarter of the pixel or more.
    ///
    /// # Errors
    /// [`Error::Parameter`] if width or height is 0.
    pub(crate) fn resize(&self, size: impl Into<Size>) -> Result<Self> {
        let size = size.into();
        if size == self.size {
            return Ok(self.clone());
        }
        let scaled = self.raster().resize(size, Filter::Box)?;
        Ok(Self { lines: scaled.bytes().chunks_exact(3).map(|pixel| pixel.first() >= Some(&64)).collect(), size })
    }

    /// Returns the lines as a tensor, [1, 1, H, W] f32: 1 on lines, 0 elsewhere.
    pub(super) fn to_tensor(&self) -> Result<Tensor> {
        let bytes: Vec<u8> = self.lines.iter().map(|line| u8::from(*line)).collect();
        let shape = [1, 1, i64::from(self.size.height), i64::from(self.size.width)];
        Ok(Tensor::f_from_slice(&bytes)?.f_reshape(shape)?.f_to_kind(Kind::Float)?)
    }
}

/// Draws white lines on black; see [`Sketch::raster`].
impl From<Sketch> for Raster {
    fn from(sketch: Sketch) -> Self {
        sketch.raster()
    }
}

/// Reads pixels with a red value of 128 or more as lines, as in a picture that [`Sketch::raster`] draws.
impl From<Raster> for Sketch {
    fn from(lines: Raster) -> Self {
        let size = lines.size();
        Self { lines: lines.bytes().chunks_exact(3).map(|pixel| pixel.first() >= Some(&128)).collect(), size }
    }
}

/// Prints width × height instead of all pixels.
impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sketch({})", self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(paper: u8, ink: u8) -> Raster {
        let mut sheet = Raster::flat(Rgb(paper, paper, paper), (20, 12));
        (2..18).for_each(|x| sheet.set(x, 5, Rgb(ink, ink, ink)));
        sheet
    }

    #[test]
    fn line_art_is_found_on_any_paper() -> Result<()> {
        for (paper, ink) in [(255, 0), (205, 90), (140, 100), (0, 255), (60, 200)] {
            let sketch = Sketch::of_line_art(&sheet(paper, ink))?;
            assert!(sketch.is_line(2, 5) && sketch.is_line(17, 5), "{paper} {ink}");
            assert!(!sketch.is_line(1, 5) && !sketch.is_line(9, 4) && !sketch.is_line(99, 5), "{paper} {ink}");
        }
        let error = Sketch::of_line_art(&sheet(230, 220)).expect_err("no ink").to_string();
        assert!(error.contains("lightness 220 to 230") && error.contains("Sketch::blank"), "{error}");
        Ok(())
    }

    #[test]
    fn thin_line_survives_a_smaller_size() -> Result<()> {
        let sketch = Sketch::of_line_art(&sheet(255, 0))?;
        let small = sketch.resize((10, 6))?;
        assert!(small.is_line(4, 2) && !small.is_line(4, 1) && !small.is_line(0, 2));
        let large = sketch.resize((40, 24))?;
        assert!(large.is_line(10, 10) && large.is_line(10, 11) && !large.is_line(10, 12));
        assert!(sketch.resize((0, 5)).is_err());
        Ok(())
    }
}
