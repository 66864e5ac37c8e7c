//! The table of metrics. A metric is a row: its name and unit, how it is read from a record, where reports show it, and
//! its targets.
//!
//! The rows of a task stand in the order in which the page and the verdicts have them.

use crate::record::{Found, PartFigures, Record, Status};
use crate::rise;
use crate::statistics::Statistic;
use crate::task::{Method, Task};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use Better::{Higher, Lower};
use Limit::{BestThreshold, EachPart, EachStep, EachStrength, Fixed, Relative, Retry};
use Statistic::Mean;
use Task::{Binding, Edges, Image, Many, Place, Reference, Saliency, Same, Swap};
use Unit::{Cosine, DeltaE, Difference, Share};

const MEDIAN: Statistic = Statistic::MEDIAN;
const P10: Statistic = Statistic::Quantile(0.1);
const P90: Statistic = Statistic::Quantile(0.9);
const WORST: Statistic = Statistic::Quantile(1.0);

/// A row of the table.
pub(crate) struct Metric {
    /// Name of the metric in `summary.json`, without the suffix of its statistic.
    pub(crate) name: &'static str,
    /// Tasks in which the metric is measured. Targets are compared with the figures of the first one.
    pub(crate) tasks: &'static [Task],
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    pub(crate) of: Of,
    /// Value of a failed run; `None` if a failed run has no value.
    failed: Option<f64>,
    /// Statistics of the runs' values that `summary.json` has.
    pub(crate) statistics: &'static [Statistic],
    /// Heads of the statistics in the page's tables; empty if the tables do not show the metric.
    heads: &'static [&'static str],
    /// Number and name of the metric's column in `runs.csv`.
    column: Option<(usize, &'static str)>,
    /// Place and text of the metric among the figures of a single run.
    label: Option<(usize, &'static str)>,
    /// Text of the axis in a plot over the strength of a guide.
    pub(crate) axis: Option<&'static str>,
    pub(crate) targets: &'static [Target],
}

/// The unit of a metric, which limits its values.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Color difference by CIEDE2000, or a distance in CIELAB.
    DeltaE,
    /// Change or error of another metric.
    Difference,
    /// Cosine of two embeddings.
    Cosine,
    /// Ratio of two magnitudes.
    Ratio,
    /// Share of a whole, IoU or F1.
    Share,
}

impl Unit {
    /// Returns the values that a metric of this unit can have, with room for rounding.
    pub(crate) const fn range(self) -> RangeInclusive<f64> {
        match self {
            Self::DeltaE | Self::Ratio => 0.0..=f64::INFINITY,
            Self::Difference => f64::NEG_INFINITY..=f64::INFINITY,
            Self::Cosine => -1.001..=1.001,
            Self::Share => 0.0..=1.001,
        }
    }
}

/// The direction in which a metric improves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// The source of a metric's values.
pub(crate) enum Of {
    /// A value for each part that was asked for.
    Part(fn(&PartFigures) -> Option<f64>),
    /// A value for each part that attention was compared with.
    Found(fn(&Found) -> Option<f64>),
    /// One value for each run.
    Run(fn(&Record) -> Option<f64>),
    /// Several values for each run.
    Each(fn(&Record) -> Vec<f64>),
    /// Values that need several runs, each with the run that it counts for.
    Runs(fn(&[Record]) -> Vec<(&Record, f64)>),
}

/// A target of a metric, which gives a verdict.
pub(crate) struct Target {
    pub(crate) method: Method,
    pub(crate) statistic: Statistic,
    /// Text of the verdict. An ellipsis stands for the part or the strength.
    pub(crate) what: &'static str,
    pub(crate) limit: Limit,
}

/// The limit of a target: the highest value if lower is better, and otherwise the lowest value.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// A limit for the figure of all parts.
    Fixed(f64),
    /// A limit for each part, raised to the judge's own error if this error exceeds the given one.
    EachPart { limit: f64, error: f64 },
    /// A limit for the figure of all parts, raised to the share of faultless pictures that the judge rejects.
    Retry(f64),
    /// A limit for each strength of a guide at which the prompt's objects must stay.
    EachStrength(f64),
    /// A strict limit for the worst step between two strengths of a guide.
    EachStep(f64),
    /// A limit for the mean over parts, at the attention threshold with the best mean.
    BestThreshold(f64),
    /// The figure of another method, minus a margin.
    Relative(Method, f64),
}

