//! Is the yardstick straight? The reference's numbers, what they must say, and the bookkeeping around them.
#![allow(dead_code)]

#[path = "../examples/yardstick/metrics.rs"]
mod metrics;
#[path = "../examples/yardstick/regions.rs"]
mod regions;
#[path = "../examples/yardstick/statistics.rs"]
mod statistics;
#[path = "../examples/yardstick/suite.rs"]
mod suite;

use impasto::Rgb;
use metrics::{Measure, Pair, Picture, measure};
use ndarray::Array2;
use regions::{Labels, area, core, erode, of_class};
use serde_json::{Value, json};
use suite::{Rng, Style, fnv};

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
