//! Enlarging pictures without a run of the model.

use super::common::take_unused;
use super::lists::UPSCALERS;
use crate::fields::{Fields, text};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::upload::Upload;
use crate::work::JSON;
use axum::Json;
use axum::extract::{Request, State};
use impasto::image::DynamicImage;
use impasto::image::imageops::FilterType;
use serde_json::{Value, json};
use std::sync::Arc;

/// Factor of a request that names none.
const FACTOR: f64 = 2.0;
/// Width and height of a request that names none.
const SIDE: i64 = 512;

/// Fields that are not used.
const UNUSED: &[(&str, &[f64])] = &[
    ("extras_upscaler_2_visibility", &[]),
    ("gfpgan_visibility", &[]),
    ("codeformer_visibility", &[]),
    ("codeformer_weight", &[]),
    ("upscale_first", &[]),
];

/// The size that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// Both sides times a factor.
    Times(f64),
    /// A width and a height. The picture covers them; what is beyond is cut off if `crops`.
    Cover { width: u32, height: u32, crops: bool },
}

/// Settings of a request, beside its pictures.
#[derive(Debug)]
struct Wanted {
    /// `None` for pictures that stay as they are.
    target: Option<Target>,
    notes: Vec<String>,
    /// Largest side of a result.
    most: u32,
}

