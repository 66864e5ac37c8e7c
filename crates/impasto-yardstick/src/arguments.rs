//! The command line. Mistakes in the command line are reported before anything runs.

use crate::choice::Choice;
use crate::colors::Colors;
use crate::judge;
use crate::task::{self, Method, Task};
use crate::wording::{self, Wording};
use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};
use impasto::Size;
use impasto_train::dataset::Class;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The embedded models that paint from a prompt.
const EMBEDDED: [&str; 3] = ["embedded", "embedded-fast", EMBEDDED_FLOW];
/// The embedded model whose network is a transformer.
const EMBEDDED_FLOW: &str = "embedded-flow";

/// Measures how exactly guidance hits a color and a place, what else it changes, and how certain the figures are.
///
/// If an option is given twice, the last value counts. The exit status is 0 if all targets are met, 1 if some are
/// missed, and 2 after an error. docs/yardstick.md explains the figures.
#[derive(Clone, Debug, Parser)]
#[command(name = "yardstick", version, args_override_self = true)]
pub struct Arguments {
    /// The command to carry out.
    #[arg(value_enum, default_value_t)]
    pub command: Command,
    /// Files of records (runs.jsonl) that `report` merges, or the folder of labeled pictures that `judge` reads. No
    /// other command takes files.
    #[arg(required_if_eq_any([("command", "report"), ("command", "judge")]))]
    pub files: Vec<PathBuf>,

    /// The model: `embedded`, `embedded-fast`, `embedded-flow`, a folder, a file, or a repository of the hub as
    /// OWNER/NAME (with the feature `hub`).
    #[arg(long, default_value = "embedded")]
    pub model: String,
    /// The judge that finds the parts of a picture: `evaluator`, `saliency` (the model's own attention), `masks:DIR`
    /// or `cmd:PROGRAM`. The default is `evaluator` for the embedded models and `saliency` for any other.
    #[arg(
        long,
        default_value_ifs(EMBEDDED.map(|model| ("model", model, "evaluator"))),
        default_value = "saliency",
        hide_default_value = true
    )]
    pub judge: judge::Choice,
    /// The name of the solver.
    #[arg(long, default_value = "Euler a")]
    pub solver: String,
    /// Number of steps of a picture, 1 to 1000.
    #[arg(long, default_value_t = 28, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub steps: usize,
    /// Scale of classifier-free guidance, without a unit. The default is the model's own.
    #[arg(long, allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// Width and height of a picture in pixels, such as 512x512. The default is the model's own.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<(u32, u32)>,

    #[command(flatten)]
    pub choice: Choice,
    /// The split of the suite: `public`, or any other name for prompts, seeds and colors that `public` does not share.
    #[arg(long, default_value = "public", value_parser = split)]
    pub split: String,
    /// Number of the suite within its split.
    #[arg(long, default_value_t = 0)]
    pub suite: u64,
    /// Noise seeds from A up to but not including B, instead of the suite's.
    #[arg(long, value_name = "A..B", value_parser = range)]
    pub seeds: Option<Range<u64>>,
    /// Colors by CSS name or number, such as gold,#12ab34, or `all` for all sixteen of the suite. The default is the
    /// suite's own choice.
    #[arg(long)]
    pub colors: Option<Colors>,
    /// A file of prompts instead of the suite's. A CSV file has a prompt and its phrases in each line; any other file
    /// has portraits in tags, one a line.
    #[arg(long, value_name = "FILE", conflicts_with = "gencolorbench")]
    pub prompts: Option<PathBuf>,
    /// A folder with the prompt files of GenColorBench, used instead of the suite's prompts.
    #[arg(long, value_name = "DIR")]
    pub gencolorbench: Option<PathBuf>,
    #[command(flatten)]
    pub wording: Wording,
    /// A file of tags for --tags, one a line. The default is the list of the yardstick.
    #[arg(long, value_name = "FILE")]
    pub tags_file: Option<PathBuf>,
    /// Number of seeds from which the method `exact` chooses one by its first pass. Everything is measured on the
    /// chosen seed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one())]
    pub best_of: usize,

    /// Sets the time budget to 10 minutes instead of 20.
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Number of seeds to measure, regardless of the time they take. By default `run` takes the seeds that fit into its
    /// time budget, `calibrate` 64 and `tune` 8.
    #[arg(long, value_name = "N", value_parser = at_least_one())]
    pub seeds_of_suite: Option<usize>,
    /// Time in minutes after which the run ends between two pictures and reports the finished ones. The default is no
    /// limit.
    #[arg(long = "limit-minutes", value_name = "MINUTES", value_parser = minutes)]
    pub limit: Option<Duration>,
    /// Number of pictures that are measured side by side. The default is the number of processor cores.
    #[arg(long, value_name = "N", default_value_t = cores(), value_parser = at_least_one(), hide_default_value = true)]
    pub workers: usize,
    /// Number of threads of each worker.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(i32).range(1..))]
    pub threads: i32,
    /// Number of seeds in one request. Only 1 is possible, as every seed has a prompt of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = batch)]
    pub batch: usize,
    /// Measures only shard I of N, counted from 0.
    #[arg(long, value_name = "I/N", default_value = "0/1", value_parser = shard)]
    pub shard: (usize, usize),
    /// The queue of a run that is spread over machines: `sqlite:FILE` for workers on one machine, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`. Every machine carries out the same command with --seeds or
    /// --seeds-of-suite, and has all records and the report at the end. No pictures are kept; --key repeats a run with
    /// its pictures.
    #[arg(long, value_name = "ADDRESS", env = "YARDSTICK_QUEUE", hide_env_values = true)]
    #[arg(requires = "store", conflicts_with_all = ["shard", "key", "limit"])]
    pub queue: Option<String>,
    /// The store of the queue, which all machines see: a folder, or `s3://BUCKET/PREFIX` in a program that was built
    /// with the feature `impasto-worker/s3`.
    #[arg(long, value_name = "PLACE", requires = "queue")]
    pub store: Option<String>,
    /// Repeats the one run that has this key, and keeps its pictures.
    #[arg(long)]
    pub key: Option<String>,

    /// The folder for records and reports. The default is target/yardstick/SPLIT-SUITE, and target/yardstick for
    /// `calibrate` and `tune`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continues with the records in the folder, which is the default.
    #[arg(long, overrides_with = "fresh")]
    pub resume: bool,
    /// Removes the folder's records, reports and pictures first. Needs --yes if the folder is not empty.
    #[arg(long, overrides_with = "resume")]
    pub fresh: bool,
    /// Confirms --fresh.
    #[arg(long)]
    pub yes: bool,
    /// Pictures to keep: `worst:N` for the N worst runs and a sample, `all`, or `none`.
    #[arg(long, value_name = "WHICH", default_value = "worst:24")]
    pub pictures: Pictures,
    /// Prints only the verdicts.
    #[arg(long)]
    pub check: bool,
}

