//! [`Fields`]: the fields of a request in another program's API.

use crate::refusal::Refusal;
use serde_json::{Map, Value};

/// The fields of a request in another program's API. Each one is taken by its name, and the names that are left are
/// those that the studio does not know.
pub(crate) struct Fields(Map<String, Value>);

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Fields {
    /// Parses the JSON text of a request.
    ///
    /// # Errors
    /// A refusal of a text that is no JSON object, or has too many values.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Refusal> {
        match impasto::json::parse(text).map_err(|error| Refusal::wrong(error.to_string()))? {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(Refusal::wrong("the body is no JSON object; expected one, such as {\"prompt\": \"a boat\"}")),
        }
    }

    /// Returns the fields but those in `without`.
    pub(crate) fn copy(&self, without: &[&str]) -> Map<String, Value> {
        let fields = self.0.iter().filter(|(name, _)| !without.contains(&name.as_str()));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Adds notes about the fields that are `unused`, and about the fields that nothing took.
    pub(crate) fn note_left(&self, unused: &[&str], notes: &mut Vec<String>) {
        if !unused.is_empty() {
            notes.push(format!("these fields are not used: {}", unused.join(", ")));
        }
        let unknown: Vec<&str> = self.names().collect();
        if !unknown.is_empty() {
            notes.push(format!("these fields are not known: {}", unknown.join(", ")));
        }
    }

    /// Returns the names of the fields that were not taken.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Takes a field. A field with null counts as missing.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text.
    ///
    /// # Errors
    /// A refusal of another value.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        self.take(name).map(|value| text(name, value)).transpose()
    }

    /// Takes a text, and counts an empty one as missing.
    ///
    /// # Errors
    /// A refusal of another value.
    pub(crate) fn word(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// Takes a number, which may also stand in a text.
    ///
    /// # Errors
    /// A refusal of another value.
    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        number(&value).map(Some).ok_or_else(|| refuse(name, &value, "a number"))
    }

    /// Takes a whole number, which may also stand in a text.
    ///
    /// # Errors
    /// A refusal of another value.
    pub(crate) fn whole(&mut self, name: &'static str) -> Result<Option<i64>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let parsed = || value.as_str()?.trim().parse().ok();
        let is_whole = |number: &f64| number.fract() == 0.0 && number.abs() < 1e15;
        let rounded = || number(&value).filter(is_whole).map(|number| number as i64);
        let whole = value.as_i64().or_else(parsed).or_else(rounded);
        whole.map(Some).ok_or_else(|| refuse(name, &value, "a whole number"))
    }

    /// Takes a truth value, which may also be 0 or 1, or stand in a text.
    ///
    /// # Errors
    /// A refusal of another value.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<bool, Refusal> {
        let Some(value) = self.take(name) else { return Ok(false) };
        let named = || match value.as_str()?.to_lowercase().as_str() {
            "true" => Some(true),
            "false" | "" => Some(false),
            _ => None,
        };
        let counted = || number(&value).map(|number| number != 0.0);
        value.as_bool().or_else(named).or_else(counted).ok_or_else(|| refuse(name, &value, "true or false"))
    }

    /// Takes the fields of a field.
    ///
    /// # Errors
    /// A refusal of a value that is no object.
    pub(crate) fn part(&mut self, name: &'static str) -> Result<Self, Refusal> {
        match self.take(name) {
            None => Ok(Self(Map::new())),
            Some(Value::Object(fields)) => Ok(Self(fields)),
            Some(value) => Err(refuse(name, &value, "an object")),
        }
    }

    /// Takes a list; a missing one is empty.
    ///
    /// # Errors
    /// A refusal of a value that is no list.
    pub(crate) fn list(&mut self, name: &'static str) -> Result<Vec<Value>, Refusal> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(value) => Err(refuse(name, &value, "a list")),
        }
    }
}

/// Returns the text in a value.
///
/// # Errors
/// A refusal of another value, by the name of its field.
pub(crate) fn text(name: &'static str, value: Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        value => Err(refuse(name, &value, "a text")),
    }
}

/// Returns the finite number in a value or in its text.
pub(crate) fn number(value: &Value) -> Option<f64> {
    let parsed = || value.as_str()?.trim().parse().ok();
    value.as_f64().or_else(parsed).filter(|number: &f64| number.is_finite())
}

/// Refuses the value of a field.
fn refuse(name: &'static str, value: &Value, expected: &str) -> Refusal {
    Refusal::field(name, format!("{name} is {value}; expected {expected}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_of_careless_clients_are_read() {
        let mut read =
            fields(r#"{"a": "20", "b": 512.0, "c": 1, "d": "False", "e": null, "f": " -1 ", "g": "", "h": 7}"#);
        assert_eq!((read.whole("a").unwrap(), read.whole("b").unwrap()), (Some(20), Some(512)));
        assert_eq!((read.flag("c").unwrap(), read.flag("d").unwrap()), (true, false));
        assert_eq!((read.text("e").unwrap(), read.whole("f").unwrap()), (None, Some(-1)));
        assert_eq!((read.word("g").unwrap(), read.number("missing").unwrap()), (None, None));
        assert_eq!(read.names().collect::<Vec<_>>(), ["h"]);
    }

    #[test]
    fn wrong_values_are_named() {
        let mut read =
            fields(r#"{"steps": "many", "width": 1.5, "tiling": [], "prompt": 7, "mask": {}, "seed": 1e300}"#);
        let said = |refusal: Refusal| (refusal.field, refusal.sentence);
        assert_eq!(
            read.whole("steps").map_err(said).unwrap_err(),
            (Some("steps"), r#"steps is "many"; expected a whole number"#.to_owned())
        );
        assert!(read.whole("width").is_err() && read.flag("tiling").is_err() && read.text("prompt").is_err());
        assert!(read.list("mask").is_err() && read.whole("seed").is_err());
        assert!(Fields::parse(b"[]").is_err() && Fields::parse(b"{").is_err());
    }
}
