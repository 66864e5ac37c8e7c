//! [`Worker`]: paints the jobs of a queue.

use crate::attempt::Attempts;
use crate::engine::Handler;
use crate::error::QueueError;
use crate::metrics::Metrics;
use crate::paint::Paint;
use crate::queue::Queue;
use crate::stop::Stop;
use crate::ticket::Ticket;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longest time between two tries to reach the database.
const LONGEST: Duration = Duration::from_secs(10);

/// Paints the jobs of a model from a queue, one after the other.
pub struct Worker<P> {
    queue: Queue,
    model: String,
    painter: P,
    grace: Duration,
    metrics: Metrics,
}

impl<P: Paint> Worker<P> {
    /// Returns a worker for the jobs of `model`. At its end a job in work has no time left.
    #[must_use]
    pub fn new(queue: Queue, model: impl Into<String>, painter: P) -> Self {
        Self { queue, model: model.into(), painter, grace: Duration::ZERO, metrics: Metrics::default() }
    }

    /// Returns the counters of the worker, to be read while it works.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Sets the time that the job in work may take to its end once the worker is to end. After that time the job goes
    /// back to the queue.
    #[must_use]
    pub const fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Paints jobs until `stop` is ready. While the database does not answer, the worker tries again.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (end, stopped) = Stop::new();
        let Self { queue, model, painter, grace, metrics } = self;
        let attempts = Attempts {
            table: queue.table.clone(),
            store: queue.store.clone(),
            settings: queue.settings.clone(),
            painter: Arc::new(Mutex::new(painter)),
            grace,
            metrics,
            stop: stopped.clone(),
        };
        let serving = serve(&queue, &model, &attempts, stopped);
        let stopping = async {
            stop.await;
            end.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = serving => {}
            () = stopping => {}
        }
    }
}

/// Takes jobs until the worker is to end. A new worker of the engine takes the place of one that lost the database.
async fn serve<P: Paint>(queue: &Queue, model: &str, attempts: &Attempts<P>, mut stop: Stop) {
    let mut pause = queue.settings.beat;
    while !stop.is_asked() {
        let name = name();
        let (handler, running) = handler(attempts.clone(), name.clone());
        tracing::info!(worker = name, model, "the worker waits for jobs");
        let mending = async {
            if let Err(error) = queue.mend(model).await {
                tracing::warn!(worker = name, %error, "the worker cannot look for unfinished submissions");
            }
            std::future::pending::<Infallible>().await
        };
        // To look through a long queue takes a while, in which jobs are painted already.
        let served = tokio::select! {
            served = queue.engine.serve(model, &name, &queue.settings, handler, stop.clone()) => served,
            never = mending => match never {},
        };
        // A job in work goes on without the engine: its pictures can be written when the database answers again.
        let left = running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(left) = left {
            drop(left.await);
        }
        match served {
            Ok(()) => pause = queue.settings.beat,
            Err(error) => {
                tracing::warn!(worker = name, %error, "the worker lost the queue and tries again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.wait() => {}
                }
                pause = (pause * 2).min(LONGEST);
            }
        }
    }
}

/// The job in work, which goes on if the engine drops its future.
type Running = Arc<Mutex<Option<JoinHandle<Result<(), String>>>>>;

/// Returns the work on a ticket as the engine wants it, and the place of the job in work.
fn handler<P: Paint>(attempts: Attempts<P>, name: String) -> (Handler, Running) {
    let running = Running::default();
    let place = Arc::clone(&running);
    let handler = Handler(Arc::new(move |ticket: String| {
        let (attempts, name, place) = (attempts.clone(), name.clone(), Arc::clone(&place));
        let (tell, told) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let ticket: Ticket = ticket.parse().map_err(|error: QueueError| error.to_string())?;
            let outcome = attempts.run(&ticket, &name).await;
            drop(tell.send(outcome.clone()));
            outcome
        });
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Box::pin(async move {
            match told.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(reason)) => Err(reason.into()),
                // The ticket is damaged: another try would find it so again.
                Err(_) => Ok(()),
            }
        })
    }));
    (handler, running)
}

/// Returns a name that no other worker has: the machine's, the program's number, and a random number.
fn name() -> String {
    let machine = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty() && name.len() <= 64);
    let random = RandomState::new().hash_one(std::process::id()) as u32;
    format!("{}-{}-{random:08x}", machine.as_deref().unwrap_or("machine"), std::process::id())
}
