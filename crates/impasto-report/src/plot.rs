//! Plots of a page: a few lines of SVG in the page's own colors.

use crate::numbers::{ends, lasted, range, short};
use impasto::guidance::Curve;
use maud::{Markup, html};
use std::time::Duration;

/// Width and height of a plot in SVG units; the page stretches plots.
const SIZE: (f64, f64) = (320.0, 116.0);
/// Space for the labels of the vertical axis.
const LEFT: f64 = 42.0;
/// Space for the labels of the horizontal axis.
const BOTTOM: f64 = 22.0;
/// Space above and right of the drawing.
const MARGIN: f64 = 8.0;

/// Draws curves over the steps of a run, with both axes labelled. The vertical axis covers 0 and all values.
pub fn curves(label: &str, curves: &[&Curve], steps: usize) -> Markup {
    let (low, high) = ends(curves);
    let x = |step: usize| LEFT + (SIZE.0 - LEFT - MARGIN) * step as f64 / steps.saturating_sub(1).max(1) as f64;
    let y = |value: f64| SIZE.1 - BOTTOM - (SIZE.1 - BOTTOM - MARGIN) * (value - low) / (high - low);
    let range = range(curves);
    figure(
        &html! {
            (axes(&[(y(low), short(low)), (y(high), short(high))], steps))
            @if low < 0.0 && high > 0.0 { line x1=(LEFT) x2=(SIZE.0 - MARGIN) y1=(place(y(0.0))) y2=(place(y(0.0))) {} }
            @for curve in curves {
                @let points = || curve.points.iter().filter(|(_, value)| value.is_finite());
                @let line: Vec<String> = points().map(|(step, value)| format!("{:.1},{:.1}", x(*step), y(*value))).collect();
                polyline points=(line.join(" ")) {}
                @for (step, value) in points() {
                    circle cx=(place(x(*step))) cy=(place(y(*value))) r="3" {
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

/// Draws a bar for the time of every step, with both axes labelled.
pub fn bars(times: &[Duration]) -> Markup {
    let longest = times.iter().max().copied().unwrap_or_default();
    if longest.is_zero() {
        return Markup::default();
    }
    let (width, full) = ((SIZE.0 - LEFT - MARGIN) / times.len() as f64, SIZE.1 - BOTTOM - MARGIN);
    figure(
        &html! {
            (axes(&[(SIZE.1 - BOTTOM, "0".into()), (MARGIN, lasted(longest))], times.len()))
            @for (step, time) in times.iter().enumerate() {
                @let height = full * time.as_secs_f64() / longest.as_secs_f64();
                rect x=(format!("{:.2}", LEFT + (step as f64 + 0.1) * width)) y=(format!("{:.2}", SIZE.1 - BOTTOM - height))
                    width=(format!("{:.2}", 0.8 * width)) height=(format!("{height:.2}")) {
                    title { "step " (step + 1) ": " (lasted(*time)) }
                }
            }
        },
        &html! { "time of each step; the longest took " (lasted(longest)) },
    )
}

/// Draws both axes. The vertical axis has `labels` at their heights; the horizontal axis has the first and the last
/// step.
fn axes(labels: &[(f64, String)], steps: usize) -> Markup {
    let (right, base) = (SIZE.0 - MARGIN, SIZE.1 - BOTTOM);
    html! {
        line x1=(LEFT) x2=(LEFT) y1=(MARGIN) y2=(base) {}
        line x1=(LEFT) x2=(right) y1=(base) y2=(base) {}
        @for (y, label) in labels {
            text x=(LEFT - 4.0) y=(place(y + 3.5)) text-anchor="end" { (label) }
        }
        text x=(LEFT) y=(SIZE.1 - 8.0) { "step 1" }
        @if steps > 1 { text x=(right) y=(SIZE.1 - 8.0) text-anchor="end" { (steps) } }
    }
}

/// Formats a coordinate with one digit after the point.
fn place(value: f64) -> String {
    format!("{value:.1}")
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
    fn curve_has_a_point_for_each_finite_value() {
        let curve = Curve::new("x & y", vec![(0, 1.0), (1, f64::NAN), (3, 2.0)]);
        let drawn = curves("x & y", &[&curve], 4).into_string();
        assert_eq!(drawn.matches("<circle").count(), 2);
        assert!(drawn.contains("x &amp; y: 1 to 2") && !drawn.contains("NaN"), "{drawn}");
        assert!(curves("nothing", &[], 0).into_string().contains("nothing</figcaption>"));
        assert_eq!(bars(&[]).into_string(), "");
    }

    #[test]
    fn plots_have_labelled_axes() {
        let curve = Curve::new("depth", vec![(0, -0.25), (7, 12.5)]);
        let drawn = curves("depth", &[&curve], 8).into_string();
        for label in [">-0.25<", ">12.5<", ">step 1<", ">8<"] {
            assert!(drawn.contains(label), "{label}: {drawn}");
        }
        let drawn = bars(&[Duration::from_millis(40), Duration::from_millis(90)]).into_string();
        for label in [">0<", ">90 ms<", ">step 1<", ">2<"] {
            assert!(drawn.contains(label), "{label}: {drawn}");
        }
    }
}
