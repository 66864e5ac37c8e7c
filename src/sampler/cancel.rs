//! [`CancelToken`]: stops a run from outside.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Stops a run from another thread or from a callback.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicU8>);

/// The run goes on.
const GOING: u8 = 0;
/// The run takes no more steps.
const ENDING: u8 = 1;
/// The run is stopped.
const CANCELLED: u8 = 2;

impl CancelToken {
    /// Creates a token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run: it ends with [`Error::Cancelled`] before its next call of the model.
    pub fn cancel(&self) {
        self.0.store(CANCELLED, Ordering::Relaxed);
    }

    /// Returns true once [`cancel`](Self::cancel) has been called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CANCELLED
    }

    /// Ends a run of a [`Request`](crate::pipeline::Request) with an unfinished picture, that of the clean latent of
    /// the step that it takes. A second run at a larger size and details are left out. A first pass has no picture, so
    /// the run ends after the first step of its last pass.
    pub fn finish_early(&self) {
        // A run that is cancelled stays so.
        let _ = self.0.compare_exchange(GOING, ENDING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns true once [`finish_early`](Self::finish_early) has been called.
    pub(crate) fn finishes_early(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENDING
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}
