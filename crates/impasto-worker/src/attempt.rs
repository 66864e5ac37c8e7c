//! [`Attempts`]: the tries of a worker at its jobs.

use crate::entry::State;
use crate::error::QueueError;
use crate::failure::Failure;
use crate::key::Key;
use crate::metrics::Metrics;
use crate::paint::{Paint, Painted};
use crate::pictures;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::store::{Store, Written};
use crate::table::{Begun, Table};
use crate::ticket::Ticket;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Time between two looks at a running job.
const LOOK: Duration = Duration::from_secs(1);

/// Time for which a finished job waits for a database or a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Number of times that a job is begun for each failed try that it may have.
const DEATHS: u32 = 3;

/// The record of a finished job in the store. It is written last, so its pictures are all there.
#[derive(Debug, Deserialize, Serialize)]
pub struct Record {
    pub pictures: usize,
    pub report: Value,
}

/// Returns the name of a picture in the store.
pub fn picture(key: &Key, index: usize) -> String {
    format!("pictures/{key}/{index}.png")
}

/// Returns the name of a job's record in the store.
pub fn record(key: &Key) -> String {
    format!("pictures/{key}/record.json")
}

/// The tries of a worker at its jobs. Clones share the painter.
pub struct Attempts<P> {
    pub table: Table,
    pub store: Store,
    pub settings: Settings,
    pub painter: Arc<Mutex<P>>,
    /// Time that a job may take to its end after `stop`.
    pub grace: Duration,
    pub metrics: Metrics,
    pub stop: Stop,
}

