//! The fields that requests for pictures share, as fields of a job.

use super::controlnet;
use crate::fields::{Fields, number, text};
use crate::options::Options;
use crate::refusal::Refusal;
use impasto::diffusion::solver;
use impasto::pipeline::Infotext;
use serde_json::{Map, Value, json};
use std::hash::{BuildHasher, RandomState};

/// Fields that have no effect on pictures, or none here.
const HARMLESS: &[&str] = &[
    "do_not_save_samples",
    "do_not_save_grid",
    "override_settings_restore_afterwards",
    "force_task_id",
    "image_cfg_scale", // of models that edit pictures by instructions
];

/// Fields that are not used, and the numbers that change nothing in the web UI either.
const UNUSED: &[(&str, &[f64])] = &[
    ("styles", &[]),
    ("restore_faces", &[]),
    ("seed_resize_from_h", &[-1.0]),
    ("seed_resize_from_w", &[-1.0]),
    ("eta", &[1.0]),
    ("s_min_uncond", &[]),
    ("s_churn", &[]),
    ("s_tmax", &[]),
    ("s_tmin", &[]),
    ("s_noise", &[1.0]),
    ("refiner_checkpoint", &[]),
    ("refiner_switch_at", &[]),
    ("disable_extra_networks", &[]),
    ("firstpass_image", &[]),
    ("firstphase_width", &[]),
    ("firstphase_height", &[]),
    ("comments", &[]),
    ("script_name", &[]),
    ("script_args", &[]),
    ("save_images", &[]),
    ("infotext", &[]),
];

/// The parts of a request that are no fields of a job.
pub(super) struct Wishes {
    /// The fields that the studio knows, without pictures.
    pub(super) parameters: Map<String, Value>,
    /// True if the answer has the pictures.
    pub(super) send_images: bool,
    pub(super) batch_size: i64,
    /// The model, and the layer of its text encoder that prompts are read from.
    pub(super) model: Option<String>,
    pub(super) clip_skip: Option<i64>,
}

/// Takes the fields that requests for pictures share, and adds them to a job.
///
/// # Errors
/// A refusal of a value of another type, or of an unknown sampler or scheduler.
pub(super) fn take(
    fields: &mut Fields,
    job: &mut Map<String, Value>,
    notes: &mut Vec<String>,
) -> Result<Wishes, Refusal> {
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            job.insert(name.into(), value);
        }
    };
    put("prompt", fields.text("prompt")?.map(Value::from));
    put("negative", fields.text("negative_prompt")?.map(Value::from));
    put("steps", fields.whole("steps")?.map(Value::from));
    put("guidance_scale", fields.number("cfg_scale")?.map(Value::from));
    put("width", fields.whole("width")?.map(Value::from));
    put("height", fields.whole("height")?.map(Value::from));
    put("seed", fields.whole("seed")?.map(Value::from));
    put("seamless", fields.flag("tiling")?.then(|| "both".into()));
    let batch_size = fields.whole("batch_size")?.unwrap_or(1);
    let images = batch_size.saturating_mul(fields.whole("n_iter")?.unwrap_or(1));
    put("images", Some(images.into()));
    let (subseed, strength) = (fields.whole("subseed")?, fields.number("subseed_strength")?.unwrap_or_default());
    if strength != 0.0 {
        let seed = subseed.and_then(|seed| u64::try_from(seed).ok());
        put("variation", Some(json!([seed.unwrap_or_else(random_seed), strength])));
        if images > 1 {
            notes.push("seed grows from picture to picture beside subseed, and does not in the web UI".into());
        }
    }
    let named = fields.word("sampler_name")?;
    let sampler = named.or(fields.word("sampler_index")?);
    let scheduler = fields.word("scheduler")?.filter(|name| !name.eq_ignore_ascii_case("automatic"));
    let (name, value) = sample(sampler, scheduler)?.unzip();
    put(name.unwrap_or_default(), value);
    let mut overridden = fields.part("override_settings")?;
    let clip_skip = overridden.whole("CLIP_stop_at_last_layers")?.or(fields.whole("clip_skip")?);
    if let Some(layer) = clip_skip.filter(|layer| *layer > 1) {
        job.insert("clip_skip".into(), layer.into());
    }
    let model = overridden.word("sd_model_checkpoint")?;
    let vae = overridden.word("sd_vae")?.filter(|name| !["Automatic", "None"].contains(&name.as_str()));
    let others: Vec<&str> = vae.iter().map(|_| "sd_vae").chain(overridden.names()).collect();
    if !others.is_empty() {
        notes.push(format!("these override_settings are not used: {}", others.join(", ")));
    }
    let send_images = fields.take("send_images").is_none_or(|sends| sends != json!(false) && sends != json!(0));
    Ok(Wishes { parameters: Map::new(), send_images, batch_size, model, clip_skip })
}