const fn metric(name: &'static str, tasks: &'static [Task], unit: Unit, better: Better, of: Of) -> Metric {
    let (failed, column, label, axis) = (None, None, None, None);
    Metric { name, tasks, unit, better, of, failed, statistics: &[], heads: &[], column, label, axis, targets: &[] }
}

/// A metric of a part that was asked for in a color.
const fn color(name: &'static str, unit: Unit, better: Better, of: fn(&PartFigures) -> Option<f64>) -> Metric {
    metric(name, Task::COLORS, unit, better, Of::Part(of))
}

/// The IoU of attention with the judge's region, or the best IoU that can be reached.
const fn iou(name: &'static str, of: fn(&Found) -> Option<f64>) -> Metric {
    metric(name, &[Saliency], Share, Higher, Of::Found(of)).over(&[Mean])
}

const fn target(method: Method, statistic: Statistic, what: &'static str, limit: Limit) -> Target {
    Target { method, statistic, what, limit }
}

impl Metric {
    const fn failed(self, value: f64) -> Self {
        Self { failed: Some(value), ..self }
    }

    const fn over(self, statistics: &'static [Statistic]) -> Self {
        Self { statistics, ..self }
    }

    const fn heads(self, heads: &'static [&'static str]) -> Self {
        Self { heads, ..self }
    }

    const fn column(self, number: usize) -> Self {
        let name = self.name;
        self.column_named(number, name)
    }

    const fn column_named(self, number: usize, name: &'static str) -> Self {
        Self { column: Some((number, name)), ..self }
    }

    const fn label(self, place: usize, text: &'static str) -> Self {
        Self { label: Some((place, text)), ..self }
    }

    const fn axis(self, text: &'static str) -> Self {
        Self { axis: Some(text), ..self }
    }

    const fn targets(self, targets: &'static [Target]) -> Self {
        Self { targets, ..self }
    }

    /// Returns the name of a statistic of this metric in `summary.json`.
    pub(crate) fn figure(&self, statistic: Statistic) -> String {
        let suffix = match statistic {
            P10 => "_p10",
            P90 => "_p90",
            _ => "",
        };
        format!("{}{suffix}", self.name)
    }

    /// Returns the metric's value for a part that was asked for; `None` for a metric of something else.
    pub(crate) fn of_part(&self, part: &PartFigures) -> Option<f64> {
        if let Of::Part(of) = self.of { of(part) } else { None }
    }

    /// Returns the values of a run. `found` is the part for which attention is compared.
    pub(crate) fn values(&self, record: &Record, found: &str) -> Vec<f64> {
        let values: Vec<f64> = match self.of {
            Of::Part(_) if record.parts.is_empty() => return self.failed.into_iter().collect(),
            Of::Part(of) => record.parts.iter().filter_map(of).collect(),
            Of::Found(of) => record.found.iter().filter(|each| each.part == found).filter_map(of).collect(),
            Of::Run(of) => of(record).into_iter().collect(),
            Of::Each(of) => of(record),
            Of::Runs(_) => Vec::new(),
        };
        match self.failed {
            Some(failed) if values.is_empty() && record.status == Status::Failed => vec![failed],
            _ => values,
        }
    }
}

/// Returns the metrics of a task.
pub(crate) fn of_task(task: Task) -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(move |metric| metric.tasks.contains(&task))
}

/// Returns the heads and names of the figures in the page's table of a task.
pub(crate) fn heads(task: Task) -> Vec<(&'static str, String)> {
    let of = |metric: &'static Metric| {
        metric.heads.iter().zip(metric.statistics).map(|(head, statistic)| (*head, metric.figure(*statistic)))
    };
    of_task(task).flat_map(of).collect()
}

/// Returns the columns of `runs.csv` in order.
pub(crate) fn columns() -> Vec<(&'static str, &'static Metric)> {
    ordered(|metric| metric.column)
}

/// Returns the metrics of a single run on the page, with their texts.
pub(crate) fn labels() -> Vec<(&'static str, &'static Metric)> {
    ordered(|metric| metric.label)
}

