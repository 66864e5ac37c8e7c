//! [`Relay`]: hands the jobs of a studio to a durable queue, and follows them there.

use crate::finished::Finished;
use crate::options::Options;
use crate::outputs::Outputs;
use crate::queue::{Api, Event, Queue, Submission, Taken};
use crate::refusal::Refusal;
use crate::request::JobRequest;
use crate::worker::words;
use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use impasto::Error;
use impasto::sampler::CancelToken;
use impasto_worker::{Entry, Filter, Key, Order, QueueError, State};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;

/// Largest number of jobs that are followed at once. Further ones wait in the studio.
const FOLLOWED: usize = 32;

/// Time between two looks at a job.
const LOOK: Duration = Duration::from_millis(300);

/// Time for which a request waits for a queue that does not answer.
const BRIEF: Duration = Duration::from_secs(10);

/// Time for which a job waits for a queue that does not answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// The user of a studio's jobs.
const OWNER: &str = "studio";

/// The queue whose workers paint the jobs of a studio.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) queue: impasto_worker::Queue,
    /// Name of the workers' model.
    pub(crate) model: String,
}

/// The studio's side of the jobs.
struct Side {
    relay: Relay,
    queue: Arc<Queue>,
    outputs: Option<Outputs>,
    options: Options,
}

impl Relay {
    /// Returns the latest results of an earlier studio, and its jobs that have not ended, as jobs to follow.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the durable queue does not answer.
    pub(crate) async fn left(&self, options: &Options) -> Result<Vec<Submission>, QueueError> {
        self.queue.mend(&self.model).await?;
        let kept = u32::try_from(options.kept).unwrap_or(u32::MAX).max(1);
        let mut followed = Vec::new();
        for (state, limit) in [(State::Done, kept), (State::Running, 1000), (State::Waiting, 1000)] {
            let filter = Filter { state: Some(state), owner: Some(OWNER.into()), limit, ..Filter::default() };
            let mut left = self.queue.list(&filter).await?;
            left.retain(|entry| entry.model == self.model);
            let follow =
                |Entry { key, title, .. }| Submission { prompt: title, followed: Some(key), ..Submission::default() };
            followed.extend(left.into_iter().rev().map(follow));
        }
        Ok(followed)
    }

    /// Starts the threads that hand jobs over, and follows the jobs that are `left`. The returned thread ends when the
    /// studio's queue is closed. The jobs go on then.
    ///
    /// # Errors
    /// An error of the operating system if it cannot start a thread.
    pub(crate) fn start(
        self,
        left: Vec<Submission>,
        queue: Arc<Queue>,
        outputs: Option<Outputs>,
        options: &Options,
    ) -> impasto::Result<JoinHandle<()>> {
        for followed in left {
            let _ = queue.submit(followed); // refused only by a studio that ends
        }
        let side = Arc::new(Side { relay: self, queue, outputs, options: options.clone() });
        // The studio's own runtime may end first, and waiting in a runtime that ends panics.
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::custom)?;
        let follow = move || {
            let handle = runtime.handle();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while let Some(key) = side.queue.take_withdrawn() {
                        handle.block_on(side.withdraw(&key));
                    }
                });
                for _ in 0..FOLLOWED {
                    scope.spawn(|| {
                        while let Some(taken) = side.queue.take() {
                            let (id, begun) = (taken.id, Instant::now());
                            let event = handle.block_on(side.follow(taken));
                            side.queue.metrics.worked(begun.elapsed());
                            side.queue.tell(id, event);
                        }
                    });
                }
            });
        };
        std::thread::Builder::new().name("impasto-relay".into()).spawn(follow).map_err(Error::custom)
    }

    /// Counts the jobs of the durable queue by their states, in Prometheus' text format. Returns nothing if the queue
    /// does not answer soon.
    pub(crate) async fn metrics(&self) -> String {
        let Ok(Ok(counts)) = tokio::time::timeout(BRIEF, self.queue.count()).await else { return String::new() };
        let name = "impasto_queue_jobs";
        let head = format!("# HELP {name} Jobs of the durable queue, of all studios.\n# TYPE {name} gauge\n");
        counts.iter().fold(head, |text, (state, count)| text + &format!("{name}{{state=\"{state}\"}} {count}\n"))
    }

    /// Adds a job to the durable queue, and returns its name there.
    ///
    /// # Errors
    /// A refusal if the queue refuses the job, and one if it does not answer soon.
    pub(crate) async fn keep(&self, order: Order) -> Result<Key, Refusal> {
        let late = |error: String| {
            let sentence = format!("the queue does not answer ({error}); try again later");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence)
        };
        match tokio::time::timeout(BRIEF, self.queue.submit(order)).await {
            Ok(Ok(entry)) => Ok(entry.key),
            Ok(Err(QueueError::Refused(sentence))) => Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, sentence)),
            Ok(Err(error)) => Err(late(error.to_string())),
            Err(_) => Err(late(format!("no answer for {BRIEF:?}"))),
        }
    }

    /// Returns the order for the job of a request.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the request.
    pub(crate) fn order(&self, json: &[u8], api: Api, options: &Options) -> Result<Order, String> {
        let JobRequest { mut job, model, .. } = JobRequest::parse(json, options, words(api))?;
        if let Some(other) = model.filter(|model| *model != self.model) {
            return Err(format!("model is {other:?}; expected {:?}, the model of this studio's workers", self.model));
        }
        // Without a seed of its own the job would be one that was painted before.
        job.config.seed.get_or_insert_with(|| RandomState::new().hash_one("seed") >> 32);
        let title = job.config.prompt.clone();
        let job = serde_json::to_value(&job).map_err(|error| error.to_string())?;
        Ok(Order { owner: OWNER.into(), title, ..Order::new(self.model.clone(), job) })
    }
}

