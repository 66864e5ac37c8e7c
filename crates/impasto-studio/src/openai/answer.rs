//! The answer to a request for pictures.

use super::common::{Form, Wishes};
use crate::finished::Finished;
use crate::refusal::Refusal;
use crate::wording::Page;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::Raster;
use impasto::image::codecs::jpeg::JpegEncoder;
use impasto::image::{DynamicImage, ImageFormat};
use serde_json::{Value, json};
use std::io::Cursor;
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the answer as JSON text. `site` is the address that the client used, such as `http://localhost:7860`.
///
/// # Errors
/// A refusal if a picture cannot be encoded.
pub(super) fn write(finished: &Finished, wishes: &Wishes, site: &str, notes: Vec<String>) -> Result<Vec<u8>, Refusal> {
    let summary = finished.summary(notes);
    let mut data = Vec::new();
    for index in 0..finished.count() {
        data.push(match wishes.form {
            Form::Base64 => json!({ "b64_json": encode(finished, index, wishes)? }),
            Form::Url => {
                let path = summary.pointer(&format!("/report/pictures/{index}/url")).and_then(Value::as_str);
                json!({ "url": format!("{site}{}", path.unwrap_or_default()) })
            }
        });
    }
    let answer = json!({
        "created": now(),
        "data": data,
        "background": "opaque",
        "output_format": wishes.format_name(),
        "size": size(finished),
        "impasto": summary,
    });
    serde_json::to_vec(&answer).map_err(|error| failed(error.to_string()))
}

/// Returns a picture in base64. A PNG has its recipe.
///
/// # Errors
/// A refusal if the picture cannot be encoded.
pub(super) fn encode(finished: &Finished, index: usize, wishes: &Wishes) -> Result<String, Refusal> {
    let missing = || failed(format!("picture {index} is missing; please report this fault"));
    let file = if wishes.format == ImageFormat::Png {
        finished.png(index).map_err(|error| failed(error.worded(&Page)))?.ok_or_else(missing)?
    } else {
        let picture = DynamicImage::from(finished.pictures().get(index).ok_or_else(missing)?.clone());
        let mut file = Cursor::new(Vec::new());
        let encoded = match wishes.format {
            ImageFormat::Jpeg => picture.write_with_encoder(JpegEncoder::new_with_quality(&mut file, wishes.quality)),
            format => picture.write_to(&mut file, format),
        };
        encoded.map_err(|error| failed(error.to_string()))?;
        file.into_inner()
    };
    Ok(BASE64_STANDARD.encode(file))
}

/// Returns the size of the pictures as text.
pub(super) fn size(finished: &Finished) -> String {
    let size = finished.pictures().first().map(Raster::size);
    size.map_or_else(String::new, |size| format!("{}x{}", size.width, size.height))
}

/// Returns the time in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn failed(sentence: String) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, sentence)
}
