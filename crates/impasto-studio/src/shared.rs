//! [`Shared`]: the state that every handler sees.

use crate::options::Options;
use crate::outputs::Outputs;
use crate::queue::{Accepted, NotAccepted, Queue, Submission};
use crate::refusal::Refusal;
use crate::relay::Relay;
use crate::work::Work;
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The state that every handler sees.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    /// The durable queue whose workers paint the jobs; `None` if the studio paints them itself.
    pub(crate) relay: Option<Relay>,
    pub(crate) options: Options,
    /// The answer of `/api/model`.
    pub(crate) model: Value,
    /// Names of the LoRAs that prompts can name.
    pub(crate) loras: Vec<String>,
    /// Number of the text encoder's layer that prompts are read from, counted from the last one.
    pub(crate) clip_skip: usize,
    /// False once the worker has ended.
    pub(crate) alive: Arc<AtomicBool>,
    pub(crate) work: Work,
    /// The folder that gets every finished picture.
    pub(crate) outputs: Option<Outputs>,
    /// A permit for each client that may listen to a job at once.
    pub(crate) streams: Arc<Semaphore>,
}

impl Shared {
    /// Returns the name of the model.
    pub(crate) fn name(&self) -> &str {
        self.model.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Adds a job to the queue.
    ///
    /// # Errors
    /// A refusal if the worker has ended, or the queue has no room for the job.
    pub(crate) fn submit(&self, submission: Submission) -> Result<Accepted, Refusal> {
        self.check_worker()?;
        self.queue.submit(submission).map_err(refuse)
    }

    /// Adds a job to the queue, so that the job survives the studio if there is a durable queue. Jobs of live views do
    /// not.
    ///
    /// # Errors
    /// The refusals of [`submit`](Self::submit), and one if the durable queue does not take the job.
    pub(crate) async fn accept(&self, submission: Submission) -> Result<Accepted, Refusal> {
        let Some(relay) = self.relay.as_ref().filter(|_| submission.live.is_none()) else {
            return self.submit(submission);
        };
        self.check_worker()?;
        let _room = self.queue.make_room(submission.json.len()).map_err(refuse)?;
        let (reader, options) = (relay.clone(), self.options.clone());
        let read = move || {
            let order = reader.order(&submission.json, submission.api, &options).map_err(Refusal::wrong)?;
            Ok((order, Submission { json: Vec::new(), ..submission }))
        };
        let (order, submission) = self.work.run(read).await?;
        let followed = Some(relay.keep(order).await?);
        self.submit(Submission { followed, ..submission })
    }

    fn check_worker(&self) -> Result<(), Refusal> {
        if self.alive.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the worker has ended; restart the studio"))
    }

    /// Takes a permit to listen to a job.
    ///
    /// # Errors
    /// A refusal if too many clients listen.
    pub(crate) fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let sentence = "too many clients wait for jobs; close another page, try again when a job has ended, or ask \
                            for /api/jobs/{id} instead";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
        })
    }
}

/// Refuses a job for which the queue has no room.
pub(crate) fn refuse(reason: NotAccepted) -> Refusal {
    match reason {
        NotAccepted::Full { most } => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!("{most} jobs wait; expected fewer before another one; try again when a job has ended"),
        ),
        NotAccepted::Large { bytes, most } => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "the requests that wait have {bytes} bytes; expected at most {most} with this one; try again when a \
                 job has ended, or send less"
            ),
        ),
        NotAccepted::TooLarge { most } => Refusal::too_large(most),
        NotAccepted::Closed => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the studio is being closed"),
    }
}
