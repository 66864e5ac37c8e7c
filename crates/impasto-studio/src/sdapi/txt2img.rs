//! A request for pictures from a prompt.

use super::common::{self, Wishes};
use crate::fields::Fields;
use crate::options::Options;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use serde_json::{Map, Value, json};

/// Share of the second run's steps, where a request names none.
const DENOISING: f64 = 0.75;
/// Side of a cell of the latent in pixels.
const CELL: i64 = 8;
/// Upscaler of the pixels that the studio has.
const LANCZOS: &str = "Lanczos";

/// Fields of the second run that are not used.
const UNUSED: &[(&str, &[f64])] = &[
    ("hr_checkpoint_name", &[]),
    ("hr_sampler_name", &[]),
    ("hr_scheduler", &[]),
    ("hr_prompt", &[]),
    ("hr_negative_prompt", &[]),
    ("hr_cfg", &[]),
    ("hr_additional_modules", &[]),
];

/// Reads a request.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn read(body: &[u8], options: &Options) -> Result<(Order, Wishes), Refusal> {
    let mut fields = Fields::parse(body)?;
    let echo = fields.copy(&["alwayson_scripts", "firstpass_image"]);
    let (mut job, mut notes) = (Map::new(), Vec::new());
    let mut wishes = common::take(&mut fields, &mut job, &mut notes)?;
    round(&mut job, &mut notes);
    take_second_run(&mut fields, &mut job, &mut notes)?;
    common::take_scripts(&mut fields, &mut job, &mut notes, options)?;
    common::take_unused(&mut fields, UNUSED, &mut notes);
    wishes.parameters = without(echo, &fields);
    Ok((Order::read(job, notes, options)?, wishes))
}

/// Rounds the sides of the picture down to cells of the latent, as the web UI does.
fn round(job: &mut Map<String, Value>, notes: &mut Vec<String>) {
    for side in ["width", "height"] {
        if let Some(pixels) = job.get(side).and_then(Value::as_i64).filter(|pixels| *pixels > CELL && pixels % CELL > 0)
        {
            notes.push(format!("{side} is {pixels}, and was rounded down to a multiple of {CELL}"));
            job.insert(side.into(), (pixels - pixels % CELL).into());
        }
    }
}

/// Returns the fields that were taken.
fn without(mut echo: Map<String, Value>, left: &Fields) -> Map<String, Value> {
    left.names().for_each(|name| drop(echo.remove(name)));
    echo
}

/// Takes the fields of the second run at a larger size.
fn take_second_run(fields: &mut Fields, job: &mut Map<String, Value>, notes: &mut Vec<String>) -> Result<(), Refusal> {
    let (scale, steps) = (fields.number("hr_scale")?, fields.whole("hr_second_pass_steps")?);
    let sides = [fields.number("hr_resize_x")?, fields.number("hr_resize_y")?].map(Option::unwrap_or_default);
    let (upscaler, strength) = (fields.word("hr_upscaler")?, fields.number("denoising_strength")?);
    if !fields.flag("enable_hr")? {
        UNUSED.iter().for_each(|(name, _)| drop(fields.take(name)));
        return Ok(());
    }
    let scale = match sides {
        [0.0, 0.0] => scale.unwrap_or(2.0),
        sides => factor(sides, job)?,
    };
    let upscaler = upscaler.unwrap_or_else(|| "Latent".into());
    let latent = upscaler.starts_with("Latent");
    if !latent && upscaler != LANCZOS {
        notes.push(format!("the upscaler {upscaler:?} is not there; the picture is enlarged by {LANCZOS}"));
    }
    job.insert(
        "hires".into(),
        json!({
            "scale": scale,
            "strength": strength.unwrap_or(DENOISING),
            "steps": steps.filter(|steps| *steps != 0),
            "enlarge": if latent { "latent" } else { "lanczos" },
        }),
    );
    Ok(())
}

