//! The thread that owns the pipelines and runs one job after the other.

use crate::finished::Finished;
use crate::mcp::words::Agent;
use crate::options::Options;
use crate::outputs::Outputs;
use crate::painting::Painter;
use crate::queue::{Api, Event, Queue, Taken};
use crate::request::JobRequest;
use crate::wording::Page;
use impasto::pipeline::Preview;
use impasto::wording::{Wording, shortened};
use impasto::{Error, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Starts the worker, which writes finished pictures into `outputs`. It ends when the queue is closed.
///
/// # Errors
/// An error of the operating system if it cannot start a thread.
pub fn start(
    mut painter: Painter,
    queue: Arc<Queue>,
    outputs: Option<Outputs>,
    options: &Options,
) -> Result<JoinHandle<()>> {
    let options = options.clone();
    std::thread::Builder::new()
        .name("impasto-worker".into())
        .spawn(move || {
            work(&queue, |Taken { id, api, json, model, token, .. }| {
                if json.is_empty() {
                    return painter.choose(model.as_deref()).map(|()| Event::Loaded);
                }
                let limits = Options { side: painter.side_to_read(), ..options.clone() };
                let mut request = JobRequest::parse(&json, &limits, words(api)).map_err(Error::custom)?;
                drop(json);
                request.model = model.or(request.model);
                let output = painter.paint(&request, &token, |preview, parts| tell(&queue, id, preview, parts))?;
                request.model = painter.chosen(); // the picture tells which model painted it
                let url = |index| format!("/api/jobs/{id}/pictures/{index}");
                let mut finished = Finished::of(url, &request, output, words(api))?;
                // The pictures of a live view replace each other.
                if let Some(outputs) = outputs.as_ref().filter(|_| request.live.is_none()) {
                    outputs.write(&mut finished);
                }
                Ok(Event::Finished(Arc::new(finished)))
            });
        })
        .map_err(Error::custom)
}

/// Tells the queue of a step of a job, with a picture if a client listens.
fn tell(queue: &Queue, id: u64, preview: &Preview<'_>, parts: usize) -> Result<()> {
    queue.metrics.steps.add(1);
    if !queue.is_watched(id) {
        return Ok(());
    }
    let first = preview.pictures()?.into_iter().next();
    let picture = first.map(|picture| picture.data_url()).transpose()?.unwrap_or_default().into();
    let progress = preview.progress;
    let (part, done, total) = (progress.stage + 1, progress.done, progress.total);
    queue.tell(id, Event::Step { part, parts, done, total, picture });
    Ok(())
}

/// Returns the words for the clients of an API.
pub(crate) const fn words(api: Api) -> &'static dyn Wording {
    match api {
        Api::Mcp => &Agent,
        Api::Own | Api::WebUi | Api::OpenAi => &Page,
    }
}

/// Paints the jobs of the queue, one after the other, until the queue is closed.
fn work(queue: &Queue, mut paint: impl FnMut(Taken) -> Result<Event>) {
    while let Some(taken) = queue.take() {
        let (id, words, begun) = (taken.id, words(taken.api), Instant::now());
        let _span = tracing::info_span!("job", job = id).entered();
        // A fault of the program ends one job. The state of a run is in the run's own values, which a panic drops, and
        // every guidance method begins a run afresh; the model only has caches, which are written as a whole.
        let event = match catch_unwind(AssertUnwindSafe(|| paint(taken))) {
            Ok(Ok(event)) => event,
            Ok(Err(error)) if error.is_cancelled() => Event::Cancelled,
            Ok(Err(error)) => Event::Failed(error.worded(words).into()),
            Err(panic) => Event::Failed(describe(&*panic).into()),
        };
        queue.metrics.worked(begun.elapsed());
        log(id, &event, begun.elapsed());
        queue.tell(id, event);
    }
}

/// Logs the end of a job.
fn log(id: u64, event: &Event, time: Duration) {
    let seconds = time.as_secs_f64();
    match event {
        Event::Finished(_) => tracing::info!(job = id, seconds, "the job is painted"),
        Event::Loaded => tracing::info!(job = id, seconds, "the model is loaded"),
        Event::Failed(error) => tracing::info!(job = id, seconds, %error, "the job failed"),
        _ => tracing::info!(job = id, seconds, "the job was cancelled"),
    }
}

/// Describes a panic for the user.
fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let text = shortened(text.unwrap_or("an unknown fault"));
    format!("the studio has a fault and could not finish this job ({text}); please report the fault with the request")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::queue::Submission;

    #[test]
    fn panic_fails_one_job_and_the_next_one_runs() {
        let queue = Arc::new(Queue::new(&Options::default()));
        let ids = [(); 4].map(|()| queue.submit(Submission::default()).unwrap().id);
        let mut count = 0;
        work(&queue, |_| {
            count += 1;
            match count {
                1 => panic!("no paint"),
                2 => std::panic::panic_any(7),
                3 => Err(Error::Cancelled),
                _ => {
                    queue.close();
                    Err(Error::custom("no canvas"))
                }
            }
        });
        let told = |id| match queue.job(id).unwrap().event {
            Event::Failed(sentence) => sentence.to_string(),
            event => format!("{event:?}"),
        };
        let [first, second, third, fourth] = ids.map(told);
        assert!(first.contains("(no paint); please report"), "{first}");
        assert!(second.contains("(an unknown fault)"), "{second}");
        assert_eq!((third.as_str(), fourth.as_str()), ("Cancelled", "no canvas"));
        assert_eq!(queue.load(), (0, 0));
    }
}