/// A command of the yardstick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Measures a suite.
    #[default]
    Run,
    /// Measures the judge's own error on drawn pictures.
    Calibrate,
    /// Finds the best color variance, cutoff and saliency for each part on the public split.
    Tune,
    /// Merges files of records and reports their figures.
    Report,
    /// Compares the yardstick's verdicts with a person's, on a folder of pictures with a `labels.json`.
    Judge,
    /// Measures one part in one color by the rules of papers, on single objects on white; on the suite's portraits with
    /// the embedded model.
    Papers,
    /// Lists the tasks, methods, parts and colors of a suite.
    List,
}

/// The pictures that a run keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    /// Pictures of the given number of worst runs, and of a sample.
    Worst(usize),
    All,
    None,
}

impl FromStr for Pictures {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ => {
                let number = text.strip_prefix("worst:").and_then(|number| number.parse().ok());
                number.map(Self::Worst).ok_or("expected worst:N, all or none")
            }
        }
    }
}

impl Arguments {
    /// Reads a command line that begins with the program's name.
    ///
    /// # Errors
    /// A request for help or the version, or a mistake in the line. [`clap::Error::exit`] prints the message and ends
    /// the program with status 0 or 2.
    pub fn read(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut all = Self::try_parse_from(line)?;
        all.complete().map_err(|problem| Self::command().error(ErrorKind::ArgumentConflict, problem))?;
        Ok(all)
    }

