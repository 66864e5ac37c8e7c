//! [`QueuePainter`]: paints the jobs of a durable queue.

use crate::engine::Engine;
use crate::finished::Finished;
use crate::options::Options;
use crate::painting::Painter;
use crate::request::JobRequest;
use crate::server::StudioError;
use crate::wording::Page;
use impasto::pipeline::Preview;
use impasto::sampler::CancelToken;
use impasto::{Error, Result};
use impasto_worker::{Failure, Paint, Painted, Progress};
use serde_json::Value;

/// Paints the jobs of a durable queue, with the limits of a studio: a job is trusted no more than a request is.
///
/// A job is a request of the API as [`OPENAPI`](crate::OPENAPI) describes it. Its report is the `result` of the API, in
/// which the address of a picture is its number.
///
/// ```no_run
/// use impasto::Pipeline;
/// use impasto_studio::{Options, QueuePainter};
/// use impasto_worker::{Queue, Settings, Store, Worker};
///
/// # async fn work() -> Result<(), Box<dyn std::error::Error>> {
/// let painter = QueuePainter::new(Pipeline::builder().build()?, Options::default())?;
/// let queue = Queue::open(&"sqlite:queue.db".parse()?, Store::open("pictures")?, Settings::default()).await?;
/// Worker::new(queue, "embedded", painter).run(std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
pub struct QueuePainter {
    painter: Painter,
    options: Options,
}

impl std::fmt::Debug for QueuePainter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueuePainter").finish_non_exhaustive()
    }
}

impl QueuePainter {
    /// Takes the engine, or the pipeline, that paints. Of `options`, the limits of a request count.
    ///
    /// # Errors
    /// [`StudioError::Model`] if the model's ControlNet cannot be loaded.
    pub fn new(engine: impl Into<Engine>, options: Options) -> std::result::Result<Self, StudioError> {
        Ok(Self { painter: Painter::new(engine.into(), false, &options).map_err(StudioError::Model)?, options })
    }

    fn run(&mut self, request: &JobRequest, progress: &Progress) -> Result<Painted> {
        let token = CancelToken::new();
        let output = self.painter.paint(request, &token, |preview, parts| tell(progress, preview, parts))?;
        let finished = Finished::of(|index| index.to_string(), request, output, &Page)?;
        let pictures = (0..finished.count()).filter_map(|index| finished.png(index).transpose());
        Ok(Painted { pictures: pictures.collect::<Result<_>>()?, report: finished.result })
    }
}

impl Paint for QueuePainter {
    fn paint(&mut self, job: &Value, progress: &Progress) -> std::result::Result<Painted, Failure> {
        let limits = Options { side: self.painter.side_to_read(), ..self.options.clone() };
        let request = JobRequest::read(job.clone(), &limits).map_err(Failure::Refused)?;
        self.run(&request, progress).map_err(|error| match error {
            error if error.is_cancelled() => Failure::Stopped,
            // Other machines may have more memory, or a whole disk.
            error @ (Error::Torch(_) | Error::Io { .. }) => Failure::Trouble(error.worded(&Page)),
            error => Failure::Refused(error.worded(&Page)),
        })
    }
}

/// Notes a step of a job.
fn tell(progress: &Progress, preview: &Preview<'_>, parts: usize) -> Result<()> {
    let run = preview.progress;
    let (done, total) = (run.stage * run.total + run.done, parts.max(run.stage + 1) * run.total);
    let picture = || {
        let first = preview.pictures().ok().and_then(|pictures| pictures.into_iter().next());
        first.and_then(|picture| picture.to_png(&[]).ok()).unwrap_or_default()
    };
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    progress.step(number(done), number(total), picture).map_err(|_| Error::Cancelled)
}