fn ordered(place: fn(&Metric) -> Option<(usize, &'static str)>) -> Vec<(&'static str, &'static Metric)> {
    let all = METRICS.iter().filter_map(|metric| Some((place(metric)?, metric)));
    let by_place: BTreeMap<usize, _> = all.map(|((place, text), metric)| (place, (text, metric))).collect();
    by_place.into_values().collect()
}

/// Returns the value of a yes-or-no metric; its mean is the share of runs with a yes.
pub(crate) fn yes(value: bool) -> Option<f64> {
    Some(f64::from(u8::from(value)))
}

/// Returns true if all painted objects are placed; `None` without painted objects.
fn placed(record: &Record) -> Option<bool> {
    (!record.things.is_empty()).then(|| record.things.iter().all(|thing| thing.placement.placed))
}

/// Finds whether two objects follow both a map and its mirror image over the same noise.
fn followed(records: &[Record]) -> Vec<(&Record, f64)> {
    let mut ways: BTreeMap<(Method, usize, &str, u64), Vec<&Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.task == Swap) {
        ways.entry((record.method, record.wanted, &record.prompt, record.seed)).or_default().push(record);
    }
    let both = |ways: Vec<_>| match ways[..] {
        [one, other] => Some((one, yes(placed(one) == Some(true) && placed(other) == Some(true))?)),
        _ => None,
    };
    ways.into_values().filter_map(both).collect()
}

fn clip_steps(records: &[Record]) -> Vec<(&Record, f64)> {
    rise::steps(records).into_iter().map(|(record, [clip, _])| (record, clip)).collect()
}

fn palette_steps(records: &[Record]) -> Vec<(&Record, f64)> {
    rise::steps(records).into_iter().map(|(record, [_, palette])| (record, palette)).collect()
}

