//! The summary of records: figures, verdicts and sentences.

use crate::calibration::Calibration;
use crate::guides::{KEEPS, STRENGTHS};
use crate::metrics::{self, Better, Limit, METRICS, Metric, Of, Target};
use crate::record::{Made, PartFigures, Record, Status};
use crate::statistics::{Figure, Statistic, figure};
use crate::task::{LABEL, Method, PARTS, Style, Task};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The content of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub label: String,
    pub split: String,
    pub suite: u64,
    #[serde(flatten)]
    pub made: Made,
    pub about: About,
    /// Number of wanted pairs with a record.
    pub seeds: usize,
    pub runs: usize,
    pub failed: usize,
    /// Share of pairs whose unforced picture does not show the part.
    pub model_missing: Option<f64>,
    /// Asked colors that the decoder misses by more than CIEDE2000 3.
    pub unrepresentable: Vec<String>,
    pub verdicts: Vec<Verdict>,
    /// Sentences about the reasons why parts are missed.
    pub reasons: Vec<String>,
    pub rows: Vec<Row>,
    /// Median difference between the ΔE of a method and of `doc` in the same runs, by method.
    pub against_doc: BTreeMap<String, Figure>,
    /// Median wall time of a run in ms, by method.
    pub speed: BTreeMap<String, f64>,
}

/// Facts about the run that made the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The command line that repeats the run.
    pub command: String,
    /// Share of the runs that are done, if the time was up before all were done.
    pub incomplete: Option<f64>,
    /// Minutes that the least number of seeds took beyond the budget.
    pub beyond_budget: Option<f64>,
}

/// The figures of one method on one part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the tasks or kinds of runs that the row covers.
    pub group: String,
    pub method: Method,
    pub part: String,
    pub figures: BTreeMap<String, Figure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub what: String,
    pub method: Method,
    pub value: Figure,
    /// Kind of the bound: `at most`, `at least`, `below` or `above`.
    pub bound: String,
    pub target: f64,
    pub met: bool,
    /// True if the confidence interval has the target inside.
    pub tight: bool,
    pub note: String,
}

/// Group of the tasks `named` and `numeric`: one part in a plain prompt.
const COLOR: &str = "color";
/// Name of the rows of all parts together.
pub const ALL: &str = "all";

/// Values by their wanted pair.
#[derive(Default)]
struct Groups(BTreeMap<usize, Vec<f64>>);

impl Groups {
    fn add(&mut self, wanted: usize, value: f64) {
        self.0.entry(wanted).or_default().push(value);
    }

    fn figure(&self, statistic: Statistic) -> Option<Figure> {
        figure(&self.0.values().cloned().collect::<Vec<_>>(), statistic)
    }
}

/// Values of one row, by the statistics that are computed from them.
#[derive(Default)]
struct Columns(BTreeMap<String, (Statistic, Groups)>);

impl Columns {
    fn add(&mut self, metric: &Metric, wanted: usize, values: &[f64]) {
        // A value that its unit cannot have comes from a damaged record, and does not count.
        for value in values.iter().filter(|value| metric.unit.range().contains(value)) {
            for statistic in metric.statistics {
                let column = self.0.entry(metric.figure(*statistic));
                column.or_insert_with(|| (*statistic, Groups::default())).1.add(wanted, *value);
            }
        }
    }

    fn figures(self) -> BTreeMap<String, Figure> {
        let figure =
            |(name, (statistic, groups)): (String, (Statistic, Groups))| Some((name, groups.figure(statistic)?));
        self.0.into_iter().filter_map(figure).collect()
    }
}

