//! [`Queue`]: the jobs that wait, run, and have ended.

use crate::finished::Finished;
use crate::metrics::Metrics;
use crate::options::Options;
use impasto::sampler::CancelToken;
use impasto_worker::Key;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The newest event of a job. Clones are cheap.
#[derive(Clone, Debug)]
pub enum Event {
    /// The job waits behind `position` others.
    Queued { position: usize },
    /// The worker has begun.
    Started,
    /// A step was taken in one of several parts of the job.
    Step { part: usize, parts: usize, done: usize, total: usize, picture: Arc<str> },
    /// The pictures are there.
    Finished(Arc<Finished>),
    /// The model is loaded, and nothing was to be painted.
    Loaded,
    /// The job failed; a sentence says why.
    Failed(Arc<str>),
    /// The job was cancelled.
    Cancelled,
}

impl Event {
    /// Returns true if no other event follows.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Loaded | Self::Failed(_) | Self::Cancelled)
    }

    /// Returns the share of the job's steps that were taken, 0 before the first one. A part may repaint several things,
    /// so there can be more parts than were expected.
    pub fn share(&self) -> f64 {
        let Self::Step { part, parts, done, total, .. } = self else { return 0.0 };
        let (part, parts) = (part.saturating_sub(1) as f64, (*parts).max(*part).max(1) as f64);
        (part + *done as f64 / (*total).max(1) as f64) / parts
    }
}

/// The API that a job came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    #[default]
    Own,
    WebUi,
    OpenAi,
    Mcp,
}

/// A request for a job, which was checked.
#[derive(Debug, Default)]
pub struct Submission {
    /// The request as JSON. Its pictures take much less memory than their pixels. Empty for a job that only loads its
    /// model.
    pub json: Vec<u8>,
    /// Name of the model that the job needs, if the request itself does not name it.
    pub model: Option<String>,
    pub prompt: String,
    pub live: Option<String>,
    pub api: Api,
    /// Name of a job of a durable queue, which is only followed. Such a job has no request.
    pub followed: Option<Key>,
}

/// A job that the worker takes.
pub struct Taken {
    pub id: u64,
    pub api: Api,
    pub json: Vec<u8>,
    pub model: Option<String>,
    pub token: CancelToken,
    pub followed: Option<Key>,
}

/// A job in the queue.
struct Job {
    /// The request, until the worker takes it.
    json: Vec<u8>,
    model: Option<String>,
    prompt: Arc<str>,
    live: Option<Arc<str>>,
    api: Api,
    followed: Option<Key>,
    /// Time at which the worker took the job.
    begun: Option<Instant>,
    token: CancelToken,
    event: watch::Sender<Event>,
    /// Memory in bytes of the request, and then of the result.
    bytes: usize,
    listeners: Listeners,
}

/// The listeners to a job's events.
enum Listeners {
    /// The job never had any.
    None,
    /// The job has this number of listeners.
    Some(usize),
    /// The last listener left at this time.
    Left(Instant),
}

/// A job as the API describes it.
pub struct Description {
    pub id: u64,
    pub prompt: Arc<str>,
    pub live: Option<Arc<str>>,
    pub event: Event,
}

/// The jobs of an API that wait or run.
pub struct Load {
    /// Number of the first job.
    pub first: u64,
    pub event: Event,
    /// Time for which the first job has run; `None` if it waits.
    pub running: Option<Duration>,
    /// Number of the jobs.
    pub count: usize,
}

impl Job {
    fn describe(&self, id: u64) -> Description {
        Description {
            id,
            prompt: Arc::clone(&self.prompt),
            live: self.live.clone(),
            event: self.event.borrow().clone(),
        }
    }
}

/// A listener to the events of a job, until the value is dropped.
pub struct Listener {
    queue: Arc<Queue>,
    id: u64,
    prompt: Arc<str>,
    live: Option<Arc<str>>,
    pub events: watch::Receiver<Event>,
}

