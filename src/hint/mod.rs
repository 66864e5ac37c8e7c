//! Hints for ControlNets and T2I adapters: lines, strokes of color and palettes.
//!
//! A ControlNet for edges and strokes reads five channels: lines, then red, green, blue and alpha of the strokes. The
//! colors are premultiplied unless [`Control::straight_alpha`](crate::Control::straight_alpha) says otherwise.
//!
//! ```
//! use impasto::{Raster, Rgb, Size};
//! use impasto::hint::{Drawing, Sketch, Strokes};
//! let mut paper = Raster::flat(Rgb(250, 250, 250), (64, 64));
//! (8..56).for_each(|x| paper.set(x, 32, Rgb(20, 20, 20)));
//! let drawing = Drawing {
//!     sketch: Sketch::of_line_art(&paper)?,
//!     strokes: Strokes::new((64, 64)).line([(10.0, 16.0), (50.0, 16.0)], 3.0, Rgb(255, 215, 0)),
//! };
//! assert_eq!(drawing.hint(Size::new(64, 64))?.size(), [1, 5, 64, 64]);
//! # Ok::<(), impasto::Error>(())
//! ```
//!
//! Source: "Coloring with ControlNet" (2024).

mod canny;
mod color_palette;
mod line_art;
mod sketch;
mod sketch_keras;
/// The trainer's generator of random numbers, for tests.
#[cfg(test)]
#[path = "../../crates/impasto-train/src/splitmix.rs"]
mod splitmix;
mod strokes;

pub use canny::Canny;
pub use color_palette::color_palette;
pub use line_art::{LineArt, standard_line_art};
pub use sketch::Sketch;
pub use sketch_keras::SketchKeras;
pub use strokes::Strokes;

use crate::color::Rgb;
use crate::error::Result;
use crate::raster::Raster;
use crate::size::Size;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use tch::Tensor;

/// Lines and strokes of color: the hint for a ControlNet of five channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// The lines.
    pub sketch: Sketch,
    /// The strokes.
    pub strokes: Strokes,
}

impl<'d> From<&'d Drawing> for Cow<'d, Drawing> {
    fn from(drawing: &'d Drawing) -> Self {
        Self::Borrowed(drawing)
    }
}

impl From<Drawing> for Cow<'_, Drawing> {
    fn from(drawing: Drawing) -> Self {
        Self::Owned(drawing)
    }
}

impl Drawing {
    /// Returns the drawing as input of a network for a picture of `size`, [1, 5, H, W] f32 in 0..=1.
    ///
    /// The first channel is 1 on lines. The other four are premultiplied red, green, blue and alpha of the strokes.
    /// Lines and strokes of another size are resized to `size`.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::error::Error::Parameter) for a size without pixels or a blur out of its range.
    pub fn hint(&self, size: impl Into<Size>) -> Result<Tensor> {
        let size = size.into();
        Ok(Tensor::f_cat(&[self.sketch.resize(size)?.to_tensor()?, self.strokes.to_tensor(size)?], 1)?)
    }

    /// Returns the drawing's hint with straight alpha, [1, 5, H, W] f32. Where alpha is above 0, the colors are as
    /// painted.
    pub(crate) fn straight_hint(&self, size: Size) -> Result<Tensor> {
        let hint = self.hint(size)?;
        let (lines, colors, alpha) = (hint.f_narrow(1, 0, 1)?, hint.f_narrow(1, 1, 3)?, hint.f_narrow(1, 4, 1)?);
        // A premultiplied color with alpha 0 is 0, and stays 0 when divided by 1.
        let divisor = alpha.f_where_self(&alpha.f_gt(0.0)?, &alpha.f_ones_like()?)?;
        Ok(Tensor::f_cat(&[lines, colors.f_div(&divisor)?, alpha], 1)?)
    }

