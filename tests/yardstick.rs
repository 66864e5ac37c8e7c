//! Is the yardstick straight? The reference's numbers, what they must say, and the bookkeeping around them.
#![allow(dead_code, unused_imports)] // of the example's modules, each test takes what it needs

#[path = "../examples/yardstick/arguments.rs"]
mod arguments;
#[path = "../examples/yardstick/calibration.rs"]
mod calibration;
#[path = "../examples/yardstick/gallery.rs"]
mod gallery;
#[path = "../examples/yardstick/generator.rs"]
mod generator;
#[path = "../examples/yardstick/judge/mod.rs"]
mod judge;
#[path = "../examples/yardstick/listing.rs"]
mod listing;
#[path = "../examples/yardstick/metrics.rs"]
mod metrics;
#[path = "../examples/yardstick/plots.rs"]
mod plots;
#[path = "../examples/yardstick/record.rs"]
mod record;
#[path = "../examples/yardstick/regions.rs"]
mod regions;
#[path = "../examples/yardstick/report.rs"]
mod report;
#[path = "../examples/yardstick/runner.rs"]
mod runner;
#[path = "../examples/yardstick/statistics.rs"]
mod statistics;
#[path = "../examples/yardstick/suite.rs"]
mod suite;
#[path = "../examples/yardstick/summary.rs"]
mod summary;
#[path = "../examples/yardstick/tuning.rs"]
mod tuning;

use arguments::{Arguments, Pictures};
use gallery::Gallery;
use generator::{Real, Settings};
use impasto::Rgb;
use judge::{Evaluator, Judge, Seen, View, network};
use metrics::{Measure, Pair, Picture, measure};
use ndarray::Array2;
use record::{Made, Record, Records, Status, of_maker};
use regions::{Labels, area, core, erode, of_class};
use runner::{Failure, Generator, LEAST_SEEDS, Own, Plan, Request, Seeds, Shot, class_color};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;
use suite::{Choice, Method, Rng, Style, Suite, Task, fnv};
use summary::{ALL, About, Summary};

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/specs/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is JSON")
}

/// Everything in `want` is in `got`, numbers within `tolerance`.
#[track_caller]
fn same(at: &str, got: &Value, want: &Value, tolerance: f64) {
    match (got, want) {
        (Value::Object(_), Value::Object(fields)) => {
            for (name, want) in fields {
                same(&format!("{at}.{name}"), got.get(name).unwrap_or(&Value::Null), want, tolerance);
            }
        }
        (Value::Array(got), Value::Array(want)) => {
            assert_eq!(got.len(), want.len(), "{at}");
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                same(&format!("{at}[{i}]"), got, want, tolerance);
            }
        }
        (Value::Number(got), Value::Number(want)) => {
            let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
            assert!((got - want).abs() <= tolerance, "{at}: {got} is not {want}");
        }
        _ => assert_eq!(got, want, "{at}"),
    }
}

fn class(name: &str) -> u8 {
    judge::class(name, &[])
}

// ---- The six synthetic pairs ----

const PART: u8 = 2;
const TARGET: Rgb = Rgb(200, 150, 60);
type Paints = [(u8, Rgb, f64); 4];
/// Color and depth of shading of each class.
const BASE: Paints = [
    (0, Rgb(70, 120, 160), 0.05),
    (1, Rgb(236, 200, 172), 0.10),
    (2, Rgb(120, 60, 40), 0.18),
    (4, Rgb(190, 40, 60), 0.08),
];

/// Each label twice in both directions.
fn doubled(labels: &Labels) -> Labels {
    Array2::from_shape_fn((64, 64), |(y, x)| labels[(y / 2, x / 2)])
}

fn layout() -> Labels {
    Array2::from_shape_fn((32, 32), |(y, x)| {
        let round = (y as f64 - 15.2).powi(2) + (x as f64 - 11.3).powi(2) < 7.5f64.powi(2);
        match (y, x) {
            (3..8, 22..27) => 4,
            _ if round => 2,
            (18..30, 17..29) => 1,
            _ => 0,
        }
    })
}

fn paint(labels: &Labels, paints: &Paints) -> Picture {
    Array2::from_shape_fn(labels.dim(), |(y, x)| {
        let (_, base, shade) = paints.iter().find(|(class, ..)| *class == labels[(y, x)]).unwrap();
        let light = 1.0 + shade * (0.9 * x as f64 + 0.4 * y as f64).sin();
        let channel = |base: u8| ((f64::from(base) * light).clamp(0.0, 255.0) + 0.5).floor() as u8;
        Rgb(channel(base.0), channel(base.1), channel(base.2))
    })
}

fn repainted(changes: &[(u8, Rgb)]) -> Paints {
    BASE.map(|(class, rgb, shade)| {
        (class, changes.iter().find(|(changed, _)| *changed == class).map_or(rgb, |(_, rgb)| *rgb), shade)
    })
}