impl Listener {
    /// Describes the job at an event, even if the queue has forgotten the job.
    pub fn describe(&self, event: Event) -> Description {
        let (prompt, live) = (Arc::clone(&self.prompt), self.live.clone());
        Description { id: self.id, prompt, live, event }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.queue.leave(self.id);
    }
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: VecDeque<u64>,
    jobs: BTreeMap<u64, Job>,
    /// Jobs that have ended, the oldest first.
    ended: VecDeque<u64>,
    /// Jobs that workers have taken, the oldest first.
    running: BTreeSet<u64>,
    /// Number and bytes of the jobs that are on their way to a durable queue.
    arriving: (usize, usize),
    /// Jobs of a durable queue that were cancelled before they were taken.
    withdrawn: Vec<Key>,
    closed: bool,
}

impl State {
    /// Returns the memory of all requests and results, in bytes.
    fn bytes(&self) -> usize {
        self.jobs.values().map(|job| job.bytes).sum()
    }
}

/// Room for a job that is on its way to a durable queue, until the value is dropped.
pub(crate) struct Room<'a> {
    queue: &'a Queue,
    bytes: usize,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.arriving = (state.arriving.0 - 1, state.arriving.1 - self.bytes);
    }
}

/// The jobs of a studio. Handlers add jobs and the worker takes them, one after the other.
pub struct Queue {
    state: Mutex<State>,
    added: Condvar,
    withdrew: Condvar,
    most_waiting: usize,
    kept: usize,
    memory: usize,
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
    /// The queue is full: `most` jobs wait.
    Full { most: usize },
    /// The requests that wait take so much memory that there is no room for another.
    Large { bytes: usize, most: usize },
    /// The request alone takes more than `most` bytes.
    TooLarge { most: usize },
    /// The studio ends.
    Closed,
}

impl Queue {
    pub fn new(options: &Options) -> Self {
        Self {
            state: Mutex::default(),
            added: Condvar::new(),
            withdrew: Condvar::new(),
            most_waiting: options.queue,
            kept: options.kept,
            memory: options.memory,
            metrics: Metrics::default(),
        }
    }

    /// Locks the state, even after a panic of a thread that held the lock. No panic can leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that there is room for a request of `bytes` beside the jobs that wait, without those that the request
    /// cancels.
    fn check(&self, state: &State, bytes: usize, cancelled: &[u64]) -> Result<(), NotAccepted> {
        let staying = state.waiting.iter().filter(|id| !cancelled.contains(id));
        let (count, taken) = staying
            .filter_map(|id| state.jobs.get(id))
            .fold(state.arriving, |(count, bytes), job| (count + 1, bytes + job.bytes));
        let most = self.memory;
        let refusal = if bytes > most {
            NotAccepted::TooLarge { most }
        } else if count >= self.most_waiting {
            NotAccepted::Full { most: self.most_waiting }
        } else if taken + bytes > most {
            NotAccepted::Large { bytes: taken, most }
        } else {
            return Ok(());
        };
        self.metrics.refused.add(1);
        Err(refusal)
    }

