//! [`Queue`]: the jobs that wait, run, and have ended.

use crate::metrics::Metrics;
use crate::options::Options;
use crate::request::JobRequest;
use impasto::sampler::CancelToken;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The newest event of a job. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job waits behind `position` others.
    Queued { position: usize },
    /// The worker has begun.
    Started,
    /// A step was taken.
    Step { done: usize, total: usize, picture: Arc<str> },
    /// The pictures are there.
    Finished(Arc<Finished>),
    /// The job failed; a sentence says why.
    Failed(Arc<str>),
    /// The job was cancelled.
    Cancelled,
}

impl Event {
    /// Returns true if no other event follows.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Failed(_) | Self::Cancelled)
    }
}

/// The pictures and the report of a job.
#[derive(Debug)]
pub struct Finished {
    /// The pictures as PNG files.
    pub pictures: Vec<Vec<u8>>,
    /// The result as the API shows it.
    pub result: serde_json::Value,
}

/// A job that the worker takes.
pub struct Taken {
    pub id: u64,
    pub request: Box<JobRequest>,
    pub token: CancelToken,
}

/// A job in the queue.
struct Job {
    /// The request, until the worker takes it.
    request: Option<Box<JobRequest>>,
    live: Option<String>,
    token: CancelToken,
    event: watch::Sender<Event>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: VecDeque<u64>,
    jobs: BTreeMap<u64, Job>,
    /// Jobs that have ended, the oldest first.
    ended: VecDeque<u64>,
    running: Option<u64>,
    closed: bool,
}

/// The jobs of a studio. Handlers add jobs and the worker takes them, one after the other.
pub struct Queue {
    state: Mutex<State>,
    added: Condvar,
    most_waiting: usize,
    kept: usize,
    pub metrics: Metrics,
}

/// The id of a new job, and the number of jobs before it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Accepted {
    pub id: u64,
    pub position: usize,
}

/// The reason why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// The queue is full with this number of jobs.
    Full(usize),
    /// The studio ends.
    Closed,
}

impl Queue {
    pub fn new(options: &Options) -> Self {
        Self {
            state: Mutex::default(),
            added: Condvar::new(),
            most_waiting: options.queue,
            kept: options.kept,
            metrics: Metrics::default(),
        }
    }

    /// Locks the state, even after a panic of a thread that held the lock. No panic can leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job. A job of a live view cancels the earlier ones of the same view.
    pub fn submit(&self, request: JobRequest) -> Result<Accepted, NotAccepted> {
        let mut state = self.state();
        if state.closed {
            return Err(NotAccepted::Closed);
        }
        if let Some(live) = &request.live {
            let same = state.jobs.iter().filter(|(_, job)| job.live.as_ref() == Some(live)).map(|(id, _)| *id);
            for id in same.collect::<Vec<_>>() {
                self.cancel_in(&mut state, id);
            }
        }
        if state.waiting.len() >= self.most_waiting {
            self.metrics.refused.add(1);
            return Err(NotAccepted::Full(state.waiting.len()));
        }
        state.last_id += 1;
        let (id, position) = (state.last_id, state.waiting.len() + usize::from(state.running.is_some()));
        let event = watch::Sender::new(Event::Queued { position });
        let live = request.live.clone();
        state.jobs.insert(id, Job { request: Some(Box::new(request)), live, token: CancelToken::new(), event });
        state.waiting.push_back(id);
        self.metrics.accepted.add(1);
        self.added.notify_one();
        Ok(Accepted { id, position })
    }

    /// Waits for a job and takes it; `None` once the queue is closed.
    pub fn take(&self) -> Option<Taken> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(id) = state.waiting.pop_front() {
                state.running = Some(id);
                Self::tell_positions(&state);
                if let Some(job) = state.jobs.get_mut(&id)
                    && let Some(request) = job.request.take()
                {
                    job.event.send_replace(Event::Started);
                    return Some(Taken { id, request, token: job.token.clone() });
                }
            }
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the listeners of a job about an event.
    pub fn tell(&self, id: u64, event: Event) {
        let mut state = self.state();
        let last = event.is_last();
        if last {
            self.count(&event);
        }
        if let Some(job) = state.jobs.get(&id) {
            job.event.send_replace(event);
        }
        if last {
            if state.running == Some(id) {
                state.running = None;
                Self::tell_positions(&state);
            }
            self.end(&mut state, id);
        }
    }

    /// Cancels a job; false if no job has the number. A running job ends at its next step.
    pub fn cancel(&self, id: u64) -> bool {
        let mut state = self.state();
        self.cancel_in(&mut state, id);
        state.jobs.contains_key(&id)
    }

    fn cancel_in(&self, state: &mut State, id: u64) {
        let Some(job) = state.jobs.get(&id) else { return };
        job.token.cancel();
        if let Some(at) = state.waiting.iter().position(|waiting| *waiting == id) {
            state.waiting.remove(at);
            if let Some(job) = state.jobs.get_mut(&id) {
                job.request = None;
                job.event.send_replace(Event::Cancelled);
            }
            self.metrics.cancelled.add(1);
            Self::tell_positions(state);
            self.end(state, id);
        }
    }