impl Summary {
    /// Summarizes the records of one maker; `None` without records.
    pub fn new(records: &[Record], about: About, calibration: Option<&Calibration>) -> Option<Self> {
        let first = records.first()?;
        let mut table = Table::new();
        for record in records.iter().filter(|record| record.status != Status::Missing) {
            add(&mut table, record);
        }
        for metric in METRICS {
            let Of::Runs(of) = metric.of else { continue };
            for (record, value) in of(records) {
                for at in groups(record) {
                    table.entry(at).or_default().add(metric, record.wanted, &[value]);
                }
            }
        }
        let rows: Vec<Row> = table
            .into_iter()
            .map(|((group, method, part), columns)| Row { group, method, part, figures: columns.figures() })
            .collect();
        let verdicts = verdicts(&rows, calibration);
        let pairs = |missing: bool| {
            let of = records.iter().filter(|record| !missing || record.status == Status::Missing);
            of.filter(|record| record.task.colors())
                .map(|r| (r.task, &r.part, &r.prompt, r.seed))
                .collect::<BTreeSet<_>>()
                .len()
        };
        let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.status == Status::Measured) {
            times.entry(record.method.name().into()).or_default().push(record.ms);
        }
        Some(Self {
            label: LABEL.into(),
            split: first.split.clone(),
            suite: first.suite,
            made: first.made.clone(),
            about,
            seeds: records.iter().map(|record| record.wanted).collect::<BTreeSet<_>>().len(),
            runs: records.iter().filter(|record| record.status != Status::Missing).count(),
            failed: records.iter().filter(|record| record.status == Status::Failed).count(),
            model_missing: (pairs(false) > 0).then(|| pairs(true) as f64 / pairs(false) as f64),
            unrepresentable: records
                .iter()
                .flat_map(|record| &record.parts)
                .filter(|part| part.is_unrepresentable())
                .map(|part| part.target.to_string())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            reasons: reasons(&rows),
            verdicts,
            rows,
            against_doc: against_doc(records),
            speed: times.into_iter().map(|(method, times)| (method, crate::statistics::median(times))).collect(),
        })
    }

    pub fn row(&self, group: &str, method: Method, part: &str) -> Option<&Row> {
        row(&self.rows, group, method, part)
    }

    /// The parts and phrases that were asked for alone, with the parts of acceptance first.
    pub fn parts(&self) -> Vec<&str> {
        let asked: BTreeSet<&str> =
            self.rows.iter().filter(|row| row.group == COLOR).map(|row| row.part.as_str()).collect();
        let others = asked.iter().copied().filter(|part| !PARTS.contains(part) && *part != ALL);
        PARTS.into_iter().filter(|part| asked.contains(part)).chain(others).collect()
    }

    /// Returns true if all targets were met.
    pub fn met(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.met)
    }
}

fn row<'a>(rows: &'a [Row], group: &str, method: Method, part: &str) -> Option<&'a Row> {
    rows.iter().find(|row| (row.group.as_str(), row.method, row.part.as_str()) == (group, method, part))
}

/// Columns by group, method and part.
type Table = BTreeMap<(String, Method, String), Columns>;

/// Adds the values of a run to all rows that cover the run.
fn add(table: &mut Table, record: &Record) {
    for at in groups(record) {
        let part = at.2.clone();
        let columns = table.entry(at).or_default();
        for metric in metrics::of_task(record.task) {
            columns.add(metric, record.wanted, &metric.values(record, &part));
        }
    }
}

/// Returns group, method and part of the rows that cover a run.
fn groups(record: &Record) -> Vec<(String, Method, String)> {
    let part = record.part.as_str();
    let many = format!("many {}", part.split('+').count());
    let groups: Vec<(&str, &str)> = match record.task {
        Task::Named | Task::Numeric => {
            let first = record.parts.first();
            let corner = first.is_some_and(|part| part.corner);
            let size = match part {
                "eyes" | "hair bow" => Some("small"),
                "skin" | "shirt" => Some("middle"),
                "hair" | "background" => Some("large"),
                _ => None,
            };
            match first.is_some_and(PartFigures::is_unrepresentable) {
                true => vec![("unrepresentable", ALL)],
                false => [(COLOR, ALL), (COLOR, part), (record.task.name(), ALL)]
                    .into_iter()
                    .chain([(if corner { "corner" } else { "interior" }, ALL)])
                    .chain(size.map(|size| (size, ALL)))
                    .collect(),
            }
        }
        Task::Many => vec![(many.as_str(), ALL)],
        Task::Saliency => record.found.iter().map(|found| ("saliency", found.part.as_str())).collect(),
        Task::Image if record.style == Style::Scene => vec![("image", part), ("image, scenes", part)],
        Task::Image => vec![("image", part), ("image, portraits", part)],
        task => vec![(task.name(), ALL)],
    };
    groups.into_iter().map(|(group, part)| (group.to_owned(), record.method, part.to_owned())).collect()
}

