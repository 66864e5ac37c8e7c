//! [`Settings`]: the settings of another program as JSON, which become an [`Infotext`] one by one.

use crate::json;
use crate::pipeline::infotext::{Infotext, Program};
use serde_json::{Map, Value};

/// The settings of another program that are not read yet, and the text that they become.
pub(super) struct Settings {
    left: Map<String, Value>,
    info: Infotext,
}

impl Settings {
    pub(super) fn new(program: Program, left: Map<String, Value>) -> Self {
        Self { left, info: Infotext { program, ..Infotext::default() } }
    }

    /// Takes the first of these settings that has a value.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<Value> {
        names.iter().find_map(|name| self.left.remove(*name).filter(|value| !is_empty(value)))
    }

    /// Takes a setting as [`take`](Self::take) does, as text.
    pub(super) fn text(&mut self, names: &[&str]) -> Option<String> {
        self.take(names).map(text)
    }

    pub(super) fn prompt(&mut self, prompt: &str) {
        self.info.prompt = prompt.into();
    }

    pub(super) fn negative(&mut self, negative: String) {
        self.info.negative = negative;
    }

    /// Adds a field with the first of these settings that has a value.
    pub(super) fn field(&mut self, field: &str, names: &[&str]) {
        let value = self.text(names);
        self.add(field, value);
    }

    /// Adds a field, if there is a value.
    pub(super) fn add(&mut self, field: &str, value: Option<String>) {
        if let Some(value) = value {
            self.info.push(field, value);
        }
    }

    /// Adds the field of the size.
    pub(super) fn size(&mut self) {
        let sides = self.text(&["width"]).zip(self.text(&["height"]));
        self.add("Size", sides.map(|(width, height)| format!("{width}x{height}")));
    }

    /// Drops settings that say nothing new.
    pub(super) fn drop(&mut self, names: &[&str]) {
        names.iter().for_each(|name| drop(self.left.remove(*name)));
    }

    /// Returns the text. Settings that are left become fields under their own names.
    pub(super) fn finish(mut self) -> Infotext {
        for (name, value) in self.left {
            if !is_empty(&value) {
                self.info.push(&name, text(value));
            }
        }
        self.info
    }
}

/// Returns true for values that say that a setting is not used.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Returns a value as text: a string as it is, and other values as JSON.
pub(super) fn text(value: Value) -> String {
    match (value.as_f64(), value) {
        (_, Value::String(text)) => text,
        (Some(share), Value::Number(number)) if number.is_f64() => share.to_string(), // 7.0 becomes 7
        (_, value) => value.to_string(),
    }
}

/// Reads a JSON object; `None` for another text, and for more structure than that of a recipe.
///
/// Python writes `NaN` and `Infinity`, which are no JSON. Outside of strings, they count as null.
pub(super) fn object(text: &str) -> Option<Map<String, Value>> {
    let text = text.trim();
    if !text.starts_with('{') {
        return None;
    }
    json::parse(text).or_else(|_| json::parse(finite(text))).ok()
}

/// Replaces numbers that are not finite by null.
fn finite(json: &str) -> String {
    let (mut finite, mut is_inside) = (String::with_capacity(json.len()), false);
    for part in json.split_inclusive('"') {
        let before = part.strip_suffix('"');
        if is_inside {
            finite.push_str(part);
        } else {
            finite.push_str(
                &["-Infinity", "Infinity", "NaN"]
                    .iter()
                    .fold(part.to_owned(), |part, number| part.replace(number, "null")),
            );
        }
        // Inside a string, a quote after an odd number of backslashes is a letter.
        let backslashes = before.unwrap_or_default().bytes().rev().take_while(|byte| *byte == b'\\').count();
        is_inside ^= before.is_some() && !(is_inside && backslashes % 2 == 1);
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_become_null() {
        let read = object(r#" {"a": [NaN, -Infinity, Infinity], "NaN \" NaN": "NaN\\", "b": {"c": NaN}} "#).unwrap();
        let want = r#"{"a": [null, null, null], "NaN \" NaN": "NaN\\", "b": {"c": null}}"#;
        assert_eq!(read, object(want).unwrap());
        for broken in ["", "NaN", "[1]", "{", r#"{"a": Nan}"#, r#"{"a": 1} NaN"#] {
            assert_eq!(object(broken), None, "{broken}");
        }
        assert_eq!(object(&format!("{{\"a\": {}{}}}", "[".repeat(1000), "]".repeat(1000))), None);
        assert_eq!(object(&format!("{{\"a\": [{}1]}}", "1, ".repeat(600_000))), None);
    }

    #[test]
    fn settings_that_are_left_become_fields() {
        let json = object(
            r#"{"a": 7.0, "b": null, "c": "x", "d": [], "e": true, "h": false, "f": {"g": 0.5}, "width": 64, "height": 32}"#,
        );
        let mut settings = Settings::new(Program::Fooocus, json.unwrap());
        settings.field("A", &["none", "a"]);
        settings.size();
        let fields = settings.finish().fields;
        let shown: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(shown, ["A: 7", "Size: 64x32", "c: x", "e: true", "f: {\"g\":0.5}"]);
    }
}
