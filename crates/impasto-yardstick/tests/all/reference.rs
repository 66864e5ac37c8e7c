//! Tests of six synthetic pairs: the reference's numbers and their meaning.

use crate::*;

pub const PART: u8 = 2;
pub const TARGET: Rgb = Rgb(200, 150, 60);
pub type Paints = [(u8, Rgb, f64); 4];
/// Color and depth of shading of each class.
pub const BASE: Paints = [
    (0, Rgb(70, 120, 160), 0.05),
    (1, Rgb(236, 200, 172), 0.10),
    (2, Rgb(120, 60, 40), 0.18),
    (4, Rgb(190, 40, 60), 0.08),
];

/// Repeats each label twice in both directions.
pub fn doubled(labels: &Labels) -> Labels {
    Array2::from_shape_fn((64, 64), |(y, x)| labels[(y / 2, x / 2)])
}

pub fn layout() -> Labels {
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

pub fn paint(labels: &Labels, paints: &Paints) -> Picture {
    Array2::from_shape_fn(labels.dim(), |(y, x)| {
        let (_, base, shade) = paints.iter().find(|(class, ..)| *class == labels[(y, x)]).unwrap();
        let light = 1.0 + shade * (0.9 * x as f64 + 0.4 * y as f64).sin();
        let channel = |base: u8| ((f64::from(base) * light).clamp(0.0, 255.0) + 0.5).floor() as u8;
        Rgb(channel(base.0), channel(base.1), channel(base.2))
    })
}

pub fn repainted(changes: &[(u8, Rgb)]) -> Paints {
    BASE.map(|(class, rgb, shade)| {
        (class, changes.iter().find(|(changed, _)| *changed == class).map_or(rgb, |(_, rgb)| *rgb), shade)
    })
}

/// Scales the part's own shading in linear light so that the core's mean is the target.
pub fn perfect(u: &Picture, labels: &Labels) -> Picture {
    let part = of_class(labels, PART);
    let mean = picture::mean_linear(u, &core(&part, 1).1);
    let goal = picture::light(TARGET);
    Array2::from_shape_fn(u.dim(), |at| {
        if !part[at] {
            return u[at];
        }
        let light = picture::light(u[at]);
        let [r, g, b] =
            picture::encoded([0, 1, 2].map(|c| light[c] / mean[c] * goal[c])).map(|x| (x + 0.5).floor() as u8);
        Rgb(r, g, b)
    })
}

/// Unforced and forced picture with their labels.
pub fn case(name: &str) -> (Picture, Picture, Labels, Labels) {
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

pub fn measured(name: &str) -> Measure {
    let (u, f, lu, lf) = case(name);
    let pair = Pair { unforced: &u, forced: &f, labels_unforced: &lu, labels_forced: &lf, unit: 1 };
    measure(&pair, PART, TARGET, &[])
}

pub fn sum(picture: &Picture) -> u64 {
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
            let found = placement::placement(&labels, class.parse().unwrap(), &region);
            same(half, &serde_json::to_value(found).unwrap(), want, 1e-6);
        }
    }
    let cloud = |picture: &Picture| picture.iter().map(|rgb| picture::lab(*rgb)).collect::<Vec<_>>();
    for (name, want) in golden["sliced"].as_object().unwrap() {
        let (u, f, ..) = case(name);
        same(name, &json!(picture::sliced(&cloud(&u), &cloud(&f))), want, 1e-6);
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
fn figures_tell_the_synthetic_cases_apart() {
    let [perfect, null, paste, flood, vanish] = ["perfect", "null", "paste", "flood", "vanish"].map(measured);
    let painted = |measure: &Measure| measure.painted.clone().unwrap();
    assert!(painted(&perfect).delta_e < 0.3 && perfect.leak_max == Some(0.0) && !perfect.retry);
    assert!(painted(&null).delta_e == painted(&null).delta_e_unforced && null.retry);
    assert_eq!(painted(&null).texture, Some(1.0));
    assert!(painted(&paste).delta_e < 1e-9 && painted(&paste).block && paste.retry);
    assert!(painted(&flood).delta_e < 0.3 && flood.leak_median > Some(40.0) && flood.dyed == Some(1.0) && flood.retry);
    assert!(vanish.vanished && vanish.painted.is_none() && vanish.retry);
}

/// An independent CIEDE2000, written from the paper. It checks the CIEDE2000 that the yardstick uses, which is from
/// another crate.
///
/// Source: Sharma, Wu, Dalal, "The CIEDE2000 Color-Difference Formula" (2005), equations 2 to 22.
///
/// For hues more than 180° apart, the paper subtracts 180° from their mean if their sum is `turned` = 360° or more;
/// `palette` always adds 180°. Both results are the same angle, but they have different values in the Gaussian of the
/// rotation term.
fn ciede2000(a: impasto::Lab, b: impasto::Lab, turned: f64) -> f64 {
    let seventh = |c: f64| (c.powi(7) / (c.powi(7) + 25f64.powi(7))).sqrt();
    let chroma = (a.a.hypot(a.b) + b.a.hypot(b.b)) / 2.0;
    let g = 0.5 * (1.0 - seventh(chroma));
    let (a1, a2) = ((1.0 + g) * a.a, (1.0 + g) * b.a);
    let (c1, c2) = (a1.hypot(a.b), a2.hypot(b.b));
    let hue = |b: f64, a: f64| b.atan2(a).to_degrees().rem_euclid(360.0);
    let (h1, h2) = (hue(a.b, a1), hue(b.b, a2));
    let gray = c1 * c2 == 0.0;
    let turn = match h2 - h1 {
        _ if gray => 0.0,
        turn if turn > 180.0 => turn - 360.0,
        turn if turn < -180.0 => turn + 360.0,
        turn => turn,
    };
    let (dl, dc) = (b.l - a.l, c2 - c1);
    let dh = 2.0 * (c1 * c2).sqrt() * (turn / 2.0).to_radians().sin();
    let (l, c) = ((a.l + b.l) / 2.0, (c1 + c2) / 2.0);
    let h = match h1 + h2 {
        sum if gray => sum,
        sum if (h1 - h2).abs() <= 180.0 => sum / 2.0,
        sum if sum < turned => (sum + 360.0) / 2.0,
        sum => (sum - 360.0) / 2.0,
    };
    let cos = |degrees: f64| degrees.to_radians().cos();
    let t = 1.0 - 0.17 * cos(h - 30.0) + 0.24 * cos(2.0 * h) + 0.32 * cos(3.0 * h + 6.0) - 0.20 * cos(4.0 * h - 63.0);
    let sl = 1.0 + 0.015 * (l - 50.0).powi(2) / (20.0 + (l - 50.0).powi(2)).sqrt();
    let (sc, sh) = (1.0 + 0.045 * c, 1.0 + 0.015 * c * t);
    let rotation = 30.0 * (-((h - 275.0) / 25.0).powi(2)).exp();
    let rt = -(2.0 * rotation).to_radians().sin() * 2.0 * seventh(c);
    let (l, c, h) = (dl / sl, dc / sc, dh / sh);
    (l * l + c * c + h * h + rt * c * h).sqrt()
}

#[test]
fn color_differences_equal_the_papers_formula() {
    let mut rng = Rng::new("yardstick-1/test/ciede2000");
    let mut color = |near: Option<impasto::Lab>| {
        let mut within = |low: f64, high: f64| low + (high - low) * rng.unit();
        match near {
            // Small differences are measured most often.
            Some(lab) => impasto::Lab {
                l: lab.l + within(-3.0, 3.0),
                a: lab.a + within(-5.0, 5.0),
                b: lab.b + within(-5.0, 5.0),
            },
            None => impasto::Lab { l: within(0.0, 100.0), a: within(-100.0, 100.0), b: within(-100.0, 100.0) },
        }
    };
    for i in 0..10_000 {
        let a = color(None);
        let b = color((i % 2 == 1).then_some(a));
        let (got, want) = (a.delta_e(b), ciede2000(a, b, f64::INFINITY));
        assert!((got - want).abs() < 1e-9, "{a:?}, {b:?}: {got} is not {want}");
        // The paper and `palette` differ by less than 1e-3, and by less than 1e-4 for small differences.
        let (paper, most) = (ciede2000(a, b, 360.0), if got < 20.0 { 1e-4 } else { 1e-3 });
        assert!((got - paper).abs() < most, "{a:?}, {b:?}: {got} is not the paper's {paper}");
    }
    for i in 0..=255 {
        let gray = Rgb(i, i, i).lab();
        let gold = Rgb(255, 215, 0).lab();
        assert!((gray.delta_e(gold) - ciede2000(gray, gold, 360.0)).abs() < 1e-4);
    }
}
