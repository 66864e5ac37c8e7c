//! A request for pictures from another picture.

use super::common::{self, Wishes};
use super::multipart;
use crate::fields::Fields;
use crate::options::Options;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use crate::upload::Upload;
use impasto::image::{DynamicImage, GrayImage, ImageBuffer, Luma};
use serde_json::{Map, Value};

/// Reads a request with a body of the type `kind`.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn read(kind: &str, body: &[u8], options: &Options) -> Result<(Order, Wishes), Refusal> {
    let (mut texts, mut images, mut masks) = (Map::new(), Vec::new(), Vec::new());
    for part in multipart::read(kind, body)? {
        match part.name.as_str() {
            "image" | "image[]" => images.push(part.bytes),
            "mask" => masks.push(part.bytes),
            _ if part.is_file => {
                let sentence = format!("the file {:?} is not expected; expected image and mask", part.name);
                return Err(Refusal::wrong(sentence));
            }
            _ => drop(texts.insert(part.name, Value::from(String::from_utf8_lossy(part.bytes)))),
        }
    }
    let mut fields = Fields::from(texts);
    let (mut job, mut notes) = (Map::new(), Vec::new());
    let wishes = common::take(&mut fields, &mut job, &mut notes)?;
    let [image] = images.as_slice() else { return Err(refuse_count("image", images.len())) };
    let image = Upload::from_file("image", image.to_vec(), options)?;
    let mask = match masks.as_slice() {
        [] => transparent(&image.decode()?).map(|mask| image.url_of(mask)).transpose()?,
        [mask] => {
            let mask = Upload::from_file("mask", mask.to_vec(), options)?;
            let transparent = transparent(&mask.decode()?).ok_or_else(|| {
                Refusal::field("mask", "mask has no transparent part; expected transparency where to repaint")
            })?;
            Some(mask.url_of(transparent)?)
        }
        masks => return Err(refuse_count("mask", masks.len())),
    };
    job.insert("start".into(), image.data_url()?.into());
    if let Some(mask) = mask {
        job.insert("mask".into(), mask.into());
        job.entry("strength").or_insert(1.into()); // nothing under the mask is kept
    }
    common::take_own(&mut fields, &mut job)?;
    common::take_unused(&mut fields, &mut notes);
    Ok((Order::read(job, notes, options)?, wishes))
}

fn refuse_count(field: &'static str, count: usize) -> Refusal {
    Refusal::field(field, format!("{field} is given {count} times; expected one file"))
}

/// Returns the transparent parts of a picture in white; `None` if it has none.
fn transparent(picture: &DynamicImage) -> Option<GrayImage> {
    let pixels = picture.to_rgba8();
    let is_any = pixels.pixels().any(|pixel| pixel.0[3] < 255);
    let mask = |x, y| Luma([255 - pixels.get_pixel(x, y).0[3]]);
    is_any.then(|| ImageBuffer::from_fn(pixels.width(), pixels.height(), mask))
}

impl JobRequest {
    /// Reads the body of `/v1/images/edits`, a form of OpenAI's API with the type `kind`. Notes tell what the request
    /// does not have.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub fn from_edits(kind: &str, body: &[u8], options: &Options) -> Result<Restored, String> {
        read(kind, body, options).map(|(order, _)| order.restored()).map_err(|refusal| refusal.sentence)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use impasto::raster::Layer;
    use impasto::{Raster, Rgb};

    /// Reads a form of fields and files.
    fn read(parts: &[(&str, &[u8])]) -> Result<Restored, String> {
        let mut body = Vec::new();
        for (name, bytes) in parts {
            let file = if ["prompt", "n", "impasto"].contains(name) { "" } else { "; filename=a.png" };
            body.extend(format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
            body.extend(*bytes);
            body.extend(b"\r\n");
        }
        body.extend(b"--b--\r\n");
        JobRequest::from_edits("multipart/form-data; boundary=b", &body, &Options::default())
    }

    /// A PNG whose upper left corner has another opacity than the rest.
    fn with_corner(corner: u8, rest: u8) -> Vec<u8> {
        let mut layer = Layer::new((16, 16));
        (0..16).for_each(|x| (0..16).for_each(|y| layer.set(x, y, Rgb(9, 9, 9), rest)));
        (0..4).for_each(|x| (0..4).for_each(|y| layer.set(x, y, Rgb(9, 9, 9), corner)));
        let file = tempfile::Builder::new().suffix(".png").tempfile().unwrap();
        layer.save(file.path()).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn transparent_parts_are_repainted() {
        let mut corner = Raster::flat(Rgb(0, 0, 0), (16, 16));
        corner.paste(&Raster::flat(Rgb(255, 255, 255), (4, 4)), 0, 0);
        let opaque = with_corner(255, 255);
        let masked: [&[(&str, &[u8])]; 2] = [
            &[("prompt", b"a"), ("image[]", &opaque), ("mask", &with_corner(0, 255))],
            &[("prompt", b"a"), ("image", &with_corner(0, 255))],
        ];
        for parts in masked {
            let job = read(parts).unwrap().request.job;
            assert_eq!(job.mask.unwrap().open().unwrap().mask(), corner);
            assert_eq!(job.strength, Some(1.0.into()));
        }
        let whole = read(&[("prompt", b"a"), ("image", &opaque), ("impasto", b"{\"strength\": 0.5}")]).unwrap();
        assert!(whole.request.job.mask.is_none() && whole.request.job.strength == Some(0.5.into()));
    }

    #[test]
    fn unfit_files_are_named() {
        let opaque = with_corner(255, 255);
        let refused = |parts: &[(&str, &[u8])], words: &str| {
            let error = read(parts).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        let prompt: (&str, &[u8]) = ("prompt", b"a");
        let image: (&str, &[u8]) = ("image", &opaque);
        refused(&[prompt], "image is given 0 times");
        refused(&[prompt, image, image], "image is given 2 times");
        refused(&[prompt, image, ("mask", &opaque)], "mask has no transparent part");
        refused(&[prompt, ("image", b"GIF89a")], "image is no picture");
        refused(&[prompt, image, ("picture", &opaque)], "the file \"picture\" is not expected");
    }
}
