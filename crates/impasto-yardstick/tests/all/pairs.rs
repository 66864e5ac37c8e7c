//! Tests with pairs of drawings whose truth is known, by true labels and by the judge.

use crate::*;

pub fn atlas() -> Vec<(Value, Picture, Picture, Labels)> {
    let path = format!("{}/tests/golden/yardstick_pairs.png", env!("CARGO_MANIFEST_DIR"));
    let sheet = picture::picture(&impasto::Raster::open(path).unwrap()).unwrap();
    let pairs = golden("yardstick_pairs")["pairs"].as_array().unwrap().clone();
    let tile = |row: usize, column: usize| {
        Array2::from_shape_fn((128, 128), |(y, x)| sheet[(128 * row + y, 128 * column + x)])
    };
    let rows = pairs.into_iter().enumerate();
    rows.map(|(row, pair)| (pair, tile(row, 0), tile(row, 1), tile(row, 2).mapv(|pixel| pixel.0 / 12))).collect()
}

pub fn target_of(pair: &Value) -> (u8, Rgb) {
    let [r, g, b]: [u8; 3] = serde_json::from_value(pair["target"].clone()).unwrap();
    (pair["class"].as_u64().unwrap() as u8, Rgb(r, g, b))
}

#[test]
fn pairs_with_true_labels_equal_the_reference() {
    for (pair, u, f, mask) in atlas() {
        // The truth on the judge's grid: every second pixel.
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
fn judge_measures_known_pairs_accurately() {
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

#[test]
fn objects_that_the_judge_finds_badly_are_weak() {
    let iou = |house: f64| {
        let all: BTreeMap<&str, f64> =
            task::OBJECTS.iter().map(|object| (*object, if *object == "house" { house } else { 0.9 })).collect();
        calibration::weak(&json!({ "iou_held_out": all }).to_string()).unwrap()
    };
    assert_eq!((iou(0.71), iou(0.69)), (vec![], vec!["house".to_owned()]));
    assert_eq!(calibration::weak(impasto_train::Evaluator::CARD).unwrap(), [""; 0]);
}

#[test]
fn half_painted_components_are_not_whole() {
    // The part has two squares, and half of one square is painted.
    let square = |y: usize, x: usize| (40..72).contains(&y) && ((16..48).contains(&x) || (80..112).contains(&x));
    let (old, gold, other) = (Rgb(120, 70, 30), Rgb(255, 215, 0), Rgb(40, 60, 200));
    let labels = Array2::from_shape_fn((128, 128), |(y, x)| if square(y, x) { 3 } else { 0 });
    let picture = |painted: &dyn Fn(usize, usize) -> bool| {
        Array2::from_shape_fn((128, 128), |(y, x)| match (square(y, x), painted(y, x)) {
            (true, true) => gold,
            (true, false) => old,
            (false, _) => other,
        })
    };
    let unforced = picture(&|_, _| false);
    let figures = |forced: &Picture| {
        let pair = Pair { unforced: &unforced, forced, labels_unforced: &labels, labels_forced: &labels, unit: 1 };
        let measure = measure(&pair, 3, gold, &[]);
        (measure.whole, measure.remainder)
    };
    assert_eq!(figures(&picture(&|_, _| true)), (Some(1.0), Some(0.0)));
    let (whole, remainder) = figures(&picture(&|_, x| x < 96));
    assert_eq!(whole, Some(0.5));
    assert!(remainder.is_some_and(|share| (0.2..0.3).contains(&share)), "{remainder:?}");
    assert_eq!(figures(&unforced), (Some(0.0), Some(1.0)));
}
