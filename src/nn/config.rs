//! Parsing of `config.json`. A setting that is not implemented is an error that names the setting; irrelevant fields
//! are ignored.

use crate::error::{Error, Result};
use crate::json;
use crate::wording::Note;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A field that this crate implements for some values only, and those values as JSON. A missing field and `null` are
/// also accepted.
pub(super) type Fixed = (&'static str, &'static [&'static str]);

/// One number for all levels of a network, or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerLevel {
    /// One number for all levels.
    Same(i64),
    /// A number for each level, from the largest grid to the smallest.
    Each(Vec<i64>),
}

impl PerLevel {
    /// Returns the number of a level; `None` if the list is too short.
    pub(crate) fn level(&self, index: usize) -> Option<i64> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Each(values) => values.get(index).copied(),
        }
    }
}

/// A configuration that is stored as a JSON file, such as the `config.json` of a network.
///
/// ```
/// use impasto::nn::{ConfigFile, VaeConfig};
///
/// let config = VaeConfig::from_json("vae/config.json", r#"{ "block_out_channels": [8, 16], "norm_num_groups": 4 }"#)?;
/// assert_eq!(config.block_out_channels, [8, 16]);
/// let error = VaeConfig::from_json("vae/config.json", r#"{ "norm_num_groups": 0 }"#).unwrap_err();
/// assert!(error.to_string().starts_with("vae/config.json: norm_num_groups is 0"));
/// # Ok::<(), impasto::Error>(())
/// ```
pub trait ConfigFile: Sized {
    /// Parses the text of the file; `file` names the text in error messages.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the text is not JSON of this form. [`Error::Config`] if the configuration contradicts
    /// itself or asks for something that changes the result and is not implemented.
    fn from_json(file: &str, text: &str) -> Result<Self>;
}

/// Parses the configuration `text`; `file` names the text in error messages.
pub(super) fn read<T: DeserializeOwned>(file: &str, text: &str, fixed: &[Fixed]) -> Result<T> {
    let malformed = |error: serde_json::Error| Error::Malformed { file: file.into(), problem: error.to_string() };
    let json: Value = json::parse(text).map_err(malformed)?;
    for (field, allowed) in fixed {
        let value = json.get(field).unwrap_or(&Value::Null);
        let accepted = |value: &Value| value.is_null() || allowed.contains(&&*value.to_string());
        if !(accepted(value) || value.as_array().is_some_and(|values| values.iter().all(accepted))) {
            return Err(Error::Config {
                file: file.into(),
                field: (*field).into(),
                value: value.to_string(),
                expected: match allowed {
                    [] => "this value is not implemented; expected null".into(),
                    some => format!("only {} is implemented", some.join(" or ")).into(),
                },
            });
        }
    }
    serde_json::from_value(json).map_err(malformed)
}

/// The error for a contradiction or an impossible value in a configuration.
pub(super) fn refuse(config: &str, field: &str, value: impl std::fmt::Debug, expected: impl Into<Note>) -> Error {
    Error::Config { file: config.into(), field: field.into(), value: format!("{value:?}"), expected: expected.into() }
}

/// Checks that every value is in 1..=2²⁰, so that products of sizes cannot overflow.
pub(super) fn sizes(config: &str, field: &str, values: &[i64]) -> Result<()> {
    match values.iter().find(|&&value| !(1..=1 << 20).contains(&value)) {
        Some(value) => Err(refuse(config, field, value, "expected a size of at least 1 and at most 1048576")),
        None => Ok(()),
    }
}

/// Largest number of layers or blocks in a network's level. Published networks have 48 at most (OpenCLIP's bigG vision
/// tower).
const MOST_LAYERS: i64 = 256;
/// Largest number of levels of a network. Each level halves the grid, and published networks have 4 at most.
const MOST_LEVELS: usize = 16;

/// Checks that every value is a number of layers, in 1..=256. Building a network takes time for each layer of its
/// configuration, even if the checkpoint lacks the layer.
pub(super) fn layers(config: &str, field: &str, values: &[i64]) -> Result<()> {
    match values.iter().find(|&&value| !(1..=MOST_LAYERS).contains(&value)) {
        Some(value) => Err(refuse(config, field, value, format!("expected 1 to {MOST_LAYERS} layers"))),
        None => Ok(()),
    }
}

/// Checks that a list with an entry for each level has 1..=16 entries.
pub(super) fn levels<T>(config: &str, field: &str, values: &[T]) -> Result<()> {
    match values.len() {
        1..=MOST_LEVELS => Ok(()),
        count => Err(refuse(config, field, count, format!("expected 1 to {MOST_LEVELS} levels"))),
    }
}

/// Checks that `channels` is a multiple of `parts` (heads, groups), the value of `field`.
pub(super) fn divides(config: &str, field: &str, parts: i64, channels: i64) -> Result<()> {
    sizes(config, field, &[parts])?;
    match channels % parts {
        0 => Ok(()),
        _ => Err(refuse(config, field, parts, format!("it must divide {channels} channels"))),
    }
}

/// Adds the file's name to an error of a configuration that was checked without the name.
pub(super) fn in_file<T>(result: Result<T>, file: &str) -> Result<T> {
    result.map_err(|error| match error {
        Error::Config { field, value, expected, .. } => Error::Config { file: file.into(), field, value, expected },
        other => other,
    })
}
