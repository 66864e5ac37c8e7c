//! [`Progress`]: the steps of a job, and the wish that it ends.

use crate::failure::Failure;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The newest step of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub done: u32,
    pub total: u32,
    pub preview: Vec<u8>,
}

/// The steps of a job, and the wish that it ends. Clones share both.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    stopped: Arc<AtomicBool>,
    /// True if the next step is to be kept, with a preview.
    wanted: Arc<AtomicBool>,
    step: Arc<Mutex<Option<Step>>>,
}

impl Progress {
    /// Notes that `done` of `total` steps were taken. `preview` makes the file of an unfinished picture; it is called
    /// at most once a second.
    ///
    /// # Errors
    /// [`Failure::Stopped`] if the job is to end.
    pub fn step(&self, done: u32, total: u32, preview: impl FnOnce() -> Vec<u8>) -> Result<(), Failure> {
        if self.is_stopped() {
            return Err(Failure::Stopped);
        }
        if self.wanted.swap(false, Ordering::Relaxed) {
            let step = Step { done, total, preview: preview() };
            *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        }
        Ok(())
    }

    /// Returns true if the job is to end.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Asks the job to end.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Takes the newest step, if there is one, and asks for the next.
    pub(crate) fn take(&self) -> Option<Step> {
        self.wanted.store(true, Ordering::Relaxed);
        self.step.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
