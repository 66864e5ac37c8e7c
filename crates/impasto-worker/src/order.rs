//! [`Order`]: a job for the queue, and who asks for it.

use crate::error::QueueError;
use serde_json::Value;

/// The urgency of a job. All interactive jobs come before all batch jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// A person waits for the pictures.
    #[default]
    Interactive,
    /// The pictures may come later.
    Batch,
}

impl Class {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Self::Interactive => 0,
            Self::Batch => 1,
        }
    }
}

/// A job for the queue, and who asks for it.
#[derive(Clone, Debug)]
pub struct Order {
    /// Name of the model that paints the job. Workers take the jobs of their model's name.
    pub model: String,
    /// The job as JSON. Pictures in it are data URLs. They are kept in the store, by the hash of their bytes.
    pub job: Value,
    /// The user who asks. Users of one class take turns, however many jobs each has.
    pub owner: String,
    /// Urgency of the job.
    pub class: Class,
    /// Words by which the job is found again, such as its prompt.
    pub title: String,
}

/// Longest name of a model or a user, in bytes.
const NAME: usize = 256;

/// Longest title in bytes. A longer one is cut.
const TITLE: usize = 1024;

impl Order {
    /// Returns an interactive order of a user without a name. Its title is the job's `prompt`.
    #[must_use]
    pub fn new(model: impl Into<String>, job: Value) -> Self {
        let title = job.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { model: model.into(), job, owner: String::new(), class: Class::default(), title }
    }

    /// Checks the names and cuts the title.
    ///
    /// # Errors
    /// [`QueueError::Refused`] if a name is too long or has control characters.
    pub(crate) fn checked(mut self) -> Result<Self, QueueError> {
        for (what, name) in [("model", &self.model), ("user", &self.owner)] {
            if name.len() > NAME || name.chars().any(char::is_control) {
                let expected = format!("expected at most {NAME} bytes without control characters");
                return Err(QueueError::Refused(format!(
                    "the name of the {what} has {} bytes; {expected}",
                    name.len()
                )));
            }
        }
        self.title.retain(|character| character != '\0');
        let end = (0..=TITLE.min(self.title.len())).rev().find(|end| self.title.is_char_boundary(*end));
        self.title.truncate(end.unwrap_or_default());
        Ok(self)
    }
}