/// The part's own shading, scaled in linear light so that the core's mean is the target.
fn perfect(u: &Picture, labels: &Labels) -> Picture {
    let part = of_class(labels, PART);
    let mean = metrics::mean_linear(u, &core(&part, 1).1);
    let goal = metrics::light(TARGET);
    Array2::from_shape_fn(u.dim(), |at| {
        if !part[at] {
            return u[at];
        }
        let light = metrics::light(u[at]);
        let [r, g, b] =
            metrics::encoded([0, 1, 2].map(|c| light[c] / mean[c] * goal[c])).map(|x| (x + 0.5).floor() as u8);
        Rgb(r, g, b)
    })
}

/// Unforced and forced picture with their labels.
fn case(name: &str) -> (Picture, Picture, Labels, Labels) {
    let labels = doubled(&layout());
    let u = paint(&labels, &BASE);
    let gone = labels.mapv(|class| if class == PART { 0 } else { class });
    let f = match name {
        "typical" => paint(&labels, &repainted(&[(2, Rgb(206, 146, 72)), (1, Rgb(238, 196, 160))])),
        "null" => u.clone(),
        "paste" => {
            let mut paints = repainted(&[(2, TARGET)]);
            paints[2].2 = 0.0;
            paint(&labels, &paints)
        }
        "flood" => paint(&labels, &repainted(&[0, 1, 2, 4].map(|class| (class, TARGET)))),
        "vanish" => paint(&gone, &BASE),
        "perfect" => perfect(&u, &labels),
        _ => panic!("{name}"),
    };
    (u, f, labels.clone(), if name == "vanish" { gone } else { labels })
}

fn measured(name: &str) -> Measure {
    let (u, f, lu, lf) = case(name);
    let pair = Pair { unforced: &u, forced: &f, labels_unforced: &lu, labels_forced: &lf, unit: 1 };
    measure(&pair, PART, TARGET, &[])
}

fn sum(picture: &Picture) -> u64 {
    picture.iter().map(|Rgb(r, g, b)| u64::from(*r) + u64::from(*g) + u64::from(*b)).sum()
}

#[test]
fn every_metric_equals_the_reference() {
    let golden = golden("yardstick");
    let labels = layout();
    for (class, count) in golden["labels"]["counts"].as_object().unwrap() {
        assert_eq!(area(&of_class(&labels, class.parse().unwrap())) as u64, count.as_u64().unwrap());
    }
    for (name, want) in golden["cases"].as_object().unwrap() {
        assert_eq!(sum(&case(name).1), golden["sums"][name].as_u64().unwrap(), "{name}");
        same(name, &serde_json::to_value(measured(name)).unwrap(), want, 1e-6);
    }
}

#[test]
fn regions_equal_the_reference() {
    let golden = golden("yardstick");
    let (small, labels) = (layout(), doubled(&layout()));
    for (class, want) in golden["erosion"].as_object().unwrap() {
        let region = of_class(&labels, class.parse().unwrap());
        assert_eq!(json!([0, 1, 2, 3].map(|r| area(&erode(&region, r)))), *want);
        let (k, inside) = core(&region, 1);
        assert_eq!(json!([k, area(&inside)]), golden["core"][class]);
    }
    for (class, cells) in golden["ceiling"].as_object().unwrap() {
        for (cell, want) in cells.as_object().unwrap() {
            let best = regions::ceiling(&of_class(&labels, class.parse().unwrap()), cell.parse().unwrap());
            same(cell, &json!(best), want, 1e-6);
        }
    }
    let raw = Array2::from_shape_fn((32, 32), |(y, x)| {
        let (y, x) = ((y as f64 + 0.5) / 32.0, (x as f64 + 0.5) / 32.0);
        (-((y - 0.48).powi(2) + (x - 0.36).powi(2)) / 0.05).exp() + 0.12 * (1.0 + (9.0 * x - 4.0 * y).sin())
    });
    let (low, high) = raw.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
    for (threshold, want) in golden["saliency_iou"].as_object().unwrap() {
        let over = raw.mapv(|x| (x - low) / (high - low + 1e-8) > threshold.parse().unwrap());
        same(threshold, &json!(regions::iou(&over, &of_class(&small, PART))), want, 1e-6);
    }
}

#[test]
fn placement_and_palettes_equal_the_reference() {
    let golden = golden("yardstick");
    let labels = doubled(&layout());
    let left = Array2::from_shape_fn(labels.dim(), |(_, x)| x < 32);
    for (half, region) in [("left_half", left.clone()), ("right_half", regions::not(&left))] {
        for (class, want) in golden["placement"][half].as_object().unwrap() {
            let found = metrics::placement(&labels, class.parse().unwrap(), &region);
            same(half, &serde_json::to_value(found).unwrap(), want, 1e-6);
        }
    }
    let cloud = |picture: &Picture| picture.iter().map(|rgb| metrics::lab(*rgb)).collect::<Vec<_>>();
    for (name, want) in golden["sliced"].as_object().unwrap() {
        let (u, f, ..) = case(name);
        same(name, &json!(metrics::sliced(&cloud(&u), &cloud(&f))), want, 1e-6);
    }
}

