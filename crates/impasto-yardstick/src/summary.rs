//! The summary of records: figures, verdicts and sentences.

use crate::calibration::Calibration;
use crate::guides::{KEEPS, STRENGTHS};
use crate::record::{Made, PartFigures, Record, Status};
use crate::rise;
use crate::runner::THRESHOLDS;
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
/// Largest CIEDE2000 by which the decoder may miss a color. Runs with a color beyond this limit have rows of their own.
const REACH: f64 = 3.0;
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

/// Collects values for one row.
#[derive(Default)]
struct Columns(BTreeMap<&'static str, Column>);

/// Values, and the figures that are computed from them.
type Column = (Groups, Vec<(&'static str, Statistic)>);

impl Columns {
    /// Adds a value to a column. `into` names the figures that are computed from the column.
    fn add(&mut self, name: &'static str, wanted: usize, value: Option<f64>, into: &[(&'static str, Statistic)]) {
        let column = self.0.entry(name).or_insert_with(|| (Groups::default(), into.to_vec()));
        if let Some(value) = value {
            column.0.add(wanted, value);
        }
    }

    fn figures(&self) -> BTreeMap<String, Figure> {
        let each = self.0.values().flat_map(|(groups, into)| {
            into.iter().filter_map(|(name, statistic)| Some(((*name).to_owned(), groups.figure(*statistic)?)))
        });
        each.collect()
    }
}

const MEDIAN: Statistic = Statistic::MEDIAN;
const P10: Statistic = Statistic::Quantile(0.1);
const P90: Statistic = Statistic::Quantile(0.9);
const MEAN: Statistic = Statistic::Mean;

fn yes(value: bool) -> Option<f64> {
    Some(f64::from(u8::from(value)))
}

/// Adds the values of one part of a run. A failed run has no part.
fn add_part(columns: &mut Columns, wanted: usize, part: Option<&PartFigures>) {
    let painted = part.and_then(|part| part.measure.painted.as_ref());
    let measure = part.map(|part| &part.measure);
    let delta_e = part.map_or(f64::INFINITY, PartFigures::delta_e);
    columns.add("delta_e", wanted, Some(delta_e), &[("delta_e", MEDIAN), ("delta_e_p90", P90)]);
    columns.add("within_5", wanted, yes(delta_e <= 5.0), &[("within_5", MEAN)]);
    let mean = part.map_or(f64::INFINITY, PartFigures::mean_delta_e);
    columns.add("mean", wanted, Some(mean), &[("delta_e_mean", MEDIAN)]);
    let accepted = part.is_some_and(PartFigures::accepted);
    columns.add("retry", wanted, yes(!accepted), &[("retry", MEAN)]);
    let acceptance = part.and_then(|part| part.acceptance.as_ref());
    let lines = acceptance.and_then(|acceptance| acceptance.lines);
    columns.add("lines", wanted, lines, &[("lines", MEDIAN), ("lines_p10", P10)]);
    let neighbor = acceptance.map(|acceptance| acceptance.neighbor);
    columns.add("neighbor", wanted, neighbor, &[("neighbor_p90", P90)]);
    columns.add("grown", wanted, acceptance.map(|acceptance| acceptance.grown), &[("grown_p90", P90)]);
    columns.add("vanished", wanted, yes(measure.is_some_and(|measure| measure.vanished)), &[("vanished", MEAN)]);
    let leak = measure.and_then(|measure| measure.leak_median);
    columns.add("leak", wanted, leak, &[("leak", MEDIAN), ("leak_p90", P90)]);
    let worst = measure.and_then(|measure| measure.leak_max);
    columns.add("leak_worst", wanted, worst, &[("leak_worst", Statistic::Quantile(1.0))]);
    let background = measure.and_then(|measure| measure.leak.get("0").copied());
    columns.add("leak_background", wanted, background, &[("leak_background", MEDIAN)]);
    columns.add("layout_iou", wanted, measure.map(|measure| measure.layout_iou), &[("layout_iou", MEDIAN)]);
    columns.add("dyed", wanted, measure.and_then(|measure| measure.dyed), &[("dyed", MEDIAN)]);
    columns.add("halo", wanted, measure.and_then(|measure| measure.halo), &[("halo", MEDIAN)]);
    columns.add("coverage", wanted, painted.map(|painted| painted.coverage), &[("coverage", MEDIAN)]);
    columns.add("texture", wanted, painted.and_then(|painted| painted.texture), &[("texture", MEDIAN)]);
    columns.add("block", wanted, painted.and_then(|painted| yes(painted.block)), &[("block", MEAN)]);
    columns.add("gcb", wanted, painted.and_then(|painted| yes(painted.gcb.matches)), &[("gcb", MEAN)]);
    columns.add("trimmed", wanted, painted.map(|painted| painted.delta_e_trimmed), &[("delta_e_trimmed", MEDIAN)]);
    let median_rgb = painted.map(|painted| painted.delta_e_median_rgb);
    columns.add("median_rgb", wanted, median_rgb, &[("delta_e_median_rgb", MEDIAN)]);
    columns.add("rgb_mean", wanted, painted.map(|painted| painted.rgb_mean), &[("rgb_mean", MEDIAN)]);
    columns.add("iou_mask", wanted, part.and_then(|part| part.iou_mask), &[("iou_mask", MEAN)]);
    columns.add("uncertain", wanted, part.and_then(|part| yes(part.uncertain)), &[("uncertain", MEAN)]);
    // A part that vanished and a part of a failed run count as not whole.
    let whole = part.map_or(Some(0.0), |part| part.whole());
    columns.add("whole", wanted, whole, &[("whole", MEAN)]);
    let remainder = measure.and_then(|measure| measure.remainder);
    columns.add("remainder", wanted, remainder, &[("remainder", MEAN), ("remainder_p90", P90)]);
    if let Some(part) = part {
        columns.add("sure", wanted, (!part.uncertain).then_some(delta_e), &[("delta_e_sure", MEDIAN)]);
        let wrong = part.converged.and_then(|converged| yes(converged && !part.accepted()));
        columns.add("false_converged", wanted, wrong, &[("false_converged", MEAN)]);
        let own = part.own_delta_e.filter(|_| delta_e.is_finite()).map(|own| own - delta_e);
        columns.add("own", wanted, own, &[("own_minus_judged", MEDIAN)]);
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
        add_mirrored(&mut table, records);
        add_steps(&mut table, records);
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
                .filter(|part| part.round_trip.is_some_and(|delta_e| delta_e > REACH))
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

fn add(table: &mut Table, record: &Record) {
    let wanted = record.wanted;
    let mut columns = |group: &str, part: &str, fill: &mut dyn FnMut(&mut Columns)| {
        fill(table.entry((group.to_owned(), record.method, part.to_owned())).or_default());
    };
    match record.task {
        Task::Named | Task::Numeric => {
            let part = record.parts.first();
            let corner = part.is_some_and(|part| part.corner);
            let mut fill = |columns: &mut Columns| add_part(columns, wanted, part);
            if part.is_some_and(|part| part.round_trip.is_some_and(|delta_e| delta_e > REACH)) {
                return columns("unrepresentable", ALL, &mut fill);
            }
            columns(COLOR, ALL, &mut fill);
            columns(COLOR, &record.part, &mut fill);
            columns(record.task.name(), ALL, &mut fill);
            columns(if corner { "corner" } else { "interior" }, ALL, &mut fill);
            let size = match record.part.as_str() {
                "eyes" | "hair bow" => Some("small"),
                "skin" | "shirt" => Some("middle"),
                "hair" | "background" => Some("large"),
                _ => None,
            };
            if let Some(size) = size {
                columns(size, ALL, &mut fill);
            }
        }
        Task::Binding => columns("binding", ALL, &mut |columns| {
            add_part(columns, wanted, record.parts.first());
            for (number, right) in record.names.iter().flat_map(|names| (0..names.right).map(move |n| (n, names))) {
                columns.add("names", wanted, yes(number < right.kept), &[("names_kept", MEAN)]);
            }
        }),
        Task::Many | Task::Same => {
            let group = match record.task {
                Task::Many => format!("many {}", record.part.split('+').count()),
                _ => "same".to_owned(),
            };
            columns(&group, ALL, &mut |columns| {
                let all = !record.parts.is_empty() && record.parts.iter().all(|part| part.delta_e() <= 5.0);
                columns.add("all", wanted, yes(all), &[("all_within_5", MEAN)]);
                for part in &record.parts {
                    add_part(columns, wanted, Some(part));
                }
                if record.parts.is_empty() {
                    add_part(columns, wanted, None);
                }
            });
        }
        Task::Saliency => {
            for found in &record.found {
                columns("saliency", &found.part, &mut |columns| {
                    for threshold in THRESHOLDS {
                        let name = IOU_NAMES[THRESHOLDS.iter().position(|t| *t == threshold).unwrap_or(0)];
                        columns.add(name, wanted, found.iou.get(&threshold.to_string()).copied(), &[(name, MEAN)]);
                    }
                    columns.add("ceiling", wanted, Some(found.ceiling), &[("ceiling", MEAN)]);
                });
            }
        }
        Task::Place | Task::Swap => {
            let all = !record.things.is_empty() && record.things.iter().all(|thing| thing.placement.placed);
            columns(record.task.name(), ALL, &mut |columns| {
                columns.add("placed", wanted, yes(all), &[("placed", MEAN)]);
                for thing in &record.things {
                    columns.add("detected", wanted, yes(thing.placement.detected), &[("detected", MEAN)]);
                }
                columns.add("left_out", wanted, record.left_out.and_then(yes), &[("left_out", MEAN)]);
            });
        }
        Task::Edges => columns(Task::Edges.name(), ALL, &mut |columns| {
            let followed = record.followed;
            // A failed run follows no edge and counts as 0.
            let edges = followed.map_or(Some(0.0), |followed| Some(followed.edge_f1));
            columns.add("edge_f1", wanted, edges, &[("edge_f1", MEDIAN)]);
            let strokes = followed.and_then(|followed| followed.strokes);
            columns.add("strokes", wanted, strokes, &[("strokes", MEDIAN)]);
            let objects = followed.and_then(|followed| followed.objects);
            columns.add("objects", wanted, objects, &[("objects", MEDIAN), ("objects_p90", P90)]);
        }),
        Task::Reference => columns(Task::Reference.name(), ALL, &mut |columns| {
            for delta_e in record.colored.iter().flat_map(|colored| colored.parts.values()) {
                columns.add("delta_e", wanted, Some(*delta_e), &[("delta_e", MEDIAN), ("delta_e_p90", P90)]);
            }
            // A failed run keeps no edge and counts as 0.
            let kept = record.colored.as_ref().map_or(Some(0.0), |colored| Some(colored.edge_f1));
            columns.add("edge_f1", wanted, kept, &[("edge_f1", MEDIAN)]);
        }),
        Task::Image => {
            for group in image_groups(record) {
                columns(group, &record.part, &mut |columns| {
                    columns.add("clip", wanted, record.guided.map(|guided| guided.clip), &[("clip", MEAN)]);
                    columns.add("palette", wanted, record.guided.map(|guided| guided.palette), &[("palette", MEAN)]);
                    // A failed run keeps no object and counts as 0.
                    let kept = record.guided.map_or(Some(0.0), |guided| guided.kept);
                    columns.add("kept", wanted, kept, &[("kept", MEAN)]);
                });
            }
        }
    }
}

/// The groups of a guided picture: all guided pictures, and those of its kind.
fn image_groups(record: &Record) -> [&'static str; 2] {
    ["image", if record.style == Style::Scene { "image, scenes" } else { "image, portraits" }]
}

/// Adds the share of pairs in which two objects follow both a map and its mirror image over the same noise.
fn add_mirrored(table: &mut Table, records: &[Record]) {
    let mut ways: BTreeMap<(Method, usize, &str, u64), Vec<bool>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.task == Task::Swap) {
        let all = !record.things.is_empty() && record.things.iter().all(|thing| thing.placement.placed);
        ways.entry((record.method, record.wanted, &record.prompt, record.seed)).or_default().push(all);
    }
    for ((method, wanted, ..), ways) in ways.into_iter().filter(|(_, ways)| ways.len() == 2) {
        let columns = table.entry((Task::Swap.name().into(), method, ALL.into())).or_default();
        columns.add("followed", wanted, yes(ways.into_iter().all(|placed| placed)), &[("followed", MEAN)]);
    }
}

/// Adds the changes of each step of a guide's strength.
fn add_steps(table: &mut Table, records: &[Record]) {
    for (record, [clip, palette]) in rise::steps(records) {
        for group in image_groups(record) {
            let columns = table.entry((group.into(), record.method, record.part.clone())).or_default();
            columns.add("clip_step", record.wanted, Some(clip), &[("clip_step", MEAN)]);
            columns.add("palette_step", record.wanted, Some(palette), &[("palette_step", MEAN)]);
        }
    }
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
    groups.into_iter().filter_map(|(method, groups)| Some((method, groups.figure(MEDIAN)?))).collect()
}

const IOU_NAMES: [&str; 8] = ["iou_15", "iou_20", "iou_25", "iou_30", "iou_35", "iou_40", "iou_50", "iou_60"];

/// The attention threshold of a method with the best mean IoU over parts, and the IoU of each part. All parts share the
/// threshold.
pub fn best_threshold(rows: &[Row], method: Method) -> Option<(&'static str, Vec<Figure>)> {
    let figures = |name: &str| -> Vec<Figure> {
        let of = PARTS.iter().filter_map(|part| row(rows, "saliency", method, part));
        of.filter_map(|row| row.figures.get(name).copied()).collect()
    };
    let mean = |figures: &[Figure]| figures.iter().filter_map(|f| f.value).sum::<f64>() / figures.len() as f64;
    let all = IOU_NAMES.into_iter().map(|name| (name, figures(name))).filter(|(_, figures)| !figures.is_empty());
    all.max_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)))
}

