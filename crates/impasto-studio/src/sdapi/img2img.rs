//! A request for pictures from another picture.

use super::common::{self, Wishes};
use super::fill;
use crate::fields::Fields;
use crate::options::Options;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use crate::upload::Upload;
use impasto::image::{DynamicImage, GrayImage, ImageBuffer, Luma};
use serde_json::{Map, Value, json};

/// Share of the steps that change the picture, where a request names none.
const DENOISING: f64 = 0.75;
/// Width of the band in which new and kept pixels are blended, as a multiple of the deviation of the web UI's blur. The
/// blur has about two deviations on each side of the border.
const BAND: f64 = 2.0;

/// `inpainting_fill` of a run that finds the colors around under its mask.
const FILLED: i64 = 0;
/// Names in jobs of what a run finds under its mask, by the other values of `inpainting_fill`.
const CONTENTS: [(i64, &str); 3] = [(1, "picture"), (2, "noise"), (3, "nothing")];

/// Fields that are not used.
const UNUSED: &[(&str, &[f64])] =
    &[("resize_mode", &[]), ("initial_noise_multiplier", &[1.0]), ("latent_mask", &[]), ("mask_round", &[1.0])];

/// Reads a request.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn read(body: &[u8], options: &Options) -> Result<(Order, Wishes), Refusal> {
    let mut fields = Fields::parse(body)?;
    let with_pictures = fields.flag("include_init_images")?;
    let pictures = if with_pictures { &[][..] } else { &["init_images", "mask"] };
    let echo = fields.copy(&[&["alwayson_scripts", "latent_mask"], pictures].concat());
    let (mut job, mut notes) = (Map::new(), Vec::new());
    let mut wishes = common::take(&mut fields, &mut job, &mut notes)?;
    let start = common::only("init_images", fields.list("init_images")?)?;
    let start = Upload::from_base64("init_images", &start, options)?;
    let strength = fields.number("denoising_strength")?.unwrap_or(DENOISING);
    take_mask(&mut fields, &start, strength, &mut job, &mut notes, options)?;
    if !job.contains_key("start") {
        job.insert("start".into(), start.data_url()?.into());
    }
    common::take_scripts(&mut fields, &mut job, &mut notes, options)?;
    common::take_unused(&mut fields, UNUSED, &mut notes);
    wishes.parameters = echo;
    fields.names().for_each(|name| drop(wishes.parameters.remove(name)));
    Ok((Order::read(job, notes, options)?, wishes))
}

/// Takes the mask and the fields beside it, and the start picture if the part under the mask is filled.
fn take_mask(
    fields: &mut Fields,
    start: &Upload,
    strength: f64,
    job: &mut Map<String, Value>,
    notes: &mut Vec<String>,
    options: &Options,
) -> Result<(), Refusal> {
    let mask = fields.word("mask")?;
    let blur = fields.number("mask_blur")?;
    let [across, down] = [fields.number("mask_blur_x")?, fields.number("mask_blur_y")?];
    let (filling, inverts) = (fields.whole("inpainting_fill")?, fields.flag("inpainting_mask_invert")?);
    let padding = fields.whole("inpaint_full_res_padding")?;
    // The web UI repaints the part under the mask alone, unless a request says otherwise.
    let is_part = fields.take("inpaint_full_res").is_none_or(|value| ![json!(false), json!(0)].contains(&value));
    let Some(mask) = mask else {
        job.insert("strength".into(), strength.into());
        return Ok(());
    };
    let upload = Upload::from_base64("mask", &mask, options)?;
    let shape = gray(&upload.decode()?, inverts);
    // The web UI fills the part under the mask, unless a request says otherwise.
    let filling = filling.unwrap_or(FILLED);
    match CONTENTS.iter().find(|(number, _)| *number == filling) {
        Some((_, content)) => drop(job.insert("masked_content".into(), (*content).into())),
        None if filling == FILLED => {
            job.insert("start".into(), start.url_of(fill::fill(&start.decode()?, &shape))?.into());
        }
        None => {
            return Err(Refusal::field(
                "inpainting_fill",
                format!("inpainting_fill is {filling}; expected 0, 1, 2 or 3"),
            ));
        }
    }
    let url = upload.url_of(shape)?;
    if let Some(blur) = blur.or(across).or(down) {
        job.insert("feather".into(), (BAND * blur).into());
    }
    if is_part {
        let mut detail = json!({ "thing": { "under": url }, "strength": strength });
        if let (Some(padding), Some(fields)) = (padding, detail.as_object_mut()) {
            fields.insert("padding".into(), padding.into());
        }
        if job.remove("width").is_some() | job.remove("height").is_some() {
            notes.push(
                "width and height are not used: with inpaint_full_res, the part under the mask is repainted at the \
                 model's own size, and the picture keeps its size"
                    .into(),
            );
        }
        job.insert("strength".into(), 0.into());
        job.insert("details".into(), json!([detail]));
    } else {
        job.insert("strength".into(), strength.into());
        job.insert("mask".into(), url.into());
    }
    Ok(())
}

/// Returns a mask, white where the picture is repainted: the opacity of a picture with transparent parts, or else its
/// brightness.
fn gray(picture: &DynamicImage, inverts: bool) -> GrayImage {
    let opacity = picture.to_rgba8();
    let is_transparent = opacity.pixels().any(|pixel| pixel.0[3] < 255);
    let mut mask = if is_transparent {
        ImageBuffer::from_fn(opacity.width(), opacity.height(), |x, y| Luma([opacity.get_pixel(x, y).0[3]]))
    } else {
        picture.to_luma8()
    };
    if inverts {
        mask.pixels_mut().for_each(|pixel| pixel.0[0] = 255 - pixel.0[0]);
    }
    mask
}

