//! The settings of Fooocus.

use super::comfy_ui::schedule;
use super::settings::Settings;
use crate::pipeline::infotext::{Infotext, Program};
use serde_json::{Map, Value};

/// Reads the JSON that Fooocus writes under `parameters`; `None` without a prompt. Programs that came from Fooocus
/// write some of the names in another form.
///
/// Source: `modules/meta_parser.py` of Fooocus.
pub(super) fn read(json: Map<String, Value>) -> Option<Infotext> {
    let mut settings = Settings::new(Program::Fooocus, json);
    let Some(Value::String(prompt)) = settings.take(&["prompt", "Prompt"]) else { return None };
    settings.prompt(&prompt);
    let negative = settings.text(&["negative_prompt", "Negative Prompt", "Negative", "negative"]);
    settings.negative(negative.unwrap_or_default());
    settings.field("Steps", &["steps", "Steps"]);
    settings.field("Sampler", &["sampler", "Sampler", "sampler_name"]);
    let schedule = settings.text(&["scheduler", "Scheduler"]).map(|name| schedule(&name));
    settings.add("Schedule type", schedule);
    settings.field("CFG scale", &["guidance_scale", "Guidance Scale", "cfg"]);
    settings.field("Seed", &["seed", "Seed"]);
    let resolution = settings.text(&["resolution", "Resolution"]);
    settings.add("Size", resolution.map(|sides| sides.replace(['(', ')', '\'', ' '], "").replacen(',', "x", 1)));
    settings.size();
    settings.field("Model", &["base_model", "Base Model", "base_model_name"]);
    settings.field("Model hash", &["base_model_hash"]);
    settings.field("Version", &["version", "Version"]);
    // The prompt with the words of styles, and the LoRAs, are there twice.
    settings.drop(&["full_prompt", "full_negative_prompt", "metadata_scheme", "loras"]);
    Some(settings.finish())
}
