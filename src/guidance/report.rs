//! Reports of guidance methods about a run, made of generic parts that a viewer can show without knowing the method.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::Raster;
use serde::Serialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Report of one guidance method about a run, for files, web pages and programs. Every part but the name may be empty.
///
/// ```
/// use impasto::guidance::{Curve, Picture, Report, Swatch};
/// use impasto::{Raster, Rgb};
///
/// let (asked, painted) = (Rgb(70, 90, 160), Rgb(72, 95, 150));
/// let mut report = Report::new("Tint");
/// report.data = serde_json::json!({ "strength": 0.05 });
/// report.swatches = vec![Swatch { image: Some(0), ..Swatch::new("the picture", asked, painted) }];
/// report.curves = vec![Curve::new("strength", vec![(0, 0.05), (1, 0.04)])];
/// report.pictures = vec![Picture::new("the tint", Raster::flat(asked, (8, 8)))];
/// assert!(report.swatches[0].delta_e < 5.0);
/// ```
#[derive(Debug, Serialize)]
#[non_exhaustive]
#[must_use]
pub struct Report {
    /// Name of the guidance method, with its subject: `ColorForce "eyes"`.
    pub name: String,
    /// Numbers of the method, as a JSON value.
    pub data: Value,
    /// Requested colors, each with the painted color.
    pub swatches: Vec<Swatch>,
    /// Curves, each of a number against the step.
    pub curves: Vec<Curve>,
    /// Strips, each of a color against the step.
    pub strips: Vec<Strip>,
    /// Pictures for viewers. A serialized report has their captions, images and steps, but not their pixels.
    pub pictures: Vec<Picture>,
}

impl Report {
    /// Creates a report that has only a name.
    pub fn new(name: impl Into<String>) -> Self {
        let (swatches, curves, strips, pictures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), data: Value::Null, swatches, curves, strips, pictures }
    }
}

/// A requested color, and the painted color.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Swatch {
    /// Name of the colored object.
    pub label: String,
    /// Index of the image in the batch; `None`: all images.
    pub image: Option<usize>,
    /// Requested color.
    pub asked: Rgb,
    /// Painted color.
    pub painted: Rgb,
    /// CIEDE2000 difference between the two colors.
    pub delta_e: f64,
}

impl Swatch {
    /// Creates a swatch of two colors, and computes ΔE between them.
    pub fn new(label: impl Into<String>, asked: Rgb, painted: Rgb) -> Self {
        Self { label: label.into(), image: None, asked, painted, delta_e: asked.delta_e(painted) }
    }
}

/// A curve: a number against the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Curve {
    /// Name of the number, with its unit.
    pub label: String,
    /// Index of the image in the batch; `None`: all images.
    pub image: Option<usize>,
    /// Points in order: (index of the step, counted from 0; number).
    pub points: Vec<(usize, f64)>,
}

impl Curve {
    /// Creates a curve of `points`: (index of the step, number), in order.
    pub fn new(label: impl Into<String>, points: Vec<(usize, f64)>) -> Self {
        Self { label: label.into(), image: None, points }
    }
}

/// A strip: a color against the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Strip {
    /// Name of the colored object.
    pub label: String,
    /// Index of the image in the batch; `None`: all images.
    pub image: Option<usize>,
    /// Colors in order: (index of the step, counted from 0; color).
    pub colors: Vec<(usize, Rgb)>,
}

impl Strip {
    /// Creates a strip of `colors`: (index of the step, color), in order.
    pub fn new(label: impl Into<String>, colors: Vec<(usize, Rgb)>) -> Self {
        Self { label: label.into(), image: None, colors }
    }
}

/// A picture with a caption. Maps stay tensors until they are shown, so a report that is never shown costs no drawing.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Picture {
    /// Description of the content.
    pub caption: String,
    /// Index of the image in the batch; `None`: all images.
    pub image: Option<usize>,
    /// Index of the step, counted from 0; `None`: the whole run.
    pub step: Option<usize>,
    #[serde(skip)]
    content: Content,
}

#[derive(Debug)]
enum Content {
    Drawn(Raster),
    /// Map of values, [h, w] in 0..=1.
    Map(Tensor),
}

/// Share of brightness that a picture keeps in cells where the map laid over the picture is 0.
const DIM: f64 = 0.12;

impl Picture {
    /// Creates a picture from a raster that is already drawn.
    pub fn new(caption: impl Into<String>, picture: Raster) -> Self {
        Self { caption: caption.into(), image: None, step: None, content: Content::Drawn(picture) }
    }

