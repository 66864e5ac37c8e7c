//! Preparation of pictures for CLIP's vision tower: resizing, center crop and normalization.

use super::config::{ConfigFile, read, refuse, sizes};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::{Filter, Raster};
use crate::size::Size;
use crate::vision::{ClipRange, Crop, View};
use serde::{Deserialize, Deserializer, de};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The largest side in pixels that a configuration may ask for, so that a picture of that size fits into memory.
const LARGEST: u32 = 1 << 14;

/// A preprocessor and its settings, as in `feature_extractor/preprocessor_config.json`. The names and the defaults are
/// those of transformers' `CLIPImageProcessor`; the steps run in the order of the fields.
///
/// transformers shows a transparent picture on white; [`Layer::on`](crate::raster::Layer::on) does the same.
///
/// ```
/// use impasto::nn::{ClipImageProcessor, ConfigFile};
/// use impasto::{Rgb, raster::Raster};
///
/// let processor = ClipImageProcessor::from_json("preprocessor_config.json", r#"{ "size": 32, "crop_size": 32 }"#)?;
/// let pixels = processor.pixels(&Raster::flat(Rgb(255, 215, 0), (640, 480)))?;
/// assert_eq!(pixels.size(), [1, 3, 32, 32]);
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ClipImageProcessor {
    /// True if the picture is resized.
    pub do_resize: bool,
    /// Size after resizing. A [`PictureSize::Edge`] is the shorter side; the longer side keeps the ratio (rounded
    /// down).
    pub size: PictureSize,
    /// Filter for resizing, stored in the file as Pillow's number.
    #[serde(deserialize_with = "filter")]
    pub resample: Filter,
    /// True if the picture is cropped to its center.
    pub do_center_crop: bool,
    /// Size of the crop. A [`PictureSize::Edge`] stands for both sides. Black surrounds a picture that is smaller than
    /// the crop.
    pub crop_size: PictureSize,
    /// True if the bytes of the picture are multiplied by `rescale_factor`.
    pub do_rescale: bool,
    /// Factor for the bytes; 1/255 by default.
    pub rescale_factor: f64,
    /// True if each channel is normalized to (x − mean)/std.
    pub do_normalize: bool,
    /// Means of red, green and blue, in the scale that the rescaled bytes have.
    pub image_mean: [f64; 3],
    /// Standard deviations of red, green and blue, in the same scale.
    pub image_std: [f64; 3],
}

/// A size in the notation of preprocessors: `224`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub enum PictureSize {
    /// One number of pixels, for the shorter side or for both sides.
    Edge(u32),
    /// Rows and columns.
    Exact {
        /// Rows.
        height: u32,
        /// Columns.
        width: u32,
    },
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size is a number of pixels, {shortest_edge} or {height, width}")]
enum Written {
    Edge(u32),
    Shortest { shortest_edge: u32 },
    Exact { height: u32, width: u32 },
}

impl From<Written> for PictureSize {
    fn from(written: Written) -> Self {
        match written {
            Written::Edge(edge) | Written::Shortest { shortest_edge: edge } => Self::Edge(edge),
            Written::Exact { height, width } => Self::Exact { height, width },
        }
    }
}

/// Parses Pillow's number of a filter.
fn filter<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Filter, D::Error> {
    Ok(match u32::deserialize(deserializer)? {
        0 => Filter::Nearest,
        1 => Filter::Lanczos,
        2 => Filter::Bilinear,
        3 => Filter::Bicubic,
        4 => Filter::Box,
        5 => Filter::Hamming,
        other => return Err(de::Error::custom(format!("resample is {other}; Pillow's filters are 0 to 5"))),
    })
}

