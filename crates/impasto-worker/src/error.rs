//! [`QueueError`]: errors of a queue and its store.

use thiserror::Error;

/// An error of a queue or its store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The address of a queue is wrong. The text has no password.
    #[error("{0}")]
    Address(String),
    /// The database does not answer as expected. The text has no password.
    #[error("the queue's database: {0}")]
    Database(String),
    /// The store of pictures cannot be used.
    #[error("the store {store}: {problem}")]
    Store {
        /// Address of the store.
        store: String,
        /// The fault, in words.
        problem: String,
    },
    /// An order is refused.
    #[error("{0}")]
    Refused(String),
}

impl From<sqlx::Error> for QueueError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}
