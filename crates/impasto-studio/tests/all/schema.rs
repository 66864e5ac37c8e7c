//! Tests that the answers match the description of the API.

use crate::running::Running;
use impasto_studio::{JobRequest, OPENAPI, Options};
use serde_json::{Value, json};

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// Checks a value against a schema of the description. Only the keywords of JSON Schema that the description uses are
/// known.
fn check(api: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = api.pointer(reference.trim_start_matches('#')).unwrap();
        return check(api, target, value, place);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value}");
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{place}: type {other}"),
    };
    assert!(kinds.is_empty() || kinds.iter().any(is), "{place}: {value} is no {kinds:?}");
    for item in value.as_array().into_iter().flatten() {
        check(api, &schema["items"], item, &format!("{place}[]"));
    }
    if let Some(fields) = value.as_object().filter(|_| schema["properties"].is_object()) {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(name.as_str().unwrap()), "{place} lacks {name}");
        }
        for (name, field) in fields {
            let known = &schema["properties"][name];
            assert!(!known.is_null() || schema["additionalProperties"] != false, "{place}.{name} is not described");
            check(api, known, field, &format!("{place}.{name}"));
        }
    }
}

fn check_named(schema: &str, value: &Value) {
    let api = description();
    check(&api, &api["components"]["schemas"][schema], value, schema);
}

#[test]
fn answers_fit_the_description() {
    let folder = tempfile::tempdir().unwrap();
    let studio = Running::start(Options { outputs: Some(folder.path().into()), ..Options::default() });
    check_named("Model", &studio.get("/api/model").json());
    check_named("Health", &studio.get("/api/health").json());
    let accepted = studio.post("/api/jobs", "application/json", br##"{"prompt": "1girl, #ffd700 hair", "steps": 2}"##);
    check_named("Accepted", &accepted.json());
    let job = studio.ended(accepted.json()["id"].as_u64().unwrap());
    check_named("Job", &job);
    assert_eq!(job["result"]["words"][0]["word"], "1girl");
    let png = studio.get(job["result"]["pictures"][0]["url"].as_str().unwrap()).body;
    check_named("Restored", &studio.post("/api/recipes", "image/png", &png).json());
    let outputs = studio.get("/api/outputs").json();
    check_named("Outputs", &outputs);
    let output = outputs["pictures"][0]["url"].as_str().unwrap();
    check_named("OutputReport", &studio.get(&format!("{output}/report")).json());
    let refused = studio.post("/api/jobs", "application/json", b"{");
    check_named("Error", &refused.json());
    assert_eq!(studio.get("/api/openapi.json").json(), description());
}

#[test]
fn request_has_the_described_fields_and_defaults() {
    let fields = serde_json::to_value(JobRequest::default()).unwrap();
    check_named("Request", &fields);
    let api = description();
    let described = api["components"]["schemas"]["Request"]["properties"].as_object().unwrap();
    // Further forms of the size, and fields that are left out where they are empty.
    let unwritten = ["width", "height", "details", "guidances", "third_prompt", "third_negative"];
    let written = || described.iter().filter(|(name, _)| !unwritten.contains(&name.as_str()));
    assert_eq!(
        written().map(|(name, _)| name).collect::<Vec<_>>(),
        fields.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    for (name, field) in written() {
        assert_eq!(field["default"], fields[name], "{name}");
    }
}

#[test]
fn every_described_path_and_method_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let studio = Running::start(Options { outputs: Some(folder.path().into()), ..Options::default() });
    let id = studio.submit(&json!({ "prompt": "a boat", "steps": 1 }));
    studio.ended(id);
    let outputs = studio.get("/api/outputs").json();
    let file = outputs["pictures"][0]["file"].as_str().unwrap();
    for (path, methods) in description()["paths"].as_object().unwrap() {
        let path = path.replace("{id}", &id.to_string()).replace("{index}", "0").replace("{file}", file);
        for method in methods.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let answer = match method.as_str() {
                "get" => studio.get(&path),
                "delete" => studio.delete(&path),
                _ => studio.post(&path, "application/json", b"{}"),
            };
            assert!(![404, 405, 500].contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
}
