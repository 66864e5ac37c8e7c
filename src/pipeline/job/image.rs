//! [`Image`]: a picture by value or by path.

use crate::error::Result;
use crate::raster::{Layer, Raster};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A picture by value or by path. In JSON, a value is a data URL of PNG, and any other text is a path. A program that
/// reads jobs of strangers refuses paths, which [`Job::paths`](super::Job::paths) lists.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Image<T = Raster> {
    /// The path of a PNG, JPEG or WebP file.
    Path(PathBuf),
    /// The picture itself.
    Value(T),
}

impl<T> Image<T> {
    /// Returns the path of a picture that is not opened.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Value(_) => None,
        }
    }

    fn opened(&self, open: impl FnOnce(&Path) -> Result<T>) -> Result<Cow<'_, T>>
    where
        T: Clone,
    {
        match self {
            Self::Path(path) => open(path).map(Cow::Owned),
            Self::Value(value) => Ok(Cow::Borrowed(value)),
        }
    }
}

impl Image {
    /// Returns the picture, which is read from its file if it is given by path.
    ///
    /// # Errors
    /// The errors of [`Raster::open`].
    pub fn open(&self) -> Result<Cow<'_, Raster>> {
        self.opened(|path| Raster::open(path))
    }
}

impl Image<Layer> {
    /// Returns the layer, which is read from its file if it is given by path.
    ///
    /// # Errors
    /// The errors of [`Layer::open`].
    pub fn open(&self) -> Result<Cow<'_, Layer>> {
        self.opened(|path| Layer::open(path))
    }
}

#[cfg(feature = "schemars")]
impl<T> schemars::JsonSchema for Image<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Picture".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A data URL of PNG. Programs that read jobs of their own user read the path of a file too."
        })
    }
}

impl<T> From<T> for Image<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

/// Reads a path, as command lines give pictures.
impl<T> FromStr for Image<T> {
    type Err = Infallible;

    fn from_str(path: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self::Path(path.into()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Image<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if !text.starts_with("data:") {
            return Ok(Self::Path(text.into()));
        }
        T::deserialize(de::value::StringDeserializer::new(text)).map(Self::Value)
    }
}