impl Side {
    /// Hands a job over, and follows it to its end.
    async fn follow(&self, taken: Taken) -> Event {
        let (id, api, token) = (taken.id, taken.api, taken.token.clone());
        let key = match taken.followed.clone() {
            Some(key) => key,
            None => match self.hand_over(&taken).await {
                Ok(key) => key,
                Err(event) => return event,
            },
        };
        let entry = match self.wait(id, &key, &token).await {
            Ok(entry) => entry,
            Err(error) => return Event::Failed(error.to_string().into()),
        };
        match entry.state {
            State::Done => self
                .fetch(id, &key, entry.pictures as usize)
                .await
                .unwrap_or_else(|error| Event::Failed(error.worded(words(api)).into())),
            State::Failed => Event::Failed(entry.reason.into()),
            _ => Event::Cancelled,
        }
    }

    /// Adds a job to the durable queue, and returns its name there.
    async fn hand_over(&self, taken: &Taken) -> Result<Key, Event> {
        let failed = |sentence: String| Event::Failed(sentence.into());
        let order = self.relay.order(&taken.json, taken.api, &self.options).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match self.relay.queue.submit(order.clone()).await {
                Ok(entry) => return Ok(entry.key),
                Err(QueueError::Database(_)) if begun.elapsed() < PATIENCE && !taken.token.is_cancelled() => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(_) if taken.token.is_cancelled() => return Err(Event::Cancelled),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
    }

    /// Cancels a job in the durable queue, as soon as the queue answers.
    async fn withdraw(&self, key: &Key) {
        let begun = Instant::now();
        while self.relay.queue.cancel(key).await.is_err() && begun.elapsed() < PATIENCE && !self.queue.is_closed() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the end of a job, and tells its steps meanwhile. A job that is cancelled here is cancelled there, but
    /// not because the studio ends.
    async fn wait(&self, id: u64, key: &Key, token: &CancelToken) -> Result<Entry, QueueError> {
        let (mut answered, mut last) = (Instant::now(), 0);
        loop {
            match self.relay.queue.find(key).await {
                Ok(Some(entry)) if entry.state.is_last() || self.queue.is_closed() => return Ok(entry),
                Ok(Some(_)) if token.is_cancelled() && !self.queue.is_closed() => {
                    self.relay.queue.cancel(key).await?;
                }
                Ok(Some(entry)) => {
                    answered = Instant::now();
                    if entry.step > last {
                        last = entry.step;
                        self.tell(id, key, &entry).await;
                    }
                }
                Ok(None) => return Err(QueueError::Database("the job was deleted".into())),
                Err(error) if answered.elapsed() >= PATIENCE || self.queue.is_closed() => return Err(error),
                Err(_) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells a step of a job, with a picture if a client listens.
    async fn tell(&self, id: u64, key: &Key, entry: &Entry) {
        self.queue.metrics.steps.add(1);
        if !self.queue.is_watched(id) {
            return;
        }
        let preview = self.relay.queue.preview(key).await.ok().flatten();
        let url = |png: Vec<u8>| format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
        let picture = preview.map(url).unwrap_or_default().into();
        let (done, total) = (entry.step as usize, entry.steps as usize);
        self.queue.tell(id, Event::Step { part: 1, parts: 1, done, total, picture });
    }

    /// Reads the pictures and the report of a job that is done.
    async fn fetch(&self, id: u64, key: &Key, count: usize) -> impasto::Result<Event> {
        let missing = || Error::custom("the pictures of the job are not in the store any more");
        let mut files = Vec::new();
        for index in 0..count {
            let file = self.relay.queue.picture(key, index).await.map_err(Error::custom)?;
            files.push(file.ok_or_else(missing)?);
        }
        let result = self.relay.queue.report(key).await.map_err(Error::custom)?.ok_or_else(missing)?;
        let url = |index| format!("/api/jobs/{id}/pictures/{index}");
        let mut finished = Finished::read(url, &files, result, &self.options)?;
        if let Some(outputs) = &self.outputs {
            outputs.write(&mut finished);
        }
        Ok(Event::Finished(Arc::new(finished)))
    }
}
