//! A studio with a queue that is killed while clients send jobs.
//!
//! `IMPASTO_KILLS` sets the number of kills, and `IMPASTO_JOBS` the number of jobs.

use super::queue::{QUEUE, worker};
use super::{impasto, json_lines, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Number of clients at once.
const CLIENTS: usize = 4;

/// A program that is killed with the value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a studio, and returns its address.
fn studio(folder: &Path) -> (Program, String) {
    let mut command = impasto(folder, &[&["studio", "--address", "127.0.0.1:0"][..], &QUEUE].concat());
    command.args(["--waiting", "10000"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (program, line.trim_end_matches(['/', '\n']).to_owned())
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

/// Returns the prompts of the jobs in a state.
fn prompts(jobs: &[Value], has_state: impl Fn(&str) -> bool) -> Vec<String> {
    let fits = jobs.iter().filter(|job| has_state(job["state"].as_str().unwrap()));
    fits.map(|job| job.get("prompt").unwrap_or(&job["title"]).as_str().unwrap().to_owned()).collect()
}

#[test]
fn killed_studio_loses_no_accepted_job() {
    let folder = tempfile::tempdir().unwrap();
    let (kills, jobs) = (number("IMPASTO_KILLS", 2), number("IMPASTO_JOBS", 24));
    let (program, address) = studio(folder.path());
    let worker = Program(worker(folder.path()));
    let list = || {
        let arguments = [&["jobs", "--json", "--limit", "1000"][..], &QUEUE].concat();
        json_lines(&run(folder.path(), &arguments))
    };
    let (mut program, address, accepted) = (program, Mutex::new(address), Mutex::new(Vec::new()));
    let quota = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (address, accepted, quota) = (&address, &accepted, &quota);
            scope.spawn(move || {
                for number in 0.. {
                    wait("the next kill", || accepted.lock().unwrap().len() < quota.load(Ordering::Relaxed));
                    if accepted.lock().unwrap().len() >= jobs {
                        return;
                    }
                    let prompt = format!("a boat of {client}, {number}");
                    let job = json!({ "prompt": prompt, "steps": 3, "size": "64x64" }).to_string();
                    let url = format!("{}/api/jobs", address.lock().unwrap());
                    let post = ureq::post(&url).set("content-type", "application/json").send_string(&job);
                    match post {
                        Ok(answer) if answer.status() == 202 => accepted.lock().unwrap().push(prompt),
                        Ok(other) => panic!("{other:?}"),
                        Err(ureq::Error::Status(_, refusal)) => panic!("{}", refusal.into_string().unwrap()),
                        Err(_) => std::thread::sleep(Duration::from_millis(20)), // the studio is dead
                    }
                }
            });
        }
        for kill in 1..=kills {
            quota.store(jobs * kill / kills, Ordering::Relaxed);
            let middle = jobs * kill / kills - jobs / (2 * kills);
            wait("jobs to be accepted", || accepted.lock().unwrap().len() >= middle);
            drop(program.0.kill());
            let started = studio(folder.path());
            (program, *address.lock().unwrap()) = started;
        }
        wait("all jobs to be accepted", || accepted.lock().unwrap().len() >= jobs);
        quota.store(usize::MAX, Ordering::Relaxed);
    });
    drop(program);
    let accepted: BTreeSet<String> = accepted.into_inner().unwrap().into_iter().collect();
    let left: BTreeSet<String> =
        prompts(&list(), |state| ["waiting", "running"].contains(&state)).into_iter().collect();
    assert!(!left.is_empty(), "the worker is as fast as the clients");

    // The next studio shows the jobs that are left, and has their pictures at the end.
    let (program, address) = studio(folder.path());
    let shown = || {
        let answer = ureq::get(&format!("{address}/api/jobs")).call().unwrap();
        serde_json::from_reader::<_, Vec<Value>>(answer.into_reader()).unwrap()
    };
    let all: BTreeSet<String> = prompts(&shown(), |_| true).into_iter().collect();
    assert!(all.is_superset(&left), "{:?}", left.difference(&all));
    wait("all jobs to be done", || {
        std::thread::sleep(Duration::from_millis(300));
        let done: BTreeSet<String> = prompts(&list(), |state| state == "done").into_iter().collect();
        done.is_superset(&accepted)
    });
    wait("the studio to have the pictures", || {
        let finished = prompts(&shown(), |state| state == "finished");
        finished.iter().any(|prompt| left.contains(prompt))
    });
    let done = prompts(&list(), |state| state == "done");
    let of_accepted = done.iter().filter(|prompt| accepted.contains(*prompt)).count();
    assert_eq!(of_accepted, accepted.len(), "a job was painted twice");
    let folders = std::fs::read_dir(folder.path().join("store/pictures")).unwrap();
    let whole = folders.filter(|folder| folder.as_ref().unwrap().path().join("record.json").is_file()).count();
    assert_eq!(whole, done.len());
    drop((program, worker));
}