/// Median paired differences of ΔE to `doc`, by method. Both runs of a pair have the same prompt, seed, part and color.
/// Pairs without both ΔE are left out.
fn against_doc(records: &[Record]) -> BTreeMap<String, Figure> {
    let of =
        |record: &Record| (record.task, record.part.clone(), record.rgb.clone(), record.prompt.clone(), record.seed);
    let singles = || records.iter().filter(|record| matches!(record.task, Task::Named | Task::Numeric));
    let delta_e =
        |record: &Record| record.parts.first().map(PartFigures::delta_e).filter(|delta_e| delta_e.is_finite());
    let doc = singles().filter(|record| record.method == Method::Doc);
    let doc: BTreeMap<_, f64> = doc.filter_map(|record| Some((of(record), delta_e(record)?))).collect();
    let mut groups: BTreeMap<String, Groups> = BTreeMap::new();
    for record in singles().filter(|record| record.method != Method::Doc) {
        if let (Some(here), Some(there)) = (delta_e(record), doc.get(&of(record))) {
            groups.entry(record.method.name().into()).or_default().add(record.wanted, here - there);
        }
    }
    groups.into_iter().filter_map(|(method, groups)| Some((method, groups.figure(Statistic::MEDIAN)?))).collect()
}

/// The attention threshold of a method with the best mean IoU over parts, and the IoU of each part. All parts share the
/// threshold.
pub fn best_threshold(rows: &[Row], method: Method) -> Option<(&'static str, Vec<Figure>)> {
    let figures = |name: &str| -> Vec<Figure> {
        let of = PARTS.iter().filter_map(|part| row(rows, "saliency", method, part));
        of.filter_map(|row| row.figures.get(name).copied()).collect()
    };
    let mean = |figures: &[Figure]| figures.iter().filter_map(|f| f.value).sum::<f64>() / figures.len() as f64;
    let names = metrics::of_task(Task::Saliency).map(|metric| metric.name).filter(|name| name.starts_with("iou_"));
    let all = names.map(|name| (name, figures(name))).filter(|(_, figures)| !figures.is_empty());
    all.max_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)))
}

/// Returns the verdicts of acceptance on the rows that exist, in the order of the table of metrics.
fn verdicts(rows: &[Row], calibration: Option<&Calibration>) -> Vec<Verdict> {
    let targets = METRICS.iter().flat_map(|metric| metric.targets.iter().map(move |target| (metric, target)));
    targets.flat_map(|(metric, target)| judged(metric, target, rows, calibration)).collect()
}

/// Returns the verdicts on one target: one, or one for each part or strength.
fn judged(metric: &Metric, target: &Target, rows: &[Row], calibration: Option<&Calibration>) -> Vec<Verdict> {
    let group = match metric.tasks.first() {
        None | Some(Task::Named) => COLOR,
        Some(task) => task.name(),
    };
    let figure = |method, part: &str| {
        row(rows, group, method, part)?.figures.get(metric.figure(target.statistic).as_str()).copied()
    };
    let own = |part: &str| figure(target.method, part);
    let verdict = |place: &str, value, limit, note| {
        Some(verdict(metric, target, target.what.replace('…', place), value?, limit, note))
    };
    match target.limit {
        Limit::Fixed(limit) => verdict("", own(ALL), limit, String::new()).into_iter().collect(),
        Limit::EachPart { limit, error } => {
            let judged = |part: &str| {
                let floor = calibration.and_then(|all| all.parts.get(part)?.delta_e_decoded).unwrap_or(0.0);
                let note = if floor > 1.0 { format!("limited by the judge: floor {floor:.1}") } else { String::new() };
                verdict(part, own(part), if floor <= error { limit } else { floor }, note)
            };
            PARTS.into_iter().filter_map(judged).collect()
        }
        Limit::Retry(limit) => {
            let retries: Vec<f64> =
                calibration.iter().flat_map(|all| all.parts.values()).filter_map(|row| row.retry_decoded).collect();
            let unavoidable = retries.iter().sum::<f64>() / retries.len().max(1) as f64;
            verdict("", own(ALL), (unavoidable + 0.02).max(limit), String::new()).into_iter().collect()
        }
        Limit::EachStrength(limit) => {
            let kept = STRENGTHS.iter().filter(|s| (f64::MIN_POSITIVE..=KEEPS).contains(*s)).map(f64::to_string);
            kept.filter_map(|s| verdict(&s, own(&s), limit, String::new())).collect()
        }
        Limit::EachStep(limit) => {
            let order = |a: &Figure, b: &Figure| a.value.unwrap_or(f64::NAN).total_cmp(&b.value.unwrap_or(f64::NAN));
            let steps = STRENGTHS[1..].iter().filter_map(|strength| own(&strength.to_string()));
            let worst = if metric.better == Better::Higher { steps.min_by(order) } else { steps.max_by(order) };
            verdict("", worst, limit, String::new()).into_iter().collect()
        }
        Limit::BestThreshold(limit) => {
            let Some((name, figures)) = best_threshold(rows, target.method) else { return Vec::new() };
            let mean = |of: fn(&Figure) -> Option<f64>| {
                figures.iter().map(of).sum::<Option<f64>>().map(|sum| sum / figures.len() as f64)
            };
            let n = figures.iter().map(|figure| figure.n).sum();
            let value = Figure { value: mean(|f| f.value), low: mean(|f| f.low), high: mean(|f| f.high), n };
            let note = format!("threshold .{}", name.trim_start_matches("iou_"));
            verdict("", Some(value), limit, note).into_iter().collect()
        }
        Limit::Relative(other, margin) => {
            let Some(there) = figure(other, ALL).and_then(|figure| figure.value) else { return Vec::new() };
            let note = format!("{} minus {:.0} points", other.name(), 100.0 * margin);
            verdict("", own(ALL), there - margin, note).into_iter().collect()
        }
    }
}

