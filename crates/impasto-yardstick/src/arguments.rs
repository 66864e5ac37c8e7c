//! The command line. What is wrong with it is said before anything runs.

use crate::colors::Color;
use crate::judge;
use crate::suite::{Choice, Method, PARTS, Task};
use crate::wording::{self, Form, Wording};
use impasto::Rgb;
use impasto_train::dataset::Class;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const USAGE: &str = "\
yardstick run|calibrate|tune|report|list [OPTIONS]

  run                measure (the default)
  calibrate          the judge's own error on drawn pictures
  tune               find the best color_var, cutoff and saliency for each part on the public split
  report A.jsonl …   figures of records that are there, merged
  list               the tasks, methods, parts and colors of a suite

  --model embedded|DIR|FILE|OWNER/NAME
                                    the model: embedded, a folder, a file, or of the hub (needs --features hub)
  --judge evaluator|saliency|masks:DIR|cmd:PROGRAM
                                    who finds the parts: the evaluator, or for other models their own attention
  --task, --method, --part A,B,…    what is measured
  --split NAME, --suite N           public, 0
  --seeds A..B, --colors A,B, --prompts FILE, --gencolorbench DIR
                                    instead of the suite's own
  --style tags|sentence|document    how portraits are worded; the document's prompts have four parts
  --tags N, --tags-file FILE        adds N tags to each portrait that show nothing, of FILE or of the yardstick's own
  --quick, --full, --limit-minutes M, --seeds-of-suite N
                                    10, 90 or, without either, 20 minutes; or so many seeds
  --best-of N                       exact chooses among the first passes of N seeds; all is measured on the one it chose
  --solver NAME, --steps N, --scale X, --size WxH
  --out DIR, --fresh, --yes         target/yardstick/NAME; begin anew
  --workers N, --threads N, --shard I/N
  --pictures worst:N|all|none       worst:24
  --key KEY                         repeats the one run with that key, and keeps its pictures
  --check                           print only the verdicts";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Run,
    Calibrate,
    Tune,
    Report,
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pictures {
    Worst(usize),
    All,
    None,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    pub command: Command,
    pub files: Vec<PathBuf>,
    pub model: String,
    pub judge: judge::Choice,
    pub choice: Choice,
    pub split: String,
    pub suite: u64,
    pub seeds: Option<Range<u64>>,
    pub seeds_of_suite: Option<usize>,
    pub best_of: usize,
    pub colors: Option<Vec<Color>>,
    pub prompts: Option<PathBuf>,
    pub gencolorbench: Option<PathBuf>,
    pub wording: Wording,
    pub budget: Duration,
    pub limit: Option<Duration>,
    pub solver: String,
    pub steps: usize,
    pub scale: Option<f64>,
    pub size: Option<(u32, u32)>,
    pub out: Option<PathBuf>,
    pub fresh: bool,
    pub yes: bool,
    pub workers: usize,
    pub threads: Option<i32>,
    pub shard: (usize, usize),
    pub pictures: Pictures,
    pub check: bool,
    pub key: Option<String>,
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(60.0 * minutes)
}

impl Default for Arguments {
    fn default() -> Self {
        let choice = Choice {
            tasks: Task::ALL.to_vec(),
            // All but those with no model, and what has to be found first.
            methods: Method::ALL
                .into_iter()
                .filter(|method| !matches!(method, Method::Tuned | Method::Recolor | Method::Paste))
                .collect(),
            parts: PARTS.map(str::to_owned).to_vec(),
            full: false,
        };
        Self {
            command: Command::Run,
            files: Vec::new(),
            model: "embedded".into(),
            judge: judge::Choice::Evaluator,
            choice,
            split: "public".into(),
            suite: 0,
            seeds: None,
            seeds_of_suite: None,
            best_of: 1,
            colors: None,
            prompts: None,
            gencolorbench: None,
            wording: Wording::default(),
            budget: minutes(20.0),
            limit: None,
            solver: "Euler a".into(),
            steps: 28,
            scale: None,
            size: None,
            out: None,
            fresh: false,
            yes: false,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            threads: None,
            shard: (0, 1),
            pictures: Pictures::Worst(24),
            check: false,
            key: None,
        }
    }
}

