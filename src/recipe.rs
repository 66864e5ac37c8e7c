//! [`Recipe`]: what makes a guidance, a solver or a combination again, in a file.

mod packed;

pub(crate) use packed::{plane, tensor};

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What makes a value of this crate again: what it is, and its settings. Numbers survive to the bit.
///
/// ```
/// use impasto::guidance::{Daam, Guidance};
///
/// let recipe = Daam::of("eyes").recipe()?;
/// let written = serde_json::to_string(&recipe)?;
/// let read: impasto::Recipe = serde_json::from_str(&written)?;
/// assert_eq!(read.guidance()?.recipe()?, recipe);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What it is: for this crate's own values, the type's name.
    pub name: String,
    /// How it was set.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
}

impl Recipe {
    /// `settings` is anything that serde can write; numbers have to be finite.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`] if it cannot, as a function in it cannot.
    pub fn of(name: impl Into<String>, settings: &(impl Serialize + ?Sized)) -> Result<Self> {
        let name = name.into();
        match serde_json::to_value(settings) {
            Ok(settings) => Ok(Self { name, settings }),
            Err(problem) => Err(Error::NotRepeatable { what: format!("{name} ({problem})") }),
        }
    }

    /// The settings.
    ///
    /// # Errors
    /// [`Error::Malformed`] if they are those of something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.settings.clone())
            .map_err(|error| Error::Malformed { file: format!("recipe of {}", self.name), problem: error.to_string() })
    }

    /// The error of a name that nobody here has; `what` it should be.
    pub(crate) fn unknown(&self, what: &str) -> Error {
        Error::NotRepeatable { what: format!("{}, which is no {what} of this crate,", self.name) }
    }
}

/// For noise levels, the largest first: JSON has no infinity, so none is the largest.
pub(crate) mod window {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(&(high, low): &(f64, f64), to: S) -> Result<S::Ok, S::Error> {
        (Some(high).filter(|high| high.is_finite()), low).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(f64, f64), D::Error> {
        let (high, low): (Option<f64>, f64) = Deserialize::deserialize(from)?;
        Ok((high.unwrap_or(f64::INFINITY), low))
    }
}

/// For a field that may be a function: without one nothing is written, with one writing fails.
pub(crate) mod function {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::IgnoredAny;
    use serde::ser::Error;

    pub fn serialize<F, S: Serializer>(function: &Option<F>, to: S) -> Result<S::Ok, S::Error> {
        match function {
            Some(_) => Err(S::Error::custom("it was given a function, which cannot be written")),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, F, D: Deserializer<'de>>(from: D) -> Result<Option<F>, D::Error> {
        IgnoredAny::deserialize(from).map(|_| None)
    }
}
