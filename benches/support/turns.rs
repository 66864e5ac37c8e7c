//! Times of rows, measured in turns.

use super::figures::Figure;
use super::statistics::{bootstrap, median};
use impasto::Result;

/// Measures the seconds of every row once a round, and prints and records their medians and ratios to the first row.
pub fn in_turns(
    bench: &'static str,
    name: &str,
    rows: &[&str],
    rounds: usize,
    mut seconds: impl FnMut(usize) -> Result<f64>,
) -> Result<()> {
    for row in 0..rows.len() {
        seconds(row)?; // warm up
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for (row, times) in times.iter_mut().enumerate() {
            times.push(seconds(row)?);
        }
    }
    let none = times[0].clone();
    for (row, times) in rows.iter().zip(times) {
        let ratios: Vec<f64> = times.iter().zip(&none).map(|(time, none)| time / none).collect();
        let interval @ (low, high) = bootstrap(&ratios);
        let (ms, ratio) = (1e3 * median(times), median(ratios));
        println!(
            "  {row:<14} {ms:8.2} ms a step   ratio {ratio:.4} [{low:.4}, {high:.4}]   own {:+.2} %",
            100.0 * (ratio - 1.0)
        );
        for (measure, value, interval) in [("ms", ms, None), ("ratio", ratio, Some(interval))] {
            Figure { bench, group: name, row, measure, value, interval, rounds }.record();
        }
    }
    Ok(())
}