/// All metrics. A row has as few lines as fit, so that the rows read as a table.
#[rustfmt::skip]
pub(crate) const METRICS: &[Metric] = &[
    metric("clip", &[Image], Cosine, Higher, Of::Run(|run| Some(run.guided?.clip))).over(&[Mean]).heads(&["likeness"])
        .column(20).axis("likeness to the guide"),
    metric("clip_step", &[Image], Difference, Higher, Of::Runs(clip_steps)).over(&[Mean]).heads(&["likeness change"])
        .targets(&[target(Method::Image, Mean, "likeness to the guide, smallest change", EachStep(0.0))]),
    metric("palette", &[Image], DeltaE, Lower, Of::Run(|run| Some(run.guided?.palette))).over(&[Mean])
        .heads(&["palette distance"]).column(21).axis("palette distance to the guide"),
    metric("palette_step", &[Image], Difference, Lower, Of::Runs(palette_steps)).over(&[Mean])
        .heads(&["palette change"])
        .targets(&[target(Method::Image, Mean, "palette distance, worst change", EachStep(0.0))]),
    metric("kept", &[Image], Share, Higher, Of::Run(|run| run.guided?.kept)).failed(0.0).over(&[Mean])
        .heads(&["objects kept"]).column(22)
        .targets(&[target(Method::Image, Mean, "objects kept at strength …", EachStrength(0.9))]),
    color("delta_e", DeltaE, Lower, |part| Some(part.delta_e())).failed(f64::INFINITY).over(&[MEDIAN, P90])
        .heads(&["ΔE", "ΔE p90"]).column(1).label(1, "ΔE")
        .targets(&[
            target(Method::DocParts, MEDIAN, "ΔE, median", Fixed(15.0)),
            target(Method::Exact, MEDIAN, "ΔE, median", Fixed(1.5)),
            target(Method::Exact, MEDIAN, "ΔE of …, median", EachPart { limit: 2.0, error: 1.5 }),
            target(Method::Exact, P90, "ΔE, 90th percentile", Fixed(5.0)),
        ]),
    color("delta_e_unforced", DeltaE, Lower, |part| Some(part.measure.painted.as_ref()?.delta_e_unforced)).column(2)
        .label(2, "ΔE before"),
    color("delta_e_mean", DeltaE, Lower, |part| Some(part.mean_delta_e())).failed(f64::INFINITY).over(&[MEDIAN])
        .heads(&["ΔE of the mean"]).column(14).label(3, "ΔE of the mean"),
    color("own_delta_e", DeltaE, Lower, |part| part.own_delta_e).column(16).label(4, "own ΔE"),
    color("lines", Share, Higher, |part| part.acceptance.as_ref()?.lines).over(&[MEDIAN, P10])
        .heads(&["lines kept", "lines kept p10"]).column(11).label(5, "lines kept"),
    color("neighbor", DeltaE, Lower, |part| Some(part.acceptance.as_ref()?.neighbor)).over(&[P90]).column(12)
        .label(6, "worst neighbor"),
    color("grown", Unit::Ratio, Lower, |part| Some(part.acceptance.as_ref()?.grown)).over(&[P90]).column(13)
        .label(7, "grown"),
    color("within_5", Share, Higher, |part| yes(part.delta_e() <= 5.0)).failed(0.0).over(&[Mean])
        .heads(&["within ΔE 5"]),
    color("leak", DeltaE, Lower, |part| part.measure.leak_median).over(&[MEDIAN, P90])
        .heads(&["leakage", "leakage p90"]).column_named(4, "leak_median").label(11, "leakage")
        .targets(&[target(Method::Exact, MEDIAN, "leakage, median", Fixed(2.0))]),
    color("leak_worst", DeltaE, Lower, |part| part.measure.leak_max).over(&[WORST]).heads(&["leakage, worst part"])
        .column_named(5, "leak_max").label(12, "worst leakage"),
    color("leak_background", DeltaE, Lower, |part| part.measure.leak.get("0").copied()).over(&[MEDIAN]),
    color("coverage", Share, Higher, |part| Some(part.measure.painted.as_ref()?.coverage)).over(&[MEDIAN])
        .heads(&["coverage"]).column(3).label(10, "coverage"),
    color("layout_iou", Share, Higher, |part| Some(part.measure.layout_iou)).over(&[MEDIAN]).heads(&["layout IoU"])
        .column(6).label(13, "layout IoU"),
    color("texture", Unit::Ratio, Higher, |part| part.measure.painted.as_ref()?.texture).over(&[MEDIAN])
        .heads(&["texture"]).column(9).label(15, "texture")
        .targets(&[target(Method::Exact, MEDIAN, "texture, median", Fixed(0.5))]),
    color("dyed", Share, Lower, |part| part.measure.dyed).over(&[MEDIAN]).column(7),
    color("halo", DeltaE, Lower, |part| part.measure.halo).over(&[MEDIAN]).heads(&["halo"]).column(8),
    color("gcb", Share, Higher, |part| yes(part.measure.painted.as_ref()?.gcb.matches)).over(&[Mean]).heads(&["gcb"]),
    color("retry", Share, Lower, |part| yes(!part.accepted())).failed(1.0).over(&[Mean]).heads(&["retry"]).column(10)
        .targets(&[target(Method::Exact, Mean, "retry", Retry(0.05))]),
    color("accepted", Share, Higher, |part| yes(part.accepted())).label(8, "accepted"),
    // A part that vanished and a part of a failed run count as not whole.
    color("whole", Share, Higher, PartFigures::whole).failed(0.0).over(&[Mean])
        .targets(&[target(Method::Exact, Mean, "whole components", Fixed(0.95))]),
    color("false_converged", Share, Lower, |part| yes(part.converged? && !part.accepted())).over(&[Mean])
        .targets(&[target(Method::Exact, Mean, "wrongly converged", Fixed(0.02))]),
    color("vanished", Share, Lower, |part| yes(part.measure.vanished)).failed(0.0).over(&[Mean]).column(15),
    color("block", Share, Lower, |part| yes(part.measure.painted.as_ref()?.block)).over(&[Mean]),
    color("remainder", Share, Lower, |part| part.measure.remainder).over(&[Mean, P90]),
    color("delta_e_trimmed", DeltaE, Lower, |part| Some(part.measure.painted.as_ref()?.delta_e_trimmed))
        .over(&[MEDIAN]),
    color("delta_e_median_rgb", DeltaE, Lower, |part| Some(part.measure.painted.as_ref()?.delta_e_median_rgb))
        .over(&[MEDIAN]),
    color("delta_e_sure", DeltaE, Lower, |part| (!part.uncertain).then_some(part.delta_e())).over(&[MEDIAN]),
    color("rgb_mean", Unit::Ratio, Lower, |part| Some(part.measure.painted.as_ref()?.rgb_mean)).over(&[MEDIAN]),
    color("own_minus_judged", Difference, Lower, |part| {
        part.own_delta_e.map(|own| own - part.delta_e()).filter(|error| error.is_finite())
    }).over(&[MEDIAN]),
    color("under_stroke", DeltaE, Lower, |part| part.under_stroke).column(17).label(9, "ΔE under stroke"),
    color("iou_mask", Share, Higher, |part| part.iou_mask).over(&[Mean]).label(14, "mask IoU"),
    color("uncertain", Share, Lower, |part| yes(part.uncertain)).over(&[Mean]),
    metric("names_kept", &[Binding], Share, Higher, Of::Each(|run| {
        let names = run.names.unwrap_or_default();
        (0..names.right).filter_map(|number| yes(number < names.kept)).collect()
    })).over(&[Mean]).targets(&[target(Method::Exact, Mean, "color names kept", Fixed(0.9))]),
    metric("all_within_5", &[Many, Same], Share, Higher, Of::Run(|run| {
        yes(run.parts.iter().all(|part| part.delta_e() <= 5.0)).filter(|_| !run.parts.is_empty())
    })).failed(0.0).over(&[Mean]),
    // The verdict compares the best of all thresholds. Only the attention that `exact` uses has a target.
    iou("iou_15", |found| found.iou.get("15").copied())
        .targets(&[target(Method::Exact, Mean, "IoU of attention, mean over parts", BestThreshold(0.75))]),
    iou("iou_20", |found| found.iou.get("20").copied()),
    iou("iou_25", |found| found.iou.get("25").copied()),
    iou("iou_30", |found| found.iou.get("30").copied()),
    iou("iou_35", |found| found.iou.get("35").copied()),
    iou("iou_40", |found| found.iou.get("40").copied()),
    iou("iou_50", |found| found.iou.get("50").copied()),
    iou("iou_60", |found| found.iou.get("60").copied()),
    iou("ceiling", |found| Some(found.ceiling)),
    metric("placed", &[Place, Swap], Share, Higher, Of::Run(|run| yes(placed(run)?))).failed(0.0).over(&[Mean])
        .heads(&["placed"]).column(18).targets(&[target(Method::Pww, Mean, "placed", Fixed(0.93))]),
    metric("followed", &[Swap], Share, Higher, Of::Runs(followed)).over(&[Mean]).heads(&["both orders"])
        .targets(&[target(Method::Pww, Mean, "both placed, in both orders", Fixed(0.8))]),
    metric("detected", &[Place, Swap], Share, Higher, Of::Each(|run| {
        run.things.iter().filter_map(|thing| yes(thing.placement.detected)).collect()
    })).over(&[Mean]).heads(&["found"]),
    metric("edge_f1", &[Edges], Share, Higher, Of::Run(|run| Some(run.followed?.edge_f1))).failed(0.0).over(&[MEDIAN])
        .heads(&["edge F1"]).targets(&[target(Method::Control, MEDIAN, "edge F1", Fixed(0.85))]),
    metric("strokes", &[Edges], DeltaE, Lower, Of::Run(|run| run.followed?.strokes)).over(&[MEDIAN])
        .heads(&["ΔE under strokes"]),
    metric("objects", &[Edges], DeltaE, Lower, Of::Run(|run| run.followed?.objects)).over(&[MEDIAN, P90])
        .heads(&["ΔE of objects under strokes", "ΔE of objects, p90"])
        .targets(&[
            target(Method::Control, MEDIAN, "ΔE of objects under strokes", Fixed(8.0)),
            target(Method::ControlStrokes, MEDIAN, "ΔE of objects under strokes", Fixed(2.5)),
        ]),
    metric("delta_e", &[Reference], DeltaE, Lower, Of::Each(|run| {
        run.colored.iter().flat_map(|colored| colored.parts.values().copied()).collect()
    })).over(&[MEDIAN, P90]).heads(&["ΔE of parts", "ΔE of parts, p90"])
        .targets(&[
            target(Method::Reference, MEDIAN, "ΔE of parts to the reference", Fixed(8.0)),
            target(Method::ReferenceLike, MEDIAN, "ΔE of parts to the reference", Fixed(2.0)),
        ]),
    metric("edge_f1", &[Reference], Share, Higher, Of::Run(|run| Some(run.colored.as_ref()?.edge_f1))).failed(0.0)
        .over(&[MEDIAN]).heads(&["edge F1"]),
    metric("left_out", &[Place, Swap], Share, Higher, Of::Run(|run| yes(run.left_out?))).over(&[Mean])
        .heads(&["no objects added"]).column(19)
        .targets(&[target(Method::Pww, Mean, "no objects added", Relative(Method::PwwOff, 0.03))]),
];
