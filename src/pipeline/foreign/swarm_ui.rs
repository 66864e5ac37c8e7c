//! The settings of SwarmUI.

use super::comfy_ui::schedule;
use super::settings::Settings;
use crate::pipeline::infotext::{Infotext, Program};
use serde_json::{Map, Value};

/// Name of the settings in SwarmUI's JSON.
pub(super) const PARAMETERS: &str = "sui_image_params";

/// Reads the JSON that SwarmUI writes under `parameters`; `None` without a prompt.
///
/// Source: `docs/Image Metadata Format.md` of SwarmUI. Without a sampler, SwarmUI uses Euler with normal spacing.
pub(super) fn read(mut json: Map<String, Value>) -> Option<Infotext> {
    let Some(Value::Object(parameters)) = json.remove(PARAMETERS) else { return None };
    let mut settings = Settings::new(Program::SwarmUi, parameters);
    let Some(Value::String(prompt)) = settings.take(&["prompt"]) else { return None };
    settings.prompt(&prompt);
    let negative = settings.text(&["negativeprompt"]).unwrap_or_default();
    settings.negative(negative);
    settings.field("Steps", &["steps"]);
    let sampler = settings.text(&["sampler", "comfyuisampler"]).unwrap_or_else(|| "euler".into());
    settings.add("Sampler", Some(sampler));
    let name = settings.text(&["scheduler", "comfyuischeduler"]).unwrap_or_else(|| "normal".into());
    settings.add("Schedule type", Some(schedule(&name)));
    settings.field("CFG scale", &["cfgscale"]);
    settings.field("Seed", &["seed"]);
    settings.size();
    settings.field("Model", &["model"]);
    settings.add("RNG", Some("CPU".into())); // ComfyUI, which SwarmUI runs, draws noise on the CPU
    settings.field("Version", &["swarm_version"]);
    settings.drop(&["images", "aspectratio", "sidelength"]);
    Some(settings.finish())
}
