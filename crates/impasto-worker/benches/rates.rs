//! Rates of a queue in SQLite and in PostgreSQL: jobs accepted, and jobs painted by workers whose painter only waits.
//!
//! `cargo bench -p impasto-worker` prints a table. `IMPASTO_JOBS` sets the number of jobs that are accepted, 2,000
//! without it. Without PostgreSQL its rows are left out.

#![allow(clippy::unwrap_used)]

#[path = "../tests/all/server.rs"]
mod server;

use impasto_worker::{Failure, Order, Paint, Painted, Progress, Queue, Settings, State, Store, Worker};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Number of programs that submit at once.
const SUBMITTERS: usize = 8;

/// Waits as long as the job says, in place of painting.
struct Waiting;

impl Paint for Waiting {
    fn paint(&mut self, job: &Value, _: &Progress) -> Result<Painted, Failure> {
        std::thread::sleep(Duration::from_millis(job.get("millis").and_then(Value::as_u64).unwrap_or_default()));
        Ok(Painted { pictures: vec![vec![0; 1000]], report: json!({}) })
    }
}

/// A database with its queue.
struct Bench {
    runtime: Runtime,
    queue: Queue,
    model: u32,
}

impl Bench {
    /// Returns the number of jobs that are accepted in a second.
    fn accept(&mut self, jobs: usize, millis: u64) -> f64 {
        self.model += 1;
        let model = self.model.to_string();
        let begun = Instant::now();
        let tasks = (0..SUBMITTERS).map(|submitter| {
            let (queue, model) = (self.queue.clone(), model.clone());
            self.runtime.spawn(async move {
                for number in (submitter..jobs).step_by(SUBMITTERS) {
                    let job = json!({ "prompt": format!("job {number}"), "millis": millis });
                    let order = Order { owner: format!("user {submitter}"), ..Order::new(model.clone(), job) };
                    queue.submit(order).await.unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tasks.into_iter().for_each(|task| self.runtime.block_on(task).unwrap());
        jobs as f64 / begun.elapsed().as_secs_f64()
    }

    /// Returns the number of jobs that `workers` finish in a second.
    fn paint(&mut self, jobs: usize, millis: u64, workers: usize) -> f64 {
        self.accept(jobs, millis);
        let (end, ended) = watch::channel(false);
        let done = |queue: &Queue| {
            let counts = self.runtime.block_on(queue.count()).unwrap();
            counts.into_iter().find(|(state, _)| *state == State::Done).map_or(0, |(_, count)| count)
        };
        let (before, begun) = (done(&self.queue), Instant::now());
        let running: Vec<_> = (0..workers)
            .map(|_| {
                let mut ended = ended.clone();
                self.runtime.spawn(Worker::new(self.queue.clone(), self.model.to_string(), Waiting).run(async move {
                    drop(ended.wait_for(|end| *end).await);
                }))
            })
            .collect();
        while done(&self.queue) < before + jobs as u64 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let rate = jobs as f64 / begun.elapsed().as_secs_f64();
        end.send_replace(true);
        running.into_iter().for_each(|worker| self.runtime.block_on(worker).unwrap());
        rate
    }
}

fn measure(name: &str, address: &str, jobs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let runtime = Runtime::new().unwrap();
    let settings = Settings { waiting: u32::MAX, ..Settings::default() };
    let queue = runtime.block_on(Queue::open(&address.parse().unwrap(), store, settings)).unwrap();
    let mut bench = Bench { runtime, queue, model: 0 };
    println!("{name}: {:.0} jobs accepted a second, of {jobs}", bench.accept(jobs, 0));
    println!("{name}: {:.0} jobs of 1 ms a second by one worker", bench.paint(300, 1, 1));
    let one = bench.paint(40, 100, 1);
    for workers in [2, 4, 8] {
        let rate = bench.paint(40 * workers, 100, workers) / one;
        println!("{name}: {workers} workers paint jobs of 100 ms {rate:.2} times as fast as one");
    }
}

fn main() {
    let jobs = std::env::var("IMPASTO_JOBS").map_or(2000, |jobs| jobs.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    measure("SQLite", &format!("sqlite:{}", folder.path().join("queue.db").display()), jobs);
    match server::programs() {
        Some(programs) => {
            let server = server::Server::start(programs);
            measure("PostgreSQL", &server.database("rates"), jobs);
        }
        None => println!("PostgreSQL is missing: {}", server::INSTALL),
    }
}
