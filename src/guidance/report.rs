//! What a guidance has to show of a run: generic pieces, which whoever shows them need not understand.

use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::raster::Raster;
use serde::Serialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// A run as one guidance saw it, for files, pages and programs. Every piece may be missing.
///
/// ```
/// use impasto::guidance::{Curve, Picture, Report, Swatch};
/// use impasto::{Raster, Rgb};
///
/// let report = Report::new("Tint")
///     .data(serde_json::json!({ "strength": 0.05 }))
///     .swatch(Swatch { image: Some(0), ..Swatch::new("the picture", Rgb(70, 90, 160), Rgb(72, 95, 150)) })
///     .curve(Curve::new("strength", vec![(0, 0.05), (1, 0.04)]))
///     .picture(Picture::new("the tint", Raster::flat(Rgb(70, 90, 160), (8, 8))));
/// assert!(report.swatches[0].delta_e < 5.0);
/// ```
#[derive(Debug, Serialize)]
#[non_exhaustive]
#[must_use]
pub struct Report {
    /// The guidance, with what it was about: `ColorForce "eyes"`.
    pub name: String,
    /// Its figures.
    pub data: Value,
    /// Colors that were asked for, and what came of them.
    pub swatches: Vec<Swatch>,
    /// Numbers against steps.
    pub curves: Vec<Curve>,
    /// Colors against steps.
    pub strips: Vec<Strip>,
    /// Pictures to look at. A program reads their captions.
    pub pictures: Vec<Picture>,
}

impl Report {
    /// Nothing but a name yet.
    pub fn new(name: impl Into<String>) -> Self {
        let (swatches, curves, strips, pictures) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), data: Value::Null, swatches, curves, strips, pictures }
    }

    /// The figures.
    pub fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    /// Adds a color.
    pub fn swatch(mut self, swatch: Swatch) -> Self {
        self.swatches.push(swatch);
        self
    }

    /// Adds a curve.
    pub fn curve(mut self, curve: Curve) -> Self {
        self.curves.push(curve);
        self
    }

    /// Adds a strip of colors.
    pub fn strip(mut self, strip: Strip) -> Self {
        self.strips.push(strip);
        self
    }

    /// Adds a picture.
    pub fn picture(mut self, picture: Picture) -> Self {
        self.pictures.push(picture);
        self
    }
}

/// A color that was asked for, and what was painted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Swatch {
    /// What has it.
    pub label: String,
    /// In which image of the batch; `None`: in all.
    pub image: Option<usize>,
    /// The color that was asked for.
    pub asked: Rgb,
    /// The one that was painted.
    pub painted: Rgb,
    /// CIEDE2000 between the two.
    pub delta_e: f64,
}

impl Swatch {
    /// Of two colors; ΔE is that between them.
    pub fn new(label: impl Into<String>, asked: Rgb, painted: Rgb) -> Self {
        Self { label: label.into(), image: None, asked, painted, delta_e: asked.delta_e(painted) }
    }
}

/// A number at some steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Curve {
    /// What it is a number of, with its unit.
    pub label: String,
    /// Of which image of the batch; `None`: of all.
    pub image: Option<usize>,
    /// (index of the step, counted from 0; the number), in order.
    pub points: Vec<(usize, f64)>,
}

impl Curve {
    /// `points`: (index of the step, the number), in order.
    pub fn new(label: impl Into<String>, points: Vec<(usize, f64)>) -> Self {
        Self { label: label.into(), image: None, points }
    }
}

/// A color at some steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[must_use]
pub struct Strip {
    /// What has it.
    pub label: String,
    /// In which image of the batch; `None`: in all.
    pub image: Option<usize>,
    /// (index of the step, counted from 0; the color), in order.
    pub colors: Vec<(usize, Rgb)>,
}

impl Strip {
    /// `colors`: (index of the step, the color), in order.
    pub fn new(label: impl Into<String>, colors: Vec<(usize, Rgb)>) -> Self {
        Self { label: label.into(), image: None, colors }
    }
}

