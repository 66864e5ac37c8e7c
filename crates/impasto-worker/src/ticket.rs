//! [`Ticket`]: a job as the engine has it.

use crate::error::QueueError;
use crate::key::Key;
use std::fmt;
use std::str::FromStr;

/// A job as the engine has it: the text `KEY:ROUND`. The engine accepts each ticket once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub key: Key,
    /// Number of times that the job was asked for after it had failed or was cancelled, from 1 on.
    pub round: i64,
}

/// The turn of a job.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Number of the job's class.
    pub class: i64,
    /// Place in the class, from 1 on.
    pub tag: i64,
}

/// Largest number of tags of a class.
const TAGS: i64 = 1_000_000_000;

impl Turn {
    /// Returns the priority of the job for the engine, which takes larger ones first and keeps 31 bits.
    pub fn priority(self) -> usize {
        let class = (1 - self.class.clamp(0, 1)) * TAGS;
        usize::try_from(class + TAGS - self.tag.clamp(0, TAGS)).unwrap_or_default()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.key, self.round)
    }
}

impl FromStr for Ticket {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let parts = text.split_once(':').and_then(|(key, round)| Some((key, round.parse().ok()?)));
        let (key, round) = parts.ok_or_else(|| QueueError::Database("a task of the queue is damaged".into()))?;
        Ok(Self { key: key.parse()?, round })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interactive_job_comes_before_batch_jobs() {
        let priority = |class, tag| Turn { class, tag }.priority();
        assert!(priority(0, 1) > priority(0, 2) && priority(0, TAGS) >= priority(1, 0));
        assert!(priority(0, 1) <= i32::MAX as usize);
    }
}
