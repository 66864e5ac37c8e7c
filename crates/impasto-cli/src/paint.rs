//! `impasto paint`: pictures of a prompt, or of a file of prompts.

use crate::adapters::Adapter;
use crate::estimated::Estimated;
use crate::failure::Failure;
use crate::interrupt;
use crate::lines;
use crate::loading::Loading;
use crate::lora_parts::LoraParts;
use crate::notes::Notes;
use crate::outputs::{self, Named, OutputFile, marked};
use crate::progress;
use crate::result::Finished;
use crate::wording::Terminal;
use clap::Args;
use impasto::job::{Job, Nets};
use impasto::sampler::CancelToken;
use impasto::wording::Wording;
use impasto::{Error, Pipeline, Source, files};
use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Arguments of `impasto paint`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  impasto paint \"1girl, #ffd700 eyes, hair\" -o eyes.png --seed 7
  impasto paint \"a house, sky, ground\" --map map.png --area red=house:1.5 --area blue=sky
  impasto paint \"1girl, hair, shirt\" --control embedded=lines.png --strokes strokes.png
  impasto paint --prompts prompts.jsonl -o pictures --json

A line of --prompts is a JSON object whose keys are the options without dashes in front:
  {\"prompt\": \"1girl, eyes\", \"seed\": 7, \"best-of\": 4, \"force\": [\"eyes=gold\"]}
Settings that a line lacks are those of the command line.")]
pub struct Paint {
    #[command(flatten)]
    job: Job,
    /// File of the picture, a PNG that `impasto again` can repeat. Of several pictures, each has its line and seed in
    /// the name. The default is `impasto-SEED.png`, in a folder if a folder is given, and with a count if a file has
    /// that name.
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
    /// Writes an HTML page with the pictures, masks, colors and times of the run.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// Writes the unfinished picture to a file after every step.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    preview: Option<PathBuf>,
    /// Replaces files that exist already. Files that the command reads are never replaced.
    #[arg(long, help_heading = "Output")]
    overwrite: bool,
    /// Prints the time and the memory that the pictures would take, and paints none.
    #[arg(long, conflicts_with_all = ["report", "preview"], help_heading = "Output")]
    estimate: bool,
    /// Prints a line of JSON for each picture.
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// A file of prompts, one JSON object a line; `-` is the standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt", help_heading = "Several prompts")]
    prompts: Option<PathBuf>,
    /// Number of pictures to leave out, because an interrupted command painted them. The others keep their names. The
    /// last of several numbers counts.
    #[arg(long, value_name = "NUMBER", overrides_with = "skip", help_heading = "Output")]
    skip: Option<u64>,
    #[command(flatten)]
    adapter: Adapter,
    #[command(flatten)]
    lora_parts: LoraParts,
    #[command(flatten)]
    loading: Loading,
}

/// Largest file of prompts in bytes.
const LARGEST: u64 = 64 << 20;

/// Largest number of seeds of a command: the number of pictures, or with --best-of the number of compared seeds.
const MOST_SEEDS: u64 = 100_000;

/// A job, and the line of the file of prompts that it is from.
struct Task {
    line: Option<u64>,
    job: Job,
    /// Seed of the first picture. A random seed is drawn before the run, because names and advice contain the seed.
    seed: u64,
}

/// A picture of a task.
#[derive(Clone, Copy)]
struct Picture {
    /// Index in the task.
    image: u64,
    /// Seed of the picture, or the first seed of the search for the best one.
    seed: u64,
}

/// Parts that all pictures of a command share.
struct Session {
    pipeline: Pipeline,
    nets: Nets,
    notes: Notes,
    token: CancelToken,
    /// Number of pictures that are finished or left out.
    done: u64,
}

/// Paints everything that the arguments ask for.
pub fn paint(arguments: &Paint) -> Result<(), Failure> {
    // Every line is read before the first picture, so that a mistake in the last line does not cost an hour.
    let tasks = arguments.tasks()?;
    arguments.adapter.check(tasks.iter().map(|task| &task.job))?;
    let names = Names::new(arguments, tasks.len())?;
    if !arguments.estimate {
        names.check(arguments, &tasks)?;
    }
    let all = tasks.iter().map(Task::images).sum();
    let token = interrupt::token()?;
    let methods = arguments.lora_parts.methods(&arguments.loading)?;
    let pipeline = arguments.loading.pipeline(Source::embedded())?;
    let nets = arguments.adapter.nets(pipeline.model())?;
    let pipeline = methods.into_iter().fold(pipeline, Pipeline::guide);
    let mut session = Session { pipeline, nets, notes: Notes::default(), token, done: 0 };
    session.notes.tell_before(session.pipeline.model().notes());
    for task in &tasks {
        if arguments.estimate {
            arguments.estimate_task(task, &mut session).map_err(|failure| task.at(failure))?;
            continue;
        }
        let painted = arguments.paint_task(task, &names, &mut session);
        painted.map_err(|failure| {
            let failure = task.at(failure);
            let leaves_pictures = matches!(failure, Failure::Interrupted(_)) || (1..all).contains(&session.done);
            if leaves_pictures { failure.with_advice(&arguments.advice(&tasks, session.done, all)) } else { failure }
        })?;
    }
    Ok(())
}

impl Task {
    /// Returns the number of pictures.
    const fn images(&self) -> u64 {
        self.job.config.images as u64
    }

    /// Returns the number of seeds that each picture takes. A search for the best seed takes as many as it compares.
    const fn seeds_each(&self) -> u64 {
        self.job.config.best_of as u64
    }

    /// Adds the number of the task's line to an error.
    fn at(&self, failure: Failure) -> Failure {
        match (failure, self.line) {
            (failure @ (Failure::Library(_) | Failure::Message(_)), Some(line)) => {
                Failure::Message(format!("line {line}: {failure}"))
            }
            (failure, _) => failure,
        }
    }

    /// Returns the task's pictures that are painted after `skip` pictures were left out.
    fn pictures(&self, skip: u64) -> impl Iterator<Item = Picture> {
        let seeds = self.seeds_each();
        let picture = move |image| Picture { image, seed: self.seed.wrapping_add(image * seeds) };
        (skip..self.images()).map(picture)
    }

    /// Returns the label of a picture's progress bar.
    fn label(&self, image: u64) -> String {
        let images = self.images();
        let line = self.line.map_or_else(String::new, |line| format!("line {line} "));
        if images > 1 { format!("{line}picture {} of {images}", image + 1) } else { format!("{line}picture") }
    }
}

impl Paint {
    fn tasks(&self) -> Result<Vec<Task>, Failure> {
        let task = |line, job: Job| {
            // Short numbers are easier to copy.
            let seed = job.config.seed.unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
            Task { line, job, seed }
        };
        let checked = |job: Job| {
            lines::check_prompt(&job)?;
            job.check().map(|()| job).map_err(|error| error.worded(&Terminal::present()))
        };
        let Some(file) = &self.prompts else {
            let job = checked(self.job.clone()).map_err(Failure::CommandLine)?;
            return self.within_limits(vec![task(None, job)]);
        };
        let text = read(file)?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let read = |(number, line): (u64, &str)| {
            let job = lines::with_line(&self.job, line).and_then(checked);
            let job = job.map_err(|fault| format!("{}, line {number}: {fault}", file.display()))?;
            Ok(task(Some(number), job))
        };
        let tasks = lines.map(read).collect::<Result<Vec<_>, Failure>>()?;
        if tasks.is_empty() {
            let problem = "the file has no prompts; expected a line such as {\"prompt\": \"a red boat\"}";
            return Err(Failure::Message(format!("{}: {problem}", file.display())));
        }
        self.within_limits(tasks)
    }

    /// Checks the number of pictures, and the number of those that are left out.
    fn within_limits(&self, tasks: Vec<Task>) -> Result<Vec<Task>, Failure> {
        let sum = |number: fn(&Task) -> u64| tasks.iter().map(number).fold(0, u64::saturating_add);
        let (seeds, images) = (sum(|task| task.images().saturating_mul(task.seeds_each())), sum(Task::images));
        if seeds > MOST_SEEDS {
            let problem = format!("the pictures take {seeds} seeds; expected at most {MOST_SEEDS}; divide the command");
            return Err(Failure::CommandLine(problem));
        }
        match self.skip {
            Some(skip) if skip >= images => {
                let problem =
                    format!("--skip is {skip}, but the command has {images} pictures; expected a smaller number");
                Err(Failure::CommandLine(problem))
            }
            _ => Ok(tasks),
        }
    }

    /// Leaves out pictures of a task, and returns their number.
    fn leave_out(&self, task: &Task, session: &mut Session) -> u64 {
        let skipped = self.skip.unwrap_or_default().saturating_sub(session.done).min(task.images());
        session.done += skipped;
        skipped
    }

    /// Prints the estimate of one task.
    fn estimate_task(&self, task: &Task, session: &mut Session) -> Result<(), Failure> {
        let skipped = self.leave_out(task, session);
        if skipped == task.images() {
            return Ok(());
        }
        session.nets.load(&task.job, session.pipeline.model())?;
        let mut job = task.job.clone();
        job.open()?;
        job.config.images = 1;
        let each = job.request(&session.pipeline, &session.nets)?.estimate()?;
        Estimated::new(&job.config.prompt, task.images() - skipped, each).print(self.json)
    }

    /// Paints the pictures of one task, each as a run of its own, so that Ctrl-C keeps all that are finished.
    fn paint_task(&self, task: &Task, names: &Names, session: &mut Session) -> Result<(), Failure> {
        let skipped = self.leave_out(task, session);
        if skipped == task.images() {
            return Ok(());
        }
        let Session { pipeline, nets, notes, token, done } = session;
        nets.load(&task.job, pipeline.model())?;
        let mut job = task.job.clone();
        job.open()?;
        job.config.images = 1;
        let mut notes = notes.of_part(task.line.map_or_else(String::new, |line| format!("line {line}: ")));
        for picture in task.pictures(skipped) {
            job.config.seed = Some(picture.seed);
            let request = job.request(pipeline, nets)?.cancel(token);
            notes.tell_before(&request.notes()?);
            let output = progress::run(request, &task.label(picture.image), self.preview.as_deref())?;
            let seed = output.seed.unwrap_or(picture.seed);
            let file = names.picture(task, seed);
            let file = file.save(|file| output.save(0, file), |file| output.save_new(0, file))?;
            *done += 1;
            if let Some(report) = names.report(task, seed) {
                report
                    .save(|file| impasto_report::save(&output, file), |file| impasto_report::save_new(&output, file))?;
            }
            Finished::new(&file, &output, 0)?.print(self.json, &notes)?;
        }
        Ok(())
    }

    /// Says how to go on when `done` of `all` pictures are finished.
    fn advice(&self, tasks: &[Task], done: u64, all: u64) -> String {
        let drawn = tasks.iter().find(|task| task.job.config.seed.is_none());
        let seed = drawn.filter(|task| task.line.is_none()).map(|task| format!(" --seed {}", task.seed));
        // With --skip, the preview of the interrupted command may be replaced.
        let skip = (done > 0 || self.preview.is_some()).then(|| format!(" --skip {done}"));
        let options: String = [seed, skip].into_iter().flatten().collect();
        let with = if options.is_empty() { "" } else { " with" };
        let other =
            if drawn.is_some_and(|task| task.line.is_some()) { "; lines without a seed take new ones" } else { "" };
        format!("{done} of {all} pictures are finished; to go on, repeat the command{with}{options}{other}")
    }
}

/// Names of the files of a command.
struct Names {
    output: OutputFile,
    report: Option<OutputFile>,
    /// True if the names contain the line, because the command has several lines.
    has_line: bool,
    /// True if the name of a single picture contains the seed, because the program chose the name.
    has_seed: bool,
}

impl Names {
    fn new(arguments: &Paint, lines: usize) -> Result<Self, Failure> {
        let Paint { output, report, overwrite, .. } = arguments;
        let names = Self {
            output: OutputFile::new(output.as_deref(), "impasto.png".into(), *overwrite),
            report: report.as_ref().map(|report| OutputFile::given("--report", report, *overwrite)),
            has_line: lines > 1,
            has_seed: output.as_deref().is_none_or(Path::is_dir),
        };
        outputs::check_extension(&names.output.named, &["png"])?;
        Ok(names)
    }

    /// Returns the file of a picture: `FILE-LINE-SEED.png`.
    fn picture(&self, task: &Task, seed: u64) -> OutputFile {
        self.marked(&self.output, task, Some(seed).filter(|_| self.has_seed || task.images() > 1))
    }

    /// Returns the file of a picture's report: `FILE-LINE-SEED.html`.
    fn report(&self, task: &Task, seed: u64) -> Option<OutputFile> {
        let seed = Some(seed).filter(|_| task.images() > 1);
        self.report.as_ref().map(|report| self.marked(report, task, seed))
    }

    fn marked(&self, base: &OutputFile, task: &Task, seed: Option<u64>) -> OutputFile {
        let line = task.line.filter(|_| self.has_line);
        base.at(marked(&base.named.file, &line.into_iter().chain(seed).collect::<Vec<_>>()))
    }

    /// Checks all files that the command reads and writes. A picture with --best-of may get each of several names.
    fn check(&self, arguments: &Paint, tasks: &[Task]) -> Result<(), Failure> {
        let Paint { preview, prompts, skip, overwrite, adapter, lora_parts, loading, .. } = arguments;
        let (mut left_out, mut written) = (skip.unwrap_or_default(), Vec::new());
        for task in tasks {
            for picture in task.pictures(left_out) {
                let seeds = (0..task.seeds_each()).map(|candidate| picture.seed.wrapping_add(candidate));
                let files = |seed| std::iter::once(self.picture(task, seed)).chain(self.report(task, seed));
                // A name without the seed is the same for all candidates.
                let mut known = HashSet::new();
                written.extend(seeds.flat_map(files).filter(|file| known.insert(file.named.file.clone())));
            }
            left_out = left_out.saturating_sub(task.images());
        }
        if let Some(preview) = preview {
            let preview = OutputFile::given("--preview", preview, *overwrite || skip.is_some());
            outputs::check_extension(&preview.named, &outputs::PICTURES)?;
            written.push(preview);
        }
        let prompts = prompts.iter().filter(|file| **file != Path::new("-")).map(|file| Named::new("--prompts", file));
        let pictures = tasks.iter().flat_map(|task| pictures(&task.job));
        let parts = adapter.files().chain(lora_parts.files()).chain(loading.files());
        outputs::check(&written, &pictures.chain(prompts).chain(parts).collect::<Vec<_>>())
    }
}

/// Returns the pictures and files of ControlNets that a job reads.
fn pictures(job: &Job) -> Vec<Named> {
    let named = |(field, path): (&'static str, &Path)| Named::new(Terminal::present().name(field), path);
    let pictures = job.paths().into_iter().map(named);
    // Other nets are embedded or repositories.
    let nets = job.controls.iter().map(|follow| Named::new("--control", &follow.net)).filter(|net| net.file.exists());
    pictures.chain(nets).collect()
}

/// Reads a file of prompts, which may be a pipe, or the standard input.
fn read(file: &Path) -> Result<String, Failure> {
    let opened: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|source| Error::Io { path: file.into(), source })?)
    };
    Ok(files::text(opened, file, LARGEST)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn paint(arguments: &[&str]) -> Box<Paint> {
        let parsed = Arguments::try_parse_from([&["impasto", "paint"], arguments].concat()).unwrap();
        let Command::Paint(paint) = parsed.command else { panic!("another command") };
        paint
    }

    fn names(arguments: &[&str]) -> Vec<String> {
        let paint = paint(arguments);
        let tasks = paint.tasks().unwrap();
        let names = Names::new(&paint, tasks.len()).unwrap();
        let pictures = tasks.iter().flat_map(|task| task.pictures(0).map(move |picture| (task, picture.seed)));
        pictures.map(|(task, seed)| names.picture(task, seed).named.file.display().to_string()).collect()
    }

    #[test]
    fn names_contain_what_distinguishes_pictures() {
        assert_eq!(names(&["a", "--seed", "7"]), ["impasto-7.png"]);
        assert_eq!(names(&["a", "--seed", "7", "-o", "out.png"]), ["out.png"]);
        assert_eq!(names(&["a", "--seed", "7", "--images", "2", "-o", "out.png"]), ["out-7.png", "out-8.png"]);
        assert_eq!(
            names(&["a", "--seed", "7", "--images", "2", "--best-of", "4"]),
            ["impasto-7.png", "impasto-11.png"]
        );
        let folder = tempfile::tempdir().unwrap();
        let lines = folder.path().join("lines.jsonl").display().to_string();
        std::fs::write(&lines, "\u{feff}{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"images\": 2}").unwrap();
        let file = ["--prompts", &lines, "--seed", "7"];
        assert_eq!(names(&file), ["impasto-1-7.png", "impasto-2-7.png", "impasto-2-8.png"]);
        assert_eq!(names(&[&file[..], &["-o", "out.png"]].concat()), ["out-1.png", "out-2-7.png", "out-2-8.png"]);
        let inside = names(&["a", "--seed", "7", "-o", &folder.path().display().to_string()]);
        assert_eq!(inside, [folder.path().join("impasto-7.png").display().to_string()]);
    }

    #[test]
    fn advice_names_the_seed_and_the_finished_pictures() {
        let advice = |arguments: &[&str], done| {
            let paint = paint(arguments);
            paint.advice(&paint.tasks().unwrap(), done, 5)
        };
        assert!(advice(&["a", "--seed", "7"], 0).ends_with("to go on, repeat the command"));
        let several = advice(&["a", "--seed", "7", "--images", "5"], 2);
        assert_eq!(several, "2 of 5 pictures are finished; to go on, repeat the command with --skip 2");
        assert!(advice(&["a", "--seed", "7", "--preview", "p.png"], 0).ends_with("with --skip 0"));
        for random in [&["a"][..], &["a", "--seed", "-1"]] {
            let drawn = advice(random, 2);
            assert!(drawn.contains("with --seed ") && drawn.ends_with(" --skip 2"), "{drawn}");
        }
    }

    #[test]
    fn advice_can_be_added_to_the_command() {
        let again = paint(&["a", "--seed", "-1", "--skip", "1", "--images", "5", "--seed", "7", "--skip", "3"]);
        assert_eq!((again.job.config.seed, again.skip), (Some(7), Some(3)));
    }

    #[test]
    fn number_of_seeds_and_skipped_pictures_is_limited() {
        let fault = |arguments: &[&str]| paint(arguments).tasks().err().unwrap().to_string();
        assert!(
            fault(&["a", "--images", "1000", "--best-of", "1000"]).contains("1000000 seeds; expected at most 100000")
        );
        assert!(fault(&["a", "--images", "3", "--skip", "3"]).contains("the command has 3 pictures"));
        assert!(paint(&["a", "--images", "3", "--skip", "2"]).tasks().is_ok());
    }
}
