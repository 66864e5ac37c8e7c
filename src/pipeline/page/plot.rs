//! Plots of a page: a few lines of SVG in the page's own colors.

use super::{escaped, lasted};
use crate::guidance::Curve;
use std::time::Duration;

/// Width and height in the page's units; the page stretches them.
const SIZE: (f64, f64) = (320.0, 96.0);
const MARGIN: f64 = 8.0;

/// Curves over the run's steps, from 0 or the least to the greatest value.
pub(super) fn curves(label: &str, curves: &[&Curve], steps: usize) -> String {
    let values =
        || curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = values().fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let x = |step: usize| MARGIN + (SIZE.0 - 2.0 * MARGIN) * step as f64 / steps.saturating_sub(1).max(1) as f64;
    let spread = if high > low { high - low } else { 1.0 };
    let y = |value: f64| SIZE.1 - MARGIN - (SIZE.1 - 2.0 * MARGIN) * (value - low) / spread;
    let mut drawn = format!("<line x1=\"0\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>", SIZE.0, y(0.0));
    for curve in curves {
        let points = curve.points.iter().filter(|(_, value)| value.is_finite());
        let line: Vec<String> =
            points.clone().map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value))).collect();
        let dot = |(step, value): &(usize, f64)| {
            let whose = curve.image.map_or_else(String::new, |image| format!("image {image}, "));
            let title = format!("{whose}step {}: {value:.4}", step + 1);
            format!("<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{title}</title></circle>", x(*step), y(*value))
        };
        drawn += &format!("<polyline points=\"{}\"/>{}", line.join(" "), points.map(dot).collect::<String>());
    }
    let range = range(curves);
    let range = if range.is_empty() { range } else { format!(": {range}") };
    let (w, h) = SIZE;
    format!(
        "<figure class=\"plot\"><svg viewBox=\"0 0 {w} {h}\" role=\"img\">{drawn}</svg>\
         <figcaption>{}{range}</figcaption></figure>\n",
        escaped(label)
    )
}

/// A bar for every step's time.
pub(super) fn bars(times: &[Duration]) -> String {
    let longest = times.iter().max().map_or(0.0, Duration::as_secs_f64);
    if longest == 0.0 {
        return String::new();
    }
    let (width, (w, h)) = (SIZE.0 / times.len() as f64, SIZE);
    let bar = |(step, time): (usize, &Duration)| {
        let height = (h - MARGIN) * time.as_secs_f64() / longest;
        format!(
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"><title>step {}: {}</title></rect>",
            step as f64 * width,
            h - height,
            0.8 * width,
            step + 1,
            lasted(*time)
        )
    };
    let bars: String = times.iter().enumerate().map(bar).collect();
    format!(
        "<figure class=\"plot\"><svg viewBox=\"0 0 {w} {h}\" role=\"img\">{bars}</svg>\
         <figcaption>each step; the longest took {}</figcaption></figure>\n",
        lasted(Duration::from_secs_f64(longest))
    )
}

/// From the least to the greatest value, in words.
pub(in crate::pipeline) fn range(curves: &[&Curve]) -> String {
    let values =
        curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let ends = (f64::INFINITY, f64::NEG_INFINITY);
    match values.fold(ends, |(least, greatest), value| (least.min(value), greatest.max(value))) {
        (least, greatest) if least > greatest => String::new(),
        (least, greatest) if greatest - least < 5e-4 * greatest.abs() => short(greatest),
        (least, greatest) => format!("{} to {}", short(least), short(greatest)),
    }
}

/// A number of about three digits.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 || small == 0.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let texts = [1234.6, 12.34, 1.0, 0.9312, 0.0, -0.5].map(short);
        assert_eq!(texts, ["1235", "12.3", "1", "0.931", "0", "-0.5"]);
    }

    #[test]
    fn a_curve_has_a_point_for_each_finite_value() {
        let curve = Curve::new("x & y", vec![(0, 1.0), (1, f64::NAN), (3, 2.0)]);
        let drawn = curves("x & y", &[&curve], 4);
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains("x &amp; y: 1 to 2") && !drawn.contains("NaN"), "{drawn}");
        assert!(curves("nothing", &[], 0).contains("nothing</figcaption>"));
        assert_eq!(bars(&[]), "");
    }
}
