//! Plots of a page: a few lines of SVG in the page's own colors.

use crate::numbers::{lasted, range};
use impasto::guidance::Curve;
use maud::{Markup, html};
use std::time::Duration;

/// Width and height in the page's units; the page stretches them.
const SIZE: (f64, f64) = (320.0, 96.0);
const MARGIN: f64 = 8.0;

/// Curves over the run's steps, from 0 or the least to the greatest value.
pub fn curves(label: &str, curves: &[&Curve], steps: usize) -> Markup {
    let values =
        || curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let (low, high) = values().fold((0.0f64, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
    let x = |step: usize| MARGIN + (SIZE.0 - 2.0 * MARGIN) * step as f64 / steps.saturating_sub(1).max(1) as f64;
    let spread = if high > low { high - low } else { 1.0 };
    let y = |value: f64| SIZE.1 - MARGIN - (SIZE.1 - 2.0 * MARGIN) * (value - low) / spread;
    let zero = format!("{:.1}", y(0.0));
    let range = range(curves);
    figure(
        &html! {
            line x1="0" x2=(SIZE.0) y1=(zero) y2=(zero) {}
            @for curve in curves {
                @let points = || curve.points.iter().filter(|(_, value)| value.is_finite());
                @let line: Vec<String> = points().map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value))).collect();
                polyline points=(line.join(" ")) {}
                @for (step, value) in points() {
                    circle cx=(format!("{:.1}", x(*step))) cy=(format!("{:.1}", y(*value))) r="3" {
                        title {
                            @if let Some(image) = curve.image { "image " (image) ", " }
                            "step " (step + 1) ": " (format!("{value:.4}"))
                        }
                    }
                }
            }
        },
        &html! { (label) @if !range.is_empty() { ": " (range) } },
    )
}

/// A bar for every step's time.
pub fn bars(times: &[Duration]) -> Markup {
    let longest = times.iter().max().map_or(0.0, Duration::as_secs_f64);
    if longest == 0.0 {
        return Markup::default();
    }
    let (width, h) = (SIZE.0 / times.len() as f64, SIZE.1);
    figure(
        &html! {
            @for (step, time) in times.iter().enumerate() {
                @let height = (h - MARGIN) * time.as_secs_f64() / longest;
                rect x=(format!("{:.2}", step as f64 * width)) y=(format!("{:.2}", h - height))
                    width=(format!("{:.2}", 0.8 * width)) height=(format!("{height:.2}")) {
                    title { "step " (step + 1) ": " (lasted(*time)) }
                }
            }
        },
        &html! { "each step; the longest took " (lasted(Duration::from_secs_f64(longest))) },
    )
}

fn figure(drawing: &Markup, caption: &Markup) -> Markup {
    html! {
        figure.plot {
            svg viewBox=(format!("0 0 {} {}", SIZE.0, SIZE.1)) role="img" { (drawing) }
            figcaption { (caption) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_a_point_for_each_finite_value() {
        let curve = Curve::new("x & y", vec![(0, 1.0), (1, f64::NAN), (3, 2.0)]);
        let drawn = curves("x & y", &[&curve], 4).into_string();
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains("x &amp; y: 1 to 2") && !drawn.contains("NaN"), "{drawn}");
        assert!(curves("nothing", &[], 0).into_string().contains("nothing</figcaption>"));
        assert_eq!(bars(&[]).into_string(), "");
    }
}
