//! Tests of a studio whose jobs are painted by the workers of a durable queue.

use crate::running::Running;
use crate::{engine, networks};
use impasto::{Pipeline, Raster};
use impasto_studio::{Engine, Options, QueuePainter};
use impasto_worker::{Entry, Filter, Queue, Settings, State, Store, Worker};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// The model of the jobs.
pub const MODEL: &str = "embedded";

pub async fn open(folder: &Path) -> Queue {
    let address = format!("sqlite:{}", folder.join("queue.db").display()).parse().unwrap();
    let store = Store::open(folder.join("store").to_str().unwrap()).unwrap();
    Queue::open(&address, store, Settings::default()).await.unwrap()
}

/// A worker, which ends with the value.
struct Painting {
    runtime: Option<Runtime>,
    end: Option<oneshot::Sender<()>>,
}

impl Painting {
    fn start(folder: &Path) -> Self {
        Self::start_with(Pipeline::builder().build().unwrap().into(), folder)
    }

    fn start_with(engine: Engine, folder: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let painter = QueuePainter::new(engine, Options::default()).unwrap();
        let queue = runtime.block_on(open(folder));
        let (end, ended) = oneshot::channel::<()>();
        runtime.spawn(Worker::new(queue, MODEL, painter).run(async {
            drop(ended.await);
        }));
        Self { runtime: Some(runtime), end: Some(end) }
    }
}

impl Drop for Painting {
    fn drop(&mut self) {
        drop(self.end.take());
        self.runtime.take().unwrap().shutdown_background();
    }
}

/// Checks that the queue has this number of jobs, each painted once and in the store once.
fn check(folder: &Path, count: usize) {
    let runtime = Runtime::new().unwrap();
    let filter = Filter { limit: 1000, ..Filter::default() };
    let entries = runtime.block_on(async { open(folder).await.list(&filter).await.unwrap() });
    let is_painted = |entry: &Entry| (entry.state, entry.tries, entry.pictures) == (State::Done, 1, 1);
    assert!(entries.len() == count && entries.iter().all(is_painted), "{entries:?}");
    assert_eq!(std::fs::read_dir(folder.join("store/pictures")).unwrap().count(), count);
}

/// A small job.
fn boat(name: &str) -> Value {
    json!({ "prompt": format!("a boat, {name}"), "steps": 1, "size": "64x64" })
}

#[test]
fn clients_of_a_studio_with_a_queue_take_turns() {
    const CLIENTS: usize = 32;
    let rounds = std::env::var("IMPASTO_JOBS").map_or(3, |jobs| jobs.parse::<usize>().unwrap().div_ceil(CLIENTS));
    let folder = tempfile::tempdir().unwrap();
    let studio = Running::start_on(folder.path(), Options { queue: CLIENTS, kept: 1000, ..Options::default() });
    let worker = Painting::start(folder.path());
    let (painted, begun) = (Mutex::new(Vec::new()), Instant::now());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (studio, painted) = (&studio, &painted);
            scope.spawn(move || {
                for round in 0..rounds {
                    let id = studio.submit(&boat(&format!("{client} in {round}")));
                    let state = || studio.get(&format!("/api/jobs/{id}")).json()["state"].clone();
                    while state() != "finished" {
                        assert!(begun.elapsed() < Duration::from_secs(60 + 10 * rounds as u64), "{}", state());
                        std::thread::sleep(Duration::from_millis(200));
                    }
                    painted.lock().unwrap().push(client);
                }
            });
        }
    });
    let mut counts = [0; CLIENTS];
    for client in painted.into_inner().unwrap() {
        counts[client] += 1;
        assert!(counts[client] <= counts.iter().min().unwrap() + 2, "client {client} is ahead: {counts:?}");
    }
    println!("{CLIENTS} clients: {} jobs in {:?}", CLIENTS * rounds, begun.elapsed());
    check(folder.path(), CLIENTS * rounds);
    drop(worker);
}

