//! Plots as SVG for a light or dark page. Everything but the data has the text's color, and there is no background.

use crate::failure::Failure;
use crate::picture;
use crate::record::{PartFigures, Record};
use crate::statistics::Figure;
use crate::task::Method;
use impasto::Rgb;
use plotters::prelude::*;
use std::collections::BTreeMap;

/// Placeholder for the text's color until the page is made.
const INK: RGBColor = RGBColor(1, 2, 3);

const fn rgb(Rgb(r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

/// Removes the plot's fixed size, and replaces the placeholder by the text's color.
fn for_pages(svg: String, (w, h): (u32, u32)) -> String {
    svg.replace(&format!("width=\"{w}\" height=\"{h}\" "), "role=\"img\" ").replace("#010203", "currentColor")
}

/// Builds an empty chart with labels. Further settings of its mesh may follow.
macro_rules! chart {
    ($area:expr, $x:expr, $y:expr, $x_name:expr, $y_name:expr $(, .$setting:ident($value:expr))*) => {{
        let mut chart = ChartBuilder::on($area)
            .margin(8)
            .margin_right(22)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d($x, $y)?;
        chart
            .configure_mesh()
            .axis_style(INK.mix(0.5))
            .bold_line_style(INK.mix(0.12))
            .light_line_style(INK.mix(0.0))
            .label_style(("sans-serif", 15, &INK))
            .axis_desc_style(("sans-serif", 16, &INK))
            .x_desc($x_name)
            .y_desc($y_name)
            $(.$setting($value))*
            .draw()?;
        chart
    }};
}

/// Plots the share of runs within each ΔE, for every method.
pub fn cumulative(records: &[Record]) -> Result<String, Failure> {
    const SIZE: (u32, u32) = (540, 360);
    const FAR: f64 = 40.0;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = chart!(&area, 0.0..FAR, 0.0..1.0, "ΔE2000 to the requested color", "share of runs");
        for (method, mut values) in deltas(records) {
            values.sort_by(f64::total_cmp);
            let n = values.len() as f64;
            let mut line = vec![(0.0, 0.0)];
            for (i, value) in values.iter().enumerate().take_while(|(_, value)| **value <= FAR) {
                line.extend([(*value, i as f64 / n), (*value, (i + 1) as f64 / n)]);
            }
            line.push((FAR, line.last().map_or(0.0, |last| last.1)));
            let _ = chart.draw_series(LineSeries::new(line, rgb(method.row().color).stroke_width(2)))?;
        }
        area.present()?;
    }
    Ok(for_pages(svg, SIZE))
}

/// Plots ΔE against leakage, one point for each run.
pub fn scatter(records: &[Record]) -> Result<String, Failure> {
    const SIZE: (u32, u32) = (540, 360);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart =
            chart!(&area, 0.0..60.0, 0.0..25.0, "ΔE2000 to the requested color", "median leakage of the other parts");
        for (record, part) in singles(records).filter(|(record, _)| record.method != Method::Unforced) {
            let Some(leak) = part.measure.leak_median else { continue };
            let place = (part.delta_e().min(60.0), leak.min(25.0));
            let _ = chart.draw_series([Circle::new(place, 3, rgb(record.method.row().color).mix(0.55).filled())])?;
        }
        area.present()?;
    }
    Ok(for_pages(svg, SIZE))
}

