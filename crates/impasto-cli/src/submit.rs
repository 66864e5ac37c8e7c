//! `impasto submit`: adds a job to a queue.

use crate::console;
use crate::failure::Failure;
use crate::interrupt;
use crate::outputs::{self, OutputFile};
use crate::queue::{QueueArguments, fail};
use clap::Args;
use impasto::files;
use impasto::job::Job;
use impasto::sampler::CancelToken;
use impasto_worker::{Class, Entry, Order, Queue, State};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `impasto submit`.
#[derive(Args, Debug)]
pub struct Submit {
    #[command(flatten)]
    job: Job,
    #[command(flatten)]
    queue: QueueArguments,
    /// The model that paints the job: the --model of the workers.
    #[arg(long, value_name = "MODEL", help_heading = "Queue")]
    model: Option<String>,
    /// The user who asks. Users take turns, however many jobs each has.
    #[arg(long, value_name = "NAME", default_value = "", help_heading = "Queue")]
    user: String,
    /// Lets all jobs without this option be painted first.
    #[arg(long, help_heading = "Queue")]
    batch: bool,
    /// Waits for the pictures, and writes them to this file or folder. Of several pictures, each has a number in its
    /// name.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    /// Replaces files that exist already.
    #[arg(long, requires = "output", help_heading = "Output")]
    overwrite: bool,
}

/// Time between two looks at the job.
const LOOK: Duration = Duration::from_millis(300);

/// Returns the queue's name for a model.
pub fn model(given: Option<&str>) -> String {
    given.unwrap_or("embedded").to_owned()
}

/// Adds the job to the queue, and prints its name.
pub fn submit(arguments: &Submit) -> Result<(), Failure> {
    let mut job = arguments.job.clone();
    job.check().map_err(Failure::of_command_line)?;
    if job.config.prompt.trim().is_empty() {
        return Err(Failure::CommandLine("the prompt is empty; expected a description of the picture".into()));
    }
    // A job with a seed is the same job when it is asked for again.
    job.config.seed.get_or_insert_with(|| RandomState::new().hash_one("seed") >> 32);
    job.open()?;
    let job = serde_json::to_value(&job).map_err(|error| Failure::Message(error.to_string()))?;
    let (runtime, queue) = arguments.queue.open()?;
    let class = if arguments.batch { Class::Batch } else { Class::Interactive };
    let order = Order { owner: arguments.user.clone(), class, ..Order::new(model(arguments.model.as_deref()), job) };
    let interrupted = interrupt::token()?;
    runtime.block_on(async {
        let entry = queue.submit(order).await.map_err(fail)?;
        console::print(&entry.key)?;
        match &arguments.output {
            Some(file) => fetch(&queue, entry, file, arguments.overwrite, &interrupted).await,
            None => Ok(()),
        }
    })
}

/// Waits for a job, and writes its pictures.
async fn fetch(
    queue: &Queue,
    mut entry: Entry,
    file: &std::path::Path,
    overwrite: bool,
    interrupted: &CancelToken,
) -> Result<(), Failure> {
    while !entry.state.is_last() {
        if interrupted.is_cancelled() {
            return Err(Failure::Interrupted("the job stays in the queue; `impasto cancel` takes it out".into()));
        }
        tokio::time::sleep(LOOK).await;
        let found = queue.find(&entry.key).await.map_err(fail)?;
        entry = found.ok_or_else(|| Failure::Message("the job was deleted from the queue".into()))?;
    }
    if entry.state != State::Done {
        let reason = if entry.reason.is_empty() { entry.state.to_string() } else { entry.reason };
        return Err(Failure::Message(format!("the job has no pictures: {reason}")));
    }
    let chosen = PathBuf::from(format!("impasto-{}.png", entry.key.as_str().get(..12).unwrap_or_default()));
    let output = OutputFile::new(Some(file), chosen, overwrite);
    for index in 0..entry.pictures as usize {
        let bytes = queue.picture(&entry.key, index).await.map_err(fail)?;
        let bytes = bytes.ok_or_else(|| Failure::Message(format!("picture {index} of the job is not in the store")))?;
        let name = if entry.pictures > 1 {
            outputs::marked(&output.named.file, &[index as u64 + 1])
        } else {
            output.named.file.clone()
        };
        let written =
            output.at(name).save(|path| files::write_whole(path, &bytes), |path| files::write_new(path, &bytes))?;
        console::print(written.display())?;
    }
    Ok(())
}