impl Arguments {
    /// Reads the command line, without the program's name; `None` if help was asked for.
    pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Option<Self>, String> {
        let mut all = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        let (mut quick, mut full, mut named) = (false, false, false);
        let (mut asked_tasks, mut asked_judge) = (false, None);
        let wrong = |error: lexopt::Error| error.to_string();
        while let Some(argument) = parser.next().map_err(wrong)? {
            let name = match &argument {
                Long(name) => (*name).to_owned(),
                Short(letter) => letter.to_string(),
                Value(value) => {
                    let text = value.to_string_lossy().into_owned();
                    match all.command {
                        Command::Report => all.files.push(text.into()),
                        _ if named => return Err(format!("{text}: one command at a time")),
                        _ => all.command = one_of("command", &text, &COMMANDS)?,
                    }
                    named = true;
                    continue;
                }
            };
            let mut value =
                || -> Result<String, String> { Ok(parser.value().map_err(wrong)?.to_string_lossy().into_owned()) };
            match name.as_str() {
                "h" | "help" => return Ok(None),
                "quick" => quick = true,
                "full" => full = true,
                "fresh" => all.fresh = true,
                "resume" => all.fresh = false,
                "yes" => all.yes = true,
                "check" => all.check = true,
                "key" => all.key = Some(value()?),
                "model" => all.model = value()?,
                "judge" => asked_judge = Some(judge(&value()?)?),
                "task" => (all.choice.tasks, asked_tasks) = (list("task", &value()?, task)?, true),
                "method" => all.choice.methods = list("method", &value()?, method)?,
                "part" => all.choice.parts = list("part", &value()?, part)?,
                "split" => all.split = split(value()?)?,
                "suite" => all.suite = number("suite", &value()?)?,
                "seeds" => all.seeds = Some(range(&value()?)?),
                "seeds-of-suite" => all.seeds_of_suite = Some(at_least_one("seeds-of-suite", &value()?)?),
                "best-of" => all.best_of = at_least_one("best-of", &value()?)?,
                "colors" => all.colors = colors(&value()?)?,
                "prompts" => all.prompts = Some(value()?.into()),
                "limit-minutes" => all.limit = Some(minutes(positive("limit-minutes", &value()?)?)),
                "solver" => all.solver = value()?,
                "steps" => all.steps = number("steps", &value()?)?,
                "scale" => all.scale = Some(number("scale", &value()?)?),
                "size" => all.size = Some(size(&value()?)?),
                "out" => all.out = Some(value()?.into()),
                "batch" => batch(&value()?)?,
                "workers" => all.workers = at_least_one("workers", &value()?)?,
                "threads" => all.threads = Some(at_least_one("threads", &value()?)? as i32),
                "shard" => all.shard = shard(&value()?)?,
                "pictures" => all.pictures = pictures(&value()?)?,
                "style" => all.wording.form = one_of("style", &value()?, &Form::ALL)?,
                "tags" => all.wording.tags = number("tags", &value()?)?,
                "tags-file" => all.wording.pool = wording::tags(Path::new(&value()?))?,
                "gencolorbench" => all.gencolorbench = Some(value()?.into()),
                "saliency" => {
                    return Err("saliency: this version offers one, `daam`; the report has every threshold".into());
                }
                _ => return Err(format!("--{name} is no option{}", did_you_mean(&name, OPTIONS))),
            }
        }
        if quick && full {
            return Err("--quick and --full: one of them".into());
        }
        if all.prompts.is_some() && all.gencolorbench.is_some() {
            return Err("--prompts and --gencolorbench: one of them".into());
        }
        if all.wording.pool.is_empty() {
            all.wording.pool = wording::usual_tags();
        }
        if all.wording.tags > all.wording.pool.len() {
            return Err(format!("tags is {}; there are {} to choose from", all.wording.tags, all.wording.pool.len()));
        }
        let embedded = all.model == "embedded";
        all.judge = asked_judge.unwrap_or(if embedded { judge::Choice::Evaluator } else { judge::Choice::Saliency });
        let listed = !embedded || all.gencolorbench.is_some() || all.prompts.as_deref().is_some_and(is_csv);
        if all.judge == judge::Choice::Evaluator && listed {
            return Err(format!(
                "judge evaluator: it knows {} in the embedded model's pictures; choose saliency, masks:DIR or cmd:PROGRAM",
                Class::ALL.map(Class::name).join(", ")
            ));
        }
        match all.choice.tasks.iter().find(|task| !all.judge.judges(**task)) {
            Some(task) if asked_tasks => {
                let task = task.name();
                return Err(format!("task {task}: the judge saliency sees the unforced picture only; use another one"));
            }
            _ => all.choice.tasks.retain(|task| all.judge.judges(*task)),
        }
        if quick {
            all.budget = minutes(10.0);
        }
        if full {
            all.budget = minutes(90.0);
            all.choice.full = true;
        }
        if all.key.is_some() {
            // Whatever it is, it is among these.
            let tuned = all.choice.methods.contains(&Method::Tuned);
            all.choice = Choice { full: true, ..Self::default().choice };
            all.choice.methods.extend([Method::Recolor, Method::Paste]);
            all.choice.tasks.retain(|task| all.judge.judges(*task));
            all.choice.methods.extend(tuned.then_some(Method::Tuned));
            all.pictures = Pictures::All;
        }
        if all.choice.tasks.iter().all(|task| all.choice.methods.iter().all(|method| !method.does(*task))) {
            return Err("none of the methods does any of the tasks; see `yardstick list`".into());
        }
        Ok(Some(all))
    }
}

