//! [`QueueArguments`]: the queue of a command, and its store.

use crate::failure::Failure;
use clap::Args;
use impasto_worker::{Address, Queue, QueueError, Settings, Store};
use tokio::runtime::{Builder, Runtime};

/// The queue of a command, and its store.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Queue")]
pub struct QueueArguments {
    /// The queue's database: `sqlite:FILE`, or `postgres://USER:PASSWORD@HOST/DATABASE`.
    #[arg(long, value_name = "ADDRESS", env = "IMPASTO_QUEUE", hide_env_values = true)]
    pub queue: String,
    /// The store of the pictures: a folder, or `s3://BUCKET/PREFIX` in a program that was built with S3.
    #[arg(long, value_name = "PLACE", env = "IMPASTO_STORE")]
    pub store: String,
}

impl QueueArguments {
    /// Opens the queue, and returns what drives it.
    pub fn open(&self) -> Result<(Runtime, Queue), Failure> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Message(format!("the program cannot start: {error}")))?;
        let queue = runtime.block_on(open(&self.queue, &self.store))?;
        Ok((runtime, queue))
    }
}

/// Opens a queue and its store.
pub async fn open(address: &str, store: &str) -> Result<Queue, Failure> {
    // The parser of the command line would repeat a wrong address, which may have a password.
    let address: Address = address.parse().map_err(fail)?;
    let store = Store::open(store).map_err(fail)?;
    let queue = Queue::open(&address, store, Settings::default()).await;
    queue.map_err(|error| Failure::Message(format!("{address}: {error}")))
}

/// Returns the failure for an error of a queue.
pub fn fail(error: QueueError) -> Failure {
    match error {
        wrong @ QueueError::Address(_) => Failure::CommandLine(format!("--queue: {wrong}")),
        other => Failure::Message(other.to_string()),
    }
}
