//! The units of the web UI's extension for ControlNets, as controls of a job, and the lists of the extension.
//!
//! Source: `scripts/api.py` of Mikubill/sd-webui-controlnet.

use crate::fields::{Fields, number};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::shared::Shared;
use crate::upload::Upload;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Names by which clients call the extension.
const NAMES: [&str; 2] = ["controlnet", "ControlNet"];
/// Name by which the units choose the IP-Adapter.
const ADAPTER: &str = "ip-adapter";
/// Control modes in which the prompt, or the picture, counts more. In the second one the branch without a prompt runs
/// without control, and fine grids have less weight, which is the guess mode of ControlNet's first release.
const PROMPT_FIRST: i64 = 1;
const PICTURE_FIRST: i64 = 2;
/// Number of units that a request may have.
const MOST: usize = 16;
/// Endings that clients leave on the names of models.
const ENDINGS: [&str; 4] = [".safetensors", ".pth", ".ckpt", ".bin"];
/// Types of a picture for a ControlNet union, by the extension's names.
const TYPES: [(&str, &str); 8] = [
    ("openpose", "pose"),
    ("depth", "depth"),
    ("soft edge", "soft_edge"),
    ("hard edge", "line"),
    ("normal map", "normal"),
    ("segmentation", "segmentation"),
    ("tile", "tile"),
    ("inpaint", "repaint"),
];
/// Fields of a unit that have no effect on pictures, or none without a preprocessor.
const HARMLESS: [&str; 13] = [
    "low_vram",
    "lowvram",
    "pixel_perfect",
    "processor_res",
    "threshold_a",
    "threshold_b",
    "hr_option",
    "save_detected_map",
    "is_ui",
    "input_mode",
    "batch_images",
    "output_dir",
    "advanced_weighting",
];

/// The fields of a job that units become.
#[derive(Default)]
struct Units {
    controls: Vec<Value>,
    likes: Vec<Value>,
    strength: Option<f64>,
}

/// Takes the units of the extension, and adds them to a job. A unit without a picture follows `start`.
///
/// # Errors
/// A refusal of a unit that is no object or has no picture, and of unfit values.
pub(super) fn take(
    scripts: &mut Fields,
    start: Option<&str>,
    job: &mut Map<String, Value>,
    notes: &mut Vec<String>,
    options: &Options,
) -> Result<(), Refusal> {
    let mut units = Units::default();
    for name in NAMES {
        let given = scripts.part(name)?.list("args")?;
        if given.len() > MOST {
            let sentence = format!("{name} has {} units; expected at most {MOST}", given.len());
            return Err(Refusal::field("alwayson_scripts", sentence));
        }
        for (index, unit) in given.into_iter().enumerate() {
            let Value::Object(unit) = unit else {
                let sentence = format!("unit {index} of {name} is no object; expected one with model and image");
                return Err(Refusal::field("alwayson_scripts", sentence));
            };
            units.add(&mut unit.into(), start, &format!("unit {index} of {name}"), notes, options)?;
        }
    }
    let Units { controls, likes, strength } = units;
    for (field, value) in [("controls", controls), ("ip_adapter_pictures", likes)] {
        if !value.is_empty() {
            job.insert(field.into(), value.into());
        }
    }
    if let Some(strength) = strength {
        job.insert("ip_adapter_strength".into(), strength.into());
    }
    Ok(())
}