#[test]
fn statistics_equal_the_reference() {
    use statistics::{Statistic, bootstrap, figure, quantile};
    let golden = &golden("yardstick")["bootstrap"];
    let groups: Vec<Vec<f64>> = serde_json::from_value(golden["groups"].clone()).unwrap();
    for (p, value, interval) in [(0.5, "median", "median_ci"), (0.9, "p90", "p90_ci")] {
        same(value, &json!(quantile(&mut groups.concat(), p)), &golden[value], 1e-9);
        let (low, high) = bootstrap(&groups, Statistic::Quantile(p), "yardstick-1/boot", 200);
        // The file has eight digits.
        same(interval, &json!([low, high]), &golden[interval], 6e-9);
    }
    let one = figure(&[vec![1.0, 2.0, 4.0]], Statistic::MEDIAN).unwrap();
    assert_eq!((one.value, one.low, one.high), (Some(2.0), Some(2.0), Some(2.0)));
    let failed = figure(&[vec![1.0], vec![f64::INFINITY], vec![3.0]], Statistic::MEDIAN).unwrap();
    assert_eq!(failed.value, Some(3.0), "a failure moves the median");
    assert_eq!(figure(&[vec![1.0], vec![f64::INFINITY]], Statistic::MEDIAN).unwrap().value, None);
}

#[test]
fn each_case_says_what_it_shows() {
    let [perfect, null, paste, flood, vanish] = ["perfect", "null", "paste", "flood", "vanish"].map(measured);
    let painted = |measure: &Measure| measure.painted.clone().unwrap();
    assert!(painted(&perfect).delta_e < 0.3 && perfect.leak_max == Some(0.0) && !perfect.retry);
    assert!(painted(&null).delta_e == painted(&null).delta_e_unforced && null.retry);
    assert_eq!(painted(&null).texture, Some(1.0));
    assert!(painted(&paste).delta_e < 1e-9 && painted(&paste).block && paste.retry);
    assert!(painted(&flood).delta_e < 0.3 && flood.leak_median > Some(40.0) && flood.dyed == Some(1.0) && flood.retry);
    assert!(vanish.vanished && vanish.painted.is_none() && vanish.retry);
}

// ---- Sampling ----

#[test]
fn chance_equals_the_reference() {
    let golden = golden("yardstick");
    for (text, hash) in golden["rng"]["fnv"].as_object().unwrap() {
        assert_eq!(fnv(text).to_string(), hash.as_str().unwrap());
    }
    let mut rng = Rng::new("yardstick-1/test");
    let want = &golden["rng"];
    assert_eq!(json!([0; 4].map(|_| rng.u64().to_string())), want["u64"]);
    assert_eq!(json!([0; 8].map(|_| rng.below(100))), want["below_100"]);
    same("unit", &json!([0; 3].map(|_| rng.unit())), &want["unit"], 1e-8);
    let mut eight = [0, 1, 2, 3, 4, 5, 6, 7];
    rng.shuffle(&mut eight);
    assert_eq!(json!(eight), want["shuffle_8"]);
    let key = &golden["key"];
    assert_eq!(format!("{:016x}", fnv(key["text"].as_str().unwrap())), key["hex"].as_str().unwrap());
    for (name, want) in golden["reach"].as_object().unwrap() {
        let color: Rgb = name.parse().unwrap();
        let lab = metrics::lab(color);
        same(name, &json!({"lab": [lab.l, lab.a, lab.b], "corner": suite::is_corner(color)}), want, 1e-6);
    }
}

#[test]
fn suites_equal_the_reference() {
    for (split, number) in [("public", 0), ("heldout", 7)] {
        let names: Vec<String> = suite::named(split, number).into_iter().map(|(name, _)| name).collect();
        let colors: Vec<[u8; 3]> = suite::numeric(split, number, 8).iter().map(|c| [c.0, c.1, c.2]).collect();
        let got = json!({
            "seeds": suite::seeds(split, number, 4),
            "plain": suite::portraits(split, number, 3, Style::Plain),
            "dressed": suite::portraits(split, number, 3, Style::Dressed),
            "colours": colors,
            "named": names,
        });
        same(split, &got, &golden("yardstick")["sampling"][split], 0.0);
    }
}