/// Returns a random seed of 32 bits, as the web UI has them.
fn random_seed() -> u64 {
    RandomState::new().hash_one("seed") >> 32
}

/// Returns the field of a job, and its value, for a sampler and the spacing of its noise levels.
fn sample(sampler: Option<String>, scheduler: Option<String>) -> Result<Option<(&'static str, Value)>, Refusal> {
    let spacing = scheduler.as_ref().map(|name| {
        let (_, spacing) = solver::by_name(&format!("Euler {name}")).ok()?;
        spacing
    });
    if let (Some(None), Some(name)) = (spacing, &scheduler) {
        let sentence = format!("scheduler {name:?} is not known; expected one of /sdapi/v1/schedulers");
        return Err(Refusal::field("scheduler", sentence));
    }
    let Some(sampler) = sampler else { return Ok(spacing.flatten().map(|spacing| ("spacing", json!(spacing)))) };
    let mut info = Infotext::default();
    info.fields.push(("Sampler".into(), sampler));
    info.fields.push(("Schedule type".into(), scheduler.unwrap_or_else(|| "Automatic".into())));
    Ok(info.sampler().map(|name| ("sampler", name.into())))
}

/// Takes the units of the extension for ControlNets, and then the job's own fields, which a request has under
/// `alwayson_scripts.impasto.args`. They replace those that stand for the same field of the job.
///
/// # Errors
/// A refusal of arguments that are no object, and the refusals of [`controlnet::take`].
pub(super) fn take_scripts(
    fields: &mut Fields,
    job: &mut Map<String, Value>,
    notes: &mut Vec<String>,
    options: &Options,
) -> Result<(), Refusal> {
    let mut scripts = fields.part("alwayson_scripts")?;
    let start = job.get("start").and_then(Value::as_str).map(str::to_owned);
    controlnet::take(&mut scripts, start.as_deref(), job, notes, options)?;
    let arguments = scripts.part("impasto")?.take("args");
    let own = match arguments {
        Some(Value::Array(arguments)) => arguments,
        arguments => arguments.into_iter().collect(),
    };
    for part in own {
        let Value::Object(part) = part else {
            let sentence = "the arguments of the script impasto are no object; expected the fields of a job";
            return Err(Refusal::field("alwayson_scripts", sentence));
        };
        job.extend(part);
    }
    let others: Vec<&str> = scripts.names().collect();
    if !others.is_empty() {
        notes.push(format!("these scripts are not there: {}", others.join(", ")));
    }
    Ok(())
}

/// Takes the fields that are not used, and notes those that would have changed the pictures. `unused` has further ones
/// of a kind of request.
pub(super) fn take_unused(
    fields: &mut Fields,
    unused: &'static [(&'static str, &'static [f64])],
    notes: &mut Vec<String>,
) {
    HARMLESS.iter().for_each(|name| drop(fields.take(name)));
    let all = UNUSED.iter().chain(unused);
    let taken = all.filter_map(|(name, neutral)| Some((*name, fields.take(name)?, neutral)));
    let names: Vec<&str> =
        taken.filter(|(_, value, neutral)| !is_neutral(value, neutral)).map(|(name, ..)| name).collect();
    fields.note_left(&names, notes);
}

