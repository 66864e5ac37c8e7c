//! [`Order`]: a request of another program's API, as the studio's own.

use crate::options::Options;
use crate::queue::{Api, Submission};
use crate::refusal::Refusal;
use crate::request::{JobRequest, Restored};
use serde_json::{Map, Value};

/// A request of another program's API, as the studio's own: the JSON of a [`JobRequest`], and notes on what the request
/// does not have.
pub(crate) struct Order {
    json: Vec<u8>,
    /// Name of the model that the request needs; `None` for any.
    pub(crate) model: Option<String>,
    /// The request itself, which a handler drops before it waits.
    restored: Restored,
}

impl Order {
    /// Reads the fields of a job.
    ///
    /// # Errors
    /// A refusal with the sentence of [`JobRequest::read`].
    pub(crate) fn read(job: Map<String, Value>, notes: Vec<String>, options: &Options) -> Result<Self, Refusal> {
        let json = serde_json::to_vec(&job).map_err(|error| Refusal::wrong(error.to_string()))?;
        let request = JobRequest::read(job.into(), options).map_err(Refusal::wrong)?;
        Ok(Self { json, model: None, restored: Restored { request, notes } })
    }

    /// Takes the layer of CLIP out of the job, and returns the layer's number; `None` if the job names none.
    ///
    /// # Errors
    /// A refusal if the JSON cannot be written again.
    pub(crate) fn take_clip_skip(&mut self) -> Result<Option<usize>, Refusal> {
        let Some(layer) = self.restored.request.job.config.clip_skip.take() else { return Ok(None) };
        let wrong = |error: serde_json::Error| Refusal::wrong(error.to_string());
        let mut job: Map<String, Value> = impasto::json::parse(&self.json).map_err(wrong)?;
        job.remove("clip_skip");
        self.json = serde_json::to_vec(&job).map_err(wrong)?;
        Ok(Some(layer))
    }

    /// Returns the job for the queue, and the notes.
    pub(crate) fn submission(self, api: Api) -> (Submission, Vec<String>) {
        let Self { json, model, restored: Restored { request: JobRequest { job, live, .. }, notes } } = self;
        (Submission { json, model, prompt: job.config.prompt, live, api, followed: None }, notes)
    }

    /// Returns the request with its notes.
    pub(crate) fn restored(self) -> Restored {
        self.restored
    }
}