    /// Forgets the oldest ended jobs beyond those that are kept.
    fn end(&self, state: &mut State, id: u64) {
        state.ended.push_back(id);
        while state.ended.len() > self.kept {
            if let Some(oldest) = state.ended.pop_front() {
                state.jobs.remove(&oldest);
            }
        }
    }

    fn tell_positions(state: &State) {
        let before = usize::from(state.running.is_some());
        for (index, id) in state.waiting.iter().enumerate() {
            if let Some(job) = state.jobs.get(id) {
                job.event.send_replace(Event::Queued { position: index + before });
            }
        }
    }

    fn count(&self, last: &Event) {
        match last {
            Event::Finished(_) => self.metrics.finished.add(1),
            Event::Failed(_) => self.metrics.failed.add(1),
            _ => self.metrics.cancelled.add(1),
        }
    }

    /// Returns the events of a job from the present one on.
    pub fn events(&self, id: u64) -> Option<watch::Receiver<Event>> {
        self.state().jobs.get(&id).map(|job| job.event.subscribe())
    }

    /// Returns true if someone listens to the events of a job.
    pub fn is_watched(&self, id: u64) -> bool {
        self.state().jobs.get(&id).is_some_and(|job| job.event.receiver_count() > 0)
    }

    /// Returns the newest event of a job.
    pub fn event(&self, id: u64) -> Option<Event> {
        self.state().jobs.get(&id).map(|job| job.event.borrow().clone())
    }

    /// Returns the number of waiting jobs, and whether one runs.
    pub fn load(&self) -> (usize, bool) {
        let state = self.state();
        (state.waiting.len(), state.running.is_some())
    }

    /// Accepts no more jobs, and cancels those that wait or run.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let ids: Vec<u64> = state.waiting.iter().copied().chain(state.running).collect();
        for id in ids {
            self.cancel_in(&mut state, id);
        }
        self.added.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn queue(queue: usize, kept: usize) -> Queue {
        Queue::new(&Options { queue, kept, ..Options::default() })
    }

    fn live(name: &str) -> JobRequest {
        JobRequest { live: Some(name.into()), ..JobRequest::default() }
    }

    #[test]
    fn full_queue_refuses_and_keeps_waiting_jobs() {
        let queue = queue(2, 8);
        let ids: Vec<u64> = (0..2).map(|_| queue.submit(JobRequest::default()).unwrap().id).collect();
        assert_eq!(queue.submit(JobRequest::default()).unwrap_err(), NotAccepted::Full(2));
        assert_eq!([queue.take().unwrap().id, queue.take().unwrap().id], ids[..]);
    }

    #[test]
    fn last_live_request_wins() {
        let queue = queue(2, 8);
        let first = queue.submit(live("view")).unwrap().id;
        let running = queue.take().unwrap();
        let second = queue.submit(live("view")).unwrap().id;
        assert!(running.id == first && running.token.is_cancelled());
        let third = queue.submit(live("view")).unwrap().id;
        let other = queue.submit(live("other")).unwrap().id;
        assert!(matches!(queue.event(second), Some(Event::Cancelled)));
        queue.tell(first, Event::Cancelled);
        assert_eq!([queue.take().unwrap().id, queue.take().unwrap().id], [third, other]);
    }

    #[test]
    fn position_counts_the_jobs_before() {
        let queue = queue(4, 8);
        let [a, b, c] = [(); 3].map(|()| queue.submit(JobRequest::default()).unwrap());
        assert_eq!([a.position, b.position, c.position], [0, 1, 2]);
        assert_eq!(queue.take().unwrap().id, a.id);
        queue.cancel(b.id);
        let Some(Event::Queued { position }) = queue.event(c.id) else { panic!("waits") };
        assert_eq!(position, 1);
        queue.tell(a.id, Event::Failed("no".into()));
        let Some(Event::Queued { position }) = queue.event(c.id) else { panic!("waits") };
        assert_eq!(position, 0);
    }

    #[test]
    fn only_the_latest_results_are_kept() {
        let queue = queue(4, 2);
        let ids = [(); 3].map(|()| {
            let id = queue.submit(JobRequest::default()).unwrap().id;
            queue.take().unwrap();
            queue.tell(id, Event::Cancelled);
            id
        });
        assert_eq!(ids.map(|id| queue.event(id).is_some()), [false, true, true]);
    }

    #[test]
    fn closed_queue_ends_every_job() {
        let queue = queue(4, 8);
        let [running, waiting] = [(); 2].map(|()| queue.submit(JobRequest::default()).unwrap().id);
        let taken = queue.take().unwrap();
        queue.close();
        assert!(taken.id == running && taken.token.is_cancelled());
        assert!(matches!(queue.event(waiting), Some(Event::Cancelled)));
        assert!(queue.take().is_none());
        assert_eq!(queue.submit(JobRequest::default()).unwrap_err(), NotAccepted::Closed);
    }
}
