//! The answer to a request for pictures.

use super::common::Wishes;
use crate::finished::Finished;
use crate::refusal::Refusal;
use crate::wording::Page;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::pipeline::Infotext;
use serde_json::{Value, json};

/// Returns the answer as JSON text.
///
/// # Errors
/// A refusal if a picture cannot be encoded.
pub(super) fn write(finished: &Finished, wishes: &Wishes, notes: Vec<String>) -> Result<Vec<u8>, Refusal> {
    let failed = |error: String| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let mut images = Vec::new();
    for index in 0..if wishes.send_images { finished.count() } else { 0 } {
        let png = finished.png(index).map_err(|error| failed(error.worded(&Page)))?;
        images.extend(png.map(|png| BASE64_STANDARD.encode(png)));
    }
    let answer = json!({
        "images": images,
        "parameters": wishes.parameters,
        "info": describe(finished, wishes).to_string(),
        "impasto": finished.summary(notes),
    });
    serde_json::to_vec(&answer).map_err(|error| failed(error.to_string()))
}

/// Describes the pictures as the web UI does.
fn describe(finished: &Finished, wishes: &Wishes) -> Value {
    let texts: Vec<Infotext> = (0..finished.count()).map(|index| finished.infotext(index)).collect();
    let empty = Infotext::default();
    let first = texts.first().unwrap_or(&empty);
    let number = |info: &Infotext, name: &str| -> Value {
        info.field(name).and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let size = first.field("Size").and_then(|size| size.split_once('x')).unwrap_or_default();
    let [width, height] = [size.0, size.1].map(|side| side.parse().unwrap_or(0_u32));
    let of_all = |name: &str| texts.iter().map(|info| number(info, name)).collect::<Vec<_>>();
    let known = |name: &str, unknown: Value| Some(number(first, name)).filter(|n| !n.is_null()).unwrap_or(unknown);
    let subseeds = texts.iter().map(|info| Some(number(info, "Variation seed")).filter(|n| !n.is_null()));
    json!({
        "prompt": first.prompt,
        "all_prompts": texts.iter().map(|info| &info.prompt).collect::<Vec<_>>(),
        "negative_prompt": first.negative,
        "all_negative_prompts": texts.iter().map(|info| &info.negative).collect::<Vec<_>>(),
        "seed": number(first, "Seed"),
        "all_seeds": of_all("Seed"),
        "subseed": known("Variation seed", (-1).into()),
        "all_subseeds": subseeds.map(|seed| seed.unwrap_or_else(|| (-1).into())).collect::<Vec<_>>(),
        "subseed_strength": known("Variation seed strength", 0.into()),
        "width": width,
        "height": height,
        "sampler_name": first.field("Sampler"),
        "cfg_scale": number(first, "CFG scale"),
        "steps": number(first, "Steps"),
        "batch_size": wishes.batch_size,
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": first.field("Model"),
        "sd_model_hash": null,
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": number(first, "Denoising strength"),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "styles": [],
        "job_timestamp": "0",
        "clip_skip": known("Clip skip", 1.into()),
        "is_using_inpainting_conditioning": false,
        "version": first.field("Version"),
    })
}
