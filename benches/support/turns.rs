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
    tell(bench, name, rows, rounds, times);
    Ok(())
}

/// Measures the seconds of single steps. In every round, `begin` starts one run of each row, and the runs take their
/// steps in turn, so that other work on the machine slows all rows alike. A ratio compares two steps of the same
/// number.
pub fn steps_in_turns<R>(
    bench: &'static str,
    name: &str,
    rows: &[&str],
    rounds: usize,
    begin: impl Fn(usize) -> Result<R>,
    mut seconds: impl FnMut(&mut R) -> Result<Option<f64>>,
) -> Result<()> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        let mut runs: Vec<R> = (0..rows.len()).map(&begin).collect::<Result<_>>()?;
        loop {
            let taken: Vec<f64> = runs.iter_mut().map_while(|run| seconds(run).transpose()).collect::<Result<_>>()?;
            if taken.len() < rows.len() {
                break;
            }
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    tell(bench, name, rows, rounds, times);
    Ok(())
}

/// Prints and records the medians of all rows and their ratios to the first row.
fn tell(bench: &'static str, name: &str, rows: &[&str], rounds: usize, times: Vec<Vec<f64>>) {
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
}