    /// Keeps room for a request of `bytes` that is on its way to a durable queue.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<Room<'_>, NotAccepted> {
        let mut state = self.state();
        if state.closed {
            return Err(NotAccepted::Closed);
        }
        self.check(&state, bytes, &[])?;
        state.arriving = (state.arriving.0 + 1, state.arriving.1 + bytes);
        Ok(Room { queue: self, bytes })
    }

    /// Adds a job. A job of a live view cancels the earlier ones of the same view. A job of a durable queue is not
    /// refused for lack of room.
    pub fn submit(
        &self,
        Submission { json, model, prompt, live, api, followed }: Submission,
    ) -> Result<Accepted, NotAccepted> {
        let mut state = self.state();
        if state.closed {
            return Err(NotAccepted::Closed);
        }
        let live: Option<Arc<str>> = live.map(Into::into);
        let is_same = |job: &Job| live.is_some() && job.live == live;
        let same: Vec<u64> = state.jobs.iter().filter(|(_, job)| is_same(job)).map(|(id, _)| *id).collect();
        // A job that is refused cancels no other one.
        if followed.is_none() {
            self.check(&state, json.len(), &same)?;
        }
        for id in same {
            self.cancel_in(&mut state, id);
        }
        state.last_id += 1;
        let (id, position) = (state.last_id, state.waiting.len() + state.running.len());
        let event = watch::Sender::new(Event::Queued { position });
        let (bytes, prompt, token, listeners) = (json.len(), prompt.into(), CancelToken::new(), Listeners::None);
        let begun = None;
        state.jobs.insert(id, Job { json, model, prompt, live, api, followed, begun, token, event, bytes, listeners });
        state.waiting.push_back(id);
        self.forget(&mut state);
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
                state.running.insert(id);
                Self::tell_positions(&state);
                if let Some(job) = state.jobs.get_mut(&id) {
                    job.begun = Some(Instant::now());
                    job.event.send_replace(Event::Started);
                    let (json, token) = (std::mem::take(&mut job.json), job.token.clone());
                    let (model, followed) = (job.model.take(), job.followed.take());
                    return Some(Taken { id, api: job.api, json, model, token, followed });
                }
            }
            state = self.added.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for a job of a durable queue that was cancelled before it was taken, and returns its name; `None` once the
    /// queue is closed.
    pub(crate) fn take_withdrawn(&self) -> Option<Key> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(key) = state.withdrawn.pop() {
                return Some(key);
            }
            state = self.withdrew.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the listeners of a job about an event.
    pub fn tell(&self, id: u64, event: Event) {
        let mut state = self.state();
        let last = event.is_last();
        if last {
            self.count(&event);
        }
        if let Some(job) = state.jobs.get_mut(&id) {
            if let Event::Finished(finished) = &event {
                job.bytes = finished.bytes;
            } else if last {
                job.bytes = 0;
            }
            job.event.send_replace(event);
        }
        if last {
            if state.running.remove(&id) {
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

    /// Ends a running job with an unfinished picture.
    pub fn finish_early(&self, id: u64) {
        if let Some(job) = self.state().jobs.get(&id) {
            job.token.finish_early();
        }
    }

    fn cancel_in(&self, state: &mut State, id: u64) {
        let Some(job) = state.jobs.get(&id) else { return };
        job.token.cancel();
        if let Some(at) = state.waiting.iter().position(|waiting| *waiting == id) {
            state.waiting.remove(at);
            if let Some(job) = state.jobs.get_mut(&id) {
                (job.json, job.bytes) = (Vec::new(), 0);
                job.event.send_replace(Event::Cancelled);
                // The jobs of a durable queue survive the end of the studio.
                if !state.closed {
                    state.withdrawn.extend(job.followed.take());
                    self.withdrew.notify_one();
                }
            }
            self.metrics.cancelled.add(1);
            Self::tell_positions(state);
            self.end(state, id);
        }
    }

    /// Adds a job to those that have ended.
    fn end(&self, state: &mut State, id: u64) {
        state.ended.push_back(id);
        self.forget(state);
    }

    /// Forgets the oldest ended jobs beyond the number and the memory of those that are kept. The latest result stays
    /// in any case.
    fn forget(&self, state: &mut State) {
        let result =
            |id: &&u64| state.jobs.get(id).is_some_and(|job| matches!(*job.event.borrow(), Event::Finished(_)));
        let latest = state.ended.iter().rev().find(result).copied();
        loop {
            let (many, large) = (state.ended.len() > self.kept, state.bytes() > self.memory);
            // Jobs without a result take no memory, so only their number counts.
            let takes = |id: &u64| state.jobs.get(id).is_some_and(|job| job.bytes > 0);
            let goes = |id: &u64| Some(*id) != latest && (many || large && takes(id));
            let Some(oldest) = state.ended.iter().position(goes).and_then(|at| state.ended.remove(at)) else { return };
            state.jobs.remove(&oldest);
        }
    }

    fn tell_positions(state: &State) {
        let before = state.running.len();
        for (index, id) in state.waiting.iter().enumerate() {
            if let Some(job) = state.jobs.get(id) {
                job.event.send_replace(Event::Queued { position: index + before });
            }
        }
    }

    fn count(&self, last: &Event) {
        match last {
            Event::Finished(_) | Event::Loaded => self.metrics.finished.add(1),
            Event::Failed(_) => self.metrics.failed.add(1),
            _ => self.metrics.cancelled.add(1),
        }
    }

    /// Returns a listener to the events of a job from the present one on; `None` if no job has the number.
    pub fn listen(self: &Arc<Self>, id: u64) -> Option<Listener> {
        let mut state = self.state();
        let job = state.jobs.get_mut(&id)?;
        let before = if let Listeners::Some(count) = job.listeners { count } else { 0 };
        job.listeners = Listeners::Some(before + 1);
        let (prompt, live, events) = (Arc::clone(&job.prompt), job.live.clone(), job.event.subscribe());
        Some(Listener { queue: Arc::clone(self), id, prompt, live, events })
    }

    /// Notes that a listener has left.
    fn leave(&self, id: u64) {
        let mut state = self.state();
        let Some(Job { listeners, .. }) = state.jobs.get_mut(&id) else { return };
        *listeners = match listeners {
            Listeners::Some(count @ 2..) => Listeners::Some(*count - 1),
            _ => Listeners::Left(Instant::now()),
        };
    }

    /// Returns true if a client listens to the events of a job.
    pub fn is_watched(&self, id: u64) -> bool {
        self.state().jobs.get(&id).is_some_and(|job| matches!(job.listeners, Listeners::Some(_)))
    }

    /// Cancels the jobs whose last listener left at least `time` ago.
    pub fn cancel_abandoned(&self, time: Duration) {
        let mut state = self.state();
        let ids: Vec<u64> = state.waiting.iter().chain(&state.running).copied().collect();
        for id in ids {
            let Some(Job { listeners: Listeners::Left(left), .. }) = state.jobs.get(&id) else { continue };
            if left.elapsed() >= time {
                self.cancel_in(&mut state, id);
            }
        }
    }

    /// Describes a job; `None` if no job has the number.
    pub fn job(&self, id: u64) -> Option<Description> {
        self.state().jobs.get(&id).map(|job| job.describe(id))
    }

    /// Describes all jobs, the oldest first.
    pub fn jobs(&self) -> Vec<Description> {
        self.state().jobs.iter().map(|(id, job)| job.describe(*id)).collect()
    }

    /// Describes the jobs of an API that wait or run; `None` if there are none.
    pub fn load_of(&self, api: Api) -> Option<Load> {
        let state = self.state();
        let all = state.running.iter().chain(&state.waiting).filter_map(|id| Some((*id, state.jobs.get(id)?)));
        let mut own = all.filter(|(_, job)| job.api == api);
        let (first, job) = own.next()?;
        let running = job.begun.map(|begun| begun.elapsed());
        Some(Load { first, event: job.event.borrow().clone(), running, count: 1 + own.count() })
    }

    /// Returns the numbers of waiting and of running jobs.
    pub fn load(&self) -> (usize, usize) {
        let state = self.state();
        (state.waiting.len(), state.running.len())
    }

    /// Returns true once no more jobs are accepted.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Accepts no more jobs, and cancels those that wait or run.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let ids: Vec<u64> = state.waiting.iter().chain(&state.running).copied().collect();
        for id in ids {
            self.cancel_in(&mut state, id);
        }
        self.added.notify_all();
        self.withdrew.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn queue(queue: usize, kept: usize) -> Queue {
        Queue::new(&Options { queue, kept, ..Options::default() })
    }

    fn live(name: &str) -> Submission {
        Submission { live: Some(name.into()), ..Submission::default() }
    }

    fn event(queue: &Queue, id: u64) -> Option<Event> {
        queue.job(id).map(|job| job.event)
    }

    #[test]
    fn full_queue_refuses_and_keeps_waiting_jobs() {
        let queue = queue(2, 8);
        let ids: Vec<u64> = (0..2).map(|_| queue.submit(Submission::default()).unwrap().id).collect();
        assert_eq!(queue.submit(Submission::default()).unwrap_err(), NotAccepted::Full { most: 2 });
        assert_eq!([queue.take().unwrap().id, queue.take().unwrap().id], ids[..]);
    }

    #[test]
    fn share_grows_over_the_parts_of_a_job() {
        let share = |part, parts, done, total| Event::Step { part, parts, done, total, picture: "".into() }.share();
        assert_eq!([share(1, 1, 5, 10), share(1, 2, 5, 10), share(2, 2, 5, 10)], [0.5, 0.25, 0.75]);
        assert!(share(3, 2, 1, 2) < 1.0 && share(1, 1, 0, 0) == 0.0 && Event::Started.share() == 0.0);
    }

    #[test]
    fn load_of_an_api_has_its_jobs_alone() {
        let queue = queue(4, 8);
        let submit = |api| queue.submit(Submission { api, ..Submission::default() }).unwrap().id;
        let ids = [Api::Own, Api::WebUi, Api::WebUi, Api::OpenAi].map(submit);
        let load = queue.load_of(Api::WebUi).unwrap();
        assert_eq!((load.first, load.running, load.count), (ids[1], None, 2));
        queue.take().unwrap();
        queue.take().unwrap();
        assert!(queue.load_of(Api::WebUi).unwrap().running.is_some());
        queue.tell(ids[1], Event::Cancelled);
        queue.cancel(ids[2]);
        assert!(queue.load_of(Api::WebUi).is_none() && queue.load_of(Api::OpenAi).is_some());
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
        assert!(matches!(event(&queue, second), Some(Event::Cancelled)));
        queue.tell(first, Event::Cancelled);
        assert_eq!([queue.take().unwrap().id, queue.take().unwrap().id], [third, other]);
    }

    #[test]
    fn position_counts_the_jobs_before() {
        let queue = queue(4, 8);
        let [a, b, c] = [(); 3].map(|()| queue.submit(Submission::default()).unwrap());
        assert_eq!([a.position, b.position, c.position], [0, 1, 2]);
        assert_eq!(queue.take().unwrap().id, a.id);
        queue.cancel(b.id);
        let Some(Event::Queued { position }) = event(&queue, c.id) else { panic!("waits") };
        assert_eq!(position, 1);
        queue.tell(a.id, Event::Failed("no".into()));
        let Some(Event::Queued { position }) = event(&queue, c.id) else { panic!("waits") };
        assert_eq!(position, 0);
    }

    #[test]
    fn only_the_latest_results_are_kept() {
        let queue = queue(4, 2);
        let ids = [(); 3].map(|()| {
            let id = queue.submit(Submission::default()).unwrap().id;
            queue.take().unwrap();
            queue.tell(id, Event::Cancelled);
            id
        });
        assert_eq!(ids.map(|id| event(&queue, id).is_some()), [false, true, true]);
    }

    #[test]
    fn closed_queue_ends_every_job() {
        let queue = queue(4, 8);
        let [running, waiting] = [(); 2].map(|()| queue.submit(Submission::default()).unwrap().id);
        let taken = queue.take().unwrap();
        queue.close();
        assert!(taken.id == running && taken.token.is_cancelled());
        assert!(matches!(event(&queue, waiting), Some(Event::Cancelled)));
        assert!(queue.take().is_none());
        assert_eq!(queue.submit(Submission::default()).unwrap_err(), NotAccepted::Closed);
    }

    #[test]
    fn job_on_its_way_takes_a_place_of_those_that_wait() {
        let queue = Queue::new(&Options { queue: 2, memory: 100, ..Options::default() });
        let room = queue.make_room(60).unwrap();
        let large = Submission { json: vec![b' '; 60], ..Submission::default() };
        assert_eq!(queue.submit(large).unwrap_err(), NotAccepted::Large { bytes: 60, most: 100 });
        queue.submit(Submission::default()).unwrap();
        assert_eq!(queue.make_room(0).err(), Some(NotAccepted::Full { most: 2 }));
        // The job itself is never refused any more.
        let followed = || Some(Key::new("model", &serde_json::json!({})));
        queue.submit(Submission { followed: followed(), ..Submission::default() }).unwrap();
        drop(room);
        assert_eq!(queue.state().arriving, (0, 0));
        queue.close();
        assert_eq!(queue.make_room(0).err(), Some(NotAccepted::Closed));
    }

    #[test]
    fn cancelled_job_of_a_durable_queue_is_withdrawn() {
        let queue = queue(4, 8);
        let keys = [1, 2].map(|seed| Key::new("model", &serde_json::json!({ "seed": seed })));
        let follow = |key: &Key| queue.submit(Submission { followed: Some(key.clone()), ..Submission::default() });
        let ids = keys.each_ref().map(|key| follow(key).unwrap().id);
        assert!(queue.cancel(ids[1]));
        assert_eq!(queue.take_withdrawn().as_ref(), Some(&keys[1]));
        // The end of a studio withdraws nothing.
        queue.close();
        assert!(queue.take_withdrawn().is_none() && queue.state().withdrawn.is_empty());
    }

    #[test]
    fn refused_live_request_cancels_nothing() {
        let queue = queue(1, 8);
        let running = queue.submit(live("view")).unwrap();
        let token = queue.take().unwrap().token;
        let other = queue.submit(live("other")).unwrap();
        assert_eq!(queue.submit(live("view")).unwrap_err(), NotAccepted::Full { most: 1 });
        assert!(!token.is_cancelled() && matches!(event(&queue, running.id), Some(Event::Started)));
        // A request takes the place of its own view's job, even if the queue is full.
        assert!(queue.submit(live("other")).is_ok());
        assert!(matches!(event(&queue, other.id), Some(Event::Cancelled)));
    }

    #[test]
    fn waiting_requests_are_bounded_in_bytes() {
        let queue = Queue::new(&Options { memory: 100, ..Options::default() });
        let large = || Submission { json: vec![b' '; 40], ..Submission::default() };
        let first = queue.submit(large()).unwrap();
        queue.submit(large()).unwrap();
        assert_eq!(queue.submit(large()).unwrap_err(), NotAccepted::Large { bytes: 80, most: 100 });
        let alone = Submission { json: vec![b' '; 101], ..Submission::default() };
        assert_eq!(queue.submit(alone).unwrap_err(), NotAccepted::TooLarge { most: 100 });
        assert_eq!(queue.take().unwrap().json.len(), 40);
        assert!(queue.submit(large()).is_ok(), "{} bytes wait", queue.state().bytes());
        queue.tell(first.id, Event::Cancelled);
        assert_eq!(queue.state().bytes(), 80);
    }

    #[test]
    fn job_without_listeners_is_cancelled_after_a_while() {
        let queue = Arc::new(queue(8, 8));
        let [left, never, followed] = [(); 3].map(|()| queue.submit(Submission::default()).unwrap().id);
        let token = queue.take().unwrap().token;
        let [first, second] = [(); 2].map(|()| queue.listen(left).unwrap());
        let follower = queue.listen(followed).unwrap();
        drop(first);
        queue.cancel_abandoned(Duration::ZERO);
        assert!(!token.is_cancelled() && queue.is_watched(left));
        drop(second);
        queue.cancel_abandoned(Duration::from_secs(60));
        assert!(!token.is_cancelled());
        // A listener who returns in time keeps the job.
        drop(queue.listen(left));
        let returned = queue.listen(left).unwrap();
        queue.cancel_abandoned(Duration::ZERO);
        assert!(!token.is_cancelled());
        drop((returned, follower));
        queue.cancel_abandoned(Duration::ZERO);
        assert!(token.is_cancelled());
        let ended = [never, followed].map(|id| event(&queue, id).unwrap().is_last());
        assert_eq!(ended, [false, true], "a job that never had listeners runs to its end");
    }
}
