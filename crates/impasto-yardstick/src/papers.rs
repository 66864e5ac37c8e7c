//! The rules by which papers measure how exactly a picture has an asked color.

use crate::metrics::Picture;
use crate::record::{PartFigures, Record};
use crate::regions::Mask;
use crate::statistics::{median, quantile};
use crate::suite::{Method, Task};
use impasto::{Lab, Rgb};
use palette::white_point::D65;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Number of clusters of BBQ's rule.
const CLUSTERS: usize = 5;
/// Least chroma of a color that has a hue.
const GRAY: f64 = 5.0;

/// Figures of an object's color by the rules of two papers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Papers {
    /// CIEDE2000 between the target and the nearest of five clusters of the object's pixels (BBQ, arXiv 2602.20672).
    pub cluster: f64,
    /// CIEDE2000 between the target and the mean of the object's pixels in CIELAB (Latent Color Subspace, arXiv
    /// 2603.12261).
    pub object: f64,
    /// Angle in degrees between the hues of the same two colors in CIELAB; `None` if one of them is gray.
    pub hue: Option<f64>,
}

/// Measures an object's color in a picture by the papers' rules. `None` for an object without pixels.
pub fn papers(picture: &Picture, object: &Mask, target: Rgb) -> Option<Papers> {
    let colors: Vec<Lab> =
        picture.iter().zip(object).filter(|(_, inside)| **inside).map(|(color, _)| color.lab()).collect();
    if colors.is_empty() {
        return None;
    }
    let target = target.lab();
    let count = colors.len() as f64;
    let mean = |of: fn(&Lab) -> f64| colors.iter().map(of).sum::<f64>() / count;
    let mean = Lab { l: mean(|lab| lab.l), a: mean(|lab| lab.a), b: mean(|lab| lab.b) };
    let chroma = |lab: &Lab| lab.a.hypot(lab.b);
    let hue = (chroma(&mean) >= GRAY && chroma(&target) >= GRAY).then(|| {
        let angle = |lab: &Lab| lab.b.atan2(lab.a).to_degrees();
        let apart = (angle(&mean) - angle(&target)).abs();
        apart.min(360.0 - apart)
    });
    Some(Papers { cluster: nearest_cluster(&colors, target), object: mean.delta_e(target), hue })
}

/// Returns the CIEDE2000 between a color and the nearest center of five clusters.
fn nearest_cluster(colors: &[Lab], target: Lab) -> f64 {
    let points: Vec<palette::Lab<D65, f32>> =
        colors.iter().map(|lab| palette::Lab::new(lab.l as f32, lab.a as f32, lab.b as f32)).collect();
    let found = kmeans_colors::get_kmeans_hamerly(CLUSTERS.min(points.len()), 100, 0.01, false, &points, 0);
    let centers = found.centroids.iter().map(|c| Lab { l: c.l.into(), a: c.a.into(), b: c.b.into() });
    centers.map(|center| center.delta_e(target)).fold(f64::INFINITY, f64::min)
}

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