/// Enlarges one picture.
pub(super) async fn single(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, Refusal> {
    let options = shared.limits();
    let body = shared.work.read(request, JSON, options.body).await?;
    let enlarge = move || {
        let mut fields = Fields::parse(&body.bytes)?;
        let picture = fields.text("image")?;
        let picture = picture.ok_or_else(|| Refusal::field("image", "image is missing; expected a file in base64"))?;
        let wanted = Wanted::take(fields, &options)?;
        let image = wanted.enlarge("image", &picture, &options)?;
        Ok(Json(json!({ "html_info": wanted.notes.join("\n"), "image": image })))
    };
    shared.work.run(enlarge).await
}

/// Enlarges several pictures.
pub(super) async fn batch(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, Refusal> {
    let options = shared.limits();
    let body = shared.work.read(request, JSON, options.body).await?;
    let enlarge = move || {
        let mut fields = Fields::parse(&body.bytes)?;
        let pictures = fields.list("imageList")?;
        if pictures.is_empty() || pictures.len() > options.images {
            let sentence = format!("imageList has {} pictures; expected 1 to {}", pictures.len(), options.images);
            return Err(Refusal::field("imageList", sentence));
        }
        let wanted = Wanted::take(fields, &options)?;
        let enlarge = |picture: Value| {
            let data = picture.get("data").cloned().unwrap_or(picture);
            wanted.enlarge("imageList", &text("imageList", data)?, &options)
        };
        let images: Vec<String> = pictures.into_iter().map(enlarge).collect::<Result<_, Refusal>>()?;
        Ok(Json(json!({ "html_info": wanted.notes.join("\n"), "images": images })))
    };
    shared.work.run(enlarge).await
}

impl Wanted {
    /// Takes the fields of a request.
    ///
    /// # Errors
    /// A refusal that names the field, its value and what is expected.
    fn take(mut fields: Fields, options: &Options) -> Result<Self, Refusal> {
        let upscaler = fields.word("upscaler_1")?;
        let mode = fields.whole("resize_mode")?.unwrap_or_default();
        let factor = fields.number("upscaling_resize")?.unwrap_or(FACTOR);
        let sides = [
            ("upscaling_resize_w", fields.whole("upscaling_resize_w")?),
            ("upscaling_resize_h", fields.whole("upscaling_resize_h")?),
        ];
        let crops = fields.take("upscaling_crop").is_none_or(|value| ![json!(false), json!(0)].contains(&value));
        let most = options.side.saturating_mul(2);
        let target = match mode {
            0 if factor > 0.0 && factor <= f64::from(most) => Target::Times(factor),
            0 => {
                let sentence = format!("upscaling_resize is {factor}; expected a number above 0 and up to {most}");
                return Err(Refusal::field("upscaling_resize", sentence));
            }
            1 => {
                let [width, height] = sides.map(|(name, side)| {
                    let side = side.unwrap_or(SIDE);
                    let fits = u32::try_from(side).ok().filter(|side| (1..=most).contains(side));
                    fits.ok_or_else(|| Refusal::field(name, format!("{name} is {side}; expected 1 to {most}")))
                });
                Target::Cover { width: width?, height: height?, crops }
            }
            _ => {
                let sentence =
                    format!("resize_mode is {mode}; expected 0 for upscaling_resize, or 1 for a width and a height");
                return Err(Refusal::field("resize_mode", sentence));
            }
        };
        let name = upscaler.unwrap_or_else(|| "None".into());
        if !UPSCALERS.contains(&name.as_str()) {
            let sentence = format!("upscaler_1 {name:?} is not known; expected one of /sdapi/v1/upscalers");
            return Err(Refusal::field("upscaler_1", sentence));
        }
        let second = fields.word("upscaler_2")?.filter(|name| name != "None");
        let mut notes: Vec<String> =
            second.map(|name| format!("upscaler_2 {name:?} is not used")).into_iter().collect();
        drop(fields.take("show_extras_results"));
        take_unused(&mut fields, UNUSED, &mut notes);
        Ok(Self { target: (name != "None").then_some(target), notes, most })
    }

    /// Returns an enlarged picture in base64.
    ///
    /// # Errors
    /// A refusal of a file that is no picture, and of a result that is too large.
    fn enlarge(&self, field: &'static str, picture: &str, options: &Options) -> Result<String, Refusal> {
        let upload = Upload::from_base64(field, picture.trim(), options)?;
        let picture = upload.decode()?;
        let result = match self.target {
            Some(target) => target.resize(field, &picture, self.most)?,
            None => picture,
        };
        let url = upload.url_of(result)?;
        Ok(url.split_once(',').map_or(url.as_str(), |(_, data)| data).to_owned())
    }
}

impl Target {
    /// Resizes a picture by Lanczos' filter.
    ///
    /// # Errors
    /// A refusal of a result with a side of more than `most` pixels.
    fn resize(self, field: &'static str, picture: &DynamicImage, most: u32) -> Result<DynamicImage, Refusal> {
        let (width, height) = (picture.width(), picture.height());
        let factor = match self {
            Self::Times(factor) => factor,
            Self::Cover { width: wide, height: high, .. } => {
                (f64::from(wide) / f64::from(width)).max(f64::from(high) / f64::from(height))
            }
        };
        let [wide, high] = [width, height].map(|side| (f64::from(side) * factor).round().clamp(1.0, 1e9) as u32);
        if wide.max(high) > most {
            let sentence = format!(
                "{field} has {width}×{height} pixels and would get {wide}×{high}; expected sides of at most {most}; \
                 ask for less"
            );
            return Err(Refusal::field(field, sentence));
        }
        let resized = picture.resize_exact(wide, high, FilterType::Lanczos3);
        Ok(match self {
            Self::Cover { width, height, crops: true } => {
                let (left, top) = (wide.saturating_sub(width) / 2, high.saturating_sub(height) / 2);
                resized.crop_imm(left, top, width, height)
            }
            _ => resized,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::{Raster, Rgb};

    fn take(body: Value) -> Result<Wanted, String> {
        let fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        Wanted::take(fields, &Options::default()).map_err(|refusal| refusal.sentence)
    }

    fn size(body: Value) -> Result<(u32, u32), String> {
        let mut picture = Raster::flat(Rgb(200, 30, 30), (40, 20));
        picture.paste(&Raster::flat(Rgb(0, 0, 255), (20, 20)), 0, 0);
        let enlarged = take(body)?.enlarge("image", &picture.data_url().unwrap(), &Options::default());
        let enlarged = enlarged.map_err(|refusal| refusal.sentence)?;
        let enlarged = Upload::from_base64("image", &enlarged, &Options::default()).unwrap().decode().unwrap();
        let rgb = enlarged.to_rgb8();
        let (wide, high) = rgb.dimensions();
        assert!(rgb.get_pixel(0, high / 2).0[2] > 230 && rgb.get_pixel(wide - 1, high / 2).0[0] > 180, "its halves");
        Ok((wide, high))
    }

    #[test]
    fn pictures_get_the_size_that_is_asked_for() {
        let lanczos = |more: Value| {
            let mut body = json!({ "upscaler_1": "Lanczos" });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            size(body)
        };
        assert_eq!(lanczos(json!({})), Ok((80, 40)));
        assert_eq!(lanczos(json!({ "upscaling_resize": 1.5 })), Ok((60, 30)));
        let sides = |crops: bool| json!({ "resize_mode": 1, "upscaling_resize_w": 50, "upscaling_resize_h": 50, "upscaling_crop": crops });
        assert_eq!((lanczos(sides(true)), lanczos(sides(false))), (Ok((50, 50)), Ok((100, 50))));
        assert_eq!(size(json!({ "upscaling_resize": 4 })), Ok((40, 20)), "without an upscaler");
        assert_eq!(size(json!({ "upscaler_1": "None", "resize_mode": 1 })), Ok((40, 20)));
        for (wrong, words) in [
            (json!({ "upscaling_resize": 0 }), "upscaling_resize is 0; expected a number above 0 and up to 2048"),
            (json!({ "upscaling_resize": 60 }), "image has 40×20 pixels and would get 2400×1200; expected sides"),
            (json!({ "resize_mode": 1, "upscaling_resize_w": 9000 }), "upscaling_resize_w is 9000; expected 1 to 2048"),
            (json!({ "resize_mode": 2 }), "resize_mode is 2; expected 0"),
            (json!({ "upscaler_1": "ESRGAN" }), "upscaler_1 \"ESRGAN\" is not known; expected one of"),
        ] {
            let error = lanczos(wrong).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn fields_without_an_effect_are_told() {
        let wanted = take(
            json!({ "gfpgan_visibility": 0.5, "codeformer_visibility": 0, "upscaler_2": "None", "upscaler_3": 1 }),
        )
        .unwrap();
        let want = ["these fields are not used: gfpgan_visibility", "these fields are not known: upscaler_3"];
        assert_eq!(wanted.notes.join("\n"), want.join("\n"));
        let wanted = take(json!({ "upscaler_2": "ESRGAN", "upscaler_1": "Lanczos" })).unwrap();
        assert_eq!(wanted.notes, ["upscaler_2 \"ESRGAN\" is not used"]);
    }
}