#[test]
fn splits_never_meet() {
    let side = |split: &str, number: u64| {
        let prompts = [Style::Plain, Style::Dressed].map(|style| suite::portraits(split, number, 5, style)).concat();
        (suite::seeds(split, number, 5), prompts, suite::numeric(split, number, 8), suite::named(split, number))
    };
    let public: Vec<_> = (0..50).map(|number| side("public", number)).collect();
    let seeds: HashSet<u64> = public.iter().flat_map(|side| side.0.clone()).collect();
    let prompts: HashSet<String> = public.iter().flat_map(|side| side.1.clone()).collect();
    let colors: HashSet<Rgb> = public.iter().flat_map(|side| side.2.clone()).collect();
    for number in 0..50 {
        let (other_seeds, other_prompts, numeric, named) = side("heldout", number);
        assert!(other_seeds.iter().all(|seed| *seed >= 1 << 32 && !seeds.contains(seed)));
        assert!(other_prompts.iter().all(|prompt| !prompts.contains(prompt)));
        assert!(numeric.iter().all(|color| !colors.contains(color)));
        assert_eq!((numeric.len(), named.len()), (8, 8));
        let public = suite::named("public", 0);
        assert!(named.iter().all(|(_, color)| public.iter().all(|(_, other)| color.delta_e(*other) >= 5.0)));
    }
}

#[test]
fn the_tiny_model_knows_every_word() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/weights/tiny/tokenizer/vocab.json");
    let vocabulary: BTreeMap<String, u32> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let suite = Suite::new("heldout", 7);
    let choice = Arguments::default().choice;
    let mut prompts: Vec<String> = suite.plain.iter().chain(&suite.dressed).cloned().collect();
    for i in 0..20 {
        prompts.extend(suite.jobs(i, &choice).into_iter().flat_map(|job| job.pairs).map(|(prompt, _)| prompt));
    }
    for word in prompts.iter().flat_map(|prompt| prompt.split([' ', ','])).filter(|word| !word.is_empty()) {
        // Numbers are words of their own.
        let word = word.trim_start_matches('1');
        assert!(vocabulary.contains_key(&format!("{word}</w>")), "{word}");
    }
}

#[test]
fn every_part_meets_every_color_equally_often() {
    let suite = Suite::new("public", 0);
    let choice = Choice { methods: vec![Method::Doc], ..Arguments::default().choice };
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    for i in 0..16 {
        for job in suite.jobs(i, &choice).iter().filter(|job| matches!(job.task, Task::Named | Task::Numeric)) {
            *counts.entry((job.part(), job.colors())).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), 48);
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
    let full = Choice { full: true, ..choice };
    let all = suite.jobs(3, &full).iter().filter(|job| matches!(job.task, Task::Named | Task::Numeric)).count();
    assert_eq!(all, 48);
}

#[test]
fn a_budget_is_filled_with_whole_seeds() {
    let seeds = |each: f64, budget: f64, workers: usize| {
        let budget = Seeds::Within(Duration::from_secs_f64(budget));
        let at = |done: usize| Duration::from_secs_f64(each * done as f64 / workers as f64);
        (0..).take_while(|next| runner::another(*next, *next, at(*next), workers, budget)).count()
    };
    assert_eq!(seeds(19.0, 600.0, 1), 31);
    assert_eq!(seeds(19.0, 600.0, 2), 62);
    assert_eq!(seeds(300.0, 600.0, 1), LEAST_SEEDS);
}

// ---- Pairs whose truth is known ----

fn atlas() -> Vec<(Value, Picture, Picture, Labels)> {
    let path = format!("{}/tests/golden/specs/yardstick_pairs.png", env!("CARGO_MANIFEST_DIR"));
    let sheet = generator::picture(&impasto::Raster::open(path).unwrap()).unwrap();
    let pairs = golden("yardstick_pairs")["pairs"].as_array().unwrap().clone();
    let tile = |row: usize, column: usize| {
        Array2::from_shape_fn((128, 128), |(y, x)| sheet[(128 * row + y, 128 * column + x)])
    };
    let rows = pairs.into_iter().enumerate();
    rows.map(|(row, pair)| (pair, tile(row, 0), tile(row, 1), tile(row, 2).mapv(|pixel| pixel.0 / 12))).collect()
}

fn target_of(pair: &Value) -> (u8, Rgb) {
    let [r, g, b]: [u8; 3] = serde_json::from_value(pair["target"].clone()).unwrap();
    (pair["class"].as_u64().unwrap() as u8, Rgb(r, g, b))
}

#[test]
fn pairs_with_true_labels_equal_the_reference() {
    for (pair, u, f, mask) in atlas() {
        // Truth on the judge's grid, every second pixel.
        let labels = Array2::from_shape_fn((128, 128), |(y, x)| mask[(y / 2 * 2, x / 2 * 2)]);
        let (part, target) = target_of(&pair);
        let both = Pair { unforced: &u, forced: &f, labels_unforced: &labels, labels_forced: &labels, unit: 1 };
        let got = measure(&both, part, target, &[]);
        same(&pair["part"].to_string(), &serde_json::to_value(&got).unwrap(), &pair["measure"], 1e-6);
        let swapped = Pair { unforced: &f, forced: &u, ..both };
        let back = measure(&swapped, part, target, &[]);
        assert_eq!((back.layout_iou, back.leak_median), (got.layout_iou, got.leak_median));
    }
}

