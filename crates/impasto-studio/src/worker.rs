//! The thread that owns the pipeline and runs one job after the other.

use crate::options::Options;
use crate::painting::Painter;
use crate::queue::{Event, Queue, Taken};
use crate::wording::Page;
use impasto::{Error, Pipeline, Result};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Starts the worker. It ends when the queue is closed.
///
/// # Errors
/// The errors of loading the model's ControlNet; an error of the operating system if it cannot start a thread.
pub fn start(pipeline: Pipeline, queue: Arc<Queue>, options: &Options) -> Result<JoinHandle<()>> {
    let (mut painter, limit) = (Painter::new(pipeline)?, options.run);
    std::thread::Builder::new()
        .name("impasto-worker".into())
        .spawn(move || {
            while let Some(Taken { id, request, token }) = queue.take() {
                let begun = Instant::now();
                let event = match painter.paint(id, &request, &token, limit, &queue) {
                    Ok(finished) => Event::Finished(Arc::new(finished)),
                    Err(Error::Cancelled) => Event::Cancelled,
                    Err(error) => Event::Failed(error.worded(&Page).into()),
                };
                queue.metrics.worked(begun.elapsed());
                queue.tell(id, event);
            }
        })
        .map_err(Error::custom)
}
