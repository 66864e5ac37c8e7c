//! The settings of NovelAI.

use super::settings::{Settings, object};
use crate::pipeline::infotext::{Infotext, Program};

/// Keyword of the settings as JSON.
pub(super) const COMMENT: &str = "Comment";
/// Keyword of the prompt.
pub(super) const DESCRIPTION: &str = "Description";
/// Keyword of the program's name.
pub(super) const SOFTWARE: &str = "Software";
/// Keyword of the model's name.
pub(super) const SOURCE: &str = "Source";

/// Reads the texts that NovelAI writes, `text` by keyword; `None` for texts of another program.
///
/// Source: the metadata of NovelAI's pictures, as `modules/images.py` of stable-diffusion-webui reads them.
pub(super) fn read<'t>(text: impl Fn(&str) -> Option<&'t str>) -> Option<Infotext> {
    let json = object(text(COMMENT)?)?;
    let is_ours = text(SOFTWARE).is_some_and(|name| name.starts_with("NovelAI")) || json.contains_key("uc");
    let mut settings = Settings::new(Program::NovelAi, json);
    let prompt = settings.take(&["prompt"]).and_then(|prompt| prompt.as_str().map(str::to_owned));
    let prompt = prompt.or_else(|| text(DESCRIPTION).map(str::to_owned)).filter(|_| is_ours)?;
    settings.prompt(&prompt);
    let negative = settings.text(&["uc"]).unwrap_or_default();
    settings.negative(negative);
    settings.field("Steps", &["steps"]);
    settings.field("Sampler", &["sampler"]);
    // The native spacing is that of k-diffusion.
    let schedule = settings.text(&["noise_schedule"]).filter(|name| name != "native");
    settings.add("Schedule type", Some(schedule.unwrap_or_else(|| "Normal".into())));
    settings.field("CFG scale", &["scale"]);
    settings.field("Seed", &["seed"]);
    settings.size();
    settings.add("Model", text(SOURCE).map(str::to_owned));
    settings.drop(&["n_samples", "request_type", "signed_hash", "version"]);
    Some(settings.finish())
}
