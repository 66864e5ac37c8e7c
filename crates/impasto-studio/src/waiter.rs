//! [`Waiter`]: a request that waits for its job.

use crate::finished::Finished;
use crate::places::{Kept, Place};
use crate::queue::{Event, Listener, Submission};
use crate::refusal::Refusal;
use crate::shared::Shared;
use axum::http::StatusCode;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A request that waits for its job. It is a listener to the job, so the job is cancelled if the client leaves.
pub(crate) struct Waiter {
    listener: Listener,
    _kept: (OwnedSemaphorePermit, Kept),
}

impl Waiter {
    /// Adds a job to the queue, and listens to it.
    ///
    /// # Errors
    /// The refusals of [`Shared::permit`] and [`Shared::submit`].
    pub(crate) fn submit(shared: &Shared, place: Arc<Place>, submission: Submission) -> Result<Self, Refusal> {
        let permit = shared.permit()?;
        let id = shared.submit(submission)?.id;
        let mut listener = shared.queue.listen(id).ok_or_else(|| Refusal::no_job(id))?;
        listener.events.mark_changed(); // the first event may be the last one
        Ok(Self { listener, _kept: (permit, place.keep()) })
    }

    /// Waits for the job's next event after the last that was returned, and returns the newest one.
    ///
    /// # Errors
    /// A refusal if the job has failed or was cancelled, or the studio ends.
    pub(crate) async fn next(&mut self) -> Result<Event, Refusal> {
        if self.listener.events.changed().await.is_err() {
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the studio is being closed"));
        }
        match self.listener.events.borrow_and_update().clone() {
            Event::Failed(sentence) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, &*sentence)),
            Event::Cancelled => Err(Refusal::new(StatusCode::GONE, "the job was cancelled; send the request again")),
            event => Ok(event),
        }
    }

    /// Waits until the job has loaded its model.
    ///
    /// # Errors
    /// The refusals of [`next`](Self::next).
    pub(crate) async fn loaded(mut self) -> Result<(), Refusal> {
        while !matches!(self.next().await?, Event::Loaded) {}
        Ok(())
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// The refusals of [`next`](Self::next).
    pub(crate) async fn finish(mut self) -> Result<Arc<Finished>, Refusal> {
        loop {
            if let Event::Finished(finished) = self.next().await? {
                return Ok(finished);
            }
        }
    }
}
