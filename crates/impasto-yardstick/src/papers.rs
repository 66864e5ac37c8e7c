//! The rules by which papers measure how exactly a picture has an asked color.

use crate::picture::Picture;
use crate::regions::Mask;
use impasto::{Lab, Rgb};
use palette::white_point::D65;
use serde::{Deserialize, Serialize};

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