/// Returns the factor by which the sides of a job grow to the sides of the second run, of which one may be 0.
fn factor(sides: [f64; 2], job: &Map<String, Value>) -> Result<f64, Refusal> {
    let side = |name: &str| job.get(name).and_then(Value::as_f64).filter(|side| *side > 0.0);
    let first = side("width").zip(side("height"));
    let (width, height) = first.ok_or_else(|| {
        Refusal::field("hr_resize_x", "hr_resize_x and hr_resize_y need width and height; give these, or hr_scale")
    })?;
    let [across, down] = [sides[0] / width, sides[1] / height];
    match (across, down) {
        (0.0, scale) | (scale, 0.0) => Ok(scale),
        (across, down) if (across / down - 1.0).abs() < 0.05 => Ok(across),
        _ => {
            let sentence = format!(
                "hr_resize_x and hr_resize_y are {} and {}; expected the proportions of {width}x{height}",
                sides[0], sides[1]
            );
            Err(Refusal::field("hr_resize_x", sentence))
        }
    }
}

impl JobRequest {
    /// Reads the body of `/sdapi/v1/txt2img`, a request of AUTOMATIC1111's web API. Notes tell what the request does
    /// not have.
    ///
    /// # Errors
    /// A sentence that names the field, its value, and what is expected.
    pub fn from_txt2img(body: &[u8], options: &Options) -> Result<Restored, String> {
        read(body, options).map(|(order, _)| order.restored()).map_err(|refusal| refusal.sentence)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use impasto::pipeline::{Enlarge, Hires};

    fn hires(body: Value) -> Result<(Hires, Vec<String>), String> {
        let read = JobRequest::from_txt2img(body.to_string().as_bytes(), &Options::default())?;
        Ok((read.request.job.config.hires.unwrap(), read.notes))
    }

    #[test]
    fn second_run_has_the_sizes_of_the_web_ui() {
        let (usual, _) = hires(json!({ "enable_hr": true })).unwrap();
        assert_eq!((usual.scale, usual.strength, usual.steps, usual.enlarge), (2.0, 0.75, None, Enlarge::Latent));
        let sized = |more: Value| {
            let mut body = json!({ "enable_hr": true, "width": 128, "height": 64, "hr_upscaler": "Lanczos" });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            hires(body)
        };
        assert_eq!(sized(json!({ "hr_resize_x": 192, "hr_resize_y": 96 })).unwrap().0.scale, 1.5);
        assert_eq!(sized(json!({ "hr_resize_y": 96 })).unwrap().0.scale, 1.5);
        assert!(sized(json!({ "hr_resize_x": 128, "hr_resize_y": 128 })).unwrap_err().contains("proportions"));
        let (run, notes) = sized(json!({ "hr_upscaler": "R-ESRGAN 4x+", "hr_second_pass_steps": 7 })).unwrap();
        assert_eq!((run.steps, run.enlarge), (Some(7), Enlarge::Lanczos));
        assert!(notes[0].contains("R-ESRGAN 4x+"), "{notes:?}");
    }

    #[test]
    fn sides_are_rounded_down_as_in_the_web_ui() {
        let body = json!({ "width": 500, "height": 64 });
        let read = JobRequest::from_txt2img(body.to_string().as_bytes(), &Options::default()).unwrap();
        assert_eq!(read.request.job.config.size, Some((496, 64).into()));
        assert_eq!(read.notes, ["width is 500, and was rounded down to a multiple of 8"]);
    }

    #[test]
    fn fields_of_a_second_run_alone_change_nothing() {
        let body =
            json!({ "prompt": "a", "enable_hr": false, "hr_scale": 2, "hr_prompt": "b", "denoising_strength": 1 });
        let read = JobRequest::from_txt2img(body.to_string().as_bytes(), &Options::default()).unwrap();
        assert_eq!((read.request.job.config.hires, read.notes), (None, Vec::new()));
    }
}