/// Plots the asked colors on the a*b* plane. A circle grows with the method's median ΔE to its color.
pub fn plane(records: &[Record], method: Method) -> Result<String, Failure> {
    const SIZE: (u32, u32) = (540, 470);
    let mut by_color: BTreeMap<[u8; 3], Vec<f64>> = BTreeMap::new();
    for (_, part) in singles(records).filter(|(record, _)| record.method == method) {
        let Rgb(r, g, b) = part.target;
        by_color.entry([r, g, b]).or_default().push(part.delta_e());
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = chart!(&area, -80.0..100.0, -110.0..100.0, "a*", "b*");
        let medians = by_color.into_iter().map(|(color, values)| (color, crate::statistics::median(values)));
        let mut medians: Vec<([u8; 3], f64)> = medians.collect();
        // Large circles are drawn first, so small circles lie on them.
        medians.sort_by(|a, b| b.1.total_cmp(&a.1));
        for ([r, g, b], median) in medians {
            let lab = picture::lab(Rgb(r, g, b));
            let radius = 5.0 + median.min(60.0) / 2.0;
            let place = (lab.a, lab.b);
            let _ = chart.draw_series([Circle::new(place, radius as i32, RGBColor(r, g, b).filled())])?;
            let _ = chart.draw_series([Circle::new(place, radius as i32, INK.mix(0.6).stroke_width(1))])?;
            let text = if median.is_finite() { format!("{median:.1}") } else { "∞".into() };
            let style = ("sans-serif", 13).into_font().color(&INK);
            let _ = chart.draw_series([Text::new(text, (lab.a + 1.5 + radius / 3.0, lab.b + 3.0), style)])?;
        }
        area.present()?;
    }
    Ok(for_pages(svg, SIZE))
}

/// Plots a bar for each part. The wider bar behind it shows the best value that can be reached.
pub fn bars(values: &[(String, Figure, f64)]) -> Result<String, Failure> {
    const SIZE: (u32, u32) = (640, 300);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let parts = values.len() as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(22)
            .y_label_area_size(50)
            .build_cartesian_2d(0.0..parts, 0.0..1.16)?; // room for the names above high bars
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .axis_style(INK.mix(0.5))
            .bold_line_style(INK.mix(0.12))
            .light_line_style(INK.mix(0.0))
            .label_style(("sans-serif", 17, &INK))
            .draw()?;
        for (i, (part, figure, ceiling)) in values.iter().enumerate() {
            let x = i as f64;
            let bar = |from: f64, to: f64, top: f64| [(x + from, 0.0), (x + to, top)];
            let _ = chart.draw_series([Rectangle::new(bar(0.12, 0.88, *ceiling), INK.mix(0.15).filled())])?;
            let value = figure.value.unwrap_or(0.0);
            let _ = chart.draw_series([Rectangle::new(bar(0.24, 0.76, value), RGBColor(66, 133, 200).filled())])?;
            if let (Some(low), Some(high)) = (figure.low, figure.high) {
                let line = [(x + 0.5, low), (x + 0.5, high)];
                let _ = chart.draw_series(LineSeries::new(line, INK.stroke_width(2)))?;
            }
            let style = ("sans-serif", 17).into_font().color(&INK);
            let top = ceiling.max(value).max(figure.high.unwrap_or(0.0));
            for (line, text) in [part.clone(), format!("{value:.2}")].into_iter().rev().enumerate() {
                let place = (x + 0.12, top + 0.08 + 0.07 * line as f64);
                let _ = chart.draw_series([Text::new(text, place, style.clone())])?;
            }
        }
        area.present()?;
    }
    Ok(for_pages(svg, SIZE))
}

/// Color of line `i` in a plot that does not compare methods.
pub fn line_color(i: usize) -> Rgb {
    [Rgb(120, 110, 210), Rgb(235, 130, 30), Rgb(60, 170, 175)][i % 3]
}

/// Plots a line with confidence intervals for each kind of pictures, over the strength of a guide.
pub fn strengths(lines: &[(&str, Vec<(f64, Figure)>)], name: &str) -> Result<String, Failure> {
    const SIZE: (u32, u32) = (540, 360);
    let ends = |figure: &Figure| [figure.low, figure.value, figure.high];
    let all = lines.iter().flat_map(|(_, line)| line.iter().flat_map(|(_, figure)| ends(figure)));
    let (low, high) = all.flatten().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    // The axis has a small margin around the data. Without data the chart is empty.
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let air = (0.06 * (high - low)).max(1e-3);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = chart!(&area, 0.0..0.75, low - air..high + air, "max_guidance", name);
        for (i, (_, line)) in lines.iter().enumerate() {
            let color = rgb(line_color(i));
            let points: Vec<_> = line.iter().filter_map(|(x, figure)| Some((*x, figure.value?))).collect();
            let _ = chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
            let _ = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
            for (x, figure) in line {
                // The intervals of different lines lie side by side.
                let x = x + 0.006 * (i as f64 - 1.0);
                if let (Some(low), Some(high)) = (figure.low, figure.high) {
                    let interval = LineSeries::new([(x, low), (x, high)], color.mix(0.5).stroke_width(1));
                    let _ = chart.draw_series(interval)?;
                }
            }
        }
        area.present()?;
    }
    Ok(for_pages(svg, SIZE))
}

