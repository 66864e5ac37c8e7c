//! [`Recipe`]: the name and settings of a guidance method, solver or combination, for files. [`Registry`]: the readers
//! of recipes.

mod function;
mod packed;
mod registry;
mod shared_tensor;
mod thumbnails;

pub use function::Function;
pub(crate) use packed::{PackedBytes, UNPACKED, plane};
pub use registry::{Kind, Registry};
pub use shared_tensor::SharedTensor;
pub use thumbnails::KeptPictures;
pub(crate) use thumbnails::{complete, thin};

use crate::error::{Error, Result};
use crate::json;
use crate::raster;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;

/// Name and settings from which a [`Registry`] makes a value again. Numbers keep every bit.
///
/// ```
/// use impasto::guidance::Guidance;
/// use impasto::saliency::Daam;
///
/// let recipe = Daam::of("eyes").recipe()?;
/// let written = serde_json::to_string(&recipe)?;
/// let read: impasto::Recipe = serde_json::from_str(&written)?;
/// assert_eq!(read, recipe);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Name of the value's kind; for this crate's own values, the type's name.
    pub name: String,
    /// Settings of the value.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub settings: Value,
}

impl Recipe {
    /// Creates a recipe from a name and `settings`, which serde can write. Numbers have to be finite.
    ///
    /// # Errors
    /// [`Error::NotRepeatable`] if `settings` cannot be written, for example because they hold a function.
    pub fn of(name: impl Into<String>, settings: &(impl Serialize + ?Sized)) -> Result<Self> {
        let name = name.into();
        match serde_json::to_value(settings) {
            Ok(settings) => Ok(Self { name, settings }),
            Err(problem) => Err(Error::NotRepeatable { what: format!("{name} ({problem})") }),
        }
    }

    /// Returns the settings as a value of type `T`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the settings are not those of a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        self.clone().into_read()
    }

    /// Returns the settings as [`read`](Self::read) does, but without a copy of the settings, which may hold pictures.
    pub(crate) fn into_read<T: DeserializeOwned>(self) -> Result<T> {
        let name = self.name;
        serde_json::from_value(self.settings)
            .map_err(json::short_error)
            .map_err(|error| Error::Malformed { file: format!("recipe of {name}"), problem: error.to_string() })
    }
}

/// Limit in bytes of all texts in the settings of a file, which leaves room for other texts in a PNG.
pub(crate) const TEXT: u64 = 192 << 20;
/// Room in bytes for the plain settings and the notes of a run beside its methods, as text and as values.
const ROOM: usize = 4 << 20;

/// The size of settings in a file, as the headers of pictures and the shapes of packed values say. Values that unpack
/// to more are refused later.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent<'v> {
    /// Bytes of all texts, which hold the pictures and packed values.
    text: u64,
    /// Bytes to which pictures and packed values unpack.
    unpacked: u64,
    /// Bytes of memory that the values take, as [`json::parse`] counts them.
    values: usize,
    /// Label maps that are counted, because equal ones are unpacked once.
    label_maps: HashSet<&'v str>,
}

impl<'v> Extent<'v> {
    /// Returns the size of some settings.
    pub(crate) fn of(settings: &'v Value) -> Self {
        Self::default().with(settings)
    }

    /// Returns the largest size of a run's settings without its methods.
    pub(crate) fn of_plain_settings() -> Self {
        Self { text: ROOM as u64, values: ROOM, ..Self::default() }
    }

    /// Returns the size with further settings.
    pub(crate) fn with(&self, settings: &'v Value) -> Self {
        let mut extent = self.clone();
        extent.add(settings);
        extent
    }

    /// Adds the size of further settings.
    fn add(&mut self, settings: &'v Value) {
        self.values = self.values.saturating_add(json::own_memory(settings));
        match settings {
            Value::String(text) => {
                self.text += text.len() as u64;
                self.unpacked = self.unpacked.saturating_add(raster::unpacked(text));
            }
            Value::Array(values) => values.iter().for_each(|value| self.add(value)),
            Value::Object(fields) => {
                let is_known = packed::label_map(fields).is_some_and(|labels| !self.label_maps.insert(labels));
                let own = if is_known { 0 } else { packed::unpacked(fields) };
                self.unpacked = self.unpacked.saturating_add(own);
                fields.values().for_each(|value| self.add(value));
            }
            _ => {}
        }
    }

    /// Returns true if settings of this size can be read from a file.
    pub(crate) const fn fits(&self) -> bool {
        self.unpacked <= UNPACKED && self.text <= TEXT && self.values <= json::MOST
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
    fn unpacked_size_is_known_before_unpacking() {
        let tensor = packed::Packed::of(&Tensor::zeros([3, 5], (Kind::Float, Device::Cpu))).unwrap();
        let settings = json!({ "maps": [&tensor, { "deeper": &tensor }], "picture": Raster::flat(Rgb(1, 2, 3), (30, 70)), "x": 1.5 });
        let unpacked = |settings: &Value| Extent::of(settings).unpacked;
        assert_eq!(unpacked(&settings), 2 * 4 * 15 + 3 * 70 * 30);
        assert_eq!(unpacked(&json!({ "shape": [i64::MAX, 8], "values": "" })), u64::MAX);
        assert_eq!(unpacked(&json!(["data:image/png;base64,AAAA", "shape", null, { "shape": 7, "values": "" }])), 0);
        let labels = |bytes| json!({ "shape": [300, 200], "bytes": bytes });
        assert_eq!(unpacked(&json!([labels("AA"), { "deeper": labels("AA") }, labels("BB")])), 2 * 300 * 200);
        let letters = "x".repeat(1 << 20);
        assert!(Extent::of(&json!(vec![&letters; 192])).fits() && !Extent::of(&json!(vec![&letters; 193])).fits());
        assert!(Extent::of(&json!(vec![0; 500_000])).fits() && !Extent::of(&json!(vec![0; 600_000])).fits());
    }
}
