//! [`Shared`]: the state that every handler sees.

use crate::described::Board;
use crate::engine::Models;
use crate::options::Options;
use crate::outputs::Outputs;
use crate::queue::{Accepted, NotAccepted, Queue, Submission};
use crate::refusal::Refusal;
use crate::relay::Relay;
use crate::work::Work;
use axum::http::StatusCode;
use impasto::wording::shortened;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The state that every handler sees.
pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    /// The durable queue whose workers paint the jobs; `None` if the studio paints them itself.
    pub(crate) relay: Option<Relay>,
    /// The address and the limits at the start.
    pub(crate) options: Options,
    /// The model in use.
    pub(crate) board: Arc<Board>,
    /// The models that clients can choose; `None` if there is no choice.
    pub(crate) models: Option<Arc<dyn Models>>,
    /// False once the worker has ended.
    pub(crate) alive: Arc<AtomicBool>,
    pub(crate) work: Work,
    /// The folder that gets every finished picture.
    pub(crate) outputs: Option<Outputs>,
    /// A permit for each client that may listen to a job at once.
    pub(crate) streams: Arc<Semaphore>,
}

impl Shared {
    /// Returns the limits of a request while the present model is in use.
    pub(crate) fn limits(&self) -> Options {
        Options { side: self.board.read().side, ..self.options.clone() }
    }

    /// Returns the name of the model in use.
    pub(crate) fn name(&self) -> Arc<str> {
        self.board.read().name
    }

    /// Returns the names of the models that clients can choose, or that of the only model.
    pub(crate) fn names(&self) -> Vec<String> {
        self.models.as_ref().map_or_else(|| vec![self.name().to_string()], |models| models.names())
    }

    /// Returns the name of the model that a client calls `asked`. Some clients add the ending of a file, or its hash.
    pub(crate) fn choose(&self, asked: &str) -> Option<String> {
        let names = self.models.as_ref()?.names();
        let short = asked.split(" [").next().unwrap_or(asked);
        let stem = short.rsplit_once('.').map_or(short, |(stem, _)| stem);
        [asked, short, stem].into_iter().find(|name| names.iter().any(|known| known == name)).map(str::to_owned)
    }

    /// Says that there is no model of a name.
    pub(crate) fn unknown(&self, field: &str, asked: &str) -> String {
        let (asked, names) = (shortened(asked), self.names().join(", "));
        match &self.models {
            Some(_) => format!("{field} is {asked:?}; expected one of {}", shortened(&names)),
            None => format!(
                "{field} is {asked:?}; expected {}, the only model; start the studio with folders of models \
                 (--model-dir)",
                shortened(&names)
            ),
        }
    }

    /// Describes the model in use, and the models to choose from.
    pub(crate) fn describe(&self) -> Value {
        let mut described = Value::clone(&self.board.read().model);
        if let Some(fields) = described.as_object_mut() {
            let names = self.models.as_ref().map(|models| models.names()).unwrap_or_default();
            fields.insert("choices".into(), names.into());
        }
        described
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
        let (reader, options) = (relay.clone(), self.limits());
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
