//! The tools, and their descriptions. The schemas of their fields are those of the studio's API.

use crate::OPENAPI;
use crate::request::REFUSED;
use impasto::{Error, Result};
use rmcp::model::{Tool, ToolAnnotations};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Paint,
    PaintExact,
    Repaint,
    Look,
}

/// Beginning of a reference to a schema of the studio's API.
const SCHEMAS: &str = "#/components/schemas/";
/// Name of the schema of a picture.
const PICTURE: &str = "Picture";
/// Names of the schemas of values whose text has a path, which a server does not read: a ControlNet and its picture,
/// and a picture to draw like.
const WITH_PATHS: [&str; 2] = ["Follow", "Like"];
/// Fields of a job that each tool for one purpose has.
const COMMON: [&str; 6] = ["prompt", "negative", "steps", "seed", "best_of", "guidance_scale"];

impl Kind {
    /// All tools.
    pub(super) const ALL: [Self; 4] = [Self::Paint, Self::PaintExact, Self::Repaint, Self::Look];

    /// Returns the tool with a name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Paint => "paint",
            Self::PaintExact => "paint_exact",
            Self::Repaint => "repaint",
            Self::Look => "look",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Paint => "Paint a picture",
            Self::PaintExact => "Paint a picture with exact colors",
            Self::Repaint => "Repaint a part of a picture",
            Self::Look => "Look at a picture's recipe and attention",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Paint => {
                "Paints pictures of a prompt with Stable Diffusion, with any settings of a run. Returns each picture \
                 with its name, which other tools take, and its seed."
            }
            Self::PaintExact => {
                "Paints pictures of a prompt in which named things have exact colors. Returns each picture, and the \
                 difference (ΔE, CIEDE2000) between each asked and painted color: below 1 it is hardly visible. If a \
                 color is missed, try another seed, or best_of 4."
            }
            Self::Repaint => {
                "Repaints the part of a picture that a word names (mask_where) or a mask covers, or the whole picture \
                 by strength, and keeps every other pixel. The prompt describes the whole new picture."
            }
            Self::Look => {
                "Returns the recipe of a picture: prompt, seed and other settings. With words of the prompt, also \
                 shows where in the picture the model attends to each word."
            }
        }
    }

    /// Returns the fields of a job that the tool has beside [`COMMON`].
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Paint | Self::Look => &[],
            Self::PaintExact => &["size", "images", "sampler"],
            Self::Repaint => {
                &["start", "mask_where", "mask", "strength", "masked_content", "soften", "feather", "keep_colors"]
            }
        }
    }

    pub(super) const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Paint => &["prompt"],
            Self::PaintExact => &["prompt", "forces"],
            Self::Repaint => &["start", "prompt"],
            Self::Look => &["picture"],
        }
    }

    /// Returns the schemas of the tool's fields, from those of a request.
    fn properties(self, request: &Map<String, Value>) -> Map<String, Value> {
        let copy = |name: &&str| Some(((*name).to_owned(), request.get(*name)?.clone()));
        let mut fields: Map<String, Value> = match self {
            Self::Paint => {
                let left_out = |name: &str| name == "live" || REFUSED.contains(&name);
                request
                    .iter()
                    .filter(|(name, _)| !left_out(name))
                    .map(|(name, field)| (name.clone(), field.clone()))
                    .collect()
            }
            Self::PaintExact | Self::Repaint => COMMON.iter().chain(self.fields()).filter_map(copy).collect(),
            Self::Look => Map::new(),
        };
        if [Self::PaintExact, Self::Repaint].contains(&self) {
            let words = "Exact colors: a phrase of the prompt, and the color of the thing that it names, such as \
                         {\"hair\": \"#ffd700\", \"hat\": \"teal\"}.";
            let color = json!({ "type": "string" });
            let least = usize::from(self == Self::PaintExact);
            fields.insert(
                "forces".into(),
                json!({
                    "type": "object", "description": words, "additionalProperties": color, "minProperties": least,
                    "maxProperties": 16,
                }),
            );
        }
        if self == Self::Look {
            let words =
                "Words of the prompt whose attention is shown. Without words, the picture is not painted again.";
            fields.insert("picture".into(), json!({ "$ref": format!("{SCHEMAS}{PICTURE}") }));
            fields.insert(
                "words".into(),
                json!({ "type": "array", "items": { "type": "string" }, "description": words }),
            );
        }
        fields
    }

    /// Describes the tool. `schemas` are those of the studio's API, and `models` the names of the models to choose
    /// from, if there is a choice.
    fn describe(self, schemas: &Map<String, Value>, models: &[String]) -> Tool {
        let request = schemas.get("Request").and_then(|request| request.get("properties")).and_then(Value::as_object);
        let (mut properties, mut definitions) = (self.properties(request.unwrap_or(&Map::new())), Map::new());
        if models.is_empty() {
            properties.remove("model");
        } else if let Some(model) = properties.get_mut("model") {
            *model = json!({ "enum": models, "description": "The model. The default is the last one that was used." });
        }
        properties.values_mut().for_each(|field| relocate(field, schemas, &mut definitions));
        let mut schema = Map::new();
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), properties.into());
        schema.insert("required".into(), self.required().into());
        schema.insert("additionalProperties".into(), false.into());
        schema.insert("$defs".into(), definitions.into());
        let hints = ToolAnnotations::new().read_only(true).open_world(false);
        Tool::new(self.name(), self.text(), Arc::new(schema)).with_title(self.title()).with_annotations(hints)
    }
}