#[test]
fn the_judge_sees_the_pairs() {
    let judge = Evaluator::open().unwrap();
    let (mut deltas, mut leaks, mut retries) = (Vec::new(), Vec::new(), 0);
    for (pair, u, f, _) in atlas() {
        let (part, target) = target_of(&pair);
        let (seen_u, seen_f) = (judge.see(&u).unwrap(), judge.see(&f).unwrap());
        let (labels_unforced, labels_forced) = (&seen_u.labels, &seen_f.labels);
        let both = Pair { unforced: &u, forced: &f, labels_unforced, labels_forced, unit: 1 };
        let got = measure(&both, part, target, &[]);
        let delta_e = got.painted.as_ref().map_or(f64::INFINITY, |painted| painted.delta_e);
        println!("{}: ΔE {delta_e:.2}, leakage {:?}, retry {}", pair["part"], got.leak_median, got.retry);
        deltas.push(delta_e);
        leaks.extend(got.leak_median);
        retries += usize::from(got.retry);
    }
    let (delta_e, leak) = (statistics::median(deltas), statistics::median(leaks));
    assert!(delta_e <= 2.0 && leak <= 1.0 && retries <= 1, "ΔE {delta_e:.2}, leakage {leak:.2}, {retries} retries");
}

// ---- A model that is none ----

/// What the mock makes of a request.
#[derive(Clone, Copy, PartialEq)]
enum Mock {
    /// Exactly what was asked for.
    Perfect,
    /// The unforced picture.
    Null,
    Fails,
}

const SIDE: usize = 64;
/// Sky of the mock's scenes; no portrait has it in its corner.
const SKY: Rgb = Rgb(170, 215, 255);

fn portrait() -> Labels {
    Array2::from_shape_fn((SIDE, SIDE), |at| match at {
        (4..20, 4..16) => 4,
        (24..36, 4..18) => 3,
        (4..20, 24..60) => 2,
        (24..40, 24..60) => 1,
        (44..62, 10..54) => 6,
        _ => 0,
    })
}

impl Generator for Mock {
    fn make(&mut self, request: &Request<'_>) -> Result<Shot, Failure> {
        if *self == Self::Fails && request.method != Method::Unforced {
            return Err("the mock always fails".into());
        }
        if !request.painted.is_empty() || request.prompt.contains("sky") {
            return Ok(Shot { picture: scene(*self, request), ..Shot::default() });
        }
        let labels = portrait();
        let shade = |(y, x): (usize, usize)| 1.0 + 0.06 * (0.9 * x as f64 + 0.4 * y as f64 + request.seed as f64).sin();
        let base = |class: u8| {
            let part = network::CLASSES[usize::from(class)];
            let word = suite::color_word(request.prompt, part);
            let named = word.and_then(|word| suite::PALETTE.iter().find(|(name, _)| *name == word));
            named.map_or(Rgb(90 + 15 * class, 120, 160 - 10 * class), |(_, color)| *color)
        };
        let unforced = Array2::from_shape_fn(labels.dim(), |at| {
            let channel = |value: u8| (f64::from(value) * shade(at)).clamp(0.0, 255.0).round() as u8;
            let Rgb(r, g, b) = base(labels[at]);
            Rgb(channel(r), channel(g), channel(b))
        });
        let mut picture = unforced.clone();
        for asked in request.asked.iter().filter(|_| *self == Self::Perfect) {
            let part = of_class(&labels, class(&asked.part));
            let (mean, goal) = (metrics::mean_linear(&unforced, &part), metrics::light(asked.rgb));
            for (pixel, _) in picture.iter_mut().zip(&part).filter(|(_, inside)| **inside) {
                let light = metrics::light(*pixel);
                let [r, g, b] =
                    metrics::encoded([0, 1, 2].map(|c| light[c] / mean[c] * goal[c])).map(|x| x.round() as u8);
                *pixel = Rgb(r, g, b);
            }
        }
        let own = |asked: &suite::Asked| Own {
            delta_e: Some(0.5),
            converged: Some(true),
            mask: Some(of_class(&labels, class(&asked.part))),
        };
        let map = |phrase: &String| {
            (phrase.clone(), of_class(&labels, class(phrase)).mapv(|inside| f32::from(u8::from(inside))))
        };
        let maps = request.phrases.iter().map(map).collect();
        Ok(Shot { picture, own: request.asked.iter().map(own).collect(), maps })
    }
}

