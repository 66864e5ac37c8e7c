//! `impasto jobs` and `impasto cancel`: the jobs of a queue.

use crate::console;
use crate::failure::Failure;
use crate::queue::{QueueArguments, fail};
use clap::{Args, ValueEnum};
use impasto_worker::{Entry, Filter, Key, State};

/// Arguments of `impasto jobs`.
#[derive(Args, Debug)]
pub struct Jobs {
    /// A part of the jobs' prompts. Without it, all jobs are listed.
    #[arg(default_value = "")]
    text: String,
    #[command(flatten)]
    queue: QueueArguments,
    /// The state of the jobs.
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// The user who asked for the jobs.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Largest number of jobs, the latest ones.
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Prints a line of JSON for each job.
    #[arg(long)]
    json: bool,
}

/// The name of a [`State`].
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum StateName {
    /// The job waits for a worker.
    Waiting,
    /// A worker paints the job.
    Running,
    /// The pictures are in the store.
    Done,
    /// The job was given up.
    Failed,
    /// The job was cancelled.
    Cancelled,
}

impl From<StateName> for State {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Waiting => Self::Waiting,
            StateName::Running => Self::Running,
            StateName::Done => Self::Done,
            StateName::Failed => Self::Failed,
            StateName::Cancelled => Self::Cancelled,
        }
    }
}

/// Arguments of `impasto cancel`.
#[derive(Args, Debug)]
pub struct Cancel {
    /// The job, as `impasto submit` prints it. May be given several times.
    #[arg(required = true)]
    job: Vec<Key>,
    #[command(flatten)]
    queue: QueueArguments,
}

/// Lists jobs.
pub fn jobs(arguments: &Jobs) -> Result<(), Failure> {
    let (runtime, queue) = arguments.queue.open()?;
    let Jobs { text, state, user, limit, .. } = arguments;
    let state = state.map(State::from);
    let filter = Filter { state, owner: user.clone(), text: text.clone(), limit: *limit, ..Filter::default() };
    for entry in runtime.block_on(queue.list(&filter)).map_err(fail)? {
        if arguments.json {
            console::print(serde_json::to_string(&entry).map_err(|error| Failure::Message(error.to_string()))?)?;
        } else {
            console::print(line(&entry))?;
        }
    }
    Ok(())
}

/// Describes a job in a line.
fn line(entry: &Entry) -> String {
    let Entry { key, state, step, steps, title, reason, .. } = entry;
    let progress = if *state == State::Running && *steps > 0 { format!(" {step}/{steps}") } else { String::new() };
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    format!("{key} {state}{progress} {title:?}{reason}")
}

/// Cancels jobs.
pub fn cancel(arguments: &Cancel) -> Result<(), Failure> {
    let (runtime, queue) = arguments.queue.open()?;
    for key in &arguments.job {
        if !runtime.block_on(queue.cancel(key)).map_err(fail)? {
            let found = runtime.block_on(queue.find(key)).map_err(fail)?;
            let state = found.map_or_else(|| "not in the queue".into(), |entry| format!("{} already", entry.state));
            return Err(Failure::Message(format!("the job {key} is {state}")));
        }
    }
    Ok(())
}