/// Describes the tools. `models` are the names of the models to choose from, if there is a choice.
///
/// # Errors
/// [`Error::Custom`] if the description of the studio's API is broken.
pub(super) fn describe(models: &[String]) -> Result<Vec<Tool>> {
    let api: Value = impasto::json::parse(OPENAPI).map_err(Error::custom)?;
    let schemas = api.pointer("/components/schemas").and_then(Value::as_object);
    let schemas =
        schemas.ok_or_else(|| Error::custom("the description of the API has no schemas; report this fault"))?;
    Ok(Kind::ALL.map(|kind| kind.describe(schemas, models)).into())
}

/// Turns the references of a schema into references to `definitions`, and adds the schemas that they name. Descriptions
/// are cut to their first paragraph, because an agent reads all of them before its first call.
fn relocate(schema: &mut Value, schemas: &Map<String, Value>, definitions: &mut Map<String, Value>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description")
                && let Some(end) = text.find("\n\n")
            {
                text.truncate(end);
            }
            if let Some(Value::String(reference)) = fields.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(SCHEMAS).map(str::to_owned)
            {
                *reference = format!("#/$defs/{name}");
                if !definitions.contains_key(&name) {
                    definitions.insert(name.clone(), Value::Null); // a schema may contain itself
                    let mut named = define(&name, schemas);
                    relocate(&mut named, schemas, definitions);
                    definitions.insert(name, named);
                }
            }
            fields.values_mut().for_each(|field| relocate(field, schemas, definitions));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| relocate(value, schemas, definitions)),
        _ => {}
    }
}

/// Returns the schema with a name, as a tool has it.
fn define(name: &str, schemas: &Map<String, Value>) -> Value {
    let schema = || schemas.get(name).cloned().unwrap_or_default();
    match name {
        PICTURE => picture(),
        name if WITH_PATHS.contains(&name) => schema(),
        _ => with_text(schema()),
    }
}

/// Returns the schema of a value that may also be a text, if it is the schema of a value with parts. A job reads every
/// such value from text too.
fn with_text(mut schema: Value) -> Value {
    if schema.get("type").is_none_or(|kind| kind != "object") {
        return schema;
    }
    let words = schema.as_object_mut().and_then(|fields| fields.remove("description")).unwrap_or_default();
    json!({ "description": words, "anyOf": [{ "type": "string" }, schema] })
}

/// Returns the schema of a picture.
fn picture() -> Value {
    let words = "The name of a painted picture, such as `picture:1/0`, a path in the folders that the user named, or a \
                 data URL of PNG, JPEG or WebP.";
    json!({ "type": "string", "description": words })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn schema(kind: Kind) -> Value {
        let tools = describe(&[]).unwrap();
        Value::Object((*tools.iter().find(|tool| tool.name == kind.name()).unwrap().input_schema).clone())
    }

    /// Lists the references in a schema.
    fn references(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn models_are_named_if_there_is_a_choice() {
        let model = |models: &[String]| {
            let paint = describe(models).unwrap().remove(0);
            paint.input_schema["properties"].get("model").map(|model| model["enum"].clone())
        };
        assert_eq!(model(&["a".into(), "b".into()]), Some(json!(["a", "b"])));
        assert_eq!(model(&[]), None);
    }

    #[test]
    fn every_reference_has_its_schema() {
        for kind in Kind::ALL {
            let (schema, mut found) = (schema(kind), Vec::new());
            references(&schema, &mut found);
            assert!(!found.is_empty() || kind != Kind::Paint);
            for reference in found {
                let target = schema.pointer(reference.trim_start_matches('#'));
                assert!(target.is_some_and(Value::is_object), "{kind:?}: {reference}");
            }
        }
    }

    #[test]
    fn every_named_field_is_described() {
        for kind in Kind::ALL {
            let schema = schema(kind);
            let fields = schema["properties"].as_object().unwrap();
            let common: &[&str] = if kind == Kind::Look { &[] } else { &COMMON };
            for name in kind.required().iter().chain(kind.fields()).chain(common) {
                assert!(fields.contains_key(*name), "{kind:?}: {name}");
            }
            assert!(REFUSED.iter().chain(&["live"]).all(|name| !fields.contains_key(*name)), "{kind:?}");
        }
    }
}
