//! [`Failure`]: the exception of Python that ends a run.

use impasto::sampler::CancelToken;
use pyo3::PyErr;
use std::sync::{Arc, Mutex, PoisonError};

/// The first exception that a hook, a callback or Ctrl-C raised during a run, and the token that ends the run.
#[derive(Clone, Default)]
pub struct Failure {
    raised: Arc<Mutex<Option<PyErr>>>,
    token: CancelToken,
}

impl Failure {
    /// Returns the token that ends the run.
    pub const fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Keeps an exception, and ends the run before its next call of the network. Returns the error for the run.
    pub fn keep(&self, exception: PyErr) -> impasto::Error {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get_or_insert(exception);
        self.token.cancel();
        impasto::Error::Cancelled
    }

    /// Takes the exception out.
    pub fn take(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