const COMMANDS: [(&str, Command); 5] = [
    ("run", Command::Run),
    ("calibrate", Command::Calibrate),
    ("tune", Command::Tune),
    ("report", Command::Report),
    ("list", Command::List),
];
const OPTIONS: [&str; 35] = [
    "help",
    "key",
    "quick",
    "full",
    "fresh",
    "resume",
    "yes",
    "check",
    "model",
    "judge",
    "task",
    "method",
    "part",
    "split",
    "suite",
    "seeds",
    "seeds-of-suite",
    "best-of",
    "colors",
    "prompts",
    "limit-minutes",
    "solver",
    "steps",
    "scale",
    "size",
    "out",
    "batch",
    "workers",
    "threads",
    "shard",
    "pictures",
    "gencolorbench",
    "style",
    "tags",
    "tags-file",
];

/// ` ; did you mean "x"?`, with the most similar name.
fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let nearest = names.into_iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    nearest.map(|nearest| format!("; did you mean \"{nearest}\"?")).unwrap_or_default()
}

fn one_of<T: Copy>(what: &str, name: &str, all: &[(&str, T)]) -> Result<T, String> {
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    found.ok_or_else(|| {
        format!("{what} \"{name}\" is not known{}", did_you_mean(name, all.iter().map(|(name, _)| *name)))
    })
}

fn list<T: PartialEq>(what: &str, text: &str, each: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let mut values = Vec::new();
    let mut column = 1;
    for piece in text.split(',') {
        let name = piece.trim();
        if name.is_empty() {
            return Err(format!("{what}: nothing at column {column} of \"{text}\""));
        }
        let value = each(name).map_err(|error| format!("{error} (column {column})"))?;
        if values.contains(&value) {
            return Err(format!("{what}: \"{name}\" at column {column} of \"{text}\" is there twice"));
        }
        values.push(value);
        column += piece.chars().count() + 1;
    }
    Ok(values)
}

