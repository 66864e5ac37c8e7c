//! [`Entry`]: a job as the queue describes it.

use crate::key::Key;
use serde::Serialize;
use std::fmt;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The job waits for a worker.
    Waiting,
    /// A worker paints the job.
    Running,
    /// The pictures are in the store.
    Done,
    /// The job was given up. [`Entry::reason`] says why.
    Failed,
    /// The job was cancelled.
    Cancelled,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Returns the name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns true if the job does not change by itself any more.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A job as the queue describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Name of the job.
    #[serde(serialize_with = "digits")]
    pub key: Key,
    /// Name of the model that paints the job.
    pub model: String,
    /// The user who asked for the job.
    pub owner: String,
    /// Words by which the job is found.
    pub title: String,
    /// State of the job.
    pub state: State,
    /// Number of times that a worker began the job.
    pub tries: u32,
    /// Number of steps that were taken.
    pub step: u32,
    /// Number of steps of the job; 0 before the first one.
    pub steps: u32,
    /// Reason of the last failure, in words; empty if there was none.
    pub reason: String,
    /// Number of pictures in the store.
    pub pictures: u32,
    /// Name of the last worker.
    pub worker: String,
    /// Time at which the job was accepted, in seconds of Unix time.
    pub submitted: u64,
    /// Time at which the job ended, in seconds of Unix time; 0 before.
    pub ended: u64,
}

fn digits<S: serde::Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(key.as_str())
}

/// The jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The state of the jobs; `None`: any.
    pub state: Option<State>,
    /// The user who asked for the jobs; `None`: any.
    pub owner: Option<String>,
    /// A part of the title; empty: any.
    pub text: String,
    /// Time before which the jobs were accepted, in seconds of Unix time; `None`: any.
    pub before: Option<u64>,
    /// Largest number of jobs, at most 1000; 0: 100.
    pub limit: u32,
}