    /// Returns true if the model is one of the embedded models that paint from a prompt.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        EMBEDDED.contains(&self.model.as_str())
    }

    /// Returns the time that is planned for a run without a number of seeds.
    pub fn budget(&self) -> Duration {
        let minutes = match (self.quick, self.choice.full) {
            (true, _) => 10,
            (false, true) => 90,
            (false, false) => 20,
        };
        Duration::from_secs(60 * minutes)
    }

    /// Checks options against each other, and fills in those that follow from other options.
    fn complete(&mut self) -> Result<(), String> {
        let most = match self.command {
            Command::Report => usize::MAX,
            Command::Judge => 1,
            _ => 0,
        };
        if let Some(file) = self.files.get(most) {
            let file = file.display();
            return Err(format!(
                "{file}: report takes files, judge takes one folder, other commands take none; give one command at a time"
            ));
        }
        if self.command == Command::Papers {
            // The papers force one part in one color.
            self.choice.tasks.retain(|task| matches!(task, Task::Named | Task::Numeric));
            if self.choice.tasks.is_empty() {
                self.choice.tasks = vec![Task::Named, Task::Numeric];
            }
            if self.choice.methods == Choice::default().methods {
                self.choice.methods = vec![Method::Word, Method::Exact];
            }
        }
        self.choice.check()?;
        self.wording.pool = match &self.tags_file {
            Some(file) => wording::tags(file)?,
            None => wording::usual_tags(),
        };
        let (tags, known) = (self.wording.tags, self.wording.pool.len());
        if tags > known {
            return Err(format!(
                "--tags is {tags}, but there are only {known} tags; ask for fewer, or name a longer list with \
                 --tags-file"
            ));
        }
        let fewer = usize::from(self.wording.named) < task::PARTS.len() || self.wording.form == wording::Form::Own;
        if fewer && self.judge == judge::Choice::Saliency {
            return Err(
                "--name and --style own: --judge saliency finds only what the prompt names; choose evaluator, \
                 masks:DIR or cmd:PROGRAM"
                    .into(),
            );
        }
        let listed = self.gencolorbench.is_some() || self.prompts.as_deref().is_some_and(is_csv);
        if self.judge == judge::Choice::Evaluator && (listed || !self.is_embedded()) {
            return Err(format!(
                "--judge evaluator: the evaluator finds only {}, and only in the embedded models' pictures; choose \
                 saliency, masks:DIR or cmd:PROGRAM",
                Class::ALL.map(Class::name).join(", ")
            ));
        }
        let lacks_unet = self.model == EMBEDDED_FLOW;
        if let Some(task) = self.choice.tasks.iter().find(|task| lacks_unet && task.needs_controlnet()) {
            return Err(format!(
                "--task {}: the embedded ControlNet needs a UNet, but {EMBEDDED_FLOW} has a transformer; choose \
                 --model embedded",
                task.name()
            ));
        }
        if self.is_embedded() && self.choice.methods.contains(&Method::Concept) {
            return Err(
                "--method concept: the maps are read in joint attention, which no embedded model has; choose a model of \
                 Stable Diffusion 3 or Z-Image with --model, and --judge masks:DIR or cmd:PROGRAM"
                    .into(),
            );
        }
        if let Some(task) = self.choice.tasks.iter().find(|task| !self.judge.judges(**task)) {
            let problem = if task.needs_controlnet() {
                "only the embedded model has a ControlNet for this task; leave --model and --judge out"
            } else {
                "the judge saliency sees the unforced picture only; use another --judge"
            };
            return Err(format!("--task {}: {problem}", task.name()));
        }
        if self.queue.is_some() {
            self.check_queue()?;
        }
        if self.choice.tasks.is_empty() {
            self.choice.tasks = Choice::default().tasks;
        }
        if self.key.is_some() {
            // The key may belong to any task and method. Only `tuned` must be asked for, because its file may be
            // missing.
            let tuned = self.choice.methods.contains(&Method::Tuned);
            let methods = Method::ALL.into_iter().filter(|method| tuned || *method != Method::Tuned).collect();
            self.choice = Choice { full: true, methods, ..Choice::default() };
            self.pictures = Pictures::All;
        }
        self.choice.tasks.retain(|task| self.judge.judges(*task) && !(lacks_unet && task.needs_controlnet()));
        if self.choice.tasks.iter().all(|task| self.choice.methods.iter().all(|method| !method.does(*task))) {
            return Err("none of the methods can do any of the tasks; `yardstick list` shows all of them".into());
        }
        Ok(())
    }
}

impl Arguments {
    /// Checks the options that a queue needs, and those that it cannot have.
    fn check_queue(&self) -> Result<(), String> {
        if !matches!(self.command, Command::Run | Command::Papers) {
            return Err("--queue: only run and papers can be spread over machines; leave it out".into());
        }
        if self.seeds.is_none() && self.seeds_of_suite.is_none() {
            return Err("--queue: machines of different speed share a number of seeds; add --seeds-of-suite N".into());
        }
        if matches!(self.judge, judge::Choice::Masks(_)) {
            return Err("--queue: masks are drawn between two runs of one machine; choose another --judge".into());
        }
        if self.pictures == Pictures::All {
            return Err("--queue: no pictures are kept; leave --pictures out, and repeat runs with --key".into());
        }
        Ok(())
    }
}

/// Returns a command line for a report. The queue and its store are left out, because they change no figure and may
/// have a password.
pub fn shown(line: impl IntoIterator<Item = String>) -> String {
    let mut is_address = false;
    let shown = line.into_iter().filter(|argument| {
        let is_value = std::mem::replace(&mut is_address, ["--queue", "--store"].contains(&argument.as_str()));
        !is_value && !is_address && !["--queue=", "--store="].iter().any(|option| argument.starts_with(option))
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Returns true if a file lists prompts with their phrases rather than portraits in tags.
pub fn is_csv(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "csv")
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn split(name: &str) -> Result<String, &'static str> {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    fits.then(|| name.to_owned()).ok_or("expected a name of a-z, 0-9 and -")
}

fn range(text: &str) -> Result<Range<u64>, &'static str> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.filter(|range| !range.is_empty()).ok_or("expected A..B, two whole numbers with A below B")
}

fn minutes(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0).map(|minutes| 60.0 * minutes);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or("expected a number of minutes, more than 0")
}

fn batch(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(1) => Ok(1),
        _ => Err("expected 1, because every seed has a prompt of its own; use --workers to measure in parallel"),
    }
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    match text.split_once('/').and_then(|(which, of)| Some((which.parse().ok()?, of.parse().ok()?))) {
        Some((which, of)) if which < of => Ok((which, of)),
        Some((_, of @ 1..)) => Err(format!("expected a shard of {of}: the first is 0, the last {}", of - 1)),
        _ => Err("expected I/N, such as 0/2".into()),
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    text.parse::<Size>().map(|Size { width, height }| (width, height)).map_err(|error| error.to_string())
}
