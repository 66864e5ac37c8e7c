//! The settings of InvokeAI.

use super::settings::Settings;
use crate::pipeline::infotext::{Infotext, Program};
use serde_json::{Map, Value};

/// Keyword of the settings since version 3.
pub(super) const METADATA: &str = "invokeai_metadata";
/// Keyword of the settings up to version 2.
pub(super) const OLD_METADATA: &str = "sd-metadata";
/// Name of the prompt since version 3.
pub(super) const PROMPT: &str = "positive_prompt";

/// Reads the settings since version 3; `None` without a prompt.
///
/// Source: `invokeai/app/invocations/metadata.py` of InvokeAI.
pub(super) fn read(json: Map<String, Value>) -> Option<Infotext> {
    let mut settings = Settings::new(Program::InvokeAi, json);
    let Some(Value::String(prompt)) = settings.take(&[PROMPT]) else { return None };
    settings.prompt(&prompt);
    let negative = settings.text(&["negative_prompt"]).unwrap_or_default();
    settings.negative(negative);
    settings.field("Steps", &["steps"]);
    sampler(&mut settings, "scheduler");
    settings.field("CFG scale", &["cfg_scale"]);
    settings.field("Seed", &["seed"]);
    settings.size();
    let model = settings.take(&["model"]);
    let name = model.as_ref().and_then(|model| model.get("name").or_else(|| model.get("model_name"))?.as_str());
    settings.add("Model", name.map(str::to_owned));
    let skipped = settings.take(&["clip_skip"]).and_then(|layers| layers.as_u64()).filter(|layers| *layers > 0);
    settings.add("Clip skip", skipped.map(|layers| layers.saturating_add(1).to_string()));
    settings.field("Denoising strength", &["strength"]);
    let device = settings.text(&["rand_device"]).map(|device| device.to_uppercase());
    settings.add("RNG", device);
    settings.field("Version", &["app_version"]);
    settings.drop(&["generation_mode"]);
    Some(settings.finish())
}

/// Reads the settings up to version 2; `None` without a prompt.
///
/// Source: `ldm/invoke/pngwriter.py` and `backend/invoke_ai_web_server.py` of InvokeAI 2.
pub(super) fn read_old(mut json: Map<String, Value>) -> Option<Infotext> {
    let Some(Value::Object(image)) = json.remove("image") else { return None };
    let mut settings = Settings::new(Program::InvokeAi, image);
    let whole = match settings.take(&["prompt"])? {
        Value::String(prompt) => prompt,
        Value::Array(parts) => {
            let parts = parts.iter().filter_map(|part| part.get("prompt").unwrap_or(part).as_str());
            parts.collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    };
    // The negative prompt stands in square brackets.
    let (mut prompt, mut negative) = (String::new(), Vec::new());
    for part in whole.split_inclusive(']') {
        match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((before, inside)) => {
                prompt.push_str(before);
                negative.push(inside.trim());
            }
            None => prompt.push_str(part),
        }
    }
    settings.prompt(prompt.trim());
    settings.negative(negative.join(", "));
    settings.field("Steps", &["steps"]);
    sampler(&mut settings, "sampler");
    settings.field("CFG scale", &["cfg_scale"]);
    settings.field("Seed", &["seed"]);
    settings.size();
    settings.add("Model", json.get("model_weights").and_then(Value::as_str).map(str::to_owned));
    settings.drop(&["type"]);
    Some(settings.finish())
}

/// Adds the fields of the sampler. InvokeAI's names end with `_k` if the spacing is that of Karras.
fn sampler(settings: &mut Settings, name: &str) {
    let Some(sampler) = settings.text(&[name]) else { return };
    let (sampler, is_karras) = match sampler.strip_suffix("_k") {
        Some(sampler) => (sampler.to_owned(), true),
        None => (sampler, false),
    };
    settings.add("Sampler", Some(sampler.replace("kdpm_2", "dpm_2")));
    settings.add("Schedule type", is_karras.then(|| "Karras".to_owned()));
}