    /// Returns a picture of the drawing to look at, at the size of the strokes: strokes on white paper under black
    /// lines.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::error::Error::Parameter) for strokes on a layer without pixels.
    pub fn raster(&self) -> Result<Raster> {
        let mut picture = self.strokes.layer().on(Rgb(255, 255, 255));
        let Size { width, height } = picture.size();
        let sketch = self.sketch.resize(picture.size())?;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            if sketch.is_line(x, y) {
                picture.set(x, y, Rgb(0, 0, 0));
            }
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Layer;
    use serde_json::Value;
    use sha2::{Digest, Sha256};

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn packed_drawing_equals_the_reference() -> Result<()> {
        let golden = &read(include_str!("../../tests/golden/specs/controlnet.json"))["pack"];
        let bytes =
            |name: &str| golden[name].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u8).collect::<Vec<_>>();
        let size = Size::new(3, 2);
        let sketch = Sketch::new(bytes("edges").into_iter().map(|value| value == 255).collect(), size);
        let strokes = Strokes::of(Layer::from_bytes(bytes("rgba_straight"), size)?);
        let hint = Drawing { sketch, strokes }.hint(size)?;
        let got = Vec::<f32>::try_from(hint.contiguous().view(-1)).unwrap();
        for (got, want) in got.iter().zip(golden["tensor_chw"].as_array().unwrap()) {
            assert!((f64::from(*got) - want.as_f64().unwrap()).abs() < 1e-7, "{got} {want}");
        }
        Ok(())
    }

