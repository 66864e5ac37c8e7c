//! Measures how exactly guidance hits a color and a place, what else it changes, and how certain the figures are.
//!
//! ```text
//! cargo run --release -p impasto-yardstick -- run --quick
//! ```
//!
//! `docs/yardstick.md` explains the figures; `--help` lists the options. The exit status is 0 if all targets are met, 1
//! if some are missed, and 2 after an error.

use impasto_yardstick::{
    arguments, calibration, colors, failure, gallery, generator, judge, labeled, listing, papers_table, record, report,
    runner, spread, statistics, suite, summary, task, tuning,
};

use arguments::{Arguments, Command};
use colors::{Color, Colors};
use failure::Failure;
use gallery::Gallery;
use generator::{Real, Settings};
use indicatif::{ProgressBar, ProgressStyle};
use labeled::Judged;
use record::{Made, Record, Records, of_maker};
use runner::{Plan, Progress, Seeds, Strip};
use spread::Place;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use suite::Suite;
use summary::{About, Summary};

fn main() -> ExitCode {
    let arguments = Arguments::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    // Workers run side by side, so each has one thread by default.
    tch::set_num_threads(arguments.threads);
    let done = match arguments.command {
        Command::Run | Command::Papers => run(&arguments),
        Command::Report => merge(&arguments),
        Command::List => suite_of(&arguments).map(|suite| list(&suite)).map(|()| true),
        Command::Calibrate => calibrate(&arguments),
        Command::Tune => tune(&arguments),
        Command::Judge => judge_labeled(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            eprintln!("yardstick: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Returns the suite that the command line asks for.
fn suite_of(arguments: &Arguments) -> Result<Suite, Failure> {
    let mut suite = Suite::new(&arguments.split, arguments.suite);
    let custom = arguments.seeds.is_some() || arguments.prompts.is_some() || arguments.gencolorbench.is_some();
    let embedded = arguments.is_embedded();
    match &arguments.colors {
        Some(Colors::All) => suite = suite.with_all_colors(),
        Some(Colors::Listed(colors)) => suite.colors = colors.clone(),
        None => {}
    }
    if let Some(seeds) = &arguments.seeds {
        suite.seeds = seeds.clone().collect();
    }
    match (&arguments.prompts, &arguments.gencolorbench) {
        (_, Some(folder)) => suite.listed = Some(listing::gencolorbench(folder)?),
        (Some(file), _) if arguments::is_csv(file) => suite.listed = Some(listing::own(file)?),
        (Some(file), _) => {
            let prompts = listing::portraits(file, &arguments.choice.parts)?;
            (suite.plain, suite.dressed) = (prompts.clone(), prompts);
        }
        (None, None) if !embedded && arguments.command == Command::Papers => {
            suite.listed = Some(listing::objects()?);
        }
        (None, None) if !embedded => suite.listed = Some(listing::usual()?),
        (None, None) => {}
    }
    suite.wording = arguments.wording.clone();
    if custom || matches!(arguments.colors, Some(Colors::Listed(_))) {
        suite.split = "custom".into();
    }
    Ok(suite)
}

fn settings_of(arguments: &Arguments, folder: &Path) -> Result<Settings, Failure> {
    let tuned = match arguments.choice.methods.contains(&task::Method::Tuned) {
        true => tuning::read(folder)?,
        false => Default::default(),
    };
    let calibration = match arguments.judge {
        judge::Choice::Evaluator => calibration::Calibration::near(folder)?.unwrap_or_default(),
        _ => calibration::Calibration::default(),
    };
    let places = arguments.choice.tasks.iter().find(|task| matches!(task, task::Task::Place | task::Task::Swap));
    if let (Some(task), judge::Choice::Evaluator) = (places, &arguments.judge) {
        let weak = calibration::weak(impasto_train::Evaluator::CARD)?;
        if !weak.is_empty() {
            let (task, weak) = (task.name(), weak.join(", "));
            return Err(format!(
                "task {task} cannot be measured, because the judge often misses {weak}; leave the task out of --task"
            )
            .into());
        }
    }
    let unsteady = calibration.unsteady();
    Ok(Settings {
        model: generator::model(&arguments.model)?,
        solver: arguments.solver.clone(),
        steps: arguments.steps,
        scale: arguments.scale,
        size: arguments.size,
        tuned,
        unsteady,
        wording: arguments.wording.name(),
        best_of: arguments.best_of,
    })
}

/// Prepares the folder for records and reports.
fn folder_of(arguments: &Arguments, suite: &Suite) -> Result<PathBuf, Failure> {
    let name = arguments.key.clone().unwrap_or_else(|| format!("{}-{}", suite.split, suite.number));
    let all = Path::new("target/yardstick");
    // Results of `tune` and `calibrate` serve every suite.
    let named = || match arguments.command {
        Command::Calibrate | Command::Tune => all.to_owned(),
        _ => all.join(name),
    };
    let folder = arguments.out.clone().unwrap_or_else(named);
    if arguments.fresh && folder.exists() {
        let full = std::fs::read_dir(&folder)?.next().is_some();
        if full && !arguments.yes {
            return Err(format!(
                "{} is not empty; --fresh --yes removes its records, reports and pictures",
                folder.display()
            )
            .into());
        }
        for name in ["runs.jsonl", "runs.csv", "summary.json", "report.html"] {
            std::fs::remove_file(folder.join(name)).ok();
        }
        std::fs::remove_dir_all(folder.join("pictures")).ok();
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn made_by(settings: &Settings, judge: &judge::Choice) -> Result<Made, Failure> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let all = settings.hash(&judge.fingerprint()?);
    Ok(Made { model: settings.fingerprint()?, judge: judge.name().into(), settings: all, version })
}

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let suite = suite_of(arguments)?;
    let folder = folder_of(arguments, &suite)?;
    if (0..suite.pair_count()).all(|i| suite.jobs(i, &arguments.choice).is_empty()) {
        let tasks = arguments.choice.tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(", ");
        return Err(format!("task {tasks} fits no prompt of the list; leave out the list or the task").into());
    }
    let settings = settings_of(arguments, &folder)?;
    let made = made_by(&settings, &arguments.judge)?;
    let (mut records, mut known) = Records::open(&folder.join("runs.jsonl"))?;
    let only = match &arguments.key {
        Some(key) => {
            let wanted = runner::wanted_of(&suite, &arguments.choice, key);
            let missing = || {
                format!(
                    "no run of the split {}, suite {} has the key {key}; check --split and --suite",
                    suite.split, suite.number
                )
            };
            Some((wanted.ok_or_else(missing)?, key.clone()))
        }
        None => None,
    };
    let seeds = match (&arguments.seeds, arguments.seeds_of_suite) {
        (Some(seeds), _) => Seeds::Exactly((seeds.end - seeds.start) as usize),
        _ if only.is_some() => Seeds::Exactly(suite.pair_count()),
        (_, Some(seeds)) => Seeds::Exactly(seeds.min(suite.pair_count())),
        _ => Seeds::Within(arguments.budget()),
    };
    let plan = Plan {
        suite: &suite,
        choice: arguments.choice.clone(),
        made: made.clone(),
        seeds,
        unsteady: settings.unsteady.clone(),
        limit: arguments.limit,
        workers: arguments.workers,
        shard: arguments.shard,
        only,
    };
    let mut gallery = Gallery::open(&folder, arguments.pictures, &of_maker(known.clone(), &made))?;
    let bar = bar(&plan);
    let mut deltas: Vec<f64> = Vec::new();
    let mut fresh: Vec<Record> = Vec::new();
    let bench = || Ok((Real::new(&settings)?, arguments.judge.open()?));
    let mut keep = |record: &Record, strip: Option<Strip>, progress: &Progress| {
        gallery.keep(record, strip)?;
        deltas.extend(gallery::badness(record).and_then(|_| Some(record.parts.first()?.delta_e())));
        fresh.push(record.clone());
        show(&bar, &plan, progress, &deltas);
        Ok(())
    };
    let progress = match (&arguments.queue, &arguments.store) {
        (Some(queue), Some(store)) => {
            let place = Place::open(queue, store)?;
            spread::run(&plan, &known, &mut records, &place, bench, |record, progress| keep(record, None, progress))?
        }
        _ => runner::run(&plan, &known, &mut records, bench, keep)?,
    };
    bar.finish_and_clear();
    known.append(&mut fresh);
    let all = of_maker(known, &made);
    let about = about(&plan, &all, &progress);
    if let (judge::Choice::Masks(masks), n @ 1..) = (&arguments.judge, progress.waiting) {
        let masks = masks.display();
        let todo = format!(
            "{n} runs wait for masks; draw KEY.PHRASE.png for every KEY.png in {masks}, then repeat this command"
        );
        if all.is_empty() {
            return Err(todo.into());
        }
        println!("{todo}");
    }
    finish(arguments, &folder, &all, about)
}

/// Returns the progress bar. Its length is the number of runs of the seeds that are certain to run.
fn bar(plan: &Plan<'_>) -> ProgressBar {
    let jobs = plan.suite.jobs(0, &plan.choice).len() as u64;
    let seeds = match plan.seeds {
        Seeds::Exactly(seeds) => (seeds / plan.shard.1).max(1) as u64,
        Seeds::Within(_) => runner::LEAST_SEEDS as u64,
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs · {per_sec} · {eta} left · {msg}");
    let bar = ProgressBar::new(jobs * seeds);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, plan: &Plan<'_>, progress: &Progress, deltas: &[f64]) {
    if let (Seeds::Within(budget), true) = (plan.seeds, progress.seeds > 0) {
        let each = progress.elapsed.as_secs_f64() / progress.seeds as f64;
        let seeds = (budget.as_secs_f64() / each).max(runner::LEAST_SEEDS as f64);
        bar.set_length(plan.suite.jobs(0, &plan.choice).len() as u64 * seeds as u64);
    }
    bar.inc(1);
    if deltas.len() % 8 == 1 {
        bar.set_message(format!("ΔE {}", statistics::short(statistics::median(deltas.to_vec()))));
    }
}

fn about(plan: &Plan<'_>, all: &[Record], progress: &Progress) -> About {
    // With a budget, the seeds that were begun count as planned.
    let begun = all.iter().map(|record| record.wanted).collect::<BTreeSet<_>>().len();
    let planned = plan.suite.jobs(0, &plan.choice).len()
        * match plan.seeds {
            Seeds::Exactly(seeds) => seeds,
            Seeds::Within(_) => runner::LEAST_SEEDS.max(begun),
        };
    let job = |record: &Record| (record.wanted, record.task, record.method, record.part.clone(), record.rgb.clone());
    let done = all.iter().map(job).collect::<BTreeSet<_>>().len();
    let beyond = match plan.seeds {
        Seeds::Within(budget) => progress.elapsed.checked_sub(budget).map(|over| over.as_secs_f64() / 60.0),
        Seeds::Exactly(_) => None,
    };
    About {
        command: arguments::shown(std::env::args().skip(1)),
        incomplete: progress.stopped.then(|| (done as f64 / planned as f64).min(1.0)),
        beyond_budget: beyond.filter(|minutes| *minutes > 0.5),
    }
}

/// Writes all reports on the records, and prints the main figures.
fn finish(arguments: &Arguments, folder: &Path, records: &[Record], about: About) -> Result<bool, Failure> {
    let calibration = calibration::Calibration::near(folder)?;
    let summary = Summary::new(records, about, calibration.as_ref()).ok_or("there are no records to report")?;
    report::write(folder, &summary, records)?;
    if arguments.command == Command::Papers {
        print!("{}", papers_table::Table { records, portraits: arguments.is_embedded() });
        return Ok(true);
    }
    report::print(&summary, arguments.check);
    if !arguments.check {
        println!("{}", folder.join("report.html").display());
    }
    Ok(summary.met())
}

/// Carries out `report`: merges several files of records into one report.
fn merge(arguments: &Arguments) -> Result<bool, Failure> {
    let first = arguments.files.first().ok_or("report: name at least one runs.jsonl")?;
    let mut all = Vec::new();
    for file in &arguments.files {
        all.extend(record::read(file)?);
    }
    let made = all.last().map(|record| record.made.clone()).ok_or("report: there are no records in these files")?;
    let parent = first.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = arguments.out.clone().unwrap_or_else(|| parent.to_owned());
    std::fs::create_dir_all(&folder)?;
    let all = of_maker(all, &made);
    // The command that made the records, as far as the records tell.
    let of = |record: &Record| format!("run --split {} --suite {}", record.split, record.suite);
    let command = all.first().map(of).unwrap_or_default();
    finish(arguments, &folder, &all, About { command, ..About::default() })
}

fn judge_labeled(arguments: &Arguments) -> Result<bool, Failure> {
    let folder = arguments.files.first().ok_or("judge: the folder is missing")?;
    print!("{}", Judged::open(folder)?);
    Ok(true)
}

fn list(suite: &Suite) {
    println!("tasks    {}", task::Task::ALL.map(task::Task::name).join(", "));
    println!("methods  {}", task::Method::ALL.map(task::Method::name).join(", "));
    println!("parts    {}", task::PARTS.join(", "));
    let color = |color: &Color| match &color.name {
        Some(name) => format!("{name} {}", color.rgb),
        None => color.rgb.to_string(),
    };
    println!("colors   {}", suite.colors.iter().map(color).collect::<Vec<_>>().join(", "));
    for i in 0..4.min(suite.pair_count()) {
        println!("pair {i}   seed {}: {}", suite.seeds[i], suite.plain[i % suite.plain.len()]);
    }
}

fn calibrate(arguments: &Arguments) -> Result<bool, Failure> {
    let suite = suite_of(arguments)?;
    let folder = folder_of(arguments, &suite)?;
    let settings = settings_of(arguments, &folder)?;
    calibration::run(&folder, &settings, arguments.seeds_of_suite.unwrap_or(64))?;
    Ok(true)
}

fn tune(arguments: &Arguments) -> Result<bool, Failure> {
    if arguments.split != "public" {
        return Err("tune: settings are chosen on the public split only; leave --split out".into());
    }
    let suite = suite_of(arguments)?;
    let folder = folder_of(arguments, &suite)?;
    let settings = settings_of(arguments, &folder)?;
    tuning::run(&folder, &settings, &suite, &arguments.choice.parts, arguments.seeds_of_suite.unwrap_or(8))?;
    Ok(true)
}
