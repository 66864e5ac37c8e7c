//! The curves of a journal as a picture.

use super::Journal;
use impasto::Raster;
use impasto::Result;
use impasto::Rgb;
use impasto_report::Sheet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Size of a figure's panel in pixels.
const PANEL: (usize, usize) = (320, 140);

/// Draws a panel for every figure of a journal.
///
/// Each panel shows all values in gray and their running mean in blue, over the steps. It spans the smallest to the
/// largest value, on a logarithmic scale if all values are positive. Captions have the first and the last running mean.
///
/// # Errors
/// [`Error::Io`](impasto::Error::Io) if the journal cannot be read.
pub fn curves(journal: &Path) -> Result<Raster> {
    let mut figures: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in Journal::read(journal)? {
        let step = line.get("step").and_then(Value::as_f64).unwrap_or_default();
        for (name, value) in line.iter().filter(|(name, _)| *name != "step") {
            if let Some(value) = value.as_f64() {
                figures.entry(name.clone()).or_default().push((step, value));
            }
        }
    }
    let panels: Vec<_> = figures.iter().map(|(name, points)| panel(name, points)).collect();
    panels.iter().fold(Sheet::new(3), |sheet, (caption, panel)| sheet.add(caption.clone(), panel)).draw()
}

fn panel(name: &str, points: &[(f64, f64)]) -> (String, Raster) {
    let (width, height) = PANEL;
    let mut panel = Raster::flat(Rgb(252, 252, 252), (width as u32, height as u32));
    let logarithmic = points.iter().all(|point| point.1 > 0.0);
    let scale = |value: f64| if logarithmic { value.ln() } else { value };
    let values: Vec<f64> = points.iter().map(|point| scale(point.1)).collect();
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let last = points.last().map_or(1.0, |point| point.0).max(1.0);
    let place = |step: f64, value: f64| {
        let x = step / last * (width - 1) as f64;
        let y = (high - value) / (high - low).max(1e-12) * (height - 1) as f64;
        (x, y)
    };
    let mut means = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        let forget = (1.0 / (i + 1) as f64).max((30.0 / values.len() as f64).min(1.0));
        let before = means.last().copied().unwrap_or(value);
        means.push(before + forget * (value - before));
    }
    for (color, values) in [(Rgb(205, 205, 205), &values), (Rgb(35, 90, 230), &means)] {
        let places: Vec<_> = points.iter().zip(values).map(|(point, &value)| place(point.0, value)).collect();
        for pair in places.windows(2) {
            if let [from, to] = pair {
                line(&mut panel, *from, *to, color);
            }
        }
    }
    let unscale = |value: f64| if logarithmic { value.exp() } else { value };
    let ends = [means.first(), means.last()].map(|mean| unscale(mean.copied().unwrap_or_default()));
    (format!("{name} {:.4} > {:.4}", ends[0], ends[1]), panel)
}

/// Draws a line of single pixels, at least one for every column and row that the line passes.
fn line(panel: &mut Raster, from: (f64, f64), to: (f64, f64), color: Rgb) {
    let count = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0);
    for i in 0..=count as u32 {
        let part = f64::from(i) / count;
        let (x, y) = (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1));
        panel.set(x.round() as u32, y.round() as u32, color);
    }
}
