//! The fields that requests for pictures share, as fields of a job.

use super::extra_args;
use crate::fields::Fields;
use crate::refusal::Refusal;
use impasto::Size;
use impasto::image::ImageFormat;
use serde_json::{Map, Value};

/// Fields that are not used, and the values that a studio's picture has anyway.
const UNUSED: &[(&str, &[&str])] = &[
    ("quality", &["auto", "standard", "high"]),
    ("style", &[]),
    ("background", &["auto", "opaque"]),
    ("moderation", &["auto", "low"]),
    ("input_fidelity", &["high"]),
];
/// Fields that have no effect on pictures.
const HARMLESS: &[&str] = &["user", "safety_identifier"];
/// Largest number of partial pictures of a stream.
const MOST_PARTIAL: i64 = 3;
/// Quality of a JPEG, where a request names none.
const QUALITY: u8 = 95;

/// The form in which an answer has its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Base64,
    Url,
}

/// The parts of a request that are no fields of a job.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) form: Form,
    pub(super) format: ImageFormat,
    /// Quality of a JPEG, 1 to 100.
    pub(super) quality: u8,
    /// Number of partial pictures of a stream; `None` for an answer that is no stream.
    pub(super) partial: Option<usize>,
    pub(super) model: Option<String>,
}

impl Wishes {
    /// Returns the name of the pictures' format.
    pub(super) const fn format_name(&self) -> &'static str {
        match self.format {
            ImageFormat::Jpeg => "jpeg",
            ImageFormat::WebP => "webp",
            _ => "png",
        }
    }
}

/// Takes the fields that requests for pictures share, and adds them to a job.
///
/// # Errors
/// A refusal that names the field, its value and what is expected.
pub(super) fn take(
    fields: &mut Fields,
    job: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Wishes, Refusal> {
    let prompt = fields.text("prompt")?;
    let prompt = prompt.ok_or_else(|| Refusal::field("prompt", "prompt is missing; expected a text"))?;
    let prompt = extra_args::take(&prompt, job, notes)?;
    job.insert("prompt".into(), prompt.into());
    if let Some(seed) = fields.whole("seed")? {
        job.insert("seed".into(), seed.into());
    }
    job.insert("images".into(), fields.whole("n")?.unwrap_or(1).into());
    if let Some(size) = fields.word("size")?.filter(|size| size != "auto") {
        let read: Result<Size, _> = size.parse();
        let Size { width, height } = read.map_err(|_| {
            Refusal::field("size", format!("size is {size:?}; expected WIDTHxHEIGHT, such as 512x512, or auto"))
        })?;
        job.insert("width".into(), width.into());
        job.insert("height".into(), height.into());
    }
    let form = match fields.word("response_format")?.as_deref() {
        None | Some("b64_json") => Form::Base64,
        Some("url") => Form::Url,
        Some(other) => {
            let sentence = format!("response_format is {other:?}; expected b64_json or url");
            return Err(Refusal::field("response_format", sentence));
        }
    };
    let format = match fields.word("output_format")?.as_deref() {
        None | Some("png") => ImageFormat::Png,
        Some("jpeg") => ImageFormat::Jpeg,
        Some("webp") => ImageFormat::WebP,
        Some(other) => {
            let sentence = format!("output_format is {other:?}; expected png, jpeg or webp");
            return Err(Refusal::field("output_format", sentence));
        }
    };
    let quality = fields.whole("output_compression")?.map_or(Ok(QUALITY), |quality| {
        let within = u8::try_from(quality).ok().filter(|quality| *quality <= 100).map(|quality| quality.max(1));
        within.ok_or_else(|| {
            Refusal::field("output_compression", format!("output_compression is {quality}; expected 0 to 100"))
        })
    })?;
    if form == Form::Url && format != ImageFormat::Png {
        notes.push("output_format is not used: the picture at an address is a PNG".into());
    }
    let partial = fields.whole("partial_images")?.unwrap_or(0);
    if !(0..=MOST_PARTIAL).contains(&partial) {
        let sentence = format!("partial_images is {partial}; expected 0 to {MOST_PARTIAL}");
        return Err(Refusal::field("partial_images", sentence));
    }
    let partial = fields.flag("stream")?.then_some(partial as usize);
    Ok(Wishes { form, format, quality, partial, model: fields.word("model")? })
}

/// Takes the job's own fields, which a request has under `impasto`. They replace those that stand for the same field of
/// the job.
///
/// # Errors
/// A refusal of a value that is no object, nor the JSON text of one.
pub(super) fn take_own(fields: &mut Fields, job: &mut Map<String, Value>) -> Result<(), Refusal> {
    const NAME: &str = "impasto";
    let wrong = |error: String| Refusal::field(NAME, format!("{NAME}: {error}; expected the fields of a job"));
    let own = match fields.take(NAME) {
        // A form has texts alone.
        Some(Value::String(text)) => impasto::json::parse(text).map_err(|error| wrong(error.to_string()))?,
        own => own.unwrap_or_default(),
    };
    match own {
        Value::Null => {}
        Value::Object(own) => job.extend(own),
        _ => return Err(wrong("no object".into())),
    }
    Ok(())
}

/// Takes the fields that are not used, and notes those that would have changed the pictures.
pub(super) fn take_unused(fields: &mut Fields, notes: &mut Vec<String>) {
    HARMLESS.iter().for_each(|name| drop(fields.take(name)));
    let taken = UNUSED.iter().filter_map(|(name, neutral)| Some((*name, fields.take(name)?, neutral)));
    let is_neutral = |value: &Value, neutral: &[&str]| value.as_str().is_some_and(|text| neutral.contains(&text));
    let names: Vec<&str> =
        taken.filter(|(_, value, neutral)| !is_neutral(value, neutral)).map(|(name, ..)| name).collect();
    fields.note_left(&names, notes);
}
