//! [`Stage`]: a queue with its store, and workers in this program or in others.

use crate::painter::Painter;
use impasto_worker::{Address, Entry, Key, Metrics, Order, Queue, Settings, State, Store, Worker};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Variable that makes this program a worker of the queue and the store that it names, with a space between them.
pub const WORKER: &str = "IMPASTO_TEST_WORKER";

/// The model of all jobs.
pub const MODEL: &str = "test";

/// Returns settings with short times.
pub fn settings() -> Settings {
    let (lease, beat) = (Duration::from_secs(2), Duration::from_millis(100));
    Settings { lease, beat, ..Settings::default() }
}

/// A queue with its store.
pub struct Stage {
    pub runtime: Runtime,
    pub address: String,
    pub folder: TempDir,
    pub queue: Queue,
}

/// A worker in a program of its own. It is killed with the value.
pub struct Program(Child);

impl Program {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A worker in this program.
pub struct Running {
    pub metrics: Metrics,
    end: Option<oneshot::Sender<()>>,
    worker: JoinHandle<()>,
}

impl Stage {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("sqlite:{}", folder.path().join("the queue.db").display());
        Self::at(address, folder)
    }

    pub fn postgres(address: String) -> Self {
        Self::at(address, tempfile::tempdir().unwrap())
    }

    fn at(address: String, folder: TempDir) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = Store::open(folder.path().join("store").to_str().unwrap()).unwrap();
        let queue = runtime.block_on(Queue::open(&address.parse().unwrap(), store, settings())).unwrap();
        Self { runtime, address, folder, queue }
    }

    pub fn store(&self) -> Store {
        Store::open(self.folder.path().join("store").to_str().unwrap()).unwrap()
    }

    /// Opens the queue once more, with other settings.
    pub fn reopen(&self, settings: Settings) -> Queue {
        let address: Address = self.address.parse().unwrap();
        self.runtime.block_on(Queue::open(&address, self.store(), settings)).unwrap()
    }

    pub fn submit(&self, job: Value) -> Entry {
        self.runtime.block_on(self.queue.submit(Order::new(MODEL, job))).unwrap()
    }

    pub fn find(&self, key: &Key) -> Entry {
        self.runtime.block_on(self.queue.find(key)).unwrap().unwrap()
    }

    /// Waits until a job is in a state that `fits`.
    pub fn wait(&self, key: &Key, fits: impl Fn(&Entry) -> bool) -> Entry {
        let begun = Instant::now();
        loop {
            let entry = self.find(key);
            if fits(&entry) {
                return entry;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{entry:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_for(&self, key: &Key, state: State) -> Entry {
        self.wait(key, |entry| entry.state == state)
    }

    /// Starts a worker in this program.
    pub fn worker(&self, painter: &Painter, grace: Duration) -> Running {
        let worker = Worker::new(self.queue.clone(), MODEL, painter.clone()).grace(grace);
        let (metrics, (end, ended)) = (worker.metrics(), oneshot::channel::<()>());
        let worker = self.runtime.spawn(worker.run(async {
            drop(ended.await);
        }));
        Running { metrics, end: Some(end), worker }
    }

    /// Starts a worker in a program of its own.
    pub fn program(&self) -> Program {
        self.program_by(Command::new(std::env::current_exe().unwrap()), &self.address)
    }

    /// Starts a worker by a command, for the queue at another address.
    pub fn program_by(&self, mut command: Command, address: &str) -> Program {
        command.env(WORKER, format!("{} {address}", self.folder.path().join("store").display()));
        Program(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Ends a worker of this program in order.
    pub fn end(&self, mut running: Running) {
        drop(running.end.take());
        self.runtime.block_on(running.worker).unwrap();
    }
}

/// Paints jobs until the program is killed.
pub fn work(value: &str) {
    let (store, address) = value.split_once(' ').unwrap();
    let runtime = Runtime::new().unwrap();
    let store = Store::open(store).unwrap();
    runtime.block_on(async {
        let queue = Queue::open(&address.parse().unwrap(), store, settings()).await.unwrap();
        Worker::new(queue, MODEL, Painter::default()).run(std::future::pending()).await;
    });
}
