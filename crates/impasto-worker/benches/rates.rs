//! Rates of a queue in SQLite and in PostgreSQL: jobs accepted, and jobs painted by workers whose painter only waits.
//!
//! `cargo bench -p impasto-worker` prints a table. `IMPASTO_JOBS` sets the number of jobs that are accepted, 2,000
//! without it. Without PostgreSQL its rows are left out.
//!
//! `IMPASTO_HISTORY=100000 cargo bench -p impasto-worker` prints another table: the rates of a queue beside which so
//! many jobs wait, and the size of its tables. `IMPASTO_PAINTED` sets the number of these jobs that are painted, 2,000
//! without it. `IMPASTO_COPIES=9` then copies the waiting jobs nine times by SQL, because to accept 10⁶ jobs takes most
//! of an hour. The copies come after the others in turn.

#![allow(clippy::unwrap_used)]

#[path = "../tests/all/server.rs"]
mod server;

use impasto_worker::{Failure, Order, Paint, Painted, Progress, Queue, Settings, State, Store, Worker};
use serde_json::{Value, json};
use sqlx::{AnyPool, Row};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Number of programs that submit at once.
const SUBMITTERS: usize = 8;

/// Number of workers that paint the jobs of a long queue.
const WORKERS: usize = 8;

/// Number of waiting jobs that a user has at most, as the queue's own settings have it.
const EACH: usize = 10_000;

/// Waits as long as the job says, in place of painting.
struct Waiting;

impl Paint for Waiting {
    fn paint(&mut self, job: &Value, _: &Progress) -> Result<Painted, Failure> {
        std::thread::sleep(Duration::from_millis(job.get("millis").and_then(Value::as_u64).unwrap_or_default()));
        Ok(Painted { pictures: vec![vec![0; 1000]], report: json!({}) })
    }
}

/// Statements in the words of a database.
struct Statements {
    /// Asks for the size of all tables.
    size: &'static str,
    /// Copies the jobs and their tasks, with the digits $1 in place of the first ones of their keys, and $2 seconds
    /// later.
    copies: [&'static str; 2],
    /// Give the room of old rows back.
    vacuums: &'static [&'static str],
}

/// Time between two copies of a job in seconds, in which the others of their copy were accepted.
const SECONDS: i64 = 20;

/// Copies the jobs.
const COPIED_JOBS: &str = "INSERT INTO impasto_jobs (key, round, model, owner, class, tag, title, job, state, submitted) \
    SELECT $1 || substr(key, 9), round, model, owner, class, tag + 1000000, title, job, state, submitted + $2 FROM impasto_jobs \
    WHERE tag <= 1000000";

