//! The error of a training.

use std::path::{Path, PathBuf};

/// An error of [`Training::run`](crate::Training::run). Everything else in this crate returns [`impasto::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The training could not begin, or impasto reports an error outside a step.
    #[error(transparent)]
    Impasto(#[from] impasto::Error),
    /// The training stopped within a step; the source says why.
    #[error("training stopped at step {step}: {source}; {}", resumable(checkpoint.as_deref()))]
    Stopped {
        /// Number of complete steps.
        step: u64,
        /// The last good checkpoint, if there is one: the same call goes on from it.
        checkpoint: Option<PathBuf>,
        /// The failure.
        source: Box<impasto::Error>,
    },
}

fn resumable(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint yet".into(),
    }
}