/// Objects where they are painted, or small in the middle.
fn scene(mock: Mock, request: &Request<'_>) -> Picture {
    let mut picture = Array2::from_elem((SIDE, SIDE), SKY);
    let objects = suite::OBJECTS.into_iter().filter(|object| request.prompt.contains(object));
    for object in objects {
        let area = request.painted.iter().find(|painted| painted.object == object);
        let [left, top, right, bottom] = match area {
            Some(painted) if mock == Mock::Perfect => painted.area,
            _ => [0.4, 0.4, 0.6, 0.6],
        };
        let place = |from: f64, to: f64| (SIDE as f64 * from) as usize + 4..(SIDE as f64 * to) as usize - 4;
        for (y, x) in place(top, bottom).flat_map(|y| place(left, right).map(move |x| (y, x))) {
            picture[(y, x)] = class_color(class(object));
        }
    }
    picture
}

/// Sees what the mock draws.
struct MockJudge;

impl Judge for MockJudge {
    fn look(&mut self, view: &View<'_>) -> Result<Option<Seen>, Failure> {
        let class = |pixel: &Rgb| (8..20).find(|class| class_color(*class) == *pixel).unwrap_or(8);
        let labels = if view.picture[(0, 0)] == SKY { view.picture.map(class) } else { portrait() };
        Ok(Some(Seen { labels, sure: BTreeMap::new() }))
    }
}

fn made() -> Made {
    Made { model: "mock".into(), judge: "mock".into(), settings: "s".into(), version: "0".into() }
}

fn plan(suite: &Suite, methods: &[Method]) -> Plan<'static> {
    let suite: &'static Suite = Box::leak(Box::new(suite.clone()));
    let choice = Choice { methods: methods.to_vec(), ..Arguments::default().choice };
    let (seeds, made) = (Seeds::Exactly(3), made());
    Plan { suite, choice, made, seeds, limit: None, workers: 1, shard: (0, 1), only: None }
}

fn ran(plan: &Plan<'_>, folder: &Path, mock: Mock) -> Vec<Record> {
    let (mut records, mut known) = Records::open(&folder.join("runs.jsonl")).unwrap();
    let mut gallery = Gallery::open(folder, Pictures::Worst(4), &known).unwrap();
    let mut fresh = Vec::new();
    let _ = runner::run(
        plan,
        &known,
        &mut records,
        || Ok((mock, MockJudge)),
        |record, strip, _| {
            fresh.push(record.clone());
            gallery.keep(record, strip)
        },
    )
    .unwrap();
    known.append(&mut fresh);
    of_maker(known, &plan.made)
}

/// A summary without times.
fn timeless(mut records: Vec<Record>) -> String {
    records.iter_mut().for_each(|record| (record.ms, record.ms_unforced) = (0.0, None));
    serde_json::to_string(&Summary::new(&records, About::default(), None).unwrap()).unwrap()
}

const METHODS: [Method; 5] = [Method::Unforced, Method::DocParts, Method::Exact, Method::PwwOff, Method::Pww];

#[test]
fn a_perfect_generator_meets_every_target() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Perfect);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    for verdict in &summary.verdicts {
        assert!(verdict.met, "{verdict:?}");
    }
    assert!(summary.verdicts.len() >= 16, "{}", summary.verdicts.len());
    assert_eq!((summary.failed, summary.seeds), (0, 3));
}

#[test]
fn a_generator_that_does_nothing_misses_every_color() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Null);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    let colors = summary.verdicts.iter().filter(|verdict| verdict.what.starts_with("ΔE") || verdict.what == "retry");
    assert!(colors.clone().count() >= 9 && colors.clone().all(|verdict| !verdict.met));
    assert!(summary.verdicts.iter().any(|verdict| verdict.what == "placed" && !verdict.met));
    assert!(!summary.met());
}

#[test]
fn a_generator_that_fails_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &[Method::Doc]), folder.path(), Mock::Fails);
    assert!(records.iter().all(|record| record.status == Status::Failed));
    let summary = Summary::new(&records, About::default(), None).unwrap();
    assert_eq!(summary.row("color", Method::Doc, ALL).unwrap().figures["delta_e"].value, None, "+∞");
    report::write(folder.path(), &summary, &records).unwrap();
    assert!(folder.path().join("report.html").exists());
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let suite = Suite::new("public", 5);
    let plan = plan(&suite, &METHODS);
    let whole = tempfile::tempdir().unwrap();
    let all = timeless(ran(&plan, whole.path(), Mock::Perfect));
    let text = std::fs::read(whole.path().join("runs.jsonl")).unwrap();
    let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for cut in [0, ends[0], ends[6], ends[6] + 40, text.len() - 1] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("runs.jsonl"), &text[..cut]).unwrap();
        assert!(timeless(ran(&plan, folder.path(), Mock::Perfect)) == all, "cut at {cut}");
        let lines = std::fs::read(folder.path().join("runs.jsonl")).unwrap();
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), ends.len(), "no line twice");
    }
}