impl JobRequest {
    /// Reads the body of `/sdapi/v1/img2img`, a request of AUTOMATIC1111's web API. Notes tell what the request does
    /// not have.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub fn from_img2img(body: &[u8], options: &Options) -> Result<Restored, String> {
        read(body, options).map(|(order, _)| order.restored()).map_err(|refusal| refusal.sentence)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use impasto::job::Job;
    use impasto::pipeline::Thing;
    use impasto::raster::Layer;
    use impasto::sampler::MaskedContent;
    use impasto::{Raster, Rgb};

    fn read(more: Value) -> Result<(Job, Vec<String>), String> {
        let picture = Raster::flat(Rgb(9, 9, 9), (64, 64)).data_url().unwrap();
        let mut body = json!({ "init_images": [picture], "width": 64, "height": 64 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let read = JobRequest::from_img2img(body.to_string().as_bytes(), &Options::default())?;
        Ok((read.request.job, read.notes))
    }

    fn mask() -> Raster {
        let mut mask = Raster::flat(Rgb(0, 0, 0), (64, 64));
        mask.paste(&Raster::flat(Rgb(255, 255, 255), (8, 8)), 0, 0);
        mask
    }

    #[test]
    fn mask_is_repainted_in_the_whole_picture_or_alone() {
        let url = mask().data_url().unwrap();
        let (whole, notes) = read(json!({ "mask": url, "inpaint_full_res": false, "mask_blur": 4 })).unwrap();
        assert_eq!(whole.mask.unwrap().open().unwrap().mask(), mask());
        assert_eq!((whole.strength, whole.config.feather), (Some(0.75.into()), Some(8.0)));
        assert_eq!(notes, [""; 0]);
        for alone in [json!({ "mask": url }), json!({ "mask": url, "inpaint_full_res": 1, "inpainting_fill": 0 })] {
            let (part, notes) = read(alone).unwrap();
            let Thing::Under(under) = &part.config.details[0].thing else { panic!("{part:?}") };
            assert_eq!((under, part.config.details[0].strength, part.config.size), (&mask(), 0.75, None));
            assert!(part.mask.is_none() && part.strength == Some(0.0.into()), "{part:?}");
            assert!(notes.iter().any(|note| note.contains("width and height are not used")), "{notes:?}");
        }
    }

    #[test]
    fn part_under_a_mask_is_filled_unless_it_is_to_stay() {
        let mut start = Raster::flat(Rgb(200, 30, 30), (64, 64));
        start.paste(&Raster::flat(Rgb(0, 255, 0), (8, 8)), 0, 0);
        let read = |filling: Value| {
            let url = start.data_url().unwrap();
            let body = json!({ "init_images": [url], "mask": mask().data_url().unwrap(), "inpainting_fill": filling });
            let (job, notes) = read(body).unwrap();
            (job.start.unwrap().open().unwrap().pixel(3, 3).unwrap(), notes.len())
        };
        let (own, _) = read(json!(1));
        assert_eq!(own, Rgb(0, 255, 0));
        for filling in [json!(0), json!(null)] {
            let (Rgb(r, g, b), _) = read(filling.clone());
            assert!(r > 190 && g < 40 && b < 40, "{filling}: {r} {g} {b}");
        }
        for (filling, content) in [(2, MaskedContent::Noise), (3, MaskedContent::Nothing)] {
            let body = json!({ "mask": mask().data_url().unwrap(), "inpainting_fill": filling });
            assert_eq!(super::tests::read(body).unwrap().0.config.masked_content, content);
        }
        let error =
            super::tests::read(json!({ "mask": mask().data_url().unwrap(), "inpainting_fill": 4 })).unwrap_err();
        assert!(error.contains("inpainting_fill") && error.contains("expected 0, 1, 2 or 3"), "{error}");
    }

    #[test]
    fn shape_of_a_mask_is_read_from_its_transparency() {
        let mut layer = Layer::new((64, 64));
        (0..8).for_each(|x| (0..8).for_each(|y| layer.set(x, y, Rgb(0, 0, 0), 255)));
        let url = serde_json::to_value(&layer).unwrap();
        let read = |inverts: i64| {
            let body = json!({ "mask": url, "inpaint_full_res": 0, "inpainting_mask_invert": inverts });
            read(body).unwrap().0.mask.unwrap().open().unwrap().mask()
        };
        assert_eq!(read(0), mask());
        assert_eq!((read(1).pixel(0, 0), read(1).pixel(9, 9)), (Some(Rgb(0, 0, 0)), Some(Rgb(255, 255, 255))));
    }

    #[test]
    fn one_picture_is_expected() {
        let picture = Raster::flat(Rgb(9, 9, 9), (64, 64)).data_url().unwrap();
        for (pictures, words) in [
            (json!([]), "init_images has 0 pictures; expected 1"),
            (json!([picture, picture]), "init_images has 2 pictures"),
            (json!(null), "init_images has 0 pictures"),
            (json!([7]), "init_images is 7; expected a text"),
            (json!(["/etc/passwd"]), "init_images"),
        ] {
            let error = read(json!({ "init_images": pictures })).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