impl<P> Clone for Attempts<P> {
    fn clone(&self) -> Self {
        Self {
            table: self.table.clone(),
            store: self.store.clone(),
            settings: self.settings.clone(),
            painter: Arc::clone(&self.painter),
            grace: self.grace,
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<P: Paint> Attempts<P> {
    /// Tries a job, as the worker `name`, in a span of its own.
    ///
    /// # Errors
    /// A reason for which the engine must hand the ticket out again.
    pub async fn run(&self, ticket: &Ticket, name: &str) -> Result<(), String> {
        self.attempt(ticket, name).instrument(tracing::info_span!("job", job = %ticket.key, worker = name)).await
    }

    async fn attempt(&self, ticket: &Ticket, name: &str) -> Result<(), String> {
        let key = &ticket.key;
        let begun = self.table.begin(key, ticket.round, name).await.map_err(|error| error.to_string())?;
        let Some(Begun { job, tries, failures, reason }) = begun else { return Ok(()) };
        // A worker may have died after it had written the pictures.
        if let Some(found) = self.found(key).await {
            return self.end(key, State::Done, found, "").await;
        }
        if tries > self.settings.tries.saturating_mul(DEATHS) {
            let last = if reason.is_empty() { String::new() } else { format!("; the last reason before: {reason}") };
            let reason = format!("given up after {} tries, because its workers died{last}", tries - 1);
            return self.end(key, State::Failed, 0, &reason).await;
        }
        let (counters, since) = (self.metrics.counters(), Instant::now());
        counters.begun.add(1);
        let outcome = match self.restored(job).await {
            Ok(job) => self.paint(key, name, job).await,
            Err(error) => Err(Failure::Trouble(error.to_string())),
        };
        let outcome = match outcome {
            Ok(painted) => self.keep_patiently(key, name, &painted).await,
            Err(failure) => Err(failure),
        };
        counters.busy.add_time(since.elapsed());
        match outcome {
            Ok((pictures, reason)) => self.end(key, State::Done, pictures, reason).await,
            Err(Failure::Refused(reason)) => self.end(key, State::Failed, 0, &reason).await,
            Err(Failure::Trouble(reason)) if failures + 1 >= self.settings.tries => {
                let reason = format!("given up after {tries} tries; the last one: {reason}");
                self.end(key, State::Failed, 0, &reason).await
            }
            Err(Failure::Trouble(reason)) => {
                counters.troubles.add(1);
                tracing::info!(job = %key, reason, "the job is tried again");
                patiently(|| self.table.note(key, name, &reason)).await?;
                Err(reason)
            }
            Err(Failure::Stopped) if self.stop.is_asked() => {
                counters.given_back.add(1);
                tracing::info!(job = %key, "the job is given back");
                patiently(|| self.table.hand_back(key, name)).await?;
                Err("the worker ends".into())
            }
            Err(Failure::Stopped) => {
                counters.cancelled.add(1);
                tracing::info!(job = %key, "the job was cancelled, or went to another worker");
                Ok(())
            }
        }
    }

    /// Returns the number of pictures of a job that is in the store; `None` if it is not, and if the store does not
    /// tell.
    async fn found(&self, key: &Key) -> Option<usize> {
        let bytes = self.store.read(&record(key)).await.ok()??;
        serde_json::from_slice(&bytes).ok().map(|Record { pictures, .. }| pictures)
    }

    async fn restored(&self, mut job: Value) -> Result<Value, QueueError> {
        pictures::restore(&mut job, &self.store).await?;
        Ok(job)
    }

    async fn end(&self, key: &Key, state: State, pictures: usize, reason: &str) -> Result<(), String> {
        let counters = self.metrics.counters();
        if patiently(|| self.table.end(key, state, pictures, reason)).await? {
            let counter = if state == State::Done { &counters.done } else { &counters.failed };
            counter.add(1);
            tracing::info!(job = %key, pictures, reason, "the job is {state}");
        } else {
            counters.cancelled.add(1);
            tracing::info!(job = %key, "the job had ended before the worker was done");
        }
        Ok(())
    }

    /// Paints a job on a thread of its own, and follows its steps, its cancellation and the end of the worker
    /// meanwhile.
    async fn paint(&self, key: &Key, name: &str, job: Value) -> Result<Painted, Failure> {
        let (progress, painter) = (Progress::default(), Arc::clone(&self.painter));
        let inner = progress.clone();
        let mut painting = tokio::task::spawn_blocking(move || {
            let mut painter = painter.lock().unwrap_or_else(PoisonError::into_inner);
            // A fault of the program fails one try.
            catch_unwind(AssertUnwindSafe(|| painter.paint(&job, &inner))).unwrap_or_else(|_| {
                Err(Failure::Trouble(
                    "the worker has a fault and could not paint; please report it with the job".into(),
                ))
            })
        });
        let mut look = tokio::time::interval(LOOK);
        let (mut stop, mut stopped) = (self.stop.clone(), None);
        loop {
            tokio::select! {
                painted = &mut painting => {
                    return painted.unwrap_or_else(|error| Err(Failure::Trouble(error.to_string())));
                }
                () = stop.wait(), if stopped.is_none() => stopped = Some(Instant::now()),
                _ = look.tick() => {
                    // Without an answer the painting goes on: the pictures can be written later.
                    if let Ok(false) = self.table.step(key, name, progress.take()).await {
                        progress.stop();
                    }
                    if stopped.is_some_and(|since| since.elapsed() >= self.grace) {
                        progress.stop();
                    }
                }
            }
        }
    }

    /// Writes the pictures and the record of a job, again and again while the store has no room or does not answer: it
    /// is no fault of the job, and painting again would not help. Users see the reason meanwhile.
    async fn keep_patiently(&self, key: &Key, name: &str, painted: &Painted) -> Result<(usize, &'static str), Failure> {
        let begun = Instant::now();
        loop {
            let reason = match self.keep(key, painted).await {
                Ok(kept) => return Ok(kept),
                Err(error) => error.to_string(),
            };
            if begun.elapsed() >= PATIENCE {
                return Err(Failure::Trouble(reason));
            }
            if self.stop.is_asked() || matches!(self.table.explain(key, name, &reason).await, Ok(false)) {
                return Err(Failure::Stopped);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes the pictures and the record of a job. Returns the number of pictures, and what is to be said about them.
    async fn keep(&self, key: &Key, painted: &Painted) -> Result<(usize, &'static str), QueueError> {
        let (count, mut reason) = (painted.pictures.len(), "");
        for (index, bytes) in painted.pictures.iter().enumerate() {
            if self.store.write(&picture(key, index), bytes.clone()).await? == Written::Other {
                reason = "another worker had painted other bits, which were kept; do all workers have one processor?";
            }
        }
        let record = Record { pictures: count, report: painted.report.clone() };
        let bytes = serde_json::to_vec(&record).map_err(|error| QueueError::Refused(error.to_string()))?;
        self.store.write(&self::record(key), bytes).await?;
        Ok((count, reason))
    }
}

/// Repeats a statement until the database answers, or patience ends.
async fn patiently<T, F: Future<Output = Result<T, QueueError>>>(mut ask: impl FnMut() -> F) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(error) if begun.elapsed() >= PATIENCE => return Err(error.to_string()),
            Err(_) => tokio::time::sleep(LOOK).await,
            Ok(answer) => return Ok(answer),
        }
    }
}