#[test]
fn records_of_other_settings_are_not_mixed() {
    let suite = Suite::new("public", 5);
    let mut plan = plan(&suite, &[Method::Doc]);
    let folder = tempfile::tempdir().unwrap();
    let first = ran(&plan, folder.path(), Mock::Perfect).len();
    plan.made.settings = "other".into();
    let second = ran(&plan, folder.path(), Mock::Null);
    assert_eq!(second.len(), first);
    assert!(second.iter().all(|record| record.made.settings == "other"));
    assert_eq!(record::read(&folder.path().join("runs.jsonl")).unwrap().len(), 2 * first);
}

#[test]
fn shards_and_workers_change_nothing() {
    let suite = Suite::new("public", 5);
    let mut plan = plan(&suite, &METHODS);
    let folder = || tempfile::tempdir().unwrap();
    let all = timeless(ran(&plan, folder().path(), Mock::Perfect));
    plan.workers = 3;
    assert!(timeless(ran(&plan, folder().path(), Mock::Perfect)) == all);
    let mut merged = Vec::new();
    for shard in 0..2 {
        plan.shard = (shard, 2);
        merged.extend(ran(&plan, folder().path(), Mock::Perfect));
    }
    merged.extend(merged.clone());
    assert!(timeless(of_maker(merged, &made())) == all);
}

#[test]
fn a_limit_ends_with_a_report() {
    let mut plan = plan(&Suite::new("public", 5), &METHODS);
    plan.limit = Some(Duration::ZERO);
    let records = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    assert_eq!(records.len(), 1);
    assert!(Summary::new(&records, About::default(), None).is_some());
}

#[test]
fn the_judges_own_error_moves_targets_below_it() {
    let records = ran(&plan(&Suite::new("public", 5), &METHODS), tempfile::tempdir().unwrap().path(), Mock::Perfect);
    let row = calibration::Row { delta_e_decoded: Some(4.5), retry_decoded: Some(0.2), ..Default::default() };
    let calibration = calibration::Calibration { pairs: 1, parts: [("eyes".to_owned(), row)].into() };
    let summary = Summary::new(&records, About::default(), Some(&calibration)).unwrap();
    let target =
        |what: &str| summary.verdicts.iter().find(|v| v.what == what && v.method == Method::Exact).unwrap().target;
    assert_eq!((target("ΔE of eyes, median"), target("ΔE of hair, median"), target("retry")), (4.5, 2.0, 0.22));
}

#[test]
fn a_run_is_repeated_by_its_key() {
    let suite = Suite::new("public", 5);
    let mut plan = plan(&suite, &METHODS);
    let all = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    let wanted = all.iter().rfind(|record| record.method == Method::Exact).unwrap();
    let found = runner::wanted_of(&suite, &plan.choice, &wanted.key).unwrap();
    assert_eq!(found, wanted.wanted);
    plan.only = Some((found, wanted.key.clone()));
    let again = ran(&plan, tempfile::tempdir().unwrap().path(), Mock::Perfect);
    assert_eq!((again.len(), &again[0].parts), (1, &wanted.parts));
}

#[test]
fn what_is_no_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let message = Records::open(&path).unwrap_err().to_string();
    assert!(message.contains("line 1") && message.contains("not a record"), "{message}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n", "the file is intact");
}

#[test]
fn the_page_says_what_the_figures_say() {
    let folder = tempfile::tempdir().unwrap();
    let records = ran(&plan(&Suite::new("public", 3), &METHODS), folder.path(), Mock::Null);
    let summary = Summary::new(&records, About::default(), None).unwrap();
    report::write(folder.path(), &summary, &records).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let page = read("report.html");
    for word in ["<link", "<script src", "@import", "url(", "href="] {
        assert!(!page.contains(word), "{word}");
    }
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http:") && !outside.contains("https:"));
    let mut images = 0;
    for source in page.split("src=\"").skip(1) {
        let code = source.split('"').next().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, code).unwrap();
        assert!(image::load_from_memory(&bytes).unwrap().width() >= 4 * SIDE as u32);
        images += 1;
    }
    assert!(images >= 4);
    for verdict in &summary.verdicts {
        assert!(page.contains(&verdict.value.to_string()), "{verdict:?}");
    }
    for (open, close) in [("<div", "</div>"), ("<table", "</table>"), ("<svg", "</svg>"), ("<figure", "</figure>")] {
        assert_eq!(page.matches(open).count(), page.matches(close).count(), "{open}");
    }
    let stored: Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!(stored["verdicts"].as_array().unwrap().len(), summary.verdicts.len());
    assert!(serde_json::from_value::<Summary>(stored).unwrap() == summary);
    let csv = read("runs.csv");
    assert_eq!(csv.lines().count(), 1 + records.len());
    assert!(records.iter().all(|record| csv.contains(&record.key)));
}

