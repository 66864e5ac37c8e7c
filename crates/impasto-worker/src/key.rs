//! [`Key`]: the name of a job.

use crate::error::QueueError;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// The name of a job: a SHA-256 hash of its model and its JSON, in 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(String);

impl Key {
    /// Returns the key of a job. The order of the fields of a JSON object does not matter.
    #[must_use]
    pub fn new(model: &str, job: &Value) -> Self {
        let mut job = job.clone();
        job.sort_all_objects();
        // The length parts the model from the job.
        let text = format!("{}:{model}{job}", model.len());
        Self(hash(text.as_bytes()))
    }

    /// Returns the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the SHA-256 hash of bytes, in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_digit) {
            return Ok(Self(text.into()));
        }
        let told: String = text.chars().take(80).collect();
        Err(QueueError::Refused(format!("{told:?} is no job; expected the 64 digits that `submit` prints")))
    }
}
