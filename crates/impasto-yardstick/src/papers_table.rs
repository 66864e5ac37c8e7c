//! [`Table`]: the papers' rules for all runs.

use crate::papers::Papers;
use crate::record::{PartFigures, Record};
use crate::statistics::{median, quantile};
use crate::task::{Method, Task};
use std::fmt;

/// The table of the papers' rules. Its text has a line for each rule and method, and what can be compared.
pub struct Table<'a> {
    pub records: &'a [Record],
    /// True if the pictures are the embedded model's portraits, and not single objects on white.
    pub portraits: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:<8} {:>5} {:>6} {:>6} {:>6}   other",
            "rule", "method", "runs", "mean", "median", "90th"
        )?;
        for method in Method::ALL {
            let of_method =
                |record: &&Record| record.method == method && matches!(record.task, Task::Named | Task::Numeric);
            let parts: Vec<&PartFigures> =
                self.records.iter().filter(of_method).flat_map(|record| &record.parts).collect();
            // A part that vanished is a miss, and no rule of a paper has a figure for it.
            let gcb: Vec<_> = parts.iter().filter_map(|part| Some(&part.measure.painted.as_ref()?.gcb)).collect();
            let papers: Vec<&Papers> = parts.iter().filter_map(|part| part.papers.as_ref()).collect();
            if papers.is_empty() {
                continue;
            }
            let name = method.name();
            let matches = gcb.iter().filter(|gcb| gcb.matches).count() as f64 / gcb.len().max(1) as f64;
            line(
                f,
                "GenColorBench",
                name,
                gcb.iter().map(|gcb| gcb.delta_e).collect(),
                &format!("match {matches:.2}"),
            )?;
            line(f, "BBQ", name, papers.iter().map(|papers| papers.cluster).collect(), "")?;
            let hues: Vec<f64> = papers.iter().filter_map(|papers| papers.hue).collect();
            let hue = if hues.is_empty() { String::new() } else { format!("hue {:.1}°", mean(&hues)) };
            line(f, "Latent Color Subspace", name, papers.iter().map(|papers| papers.object).collect(), &hue)?;
        }
        writeln!(f, "\npublished: BBQ 5.93, 5.76, 9.62; FLUX.2 Pro by the same rule 6.64, 6.12, 10.2")?;
        writeln!(f, "published: Latent Color Subspace, mean 11, hue 8°")?;
        let what = if self.portraits {
            "These are parts of drawn portraits, found by the judge. The papers measure single objects of large models on \
             white or in photographs, with other networks that find them, so that only the order of size compares."
        } else {
            "These are single objects on white, found by the judge of --judge. The papers use their own prompts and other \
             networks that find the objects."
        };
        writeln!(f, "{what}")
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn line(f: &mut fmt::Formatter<'_>, rule: &str, method: &str, mut values: Vec<f64>, other: &str) -> fmt::Result {
    if values.is_empty() {
        return Ok(());
    }
    let (count, mean, middle) = (values.len(), mean(&values), median(values.clone()));
    let most = quantile(&mut values, 0.9);
    writeln!(f, "{rule:<24} {method:<8} {count:>5} {mean:>6.2} {middle:>6.2} {most:>6.2}   {other}")
}
