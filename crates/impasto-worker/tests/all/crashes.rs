//! Workers and servers that are killed in the middle of their work.
//!
//! `IMPASTO_KILLS` sets the number of kills, and `IMPASTO_JOBS` the number of jobs.

use crate::server::Server;
use crate::stage::Stage;
use impasto_worker::{Key, Settings, State};
use serde_json::json;
use std::collections::HashSet;
use std::process::Child;
use std::time::{Duration, Instant};

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Adds the jobs of a test, each of some 20 ms.
fn submit(stage: &Stage) -> Vec<Key> {
    let job = |number| json!({ "prompt": format!("job {number}"), "steps": 4, "millis": 5 });
    (0..number("IMPASTO_JOBS", 80)).map(|number| stage.submit(job(number)).key).collect()
}

/// Starts the workers again that ended, as a supervisor does.
fn supervise(stage: &Stage, workers: &mut [Child]) {
    for worker in workers {
        if worker.try_wait().unwrap().is_some() {
            *worker = stage.program();
        }
    }
}

/// Waits until all jobs are done, and checks that each is in the store once.
fn check(stage: &Stage, keys: &[Key], workers: &mut [Child]) {
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

fn end(workers: Vec<Child>) {
    for mut worker in workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}

pub fn killed_workers_lose_no_job(stage: Stage) {
    let keys = submit(&stage);
    let mut workers: Vec<Child> = (0..2).map(|_| stage.program()).collect();
    for kill in 0..number("IMPASTO_KILLS", 4) {
        std::thread::sleep(Duration::from_millis(200 + 37 * (kill as u64 % 7)));
        let mut killed = std::mem::replace(&mut workers[kill % 2], stage.program());
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    check(&stage, &keys, &mut workers);
    end(workers);
}

pub fn killed_server_loses_no_job(mut server: Server) {
    let stage = Stage::postgres(server.database("killed"));
    let mut keys = submit(&stage);
    let mut workers: Vec<Child> = (0..2).map(|_| stage.program()).collect();
    for kill in 0..number("IMPASTO_KILLS", 2) {
        std::thread::sleep(Duration::from_millis(300 + 41 * (kill as u64 % 7)));
        server.kill();
        std::thread::sleep(Duration::from_millis(200));
        server.run();
        supervise(&stage, &mut workers);
        // A job that was accepted after the server's return is painted, too.
        let queue = stage.reopen(Settings::default());
        let order = impasto_worker::Order::new(crate::stage::MODEL, json!({ "prompt": format!("after kill {kill}") }));
        keys.push(stage.runtime.block_on(queue.submit(order)).unwrap().key);
    }
    check(&stage, &keys, &mut workers);
    end(workers);
}