    /// Creates a map to lay over the run's picture, [h, w] in 0..=1 on any device. Values outside the range are
    /// clamped.
    pub fn map(caption: impl Into<String>, map: &Tensor) -> Self {
        Self { caption: caption.into(), image: None, step: None, content: Content::Map(map.shallow_clone()) }
    }

    /// Sets the index of the image in the batch that the picture belongs to.
    pub fn image(mut self, image: usize) -> Self {
        self.image = Some(image);
        self
    }

    /// Sets the index of the step that the picture belongs to, counted from 0.
    pub fn step(mut self, step: usize) -> Self {
        self.step = Some(step);
        self
    }

    /// Returns true for a map, which is laid over a picture.
    pub const fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// Returns the picture. A map becomes one gray pixel per cell, white where the map is 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if a map is not [h, w], [`Error::Parameter`] if a map has values that are not numbers.
    pub fn raster(&self) -> Result<Raster> {
        match &self.content {
            Content::Drawn(picture) => Ok(picture.clone()),
            Content::Map(map) => {
                Raster::from_tensor(&plane(map)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_expand([3, -1, -1], false)?)
            }
        }
    }

    /// Lays a map over a picture: cells of 1 show the picture unchanged, and cells of 0 show it almost black. Content
    /// other than a map is returned unchanged.
    ///
    /// # Errors
    /// The errors of [`Picture::raster`].
    pub fn over(&self, picture: &Raster) -> Result<Raster> {
        let Content::Map(map) = &self.content else { return self.raster() };
        let [h, w] = [picture.size().height, picture.size().width].map(i64::from);
        let map = plane(map)?.f_unsqueeze(0)?.f_upsample_nearest2d([h, w], None, None)?;
        let share = map.f_mul_scalar(1.0 - DIM)?.f_add_scalar(DIM)?;
        // Pictures have values in -1..=1, and black is -1.
        let light = picture.to_tensor(Device::Cpu)?.f_add_scalar(1.0)?;
        Raster::from_tensor(&light.f_mul(&share)?.f_sub_scalar(1.0)?)
    }
}

/// Returns a map on the CPU, [1, h, w], clamped to 0..=1.
fn plane(map: &Tensor) -> Result<Tensor> {
    if map.dim() != 2 {
        return Err(Error::Shape { what: "a report's map", got: map.size(), expected: "[h, w], one image".into() });
    }
    Ok(map.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_clamp(0.0, 1.0)?.f_unsqueeze(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_of_one_shows_the_picture_unchanged() -> Result<()> {
        let map = Tensor::from_slice(&[0.0f32, 1.0]).reshape([1, 2]);
        let picture = Picture::map("half", &map);
        assert_eq!(picture.raster()?.bytes(), [0, 0, 0, 255, 255, 255]);
        let over = picture.over(&Raster::flat(Rgb(200, 100, 50), (4, 2)))?;
        assert_eq!((over.pixel(0, 0), over.pixel(3, 1)), (Some(Rgb(24, 12, 6)), Some(Rgb(200, 100, 50))));
        assert!(picture.is_map());
        let drawn = Picture::new("gold", Raster::flat(Rgb(255, 215, 0), (1, 1)));
        assert_eq!(drawn.over(&over)?, drawn.raster()?);
        let error = Picture::map("", &Tensor::from(1.0f32)).raster().expect_err("no map").to_string();
        assert!(error.contains("[h, w]"), "{error}");
        Ok(())
    }

    #[test]
    fn serialized_report_has_everything_but_pixels() {
        let report = Report {
            data: serde_json::json!({ "strength": 2 }),
            swatches: vec![Swatch { image: Some(1), ..Swatch::new("sky", Rgb(1, 2, 3), Rgb(1, 2, 3)) }],
            curves: vec![Curve::new("share", vec![(3, 0.5)])],
            strips: vec![Strip::new("sky", vec![(3, Rgb(255, 0, 0))])],
            pictures: vec![Picture::map("mask", &Tensor::from(1.0f32)).image(0).step(3)],
            ..Report::new("Tint")
        };
        let want = serde_json::json!({
            "name": "Tint", "data": { "strength": 2 },
            "swatches": [{ "label": "sky", "image": 1, "asked": "#010203", "painted": "#010203", "delta_e": 0.0 }],
            "curves": [{ "label": "share", "image": null, "points": [[3, 0.5]] }],
            "strips": [{ "label": "sky", "image": null, "colors": [[3, "#ff0000"]] }],
            "pictures": [{ "caption": "mask", "image": 0, "step": 3 }],
        });
        assert_eq!(serde_json::to_value(report).expect("JSON"), want);
    }
}