impl Units {
    /// Adds a unit.
    fn add(
        &mut self,
        unit: &mut Fields,
        start: Option<&str>,
        name: &str,
        notes: &mut Vec<String>,
        options: &Options,
    ) -> Result<(), Refusal> {
        let is_off = unit.take("enabled").is_some_and(|enabled| enabled == json!(false) || enabled == json!(0));
        let model = unit.word("model")?.filter(|model| model != "None");
        let Some(model) = model.filter(|_| !is_off) else {
            if !is_off {
                notes.push(format!("{name} has no model, and is left out"));
            }
            return Ok(());
        };
        let model = short(&model);
        let [image, input] = [unit.take("image"), unit.take("input_image")];
        let picture = match encoded(image).or_else(|| encoded(input)) {
            Some(picture) => Upload::from_base64("image", &picture, options)?.data_url()?,
            None => start.map(str::to_owned).ok_or_else(|| {
                Refusal::field("image", format!("{name} has no picture; expected a file in base64 in image"))
            })?,
        };
        let weight = unit.number("weight")?.unwrap_or(1.0);
        let window = [unit.number("guidance_start")?.unwrap_or(0.0), unit.number("guidance_end")?.unwrap_or(1.0)];
        let module = unit.word("module")?.unwrap_or_else(|| "none".into());
        if !module.eq_ignore_ascii_case("none") && model != ADAPTER {
            notes.push(format!("{name}: the preprocessor {module:?} is not there; the picture is used as it is"));
        }
        let mode = mode(unit.take("control_mode"));
        if mode == PROMPT_FIRST {
            notes.push(format!("{name}: control_mode 1 is not there; prompt and picture are balanced (0)"));
        }
        let guess = (mode == PICTURE_FIRST).then_some("original");
        let kind = unit.word("union_control_type")?.map(|kind| kind.to_lowercase());
        let kind = kind.and_then(|kind| Some(TYPES.iter().find(|(known, _)| *known == kind)?.1));
        if model == ADAPTER {
            self.likes.push(json!({ "picture": picture }));
            self.strength = Some(weight);
            if window != [0.0, 1.0] {
                notes.push(format!("{name}: guidance_start and guidance_end are not used by the IP-Adapter"));
            }
        } else {
            let window = (window != [0.0, 1.0]).then(|| json!({ "progress": window }));
            self.controls.push(json!({
                "net": model, "picture": picture, "scale": weight, "window": window, "control_type": kind,
                "guess": guess,
            }));
        }
        HARMLESS.iter().for_each(|field| drop(unit.take(field)));
        let left: Vec<&str> = unit.names().collect();
        if !left.is_empty() {
            notes.push(format!("{name}: these fields are not used: {}", left.join(", ")));
        }
        Ok(())
    }
}

/// Returns the base64 of a picture in a unit: a text, or an object with the text.
fn encoded(value: Option<Value>) -> Option<String> {
    let text = match value? {
        Value::String(text) => text,
        Value::Object(mut parts) => encoded(parts.remove("image"))?,
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the name of a model without its hash and its ending.
fn short(model: &str) -> &str {
    let model = model.split(" [").next().unwrap_or(model);
    ENDINGS.iter().find_map(|ending| model.strip_suffix(ending)).unwrap_or(model)
}

/// Returns the number of a control mode, which clients also give by its name.
fn mode(value: Option<Value>) -> i64 {
    match value {
        Some(Value::String(name)) if name.starts_with("My prompt") => PROMPT_FIRST,
        Some(Value::String(name)) if name.starts_with("ControlNet") => PICTURE_FIRST,
        value => value.as_ref().and_then(number).map_or(0, |number| number as i64),
    }
}

/// Names of the lists.
pub(super) const LISTS: [&str; 5] = ["version", "settings", "model_list", "module_list", "control_types"];

/// Answers with the list of a name.
pub(super) async fn list(State(shared): State<Arc<Shared>>, name: &'static str) -> Json<Value> {
    let described = shared.board.read();
    let adapter = (described.model.get("ip_adapter") == Some(&json!(true))).then_some(ADAPTER);
    let models: Vec<&str> = described.networks.iter().map(String::as_str).chain(adapter).collect();
    let modules = json!(["none"]);
    Json(match name {
        "version" => json!({ "version": 2 }),
        "settings" => json!({ "control_net_unit_count": MOST }),
        "model_list" => json!({ "model_list": models }),
        "module_list" => json!({ "module_list": modules, "module_detail": {} }),
        _ => {
            let all = json!({
                "module_list": modules, "model_list": models, "default_option": "none", "default_model": "None",
            });
            json!({ "control_types": { "All": all } })
        }
    })
}