fn task(name: &str) -> Result<Task, String> {
    match name {
        "speed" => Err("task \"speed\" has no runs of its own: every report has the times".into()),
        _ => one_of("task", name, &Task::ALL.map(|task| (task.name(), task))),
    }
}

fn method(name: &str) -> Result<Method, String> {
    one_of("method", name, &Method::ALL.map(|method| (method.name(), method)))
}

fn part(name: &str) -> Result<String, String> {
    one_of("part", name, &PARTS.map(|part| (part, part))).map(str::to_owned)
}

fn judge(name: &str) -> Result<judge::Choice, String> {
    let (kind, which) = name.split_once(':').unwrap_or((name, ""));
    let names = ["evaluator", "saliency", "masks", "cmd"].map(|name| (name, name));
    match (one_of("judge", kind, &names)?, which) {
        ("evaluator", "") => Ok(judge::Choice::Evaluator),
        ("saliency", "") => Ok(judge::Choice::Saliency),
        ("masks" | "cmd", "") => Err(format!("judge \"{name}\"; expected masks:DIR or cmd:PROGRAM")),
        ("masks", folder) => Ok(judge::Choice::Masks(folder.into())),
        ("cmd", program) => Ok(judge::Choice::Program(program.to_owned())),
        _ => Err(format!("judge \"{name}\": {kind} stands alone")),
    }
}

fn split(name: String) -> Result<String, String> {
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits { Ok(name) } else { Err(format!("split \"{name}\"; expected a name of a-z, 0-9 and -")) }
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{what} \"{text}\" is no number that it can be"))
}

fn positive(what: &str, text: &str) -> Result<f64, String> {
    let value: f64 = number(what, text)?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(format!("{what} is {text}; expected more than 0")) }
}

fn at_least_one(what: &str, text: &str) -> Result<usize, String> {
    match number(what, text)? {
        0 => Err(format!("{what} is 0; expected 1 or more")),
        value => Ok(value),
    }
}

fn batch(text: &str) -> Result<(), String> {
    match at_least_one("batch", text)? {
        1 => Ok(()),
        n => Err(format!(
            "batch is {n}: every seed has a prompt of its own, and a request one prompt; use --workers, and --batch 1"
        )),
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("seeds \"{text}\"; expected A..B"))?;
    let (from, to): (u64, u64) = (number("seeds", from)?, number("seeds", to)?);
    if from >= to { Err(format!("seeds \"{text}\" are none; expected A..B with A below B")) } else { Ok(from..to) }
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let (which, of) = text.split_once('/').ok_or_else(|| format!("shard \"{text}\"; expected I/N, such as 0/2"))?;
    let (which, of) = (number("shard", which)?, at_least_one("shard", of)?);
    if which < of {
        Ok((which, of))
    } else {
        Err(format!("shard \"{text}\"; the first of {of} is 0, the last {}", of - 1))
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let (w, h) = text.split_once('x').unwrap_or((text, text));
    Ok((number("size", w)?, number("size", h)?))
}

fn pictures(text: &str) -> Result<Pictures, String> {
    match text.split_once(':') {
        Some(("worst", n)) => Ok(Pictures::Worst(number("pictures", n)?)),
        _ => one_of(
            "pictures",
            text,
            &[("all", Pictures::All), ("none", Pictures::None), ("worst:24", Pictures::Worst(24))],
        ),
    }
}

/// A list of prompts with their phrases, rather than portraits in tags?
pub fn is_csv(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "csv")
}

/// An empty list stands for all sixteen of the suite.
fn colors(text: &str) -> Result<Option<Vec<Color>>, String> {
    if text == "all" {
        return Ok(Some(Vec::new()));
    }
    let color = |name: &str| -> Result<Color, String> {
        let rgb: Rgb = name.parse().map_err(|error: impasto::Error| error.to_string())?;
        Ok(Color { rgb, name: (!name.starts_with('#')).then(|| name.to_owned()) })
    };
    list("colors", text, color).map(Some)
}