/// A line of points.
type Line = Vec<(f64, f64)>;

/// Plots a quantity over others that are varied: a panel for each, with its name, measured points and a dashed line of
/// expected points. A panel without measured points stays empty. The plot is legible on light and on dark pages.
pub fn growth(panels: &[(&str, Line, Line)], quantity: &str) -> Result<String, Failure> {
    const SIDE: (u32, u32) = (320, 260);
    const LINE: RGBColor = RGBColor(66, 133, 200);
    let (columns, rows) = (panels.len().clamp(1, 3), panels.len().div_ceil(3).max(1));
    let mut svg = String::new();
    {
        let size = (SIDE.0 * columns as u32, SIDE.1 * rows as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        for (area, (name, measured, expected)) in area.split_evenly((rows, columns)).iter().zip(panels) {
            let Some((start, _)) = measured.first() else { continue };
            let all = measured.iter().chain(expected);
            let (last, top) = all.fold((f64::MIN, 1.0f64), |(last, top), (x, y)| (last.max(*x), top.max(*y)));
            let mut chart = chart!(
                area,
                *start..last,
                0.0..1.08 * top,
                *name,
                quantity,
                .x_labels(6),
                .x_label_formatter(&|x| format!("{x:.0}")),
                .y_labels(5),
                .y_label_formatter(&|y| if top > 3.0 { format!("{y:.0}") } else { format!("{y:.1}") })
            );
            chart.draw_series(DashedLineSeries::new(expected.iter().copied(), 5, 4, INK.stroke_width(1)))?;
            chart.draw_series(LineSeries::new(measured.iter().copied(), LINE.stroke_width(2)))?;
            chart.draw_series(measured.iter().map(|point| Circle::new(*point, 3, LINE.filled())))?;
        }
        area.present()?;
    }
    // A picture of its own does not inherit the page's color of text.
    Ok(svg.replace("#010203", "#6E7681"))
}

/// Runs of one part and one color.
pub fn singles(records: &[Record]) -> impl Iterator<Item = (&Record, &PartFigures)> {
    use crate::task::Task;
    let of = records.iter().filter(|record| matches!(record.task, Task::Named | Task::Numeric));
    of.filter_map(|record| Some((record, record.parts.first()?)))
}

fn deltas(records: &[Record]) -> BTreeMap<Method, Vec<f64>> {
    let mut deltas: BTreeMap<Method, Vec<f64>> = BTreeMap::new();
    for (record, part) in singles(records) {
        deltas.entry(record.method).or_default().push(part.delta_e());
    }
    deltas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_has_a_panel_with_labels_for_each_quantity() {
        let line = |top: f64| vec![(1.0, 1.0), (2.0, top)];
        let panels =
            [("images", line(2.0), line(2.5)), ("chunks", line(1.1), line(1.0)), ("none", Vec::new(), line(1.0))];
        let svg = growth(&panels, "time of a step").expect("a plot");
        assert!(svg.contains("images") && svg.contains("chunks"));
        assert!(!svg.contains(">none<"), "a panel without measured points stays empty");
        assert_eq!(svg.matches("time of a step").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 4, "one for each measured point");
        assert!(svg.contains("#6E7681") && !svg.contains("#010203"), "a color for light and dark pages");
    }
}