impl Default for ClipImageProcessor {
    fn default() -> Self {
        Self {
            do_resize: true,
            size: PictureSize::Edge(224),
            resample: Filter::Bicubic,
            do_center_crop: true,
            crop_size: PictureSize::Edge(224),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl ConfigFile for ClipImageProcessor {
    /// Parses the text of `preprocessor_config.json`. A size is at most 16384, and no standard deviation is 0.
    fn from_json(file: &str, text: &str) -> Result<Self> {
        let processor: Self = read(file, text, &[])?;
        for (field, size) in [("size", processor.size), ("crop_size", processor.crop_size)] {
            let (h, w) = size.square();
            sizes(file, field, &[h.into(), w.into()])?;
            if h.max(w) > LARGEST {
                return Err(refuse(file, field, h.max(w), format!("expected at most {LARGEST} pixels")));
            }
        }
        if processor.image_std.contains(&0.0) {
            return Err(refuse(file, "image_std", processor.image_std, "expected numbers other than 0"));
        }
        Ok(processor)
    }
}

impl ClipImageProcessor {
    /// Prepares a picture for [`ClipVision::forward`](super::ClipVision::forward): [1, 3, h, w], f32 on the CPU, with h
    /// and w of the crop. `Tensor::cat(.., 0)` joins several pictures of the same size.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the picture has no pixels, or one side so long that the resized length overflows.
    pub fn pixels(&self, picture: &Raster) -> Result<Tensor> {
        self.numbers(&self.middle(picture)?)
    }

    /// Converts a picture, or a part of a picture, to a tensor [1, 3, h, w] of numbers that are scaled and normalized
    /// as configured.
    fn numbers(&self, part: &Raster) -> Result<Tensor> {
        let Size { width: w, height: h } = part.size();
        let mut x = Tensor::f_from_data_size(part.bytes(), &[1, h.into(), w.into(), 3], Kind::Uint8)?
            .f_permute([0, 3, 1, 2])?
            .f_contiguous()?
            .f_to_kind(Kind::Float)?;
        if self.do_rescale {
            x = x.f_mul_scalar(self.rescale_factor)?;
        }
        if self.do_normalize {
            x = self.normalize(&x)?;
        }
        Ok(x)
    }

    /// Subtracts each channel's mean and divides by the channel's standard deviation.
    fn normalize(&self, x: &Tensor) -> Result<Tensor> {
        let channels = |values: &[f64; 3]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?.f_to_kind(x.kind())?.f_to_device(x.device())?.f_view([1, 3, 1, 1])?)
        };
        Ok(x.f_sub(&channels(&self.image_mean)?)?.f_div(&channels(&self.image_std)?)?)
    }

    /// Returns the defaults for a tower that reads pictures of `side` × `side` pixels.
    pub(crate) fn of_side(side: u32) -> Self {
        Self { size: PictureSize::Edge(side), crop_size: PictureSize::Edge(side), ..Self::default() }
    }

    /// Prepares a picture as [`pixels`](Self::pixels) does, but with the crop and the range of `view` instead of the
    /// configuration's.
    ///
    /// # Errors
    /// The errors of [`pixels`](Self::pixels).
    pub(crate) fn apply_view(&self, picture: &Raster, view: View) -> Result<Tensor> {
        let mut processor = self.clone();
        if view.range == ClipRange::Upstream {
            // (2x − 1 − mean)/std = (x − (1 + mean)/2)/(std/2)
            processor.image_mean = self.image_mean.map(|mean| (1.0 + mean) / 2.0);
            processor.image_std = self.image_std.map(|std| std / 2.0);
        }
        match view.crop {
            Crop::Center => processor.pixels(picture),
            Crop::Stretch => {
                let (height, width) = self.crop_size.square();
                processor.size = PictureSize::Exact { height, width };
                processor.pixels(picture)
            }
            Crop::StretchAligned => processor.stretch(&picture.to_tensor(Device::Cpu)?),
            Crop::Pad => processor.pad(picture),
        }
    }

    /// Resizes pictures to the tower's size without keeping their ratio, then normalizes them: [n, 3, h, w] in -1..=1 →
    /// [n, 3, s, s]. The filter is torch's antialiased bicubic filter with aligned corners (`align_corners`). The
    /// filter may exceed the range, and such values are kept.
    ///
    /// # Errors
    /// [`Error::Shape`] for another shape.
    ///
    /// Source: ColorizeDiffusion's `FrozenOpenCLIPImageEmbedder`.
    pub(crate) fn stretch(&self, pictures: &Tensor) -> Result<Tensor> {
        if !matches!(pictures.size().as_slice(), &[_, 3, h, w] if h > 0 && w > 0) {
            return Err(Error::Shape {
                what: "pictures",
                got: pictures.size(),
                expected: "[n, 3, height, width]".into(),
            });
        }
        let (height, width) = self.crop_size.square();
        let size = [i64::from(height), i64::from(width)];
        let unit = pictures.f_internal_upsample_bicubic2d_aa(size, true, None::<f64>, None::<f64>)?;
        let unit = unit.f_add_scalar(1.0)?.f_div_scalar(2.0)?;
        self.normalize(&unit)
    }

    /// Prepares the whole picture, fitted into the tower's size, [1, 3, h, w]. Zeros surround the normalized picture.
    fn pad(&self, picture: &Raster) -> Result<Tensor> {
        let (height, width) = self.crop_size.square();
        let Size { width: w, height: h } = picture.size();
        if h == 0 || w == 0 {
            return Err(pixelless(h, w));
        }
        let scale = (f64::from(height) / f64::from(h)).min(f64::from(width) / f64::from(w));
        let [rows, columns] =
            [(h, height), (w, width)].map(|(length, side)| ((f64::from(length) * scale).round() as u32).clamp(1, side));
        let whole = picture.resize_part(Size::new(columns, rows), 0..rows, 0..columns, self.resample)?;
        let [above, left] = [(height - rows) / 2, (width - columns) / 2];
        let bars = [left, width - columns - left, above, height - rows - above].map(i64::from);
        Ok(self.numbers(&whole)?.f_constant_pad_nd(bars)?)
    }

    /// Resizes and crops the picture. Pixels outside of the crop are not computed.
    fn middle(&self, picture: &Raster) -> Result<Raster> {
        let Size { width: w, height: h } = picture.size();
        let resized = if self.do_resize { self.size.with_ratio_of(h, w) } else { Some((h, w)) };
        let Some((h, w)) = resized.filter(|_| h > 0 && w > 0) else {
            return Err(pixelless(h, w));
        };
        if !self.do_center_crop {
            return picture.resize_part(Size::new(w, h), 0..h, 0..w, self.resample);
        }
        let (height, width) = self.crop_size.square();
        let ((rows, above), (columns, left)) = (middle(h, height), middle(w, width));
        let part = picture.resize_part(Size::new(w, h), rows, columns, self.resample)?;
        if part.size() == Size::new(width, height) {
            return Ok(part);
        }
        let mut whole = Raster::flat(Rgb(0, 0, 0), (width, height));
        whole.paste(&part, left, above);
        Ok(whole)
    }
}

impl PictureSize {
    /// Returns rows and columns; an edge stands for both.
    fn square(self) -> (u32, u32) {
        match self {
            Self::Edge(edge) => (edge, edge),
            Self::Exact { height, width } => (height, width),
        }
    }

