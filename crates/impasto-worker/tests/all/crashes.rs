//! Workers and servers that are killed in the middle of their work.
//!
//! `IMPASTO_KILLS` sets the number of kills, and `IMPASTO_JOBS` the number of jobs.

use crate::painter::Painter;
use crate::server::Server;
use crate::stage::{MODEL, Program, Stage, settings};
use impasto_worker::{Key, Order, Queue, Settings, State, Worker};
use serde_json::json;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Returns the number in a variable of the environment.
pub fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Adds the jobs of a test, each of some 20 ms.
pub fn submit(stage: &Stage) -> Vec<Key> {
    let job = |number| json!({ "prompt": format!("job {number}"), "steps": 4, "millis": 5 });
    (0..number("IMPASTO_JOBS", 80)).map(|number| stage.submit(job(number)).key).collect()
}

/// Starts the workers again that ended, as a supervisor does.
fn supervise(stage: &Stage, workers: &mut [Program]) {
    for worker in workers {
        if worker.has_ended() {
            *worker = stage.program();
        }
    }
}

/// Waits until all jobs are done, and checks that each is in the store once.
pub fn check(stage: &Stage, keys: &[Key], workers: &mut [Program]) {
    let begun = Instant::now();
    for key in keys {
        while !stage.find(key).state.is_last() {
            supervise(stage, workers);
            assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", stage.find(key));
            std::thread::sleep(Duration::from_millis(50));
        }
        let entry = stage.find(key);
        assert_eq!(entry.state, State::Done, "{entry:?}");
        let painted = stage.runtime.block_on(stage.queue.picture(key, 1)).unwrap().unwrap();
        assert_eq!(String::from_utf8(painted).unwrap(), entry.title);
    }
    let folders = std::fs::read_dir(stage.folder.path().join("store/pictures")).unwrap();
    let names: HashSet<_> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, keys.iter().map(Key::to_string).collect());
}

pub fn killed_workers_lose_no_job(stage: Stage) {
    let keys = submit(&stage);
    let mut workers: Vec<Program> = (0..2).map(|_| stage.program()).collect();
    for kill in 0..number("IMPASTO_KILLS", 4) {
        std::thread::sleep(Duration::from_millis(200 + 37 * (kill as u64 % 7)));
        workers[kill % 2] = stage.program(); // the worker before is killed
    }
    check(&stage, &keys, &mut workers);
}

pub fn killed_server_loses_no_job(mut server: Server) {
    let stage = Stage::postgres(server.database("killed"));
    let mut keys = submit(&stage);
    let mut workers: Vec<Program> = (0..2).map(|_| stage.program()).collect();
    for kill in 0..number("IMPASTO_KILLS", 2) {
        std::thread::sleep(Duration::from_millis(300 + 41 * (kill as u64 % 7)));
        server.kill();
        std::thread::sleep(Duration::from_millis(200));
        server.run();
        supervise(&stage, &mut workers);
        // A job that was accepted after the server's return is painted, too.
        let queue = stage.reopen(Settings::default());
        let order = Order::new(MODEL, json!({ "prompt": format!("after kill {kill}") }));
        keys.push(stage.runtime.block_on(queue.submit(order)).unwrap().key);
    }
    check(&stage, &keys, &mut workers);
}

/// Workers that find the jobs of dead ones at the same moment: each gives them back to the queue.
pub fn jobs_of_dead_workers_are_painted_once(stage: Stage) {
    const JOBS: usize = 4;
    let keys: Vec<Key> = (0..JOBS)
        .map(|job| stage.submit(json!({ "prompt": format!("orphan {job}"), "steps": 30, "millis": 50 })).key)
        .collect();
    let dead: Vec<(Runtime, Queue)> = (0..JOBS)
        .map(|_| {
            let runtime = Runtime::new().unwrap();
            let address = stage.address.parse().unwrap();
            let queue = runtime.block_on(Queue::open(&address, stage.store(), settings())).unwrap();
            (runtime, queue)
        })
        .collect();
    for (runtime, queue) in &dead {
        runtime.spawn(Worker::new(queue.clone(), MODEL, Painter::default()).run(std::future::pending()));
    }
    for key in &keys {
        assert_eq!(stage.wait(key, |entry| entry.state != State::Waiting).state, State::Running);
    }
    dead.into_iter().for_each(|(runtime, _)| runtime.shutdown_background());
    let painter = Painter::default();
    for _ in 0..JOBS {
        let queue = stage.reopen(settings());
        stage.runtime.spawn(Worker::new(queue, MODEL, painter.clone()).run(std::future::pending()));
    }
    check(&stage, &keys, &mut []);
    let mut begun = painter.begun();
    begun.sort_unstable();
    assert_eq!(begun, ["orphan 0", "orphan 1", "orphan 2", "orphan 3"]);
    assert!(keys.iter().all(|key| stage.find(key).tries == 2));
}

/// Deletes the engine's tasks, and returns their number.
fn delete_tasks(stage: &Stage) -> u64 {
    let tasks = if stage.address.starts_with("sqlite") { "Jobs" } else { "apalis.jobs" };
    stage.runtime.block_on(async {
        let pool = sqlx::AnyPool::connect(&stage.address.replace(' ', "%20")).await.unwrap();
        let deleted = sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {tasks}"))).execute(&pool).await.unwrap();
        deleted.rows_affected()
    })
}

/// More jobs without a task than are looked at in one statement.
pub fn every_half_submitted_job_is_mended(stage: Stage) {
    const JOBS: u64 = 1010;
    for number in 0..JOBS {
        stage.submit(json!({ "prompt": format!("half {number}") }));
    }
    assert_eq!(delete_tasks(&stage), JOBS);
    stage.runtime.block_on(stage.queue.mend(MODEL)).unwrap();
    assert_eq!(delete_tasks(&stage), JOBS);
}

/// A job whose program was killed between its two writes.
pub fn half_submitted_job_is_mended(stage: Stage) {
    let job = stage.submit(json!({ "prompt": "half" }));
    assert_eq!(delete_tasks(&stage), 1);
    let worker = stage.worker(&Painter::default(), Duration::ZERO);
    stage.wait_for(&job.key, State::Done);
    stage.end(worker);
}

pub fn job_whose_workers_die_is_given_up(stage: Stage) {
    let short = || Settings { tries: 1, lease: Duration::from_secs(1), ..settings() };
    let job = stage.submit(json!({ "prompt": "deadly", "steps": 40, "millis": 50 }));
    let begin = || {
        let runtime = Runtime::new().unwrap();
        let queue = runtime.block_on(Queue::open(&stage.address.parse().unwrap(), stage.store(), short())).unwrap();
        runtime.spawn(Worker::new(queue, MODEL, Painter::default()).run(std::future::pending()));
        runtime
    };
    for tries in 1..=3 {
        let runtime = begin();
        stage.wait(&job.key, |entry| entry.tries == tries);
        runtime.shutdown_background(); // no sign of life, and no result
    }
    let runtime = begin();
    let failed = stage.wait(&job.key, |entry| entry.state.is_last());
    assert_eq!(
        (failed.state, failed.reason.as_str()),
        (State::Failed, "given up after 3 tries, because its workers died")
    );
    runtime.shutdown_background();
}
