//! The error of a training run.

use std::path::{Path, PathBuf};

/// An error of [`Training::run`](crate::Training::run). Everything else in this crate returns [`impasto::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of impasto before the training run begins, or outside a training step.
    #[error(transparent)]
    Impasto(#[from] impasto::Error),
    /// A failure within a training step; the source says why.
    #[error("training stopped at step {step}: {source}; {}", resumable(checkpoint.as_deref()))]
    Stopped {
        /// Number of complete training steps.
        step: u64,
        /// The last good checkpoint, if there is one. The same call continues from this checkpoint.
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