/// A picture with a caption. Maps stay tensors until somebody looks: a run that nobody asks pays for no drawing.
#[derive(Debug, Serialize)]
#[must_use]
pub struct Picture {
    /// What it shows.
    pub caption: String,
    /// Of which image of the batch; `None`: of all.
    pub image: Option<usize>,
    /// At which step, counted from 0; `None`: of the whole run.
    pub step: Option<usize>,
    #[serde(skip)]
    content: Content,
}

#[derive(Debug)]
enum Content {
    Drawn(Raster),
    /// [h, w] in 0..=1.
    Map(Tensor),
}

/// How dark a picture is where a map laid over it is 0.
const DIM: f64 = 0.12;

impl Picture {
    /// A picture as it is.
    pub fn new(caption: impl Into<String>, picture: Raster) -> Self {
        Self { caption: caption.into(), image: None, step: None, content: Content::Drawn(picture) }
    }

    /// A map over the picture, [h, w] in 0..=1 on any device; values outside are clamped.
    pub fn map(caption: impl Into<String>, map: &Tensor) -> Self {
        Self { caption: caption.into(), image: None, step: None, content: Content::Map(map.shallow_clone()) }
    }

    /// Of one image of the batch.
    pub fn image(mut self, image: usize) -> Self {
        self.image = Some(image);
        self
    }

    /// At one step.
    pub fn step(mut self, step: usize) -> Self {
        self.step = Some(step);
        self
    }

    /// Is it a map, to be laid over a picture?
    pub const fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// The picture; of a map, a gray pixel for each cell, white where it is 1.
    ///
    /// # Errors
    /// [`Error::Shape`] if a map is not [h, w], [`Error::Parameter`] if it has values that are no numbers.
    pub fn raster(&self) -> Result<Raster> {
        match &self.content {
            Content::Drawn(picture) => Ok(picture.clone()),
            Content::Map(map) => {
                Raster::from_tensor(&plane(map)?.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?.f_expand([3, -1, -1], false)?)
            }
        }
    }

    /// A map laid over a picture: cells of 1 show it as it is, cells of 0 almost black. What is no map is shown as it is.
    ///
    /// # Errors
    /// As [`Picture::raster`].
    pub fn over(&self, picture: &Raster) -> Result<Raster> {
        let Content::Map(map) = &self.content else { return self.raster() };
        let (h, w) = (i64::from(picture.height()), i64::from(picture.width()));
        let map = plane(map)?.f_unsqueeze(0)?.f_upsample_nearest2d([h, w], None, None)?;
        let share = map.f_mul_scalar(1.0 - DIM)?.f_add_scalar(DIM)?;
        // Pictures are -1..=1, and black is -1.
        let light = picture.to_tensor(Device::Cpu)?.f_add_scalar(1.0)?;
        Raster::from_tensor(&light.f_mul(&share)?.f_sub_scalar(1.0)?)
    }
}

/// A map on the CPU, [1, h, w].
fn plane(map: &Tensor) -> Result<Tensor> {
    if map.dim() != 2 {
        return Err(Error::Shape { what: "a report's map", got: map.size(), expected: "[h, w]".into() });
    }
    Ok(map.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_clamp(0.0, 1.0)?.f_unsqueeze(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_shows_a_picture_where_it_is_one() -> Result<()> {
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
    fn programs_read_everything_but_pixels() {
        let report = Report::new("Tint")
            .data(serde_json::json!({ "strength": 2 }))
            .swatch(Swatch { image: Some(1), ..Swatch::new("sky", Rgb(1, 2, 3), Rgb(1, 2, 3)) })
            .curve(Curve::new("share", vec![(3, 0.5)]))
            .strip(Strip::new("sky", vec![(3, Rgb(255, 0, 0))]))
            .picture(Picture::map("mask", &Tensor::from(1.0f32)).image(0).step(3));
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
