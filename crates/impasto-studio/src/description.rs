//! The schemas of a request in the description of the API, from the types.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use crate::request::{JobRequest, LIMITS, REFUSED};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Environment variable that asks the test to write the schemas into `openapi.json`.
const WRITE: &str = "IMPASTO_WRITE_OPENAPI";

/// Returns the schemas of a request and of its parts, by name.
fn of_request() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
    });
    let mut generator = settings.into_generator();
    generator.subschema_for::<JobRequest>();
    let mut schemas = generator.take_definitions(true);
    let request = schemas["Request"].as_object_mut().unwrap();
    request.insert("additionalProperties".into(), false.into());
    let fields = request["properties"].as_object_mut().unwrap();
    for field in REFUSED {
        fields.insert(field.into(), json!({ "type": "null", "default": null, "description": "A studio takes none." }));
    }
    for side in ["Width", "Height"] {
        let words = format!("{side} in pixels, in place of `size`. Both sides are given, or neither.");
        let schema = json!({ "type": ["integer", "null"], "default": null, "minimum": 1, "description": words });
        fields.insert(side.to_lowercase(), schema);
    }
    for (field, keyword, value) in LIMITS {
        fields[field].as_object_mut().unwrap().insert(keyword.into(), value.into());
    }
    schemas.values_mut().for_each(simplify);
    schemas
}

/// Takes the line breaks and the links of the source code out of all descriptions in a schema.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                let lines = text.replace("\n\n", "\r").replace('\n', " ").replace('\r', "\n\n");
                let mut parts = lines.split("](");
                let first = parts.next().unwrap_or_default().to_owned();
                let rest = parts.map(|part| part.split_once(')').map_or(part, |(_, after)| after));
                *text = rest.fold(first, |text, part| text + part).replace("[`", "`").replace("`]", "`");
            }
            fields.values_mut().for_each(simplify);
        }
        Value::Array(values) => values.iter_mut().for_each(simplify),
        _ => {}
    }
}

#[test]
fn request_is_described_as_its_types_are() {
    let mut whole: Value = impasto::json::parse(crate::OPENAPI).unwrap();
    let written = whole["components"]["schemas"].as_object_mut().unwrap();
    let before = written.clone();
    written.extend(of_request());
    if std::env::var_os(WRITE).is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        return std::fs::write(file, format!("{whole:#}\n")).unwrap();
    }
    let other: Vec<&String> =
        written.iter().filter(|(name, schema)| before.get(*name) != Some(*schema)).map(|(name, _)| name).collect();
    assert!(other.is_empty(), "openapi.json has other schemas of {other:?}; write it by this test with {WRITE}=1");
}