#[test]
fn two_studios_on_one_queue_double_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Running::start_on(folder.path(), Options::default());
    for number in 0..4 {
        first.submit(&boat(&number.to_string()));
    }
    first.end();
    // Both find the jobs of the first studio, and get one more at the same moment.
    let same = json!({ "prompt": "a boat for both", "steps": 1, "size": "64x64", "seed": 5 });
    let both = Barrier::new(2);
    let studios: Vec<Running> = std::thread::scope(|scope| {
        let start = || {
            let studio = Running::start_on(folder.path(), Options::default());
            assert_eq!(studio.get("/api/jobs").json().as_array().unwrap().len(), 4);
            both.wait();
            studio.submit(&same);
            studio
        };
        let starting = [scope.spawn(start), scope.spawn(start)];
        starting.map(|studio| studio.join().unwrap()).into()
    });
    let worker = Painting::start(folder.path());
    for studio in &studios {
        for id in 1..=5 {
            assert_eq!(studio.ended(id)["state"], "finished");
        }
        assert_eq!(studio.metric("impasto_queue_jobs{state=\"done\"}"), 5.0);
    }
    check(folder.path(), 5);
    drop(worker);
}

#[test]
fn worker_has_the_networks_that_jobs_name() {
    let folder = tempfile::tempdir().unwrap();
    let studio = Running::start_on(folder.path(), Options::default());
    let jobs = networks::requests().map(|(_, more)| studio.submit(&networks::job(&more)));
    let worker = Painting::start_with(engine::with_networks(), folder.path());
    for id in jobs {
        assert_eq!(studio.ended(id)["state"], "finished");
    }
    drop(worker);
}

#[test]
fn job_outlives_its_studio_and_is_painted_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Running::start_on(folder.path(), Options::default());
    let job = json!({ "prompt": "1girl, #ffd700 eyes, hair", "steps": 3, "seed": 7, "size": "64x64" });
    first.submit(&job);
    let cancelled = first.submit(&json!({ "prompt": "a long one", "steps": 150 }));
    assert_eq!(first.get("/api/jobs").json().as_array().unwrap().len(), 2);
    assert_eq!(first.delete(&format!("/api/jobs/{cancelled}")).status, 204);
    assert_eq!(first.ended(cancelled)["state"], "cancelled");
    first.end();

    // The next studio follows the job that is left, and another machine paints it.
    let mut next = Running::start_on(folder.path(), Options::default());
    let jobs = next.get("/api/jobs").json();
    assert_eq!((jobs.as_array().unwrap().len(), &jobs[0]["prompt"]), (1, &job["prompt"]), "{jobs}");
    let worker = Painting::start(folder.path());
    let painted = next.ended(jobs[0]["id"].as_u64().unwrap());
    assert_eq!(painted["state"], "finished", "{painted}");
    let result = &painted["result"];
    assert_eq!((&result["colors"][0]["asked"], &result["pictures"][0]["seed"]), (&json!("#ffd700"), &json!(7)));
    assert!(!result["words"].as_array().unwrap().is_empty());
    let picture = |studio: &Running, url: &serde_json::Value| {
        let png = studio.get(url.as_str().unwrap()).body;
        let file = folder.path().join("picture.png");
        std::fs::write(&file, &png).unwrap();
        (Raster::open(file).unwrap(), png)
    };
    let (far, png) = picture(&next, &result["pictures"][0]["url"]);
    let restored = next.post("/api/recipes", "image/png", &png).json();
    assert_eq!(restored["request"]["prompt"], job["prompt"], "{restored}");

    // A studio with a pipeline of its own paints the same bits.
    let own = Running::start(Options::default());
    let near = own.ended(own.submit(&job));
    assert!(picture(&own, &near["result"]["pictures"][0]["url"]).0 == far);

    // The same job is there at once; a job without a seed is always a new one, and its steps are told.
    let again = next.ended(next.submit(&job));
    assert_eq!(again["result"]["pictures"][0]["seed"], 7);
    let free = json!({ "prompt": "a boat", "steps": 2, "size": "64x64" });
    let seeds = [(); 2].map(|()| next.ended(next.submit(&free))["result"]["pictures"][0]["seed"].clone());
    assert!(seeds[0] != seeds[1] && seeds[0].is_u64(), "{seeds:?}");
    let wrong = next.ended(next.submit(&json!({ "prompt": "a boat", "forces": ["hat=red"], "steps": 1 })));
    assert!(wrong["error"].as_str().unwrap().contains("hat"), "{wrong}");
    next.end();
    drop(worker);
    // The results are there after another restart, without a worker.
    let later = Running::start_on(folder.path(), Options::default());
    let last = later.get("/api/jobs").json().as_array().unwrap().len() as u64;
    assert!(last >= 3, "{last}");
    let kept = (1..=last).map(|id| later.ended(id)).find(|job| job["prompt"] == free["prompt"]).unwrap();
    assert!(seeds.contains(&kept["result"]["pictures"][0]["seed"]), "{kept}");
}