/// Returns the verdicts of acceptance on the rows that exist.
///
/// The targets of a part's ΔE and of retry are raised if the judge's own error is larger. The calibration has this
/// error, as the figures of a faultless method.
fn verdicts(rows: &[Row], calibration: Option<&Calibration>) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut judge = |what: String, method: Method, value: Option<Figure>, bound: &str, target: f64, note: &str| {
        let Some(value) = value else { return };
        // A missing value stands for +∞, which meets no target.
        let met = value.value.is_some_and(|x| match bound {
            "at most" => x <= target,
            "at least" => x >= target,
            "below" => x < target,
            _ => x > target,
        });
        let inside = |low: f64, high: f64| low < target && target < high;
        let tight = inside(value.low.unwrap_or(f64::INFINITY), value.high.unwrap_or(f64::INFINITY));
        let (bound, note) = (bound.to_owned(), note.to_owned());
        verdicts.push(Verdict { what, method, value, bound, target, met, tight, note });
    };
    let of = |group: &str, method, part: &str, name: &str| row(rows, group, method, part)?.figures.get(name).copied();

    let strength = |strength: &f64, name: &str| of("image", Method::Image, &strength.to_string(), name);
    let steps = |name: &str| STRENGTHS[1..].iter().filter_map(|s| strength(s, name)).collect::<Vec<_>>();
    let order = |a: &Figure, b: &Figure| a.value.unwrap_or(f64::NAN).total_cmp(&b.value.unwrap_or(f64::NAN));
    let least = steps("clip_step").into_iter().min_by(order);
    judge("likeness to the guide, smallest change".into(), Method::Image, least, "above", 0.0, "");
    let most = steps("palette_step").into_iter().max_by(order);
    judge("palette distance, worst change".into(), Method::Image, most, "below", 0.0, "");
    let mut hold = |what: String, method: Method, value: Option<Figure>, most: bool, target: f64, note: &str| {
        judge(what, method, value, if most { "at most" } else { "at least" }, target, note);
    };
    for s in STRENGTHS.iter().filter(|s| (f64::MIN_POSITIVE..=KEEPS).contains(*s)) {
        hold(format!("objects kept at strength {s}"), Method::Image, strength(s, "kept"), false, 0.9, "");
    }

    let all = |name: &str, method| of(COLOR, method, ALL, name);
    hold("ΔE, median".into(), Method::DocParts, all("delta_e", Method::DocParts), true, 15.0, "");
    let exact = Method::Exact;
    hold("ΔE, median".into(), exact, all("delta_e", exact), true, 1.5, "");
    for part in PARTS {
        let floor = calibration.and_then(|all| all.parts.get(part)?.delta_e_decoded).unwrap_or(0.0);
        let target = if floor <= 1.5 { 2.0 } else { floor };
        let note = if floor > 1.0 { format!("limited by the judge: floor {floor:.1}") } else { String::new() };
        hold(format!("ΔE of {part}, median"), exact, of(COLOR, exact, part, "delta_e"), true, target, &note);
    }
    hold("ΔE, 90th percentile".into(), exact, all("delta_e_p90", exact), true, 5.0, "");
    hold("leakage, median".into(), exact, all("leak", exact), true, 2.0, "");
    hold("texture, median".into(), exact, all("texture", exact), false, 0.5, "");
    let retries: Vec<f64> =
        calibration.iter().flat_map(|all| all.parts.values()).filter_map(|row| row.retry_decoded).collect();
    let unavoidable = retries.iter().sum::<f64>() / retries.len().max(1) as f64;
    hold("retry".into(), exact, all("retry", exact), true, (unavoidable + 0.02).max(0.05), "");
    hold("whole components".into(), exact, all("whole", exact), false, 0.95, "");
    hold("wrongly converged".into(), exact, all("false_converged", exact), true, 0.02, "");
    hold("color names kept".into(), exact, of("binding", exact, ALL, "names_kept"), false, 0.9, "");
    // Only the attention that `exact` uses has a target. Plain attention is measured without a target.
    if let Some((name, figures)) = best_threshold(rows, exact) {
        let mean = |of: fn(&Figure) -> Option<f64>| {
            figures.iter().map(of).sum::<Option<f64>>().map(|sum| sum / figures.len() as f64)
        };
        let n = figures.iter().map(|figure| figure.n).sum();
        let value = Figure { value: mean(|f| f.value), low: mean(|f| f.low), high: mean(|f| f.high), n };
        let note = format!("threshold .{}", name.trim_start_matches("iou_"));
        hold("IoU of attention, mean over parts".into(), exact, Some(value), false, 0.75, &note);
    }
    hold("placed".into(), Method::Pww, of("place", Method::Pww, ALL, "placed"), false, 0.93, "");
    let followed = of("swap", Method::Pww, ALL, "followed");
    hold("both placed, in both orders".into(), Method::Pww, followed, false, 0.8, "");
    let drawn = |method, name: &str| of(Task::Edges.name(), method, ALL, name);
    hold("edge F1".into(), Method::Control, drawn(Method::Control, "edge_f1"), false, 0.85, "");
    hold("ΔE of objects under strokes".into(), Method::Control, drawn(Method::Control, "objects"), true, 8.0, "");
    let both = Method::ControlStrokes;
    hold("ΔE of objects under strokes".into(), both, drawn(both, "objects"), true, 2.5, "");
    let colored = |method, name: &str| of(Task::Reference.name(), method, ALL, name);
    for (method, most) in [(Method::Reference, 8.0), (Method::ReferenceLike, 2.0)] {
        hold("ΔE of parts to the reference".into(), method, colored(method, "delta_e"), true, most, "");
    }
    let strangers = |method| of("place", method, ALL, "left_out");
    if let Some(Figure { value: Some(off), .. }) = strangers(Method::PwwOff) {
        hold(
            "no objects added".into(),
            Method::Pww,
            strangers(Method::Pww),
            false,
            off - 0.03,
            "pww-off minus 3 points",
        );
    }
    verdicts
}

/// Returns a sentence for each missed part about the source of its error, as far as the measured methods show the
/// source.
fn reasons(rows: &[Row]) -> Vec<String> {
    let figure = |method, part: &str| row(rows, COLOR, method, part)?.figures.get("delta_e")?.value;
    let parts: BTreeSet<&str> = rows.iter().filter(|row| row.group == COLOR).map(|row| row.part.as_str()).collect();
    let mut sentences = Vec::new();
    for part in parts.into_iter().filter(|part| *part != ALL) {
        // `exact` promises a smaller ΔE than the other methods.
        let ours = [(Method::Exact, 2.0), (Method::DocParts, 5.0), (Method::Doc, 5.0)];
        let ours = ours.into_iter().find_map(|(method, good)| Some((method, figure(method, part)?, good)));
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
