//! `impasto worker`: paints the jobs of a queue.

use crate::adapters::Networks;
use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::limits::Limits;
use crate::loading::Loading;
use crate::log;
use crate::metrics;
use crate::queue::QueueArguments;
use crate::submit::model;
use clap::Args;
use impasto::Source;
use impasto_studio::{QueuePainter, StudioError};
use impasto_worker::Worker;
use std::net::SocketAddr;
use std::time::Duration;

/// Arguments of `impasto worker`.
#[derive(Args, Debug)]
pub struct WorkerArguments {
    #[command(flatten)]
    queue: QueueArguments,
    #[command(flatten)]
    limits: Limits,
    /// Time in seconds that the job in work may take to its end after Ctrl-C or SIGTERM. After that time the job goes
    /// back to the queue.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    grace: u64,
    /// Address at which the worker serves its counters for Prometheus, such as 127.0.0.1:9464; the path is /metrics.
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    loading: Loading,
}

/// Time between two checks of whether Ctrl-C was pressed.
const CHECK: Duration = Duration::from_millis(100);

/// Paints the jobs of the queue until Ctrl-C or SIGTERM.
pub fn worker(arguments: &WorkerArguments) -> Result<(), Failure> {
    let _log = log::begin();
    let interrupted = interrupt::token()?;
    let WorkerArguments { queue, limits, grace, metrics, networks, loading } = arguments;
    let (runtime, queue) = queue.open()?;
    let listener = metrics.map(|address| runtime.block_on(metrics::listen(address))).transpose()?;
    let pipeline = loading.pipeline(Source::embedded())?;
    let (engine, options) = (networks.engine(pipeline)?, limits.options());
    let painter = QueuePainter::new(engine, options).map_err(|error| match error {
        StudioError::Model(error) => Failure::Library(error),
        other => Failure::Message(other.to_string()),
    })?;
    let model = model(loading.model.as_deref());
    console::tell(format_args!("The worker waits for jobs of the model {model:?}. Ctrl-C ends the worker."));
    let worker = Worker::new(queue, model, painter).grace(Duration::from_secs(*grace));
    if let Some(listener) = listener {
        runtime.spawn(metrics::serve(listener, worker.metrics()));
    }
    runtime.block_on(worker.run(async {
        while !interrupted.is_cancelled() {
            tokio::time::sleep(CHECK).await;
        }
    }));
    Ok(())
}