    /// Returns rows and columns for a picture with the ratio h : w; an edge is the shorter side. `None` if the longer
    /// side cannot be computed.
    fn with_ratio_of(self, h: u32, w: u32) -> Option<(u32, u32)> {
        let Self::Edge(edge) = self else { return Some(self.square()) };
        let long = (u64::from(edge) * u64::from(h.max(w))).checked_div(h.min(w).into())?;
        let long = u32::try_from(long).ok()?;
        Some(if h < w { (edge, long) } else { (long, edge) })
    }
}

/// The error for a picture that cannot be prepared.
fn pixelless(h: u32, w: u32) -> Error {
    let expected = "a picture with pixels and with sides that can be resized to the preprocessor's size";
    Error::parameter("picture", format!("{h}×{w}"), expected)
}

/// Returns the `wanted` middle pixels out of `length`, and the number of pixels that are missing before them.
fn middle(length: u32, wanted: u32) -> (Range<u32>, u32) {
    match length.checked_sub(wanted) {
        Some(rest) => (rest / 2..rest / 2 + wanted, 0),
        None => (0..length, (wanted - length).div_ceil(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(json: &str) -> ClipImageProcessor {
        ClipImageProcessor::from_json("preprocessor_config.json", json).unwrap()
    }

    /// Returns a processor of size 4 with the given crop, which keeps bytes as they are.
    fn plain(crop_size: &str) -> ClipImageProcessor {
        processor(&format!(
            r#"{{ "size": {{ "shortest_edge": 4 }}, "crop_size": {crop_size}, "do_rescale": false, "do_normalize": false }}"#
        ))
    }

    /// A picture in which red grows by 10 to the right and green by 10 downward.
    fn slope(h: u32, w: u32) -> Raster {
        let mut picture = Raster::flat(Rgb(0, 0, 0), (w, h));
        for (x, y) in (0..h).flat_map(|y| (0..w).map(move |x| (x, y))) {
            picture.set(x, y, Rgb(10 * x as u8, 10 * y as u8, 7));
        }
        picture
    }

    #[test]
    fn a_flat_picture_is_its_normalized_color() -> Result<()> {
        let processor = processor("{}");
        assert_eq!(processor, ClipImageProcessor::default());
        let pixels = processor.pixels(&Raster::flat(Rgb(128, 0, 255), (300, 200)))?;
        assert_eq!((pixels.size(), pixels.kind()), (vec![1, 3, 224, 224], Kind::Float));
        for (i, unit) in [128.0 / 255.0, 0.0, 1.0].into_iter().enumerate() {
            let expected = (unit - processor.image_mean[i]) / processor.image_std[i];
            let channel = pixels.select(1, i as i64);
            assert!((channel - expected).abs().max().double_value(&[]) < 1e-5, "channel {i}");
        }
        Ok(())
    }

    #[test]
    fn center_crop_rounds_the_left_margin_down() -> Result<()> {
        // 4 × 9 pixels are cropped to columns 2 to 5: the left margin is rounded down.
        let pixels = plain("4").pixels(&slope(4, 9))?;
        assert_eq!(pixels.size(), [1, 3, 4, 4]);
        assert_eq!(Vec::<f32>::try_from(pixels.get(0).get(0).get(0))?, [20.0, 30.0, 40.0, 50.0]);
        assert_eq!(Vec::<f32>::try_from(pixels.get(0).get(1).select(1, 0))?, [0.0, 10.0, 20.0, 30.0]);
        Ok(())
    }

    #[test]
    fn black_surrounds_pictures_smaller_than_the_crop() -> Result<()> {
        let pixels = plain(r#"{ "height": 5, "width": 2 }"#).pixels(&Raster::flat(Rgb(9, 8, 7), (4, 4)))?;
        assert_eq!(pixels.size(), [1, 3, 5, 2]);
        assert_eq!(Vec::<f32>::try_from(pixels.get(0).get(0).select(1, 0))?, [0.0, 9.0, 9.0, 9.0, 9.0]);
        Ok(())
    }

    #[test]
    fn the_shorter_side_is_resized_to_the_edge() {
        let size = PictureSize::Edge(224);
        assert_eq!(size.with_ratio_of(480, 641), Some((224, 299)));
        assert_eq!(size.with_ratio_of(641, 480), Some((299, 224)));
        assert_eq!(size.with_ratio_of(7, 7), Some((224, 224)));
        assert_eq!(PictureSize::Exact { height: 3, width: 4 }.with_ratio_of(7, 7), Some((3, 4)));
    }

    #[test]
    fn crops_and_ranges_of_a_view_are_applied() -> Result<()> {
        // Red left, blue right, 8 × 32, for a tower of 8 × 8.
        let mut wide = Raster::flat(Rgb(0, 0, 255), (32, 8));
        wide.paste(&Raster::flat(Rgb(255, 0, 0), (8, 8)), 0, 0);
        let processor = ClipImageProcessor::of_side(8);
        let is_red = |crop, x| -> Result<bool> {
            let pixels = processor.apply_view(&wide, View { crop, ..View::default() })?;
            assert_eq!(pixels.size(), [1, 3, 8, 8]);
            let unit = pixels.double_value(&[0, 0, 4, x]) * processor.image_std[0] + processor.image_mean[0];
            assert!(!(0.1..0.9).contains(&unit), "{crop:?}: {unit}, neither red nor blue");
            Ok(unit > 0.5)
        };
        assert!(!is_red(Crop::Center, 0)? && !is_red(Crop::Center, 7)?, "the middle is blue");
        assert!(is_red(Crop::Stretch, 0)? && !is_red(Crop::Stretch, 7)?);
        assert!(is_red(Crop::Pad, 0)? && !is_red(Crop::Pad, 7)?);
        for range in [ClipRange::Unit, ClipRange::Upstream] {
            let padded = processor.apply_view(&wide, View { crop: Crop::Pad, range })?;
            let bars = Tensor::cat(&[padded.narrow(2, 0, 3), padded.narrow(2, 5, 3)], 2);
            assert_eq!(bars.abs().max().double_value(&[]), 0.0, "bars are 0 to the tower");
        }
        // The prepared size does not grow with the picture's size.
        for (h, w) in [(1, 1_000_000), (1_000_000, 1)] {
            let line = Raster::flat(Rgb(255, 255, 255), (w, h));
            let padded = processor.apply_view(&line, View { crop: Crop::Pad, ..View::default() })?;
            let across = padded.get(0).get(0).select(if h == 1 { 1 } else { 0 }, 4);
            let white: Vec<i64> = (0..8).filter(|at| across.double_value(&[*at]) > 1.0).collect();
            assert_eq!(white, [3], "{h} × {w}");
        }
        assert_eq!(processor.apply_view(&wide, View::default())?, processor.pixels(&wide)?);

        let gray = Raster::flat(Rgb(128, 128, 128), (300, 200));
        let upstream = processor.apply_view(&gray, View { range: ClipRange::Upstream, ..View::default() })?;
        let want = (2.0 * 128.0 / 255.0 - 1.0 - processor.image_mean[1]) / processor.image_std[1];
        assert!((upstream.select(1, 1) - want).abs().max().double_value(&[]) < 1e-5);
        Ok(())
    }

    #[test]
    fn steps_can_be_left_out() -> Result<()> {
        let none = r#"{ "do_resize": false, "do_center_crop": false, "do_rescale": false, "do_normalize": false }"#;
        let pixels = processor(none).pixels(&slope(3, 5))?;
        assert_eq!(pixels.size(), [1, 3, 3, 5]);
        assert_eq!(pixels.get(0).select(0, 0).max(), Tensor::from(40f32));
        Ok(())
    }

    #[test]
    fn every_filter_has_its_number() {
        use Filter::{Bicubic, Bilinear, Box, Hamming, Lanczos, Nearest};
        for (number, filter) in [Nearest, Lanczos, Bilinear, Bicubic, Box, Hamming].into_iter().enumerate() {
            assert_eq!(processor(&format!(r#"{{ "resample": {number} }}"#)).resample, filter);
        }
    }

    #[test]
    fn invalid_settings_and_pictures_are_errors() {
        let message = |json| ClipImageProcessor::from_json("p.json", json).expect_err(json).to_string();
        assert!(message(r#"{ "resample": 6 }"#).contains("p.json: resample is 6; Pillow's filters are 0 to 5"));
        assert!(message(r#"{ "size": {} }"#).contains("a size is a number of pixels, {shortest_edge} or"));
        assert!(message(r#"{ "crop_size": 0 }"#).contains("p.json: crop_size is 0; expected a size of at least 1"));
        assert!(message(r#"{ "size": 20000 }"#).contains("size is 20000; expected at most 16384"));
        assert!(message(r#"{ "image_std": [1, 0, 1] }"#).contains("image_std"));
        for (h, w) in [(0, 0), (0, 4), (4, 0)] {
            let (usual, as_is) = (processor("{}"), processor(r#"{ "do_resize": false }"#));
            let (empty, pad) = (Raster::flat(Rgb(0, 0, 0), (w, h)), View { crop: Crop::Pad, ..View::default() });
            for refused in [usual.pixels(&empty), as_is.pixels(&empty), usual.apply_view(&empty, pad)] {
                let error = refused.expect_err("no pixels").to_string();
                assert!(error.contains(&format!("picture is {h}×{w}; expected a picture with pixels")), "{error}");
            }
        }
    }
}