/// Compares a figure with the limit of a target.
fn verdict(metric: &Metric, target: &Target, what: String, value: Figure, limit: f64, note: String) -> Verdict {
    let strict = matches!(target.limit, Limit::EachStep(_));
    let bound = match (metric.better, strict) {
        (Better::Lower, false) => "at most",
        (Better::Higher, false) => "at least",
        (Better::Lower, true) => "below",
        (Better::Higher, true) => "above",
    };
    // A missing value stands for +∞, which meets no target.
    let met = value.value.is_some_and(|x| match metric.better {
        _ if x == limit => !strict,
        Better::Lower => x < limit,
        Better::Higher => x > limit,
    });
    let (low, high) = (value.low.unwrap_or(f64::INFINITY), value.high.unwrap_or(f64::INFINITY));
    let tight = low < limit && limit < high;
    Verdict { what, method: target.method, value, bound: bound.to_owned(), target: limit, met, tight, note }
}

/// Returns a sentence for each missed part about the source of its error, as far as the measured methods show the
/// source.
fn reasons(rows: &[Row]) -> Vec<String> {
    let figure = |method, part: &str| row(rows, COLOR, method, part)?.figures.get("delta_e")?.value;
    let parts: BTreeSet<&str> = rows.iter().filter(|row| row.group == COLOR).map(|row| row.part.as_str()).collect();
    let mut sentences = Vec::new();
    for part in parts.into_iter().filter(|part| *part != ALL) {
        let ours = Method::ALL.into_iter().rev();
        let ours = ours.filter_map(|method| Some((method, figure(method, part)?, method.row().good?))).next();
        let Some((method, value, good)) = ours.filter(|(_, value, good)| value > good) else { continue };
        let (oracle, editor) = (figure(Method::Oracle, part), figure(Method::Recolor, part));
        let because = match (oracle, editor) {
            (Some(oracle), _) if oracle <= good => {
                format!("the mask is the cause, because ΔE with a given mask is {oracle:.1}")
            }
            (Some(oracle), Some(editor)) if editor <= good => {
                format!(
                    "the force or the decoder is the cause, because ΔE is {oracle:.1} with a given mask and \
                     {editor:.1} with a picture editor"
                )
            }
            (None, Some(editor)) if editor <= good => {
                format!(
                    "the mask, the force or the decoder is the cause, because ΔE with a picture editor is {editor:.1}"
                )
            }
            (_, Some(editor)) => format!(
                "the range of colors or the judge is also a cause, because ΔE with a picture editor is {editor:.1}"
            ),
            (Some(oracle), None) => {
                format!("the mask is not the only cause, because ΔE with a given mask is {oracle:.1}")
            }
            (None, None) => continue,
        };
        sentences.push(format!("{part}: ΔE of {} is {value:.1}; {because}.", method.name()));
    }
    sentences
}
