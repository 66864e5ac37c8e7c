//! The description of the API in the OpenAPI format.

use crate::request::{JobRequest, LIMITS, REFUSED};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The description without the schemas of a request, which are those of its types.
const BASE: &str = include_str!("../openapi.json");

static DESCRIPTION: LazyLock<String> = LazyLock::new(|| {
    let mut whole: Value = impasto::json::parse(BASE).unwrap_or_default();
    if let Some(schemas) = whole.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.extend(of_request());
    }
    format!("{whole:#}")
});

/// Returns the description of the API in the OpenAPI format, version 3.1. The schemas of a request are those of
/// [`JobRequest`], so that every field of a [`Job`](impasto::job::Job) is described.
pub fn openapi() -> &'static str {
    &DESCRIPTION
}

/// Returns the schemas of a request and of its parts, by name.
fn of_request() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    generator.subschema_for::<JobRequest>();
    let mut schemas = generator.take_definitions(true);
    let Some(request) = schemas.get_mut("Request").and_then(Value::as_object_mut) else { return schemas };
    request.insert("additionalProperties".into(), false.into());
    if let Some(fields) = request.get_mut("properties").and_then(Value::as_object_mut) {
        for field in REFUSED {
            fields.insert(
                field.into(),
                json!({ "type": "null", "default": null, "description": "A studio takes none." }),
            );
        }
        let side = |side| {
            let words = format!("{side} in pixels, in place of `size`. Both sides are given, or neither.");
            json!({ "type": ["integer", "null"], "default": null, "minimum": 1, "description": words })
        };
        fields.insert("width".into(), side("Width"));
        fields.insert("height".into(), side("Height"));
        for (field, keyword, value) in LIMITS {
            if let Some(Value::Object(field)) = fields.get_mut(field) {
                field.insert(keyword.into(), value.into());
            }
        }
    }
    schemas
}
