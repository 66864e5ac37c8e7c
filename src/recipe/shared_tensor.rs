//! [`SharedTensor`]: a tensor among settings.

use super::packed::Packed;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;

/// A tensor among settings, made of a tensor by `into`. Copies share the tensor's memory, and threads may share a copy.
/// A recipe holds the tensor as f32.
#[derive(Clone)]
pub struct SharedTensor(Arc<Mutex<Tensor>>);

impl SharedTensor {
    /// Returns the tensor, which shares its memory with this value.
    pub fn get(&self) -> Tensor {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shallow_clone()
    }
}

impl From<Tensor> for SharedTensor {
    fn from(tensor: Tensor) -> Self {
        Self(Arc::new(Mutex::new(tensor)))
    }
}

impl PartialEq for SharedTensor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || {
            let (a, b) = (self.get(), other.get());
            a.size() == b.size() && a.f_equal(&b).unwrap_or(false)
        }
    }
}

impl fmt::Debug for SharedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Serialize for SharedTensor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Packed::of(&self.get()).map_err(ser::Error::custom)?.serialize(to)
    }
}

impl<'de> Deserialize<'de> for SharedTensor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Packed::deserialize(from)?.tensor().map(Self::from).map_err(de::Error::custom)
    }
}