/// Returns true for a value that changes nothing: an empty one, zero, or one of the numbers `neutral`.
fn is_neutral(value: &Value, neutral: &[f64]) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is_set) => !is_set || neutral.contains(&1.0),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        value => {
            value.as_str().is_some_and(str::is_empty)
                || number(value).is_some_and(|number| number == 0.0 || neutral.contains(&number))
        }
    }
}

/// Returns the text of a list's only value.
///
/// # Errors
/// A refusal of another number of values, and of a value that is no text.
pub(super) fn only(name: &'static str, mut values: Vec<Value>) -> Result<String, Refusal> {
    match (values.pop(), values.len()) {
        (Some(value), 0) => text(name, value),
        (_, more) => {
            let count = if more == 0 { 0 } else { more + 1 };
            Err(Refusal::field(name, format!("{name} has {count} pictures; expected 1")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn job(body: Value) -> (Map<String, Value>, Vec<String>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let (mut job, mut notes) = (Map::new(), Vec::new());
        take(&mut fields, &mut job, &mut notes).unwrap();
        take_scripts(&mut fields, &mut job, &mut notes, &Options::default()).unwrap();
        take_unused(&mut fields, &[], &mut notes);
        (job, notes)
    }

    #[test]
    fn samplers_have_the_spacings_of_the_web_ui() {
        let sampler = |sampler: &str, scheduler: &str| {
            job(json!({ "sampler_name": sampler, "scheduler": scheduler })).0["sampler"].clone()
        };
        assert_eq!(sampler("DPM++ 2M", "Automatic"), "DPM++ 2M Karras");
        assert_eq!(sampler("DPM++ 2M", "sgm_uniform"), "DPM++ 2M sgm_uniform");
        assert_eq!(sampler("Euler a", ""), "Euler a Normal");
        assert_eq!(sampler("DDIM", "karras"), "DDIM Leading");
        assert_eq!(job(json!({ "scheduler": "karras" })).0["spacing"], "Karras");
        assert_eq!(job(json!({ "sampler_index": "Euler", "scheduler": "Simple" })).0["sampler"], "Euler Simple");
        let error = sample(None, Some("turbo".into())).unwrap_err();
        assert!(error.sentence.starts_with("scheduler \"turbo\" is not known"), "{error:?}");
    }

    #[test]
    fn fields_without_an_effect_are_named() {
        let (_, notes) = job(json!({
            "styles": ["photo"], "restore_faces": true, "eta": 1.0, "s_noise": 1, "script_args": [], "auth": "secret",
            "override_settings": { "sd_vae": "Automatic", "eta_noise_seed_delta": 31337 }, "do_not_save_grid": true,
            "alwayson_scripts": { "ADetailer": { "args": [] } },
        }));
        assert_eq!(
            notes,
            [
                "these override_settings are not used: eta_noise_seed_delta",
                "these scripts are not there: ADetailer",
                "these fields are not used: styles, restore_faces",
                "these fields are not known: auth",
            ]
        );
        assert_eq!(job(json!({ "seed": -1, "styles": [], "subseed": -1, "subseed_strength": 0.0 })).1, [""; 0]);
    }

    #[test]
    fn own_fields_replace_those_of_the_web_ui() {
        for arguments in
            [json!([{ "forces": ["eyes=gold"], "steps": 4 }]), json!({ "forces": ["eyes=gold"], "steps": 4 })]
        {
            let body = json!({ "steps": 20, "alwayson_scripts": { "impasto": { "args": arguments } } });
            let (job, _) = job(body);
            assert_eq!((&job["forces"], &job["steps"]), (&json!(["eyes=gold"]), &json!(4)));
        }
    }

    #[test]
    fn subseed_is_a_variation() {
        let (told, notes) = job(json!({ "subseed": 8, "subseed_strength": 0.2, "n_iter": 2, "batch_size": 2 }));
        assert_eq!((&told["variation"], &told["images"]), (&json!([8, 0.2]), &json!(4)));
        assert!(notes[0].contains("subseed"), "{notes:?}");
        let drawn = job(json!({ "subseed": -1, "subseed_strength": 0.2 })).0["variation"][0].as_u64().unwrap();
        assert!(drawn <= u64::from(u32::MAX));
    }
}
