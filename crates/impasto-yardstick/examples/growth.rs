//! Plots the figures of the bench `scale`: how the time of a step grows along each axis.
//!
//! ```text
//! cargo run --release -p impasto-yardstick --example growth -- benches/results/RESULTS.csv docs/images/scale.svg
//! ```
//!
//! The figures come from a file of results that `benches/figures.py` writes. The dashed lines are the growth that the
//! number of multiplications demands.

use clap::Parser;
use impasto_yardstick::plots::growth;
use std::error::Error;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Plots how the time of a step grows along each axis of the bench `scale`.
#[derive(Parser)]
struct Options {
    /// File of results of `benches/figures.py`.
    results: PathBuf,
    /// File for the plot, as SVG.
    plot: PathBuf,
}

/// Names of the bench's axes, and their labels.
const AXES: [(&str, &str); 5] = [
    ("size", "pixels of a side"),
    ("batch", "images"),
    ("forces", "color forces"),
    ("hooks", "hooks that read"),
    ("chunks", "chunks of 75 tokens"),
];

/// Returns the points of an axis with the ratios of their times to the first point's time.
fn measured(results: &Path, axis: &str) -> Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for row in csv::ReaderBuilder::new().comment(Some(b'#')).from_path(results)?.records() {
        let row = row?;
        // bench, group, row, measure, value, …
        if [&row[0], &row[1], &row[3]] == ["scale", axis, "ratio"] {
            points.push((row[2].parse()?, row[4].parse()?));
        }
    }
    if points.is_empty() {
        let file = results.display();
        return Err(format!("{file} has no figures of the axis {axis}; measure the part `scale` first").into());
    }
    Ok(points)
}

/// Returns the theoretical ratio of a step's time to the time at the first point.
///
/// At 128×128 pixels the embedded model multiplies 257.5 million times in layers that are linear in the area, for both
/// branches. Of these, 5.1 million are for attention to a chunk. Self-attention takes 3.4 million more. Forces and
/// hooks count as no work.
fn expected(axis: &str, first: f64, at: f64) -> f64 {
    let times = at / first;
    match axis {
        "size" => (257.5 * times.powi(2) + 3.4 * times.powi(4)) / (257.5 + 3.4),
        "batch" => times,
        "chunks" => 1.0 + 5.1 / (257.5 + 3.4) * (at - first),
        _ => 1.0,
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let panels = AXES.iter().map(|(name, axis)| {
        let measured = measured(&options.results, name)?;
        let (first, last) = (measured[0].0, measured[measured.len() - 1].0);
        let places = (0..=50).map(|i| first + (last - first) * f64::from(i) / 50.0);
        let expected = places.map(|at| (at, expected(name, first, at))).collect();
        Ok((*axis, measured, expected))
    });
    let plot = growth(&panels.collect::<Result<Vec<_>>>()?, "time of a step").map_err(|failure| failure.to_string())?;
    Ok(std::fs::write(options.plot, plot)?)
}