    #[test]
    fn straight_hint_restores_the_painted_colors() -> Result<()> {
        let size = Size::new(3, 1);
        let layer = Layer::from_bytes(vec![255, 102, 0, 255, 255, 102, 0, 51, 9, 9, 9, 0], size)?;
        let drawing = Drawing { sketch: Sketch::blank(size), strokes: Strokes::of(layer) };
        let rows = |hint: Tensor| {
            Vec::<f32>::try_from(hint.narrow(1, 1, 4).permute([0, 2, 3, 1]).contiguous().view(-1)).unwrap()
        };
        let near = |got: Vec<f32>, want: [f32; 12]| {
            assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6), "{got:?}")
        };
        near(rows(drawing.hint(size)?), [1.0, 0.4, 0.0, 1.0, 0.2, 0.08, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0]);
        near(rows(drawing.straight_hint(size)?), [1.0, 0.4, 0.0, 1.0, 1.0, 0.4, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0]);
        Ok(())
    }

    #[test]
    fn edges_equal_opencv() -> Result<()> {
        let golden = read(include_str!("../../tests/golden/specs/canny.json"));
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 72);
        for case in cases {
            let image = &golden["images"][case["image"].as_str().unwrap()];
            let side = |name: &str| image[name].as_u64().unwrap() as u32;
            let channels = side("c");
            let data = image["data"].as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8);
            let bytes = if channels == 1 { data.flat_map(|gray| [gray; 3]).collect() } else { data.collect() };
            let picture = Raster::from_bytes(bytes, (side("w"), side("h")))?;
            let number = |name: &str| case[name].as_f64().unwrap();
            let canny = Canny { low: number("low"), high: number("high"), l2: case["l2"].as_bool().unwrap() };
            let edges = canny.edges(&picture)?;
            for (y, row) in case["rows"].as_array().unwrap().iter().enumerate() {
                let got: String = (0..side("w")).map(|x| if edges.is_line(x, y as u32) { '#' } else { '.' }).collect();
                assert_eq!(got, row.as_str().unwrap(), "{} {canny:?}, row {y}", case["image"]);
            }
        }
        Ok(())
    }

    /// Returns a picture and Canny thresholds that a case number determines. The picture is noise, blocks of 4 × 4
    /// pixels, or a sawtooth.
    fn random_case(number: u64) -> (Raster, Canny) {
        let mut random = splitmix::SplitMix64::new(number);
        let (w, h, gray, kind) = (1 + random.below(40), 1 + random.below(40), random.below(2) == 1, random.below(3));
        let channels = if gray { 1 } else { 3 };
        let places =
            || (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).flat_map(|at| (0..channels).map(move |c| (at, c)));
        let pixels: Vec<u8> = match kind {
            0 => places().map(|_| random.below(256) as u8).collect(),
            1 => {
                let (rows, columns) = (h.div_ceil(4), w.div_ceil(4));
                let blocks: Vec<u8> = (0..rows * columns * channels).map(|_| random.below(256) as u8).collect();
                places().map(|((x, y), c)| blocks[(((y / 4) * columns + x / 4) * channels + c) as usize]).collect()
            }
            _ => {
                let slopes: Vec<[u32; 3]> =
                    (0..channels).map(|_| [40, 40, 256].map(|most| random.below(most))).collect();
                places()
                    .map(|((x, y), c)| {
                        (slopes[c as usize][0] * x + slopes[c as usize][1] * y + slopes[c as usize][2]) as u8
                    })
                    .collect()
            }
        };
        let (low, high) = (f64::from(random.below(1200)) / 4.0, f64::from(random.below(2400)) / 4.0);
        let bytes = if gray { pixels.into_iter().flat_map(|value| [value; 3]).collect() } else { pixels };
        let picture = Raster::from_bytes(bytes, (w, h)).unwrap();
        (picture, Canny { low, high, l2: random.below(2) == 1 })
    }

    #[test]
    fn edges_of_random_pictures_equal_opencv() -> Result<()> {
        let golden = read(include_str!("../../tests/golden/specs/canny_random.json"));
        let digests = golden["sha256_of_bytes_0_and_1"].as_array().unwrap();
        assert_eq!(digests.len(), 1000);
        for (number, digest) in (0..).zip(digests) {
            let (picture, canny) = random_case(number);
            let edges = canny.edges(&picture)?;
            let Size { width, height } = picture.size();
            let bits = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let bits: Vec<u8> = bits.map(|(x, y)| u8::from(edges.is_line(x, y))).collect();
            let got: String = Sha256::digest(&bits).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(got, digest.as_str().unwrap(), "picture {number}, {canny:?}");
        }
        Ok(())
    }

    #[test]
    fn thresholds_and_sizes_out_of_range_are_named() {
        let picture = Raster::flat(Rgb(1, 2, 3), (3, 3));
        for (canny, name) in [
            (Canny { low: -1.0, ..Canny::default() }, "low is -1"),
            (Canny { high: f64::NAN, ..Canny::default() }, "high is NaN"),
        ] {
            let error = canny.edges(&picture).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let empty = Raster::flat(Rgb(1, 2, 3), (0, 3));
        assert!(Sketch::of_edges(&empty).unwrap_err().to_string().contains("sides of 1 to 16384"));
    }

    #[test]
    fn drawing_is_resized_to_the_picture() -> Result<()> {
        let drawing = Drawing {
            sketch: Sketch::blank((8, 8)),
            strokes: Strokes::new((16, 16)).line([(4.0, 4.0)], 3.0, Rgb(255, 0, 0)),
        };
        let hint = drawing.hint((32, 24))?;
        assert_eq!(hint.size(), [1, 5, 24, 32]);
        let alpha = hint.select(1, 4);
        assert!(alpha.max().double_value(&[]) == 1.0 && alpha.mean(tch::Kind::Float).double_value(&[]) < 0.2);
        assert!(drawing.hint((0, 8)).is_err());

        let paper = Raster::flat(Rgb(255, 255, 255), (8, 8));
        let mut lines = paper.clone();
        (0..8).for_each(|x| lines.set(x, 5, Rgb(0, 0, 0)));
        let shown = Drawing { sketch: Sketch::of_line_art(&lines)?, ..drawing }.raster()?;
        assert_eq!(shown.size(), Size::new(16, 16));
        let colors = [(4, 4), (4, 10), (15, 0)].map(|(x, y)| shown.pixel(x, y).unwrap());
        assert_eq!(colors, [Rgb(255, 0, 0), Rgb(0, 0, 0), Rgb(255, 255, 255)]);
        Ok(())
    }
}