// ---- The command line ----

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    let rows: [(&[&str], &[&str]); 34] = [
        (&["--task", "nmaed"], &["task \"nmaed\"", "\"named\""]),
        (&["--task", "image"], &["ImageGuidance"]),
        (&["--method", "dco"], &["\"doc\""]),
        (&["--method", "exact"], &["ColorForce::exact", "this version"]),
        (&["--method", "doc,exact"], &["exact", "column 5"]),
        (&["--part", "eyes,,hair"], &["nothing at column 6"]),
        (&["--part", "eyes,eyes"], &["twice", "column 6"]),
        (&["--part", "nose"], &["part \"nose\""]),
        (&["--judge", "cmd:"], &["cmd:PROGRAM"]),
        (&["--judge", "evaluator:x"], &["stands alone"]),
        (&["--model", "some/folder", "--judge", "evaluator"], &["hair bow", "saliency"]),
        (&["--gencolorbench", "folder"], &["judge evaluator"]),
        (&["--gencolorbench", "a", "--prompts", "b", "--judge", "saliency"], &["one of them"]),
        (&["--judge", "saliency", "--task", "place"], &["task place", "unforced picture only"]),
        (&["--judge", "evaluater"], &["\"evaluator\""]),
        (&["--split", "Held out"], &["a-z, 0-9 and -"]),
        (&["--suite", "x"], &["suite \"x\""]),
        (&["--seeds", "4"], &["A..B"]),
        (&["--seeds", "4..4"], &["are none"]),
        (&["--colors", "gold,#12"], &["#12", "column 6"]),
        (&["--colors", "gold,gold"], &["twice"]),
        (&["--quick", "--full"], &["one of them"]),
        (&["--limit-minutes", "0"], &["more than 0"]),
        (&["--steps", "many"], &["steps \"many\""]),
        (&["--size", "axb"], &["size"]),
        (&["--batch", "0"], &["1 or more"]),
        (&["--batch", "8"], &["prompt of its own"]),
        (&["--workers", "0"], &["1 or more"]),
        (&["--threads", "0"], &["1 or more"]),
        (&["--shard", "2/2"], &["the last 1"]),
        (&["--pictures", "best"], &["pictures \"best\""]),
        (&["--worker", "2"], &["--worker", "\"workers\""]),
        (&["--method", "pww", "--task", "named"], &["none of the methods"]),
        (&["runn"], &["\"run\""]),
    ];
    for (arguments, words) in rows {
        let message = Arguments::parse(arguments).expect_err(&arguments.join(" "));
        assert!(words.iter().all(|word| message.contains(word)), "{arguments:?}: {message}");
    }
    let solver = Settings { solver: "Eular".into(), ..Settings::default() };
    assert!(Real::new(&solver).err().unwrap().to_string().contains("did you mean"));
}

#[test]
fn a_list_of_prompts_is_checked_before_the_first_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.txt");
    let parts = ["eyes".to_owned()];
    let message = |text: &str| {
        std::fs::write(&path, text).unwrap();
        listing::portraits(&path, &parts).unwrap_err()
    };
    assert!(message("1girl, eyes\n\n").contains("line 2, column 1"));
    assert!(message("1girl, hair\n").contains("phrase \"eyes\" is not in"));
    assert!(message("1girl, eyes\n1girl, eyes\n").contains("twice"));
    assert!(message("").contains("no prompts"));
}

// ---- The embedded model ----

#[test]
fn four_seeds_of_the_real_model() {
    let suite = Suite::new("public", 0);
    let choice = Choice {
        tasks: vec![Task::Named, Task::Numeric],
        methods: vec![Method::Unforced, Method::Doc, Method::Recolor, Method::Paste],
        ..Arguments::default().choice
    };
    let plan = Plan { choice, seeds: Seeds::Exactly(4), workers: 2, ..plan(&suite, &[]) };
    let folder = tempfile::tempdir().unwrap();
    let (mut records, _) = Records::open(&folder.path().join("runs.jsonl")).unwrap();
    let mut all = Vec::new();
    tch::set_num_threads(1);
    let bench = || Ok((Real::new(&Settings::default())?, Evaluator::open()?));
    let _ = runner::run(&plan, &[], &mut records, bench, |record, _, _| {
        all.push(record.clone());
        Ok(())
    })
    .unwrap();
    let summary = Summary::new(&of_maker(all, &plan.made), About::default(), None).unwrap();
    report::print(&summary, false);
    let figure = |method, name: &str| summary.row("color", method, ALL).unwrap().figures[name].value.unwrap();
    assert!(figure(Method::Doc, "delta_e") < 0.7 * figure(Method::Unforced, "delta_e"));
    assert!(figure(Method::Recolor, "delta_e") <= 3.0 && figure(Method::Recolor, "leak") <= 0.5);
    assert!(figure(Method::Paste, "delta_e") <= 3.0 && figure(Method::Paste, "block") > 0.5);
    assert_eq!(figure(Method::Unforced, "retry"), 1.0);
}
