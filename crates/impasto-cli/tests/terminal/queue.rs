//! Jobs of a queue, and their workers, as programs.

use super::{failure, impasto, json_lines, run, text};
use impasto::Raster;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A folder with a queue in SQLite.
pub const QUEUE: [&str; 4] = ["--queue", "sqlite:queue.db", "--store", "store"];

/// Starts a worker whose messages are not read. Many of them would fill a pipe, and the worker would wait.
pub fn worker(folder: &Path) -> Child {
    command(folder, &[], &[]).stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a worker with options and variables of its environment, whose messages are read at its end.
pub fn worker_with(folder: &Path, options: &[&str], variables: &[(&str, &str)]) -> Child {
    command(folder, options, variables).stderr(Stdio::piped()).spawn().unwrap()
}

fn command(folder: &Path, options: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = impasto(folder, &[&["worker"], options].concat());
    // Both settings may be variables of the environment.
    command
        .env("IMPASTO_QUEUE", "sqlite:queue.db")
        .env("IMPASTO_STORE", "store")
        .env("IMPASTO_LOG", "impasto_worker=info")
        .envs(variables.iter().copied());
    command.stdout(Stdio::null());
    command
}

/// Ends a worker as a system does, and returns its messages.
pub fn end(worker: Child) -> String {
    let sent = Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn worker_paints_submitted_jobs_once() {
    let folder = tempfile::tempdir().unwrap();
    let submit = |options: &[&str]| {
        let job = ["submit", "a #ff0000 boat", "--seed", "3", "--steps", "2", "--size", "64x64"];
        run(folder.path(), &[&job[..], &QUEUE, options].concat())
    };
    let list = |options: &[&str]| json_lines(&run(folder.path(), &[&["jobs", "--json"][..], &QUEUE, options].concat()));
    let key = text(&submit(&[]).stdout).trim().to_owned();
    assert_eq!(key.len(), 64);
    let waiting = list(&["boat"]);
    assert_eq!((&waiting[0]["state"], &waiting[0]["key"]), (&"waiting".into(), &key.as_str().into()));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let worker = worker_with(folder.path(), &["--metrics", &address], &[]);
    let told = text(&submit(&["-o", "boat.png"]).stdout);
    assert_eq!(told, format!("{key}\nboat.png\n"));
    assert_eq!(list(&[])[0]["state"], "done");
    // Another user asks for the same job, and has its picture at once.
    submit(&["--user", "other", "-o", "again.png"]);
    let metrics = ureq::get(&format!("http://{address}/metrics")).call().unwrap().into_string().unwrap();
    assert!(metrics.contains("\nimpasto_worker_jobs_done_total 1\n"), "{metrics}");
    let told = end(worker);
    assert!(told.contains(&format!("job={key}")) && told.contains("the job is done"), "{told}");
    assert!(told.contains("jobs of the model \"embedded\"") && told.contains("the worker waits for jobs"), "{told}");
    let [first, again] = ["boat.png", "again.png"].map(|file| Raster::open(folder.path().join(file)).unwrap());
    run(
        folder.path(),
        &["paint", "a #ff0000 boat", "--seed", "3", "--steps", "2", "--size", "64x64", "-o", "here.png"],
    );
    assert!(first == again && first == Raster::open(folder.path().join("here.png")).unwrap());
}

#[test]
fn cancelled_and_wrong_jobs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let with = |words: &[&'static str]| [words, &QUEUE].concat();
    let key = text(&run(folder.path(), &with(&["submit", "a boat"])).stdout).trim().to_owned();
    let cancel = [&["cancel", key.as_str()][..], &QUEUE].concat();
    run(folder.path(), &cancel);
    let message = failure(folder.path(), &cancel, 1);
    assert!(message.contains(&format!("the job {key} is cancelled already")), "{message}");
    let message = failure(folder.path(), &with(&["cancel", "1234"]), 2);
    assert!(message.contains("expected the 64 digits that `submit` prints"), "{message}");
    let message = failure(folder.path(), &["jobs", "--queue", "mysql://me:secret@host/db", "--store", "store"], 2);
    assert!(message.contains("a queue at mysql:") && !message.contains("secret"), "{message}");
    let message =
        failure(folder.path(), &["jobs", "--queue", "postgres://me:secret@127.0.0.1:1/db", "--store", "s"], 1);
    assert!(message.contains("postgres://127.0.0.1:1/db: ") && !message.contains("secret"), "{message}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = failure(folder.path(), &[&["worker", "--metrics", &address], &QUEUE[..]].concat(), 1);
    assert!(message.contains(&format!("--metrics is {address}, which cannot be served")), "{message}");
    let message = failure(folder.path(), &["jobs", "--queue", "sqlite:q.db", "--store", "s3://bucket"], 1);
    assert!(message.contains("the store s3://bucket: "), "{message}");
}