const IN_SQLITE: Statements = Statements {
    size: "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    copies: [
        COPIED_JOBS,
        "INSERT INTO Jobs (job, id, job_type, status, attempts, max_attempts, run_at, priority, idempotency_key) \
         SELECT job, 'Z' || $1 || id, job_type, status, attempts, max_attempts, run_at, priority - 1000000 - $2, \
         $1 || substr(idempotency_key, 9) FROM Jobs WHERE id NOT LIKE 'Z%'",
    ],
    vacuums: &["VACUUM"],
};
const IN_POSTGRES: Statements = Statements {
    size: "SELECT pg_total_relation_size('impasto_jobs') + pg_total_relation_size('apalis.jobs')",
    copies: [
        COPIED_JOBS,
        "INSERT INTO apalis.jobs (job, id, job_type, status, attempts, max_attempts, run_at, priority, idempotency_key) \
         SELECT job, 'Z' || $1 || id, job_type, status, attempts, max_attempts, run_at, priority - 1000000 - $2, \
         $1 || substr(idempotency_key, 9) FROM apalis.jobs WHERE id NOT LIKE 'Z%'",
    ],
    vacuums: &["VACUUM", "VACUUM FULL"],
};

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
        self.add(0..jobs, millis)
    }

    /// Adds jobs of the present model, and returns their number in a second.
    fn add(&self, jobs: Range<usize>, millis: u64) -> f64 {
        let (model, users) = (self.model.to_string(), jobs.end.div_ceil(EACH).max(SUBMITTERS));
        let begun = Instant::now();
        let tasks = (0..SUBMITTERS).map(|submitter| {
            let (queue, model, jobs) = (self.queue.clone(), model.clone(), jobs.clone());
            self.runtime.spawn(async move {
                for number in jobs.skip(submitter).step_by(SUBMITTERS) {
                    let job = json!({ "prompt": format!("job {number}"), "millis": millis });
                    let order = Order { owner: format!("user {}", number % users), ..Order::new(model.clone(), job) };
                    queue.submit(order).await.unwrap();
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        tasks.into_iter().for_each(|task| self.runtime.block_on(task).unwrap());
        jobs.len() as f64 / begun.elapsed().as_secs_f64()
    }

    /// Adds jobs, and returns the number of them that `workers` finish in a second.
    fn paint(&mut self, jobs: usize, millis: u64, workers: usize) -> f64 {
        self.accept(jobs, millis);
        self.finish(jobs, workers)
    }

    /// Returns the number of waiting jobs that `workers` finish in a second, until `jobs` are done.
    fn finish(&self, jobs: usize, workers: usize) -> f64 {
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
        let rate = loop {
            let (asked, now) = (Instant::now(), done(&self.queue) - before);
            if now >= jobs as u64 {
                break now as f64 / begun.elapsed().as_secs_f64();
            }
            // Counting a long queue takes time, which should be that of the workers.
            std::thread::sleep(Duration::from_millis(20).max(asked.elapsed() * 10));
        };
        end.send_replace(true);
        running.into_iter().for_each(|worker| self.runtime.block_on(worker).unwrap());
        rate
    }
}

/// Opens a queue with its store in a folder.
fn open(address: &str, folder: &Path) -> Bench {
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    let runtime = Runtime::new().unwrap();
    let settings = Settings { waiting: u32::MAX, ..Settings::default() };
    let queue = runtime.block_on(Queue::open(&address.parse().unwrap(), store, settings)).unwrap();
    Bench { runtime, queue, model: 0 }
}

/// Measures a long queue, some of whose jobs are painted.
fn measure_long(name: &str, address: &str, Statements { size, copies, vacuums }: &Statements) {
    let number = |variable: &str| std::env::var(variable).ok().map(|number| number.parse::<usize>().unwrap());
    let (history, painted) = (number("IMPASTO_HISTORY").unwrap_or(0), number("IMPASTO_PAINTED").unwrap_or(2000));
    let copied = number("IMPASTO_COPIES").unwrap_or(0);
    let folder = tempfile::tempdir().unwrap();
    let mut bench = open(address, folder.path());
    let pool = bench.runtime.block_on(AnyPool::connect(address)).unwrap();
    let tell = |bench: &Bench, when: &str| {
        let row = bench.runtime.block_on(sqlx::query(*size).fetch_one(&pool)).unwrap();
        let (bytes, jobs) = (row.get::<i64, _>(0) as f64, history * (1 + copied));
        println!("{name}: {:.1} MB {when}, {:.0} bytes a job", bytes / 1e6, bytes / jobs as f64);
    };
    let tenth = history.div_ceil(10);
    bench.model += 1;
    println!("{name}: {:.0} jobs accepted a second, the first {tenth}", bench.add(0..tenth, 1));
    bench.add(tenth..history - tenth, 1);
    println!(
        "{name}: {:.0} jobs accepted a second, the last {tenth} of {history}",
        bench.add(history - tenth..history, 1)
    );
    for copy in 1..=copied {
        for statement in copies {
            let query = sqlx::query(*statement).bind(format!("{copy:08x}")).bind(SECONDS * copy as i64);
            bench.runtime.block_on(query.execute(&pool)).unwrap();
        }
    }
    tell(&bench, &format!("with {} jobs waiting", history * (1 + copied)));
    println!("{name}: {:.0} jobs of 1 ms a second by one worker, while they wait", bench.finish(painted / 4, 1));
    let rate = bench.finish(painted - painted / 4, WORKERS);
    println!("{name}: {rate:.0} jobs of 1 ms a second by {WORKERS} workers, while they wait");
    tell(&bench, &format!("with {painted} jobs painted"));
    for vacuum in *vacuums {
        let begun = Instant::now();
        bench.runtime.block_on(sqlx::query(*vacuum).execute(&pool)).unwrap();
        tell(&bench, &format!("after {vacuum} in {:.1} s", begun.elapsed().as_secs_f64()));
    }
}

fn measure(name: &str, address: &str, jobs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = open(address, folder.path());
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
    let is_long = std::env::var_os("IMPASTO_HISTORY").is_some();
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("queue.db").display());
    if is_long {
        measure_long("SQLite", &file, &IN_SQLITE);
    } else {
        measure("SQLite", &file, jobs);
    }
    match server::programs() {
        Some(programs) => {
            let server = server::Server::start(programs);
            let address = server.database("rates");
            if is_long {
                measure_long("PostgreSQL", &address, &IN_POSTGRES);
            } else {
                measure("PostgreSQL", &address, jobs);
            }
        }
        None => println!("PostgreSQL is missing: {}", server::INSTALL),
    }
}
