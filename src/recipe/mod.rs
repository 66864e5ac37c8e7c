//! [`Recipe`]: what makes a guidance, a solver or a combination again, in a file.

mod packed;

pub(crate) use packed::{UNPACKED, plane, tensor};

use crate::error::{Error, Result};
use crate::raster;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What makes a value of this crate again: what it is, and its settings. Numbers survive to the bit.
///
/// ```
/// use impasto::guidance::Guidance;
/// use impasto::saliency::Daam;
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
        self.clone().into_read()
    }

    /// As [`read`](Self::read), without a copy: settings may hold pictures.
    pub(crate) fn into_read<T: DeserializeOwned>(self) -> Result<T> {
        let name = self.name;
        serde_json::from_value(self.settings)
            .map_err(|error| Error::Malformed { file: format!("recipe of {name}"), problem: error.to_string() })
    }

    /// The error of a name that nobody here has; `what` it should be.
    pub(crate) fn unknown(&self, what: &str) -> Error {
        Error::NotRepeatable { what: format!("{}, which is no {what} of this crate,", self.name) }
    }
}

/// Bytes of a file's JSON outside of its strings: each of them may become a value of 32 bytes or more. A run has some thousands.
pub(crate) const STRUCTURE: usize = 1 << 21;

/// Bytes of a JSON text outside of its strings.
pub(crate) fn structure(json: &str) -> usize {
    let (mut inside, mut escaped) = (false, false);
    let outside = |byte: &u8| {
        let ends = *byte == b'"' && !escaped;
        escaped = inside && *byte == b'\\' && !escaped;
        inside ^= ends;
        !inside
    };
    json.as_bytes().iter().copied().filter(outside).count()
}

/// Bytes that pictures and packed values among settings unpack to, by what they say of themselves: what holds more than it
/// says is refused when it is unpacked.
pub(crate) fn unpacked(settings: &Value) -> u64 {
    let all = |values: &mut dyn Iterator<Item = &Value>| values.map(unpacked).fold(0, u64::saturating_add);
    match settings {
        Value::String(text) => raster::unpacked(text),
        Value::Array(values) => all(&mut values.iter()),
        Value::Object(fields) => packed::unpacked(fields).saturating_add(all(&mut fields.values())),
        _ => 0,
    }
}

/// For a field that may be a function: without one nothing is written, with one writing fails.
pub(crate) mod function {
    use super::{Deserialize, Deserializer, Serializer};
    use serde::de::IgnoredAny;
    use serde::ser::Error;

    pub(crate) fn serialize<F, S: Serializer>(function: &Option<F>, to: S) -> Result<S::Ok, S::Error> {
        match function {
            Some(_) => Err(S::Error::custom("it was given a function, which cannot be written")),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, F, D: Deserializer<'de>>(from: D) -> Result<Option<F>, D::Error> {
        IgnoredAny::deserialize(from).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;
    use crate::raster::Raster;
    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn structure_counts_bytes_outside_of_strings() {
        let counts = [("", 0), ("[1,2]", 5), (r#"{"a":"bcd"}"#, 5), (r#"["a\"]","\\"]"#, 5), (r#"["a"#, 1)];
        for (json, count) in counts {
            assert_eq!(structure(json), count, "{json}");
        }
    }

    #[test]
    fn a_recipe_is_weighed_before_it_is_unpacked() {
        let tensor = packed::Packed::of(&Tensor::zeros([3, 5], (Kind::Float, Device::Cpu))).unwrap();
        let settings = json!({ "maps": [&tensor, { "deeper": &tensor }], "picture": Raster::flat(Rgb(1, 2, 3), (30, 70)), "x": 1.5 });
        assert_eq!(unpacked(&settings), 2 * 4 * 15 + 3 * 70 * 30);
        assert_eq!(unpacked(&json!({ "shape": [i64::MAX, 8], "values": "" })), u64::MAX);
        assert_eq!(unpacked(&json!(["data:image/png;base64,AAAA", "shape", null, { "shape": 7, "values": "" }])), 0);
    }
}
