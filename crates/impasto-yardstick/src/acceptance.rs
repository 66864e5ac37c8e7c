//! Acceptance: would a person who asked for a color keep the picture?
//!
//! A person keeps a picture if all of the thing has the color, its drawing is as good as before, and nothing else
//! changed visibly. Each figure here stands for one of these reasons.

use crate::measure::{DETAIL, NEAR, Pair};
use crate::picture::{lab, mean_lab, of};
use crate::regions::{Mask, and, area, components, dilate, erode, least_core, not, of_class, or};
use crate::statistics::median;
use impasto::{Lab, Rgb};
use impasto_train::dataset::Class;
use ndarray::{Array2, Axis, Zip};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Figures of a part's acceptance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// CIEDE2000 between the target and the part's material, the dominant color of its region; `None` if the part
    /// vanished.
    pub material: Option<f64>,
    /// Share of the material that took the color, in the piece of the part with the smallest share.
    pub whole: f64,
    /// Share of the dark marks in and around the part that are still there; `None` with few marks, and for a
    /// background, whose marks are the outlines of other parts.
    pub lines: Option<f64>,
    /// Largest CIEDE2000 between the mean colors of another part in both pictures.
    pub neighbor: f64,
    /// Number of pixels around the part that took the color without being of its material, as a share of the part's
    /// pixels.
    pub grown: f64,
    /// True if a person would keep the picture.
    pub accepted: bool,
}

/// CIEDE2000 of the material above which the part does not have the color.
const MATERIAL: f64 = 5.0;
/// Least share of a piece's material that must take the color.
const WHOLE: f64 = 0.8;
/// Least share of the marks that must stay, for eyes and for other parts. Eyes consist of lines.
const LINES: (f64, f64) = (0.77, 0.65);
/// Largest CIEDE2000 by which another part may change.
const NEIGHBOR: f64 = 20.0;
/// Largest share of the part's pixels by which the color may spread.
const GROWN: f64 = 0.105;
/// Contrast of a mark: the lightness by which a mark is darker than the mean around it.
const MARK: f64 = 7.0;
/// Lightness by which a mark is darker than the part's material. Dark material beside a highlight is no mark.
const DARKER: f64 = 5.0;
/// Share of a mark's contrast that a mark that is kept still has.
const LEFT: f64 = 0.5;
/// Distance in CIEDE2000 up to which a pixel is of the same material.
const SAME: f64 = 15.0;
/// Distance in CIELAB within which a dominant color is a mean.
const REACH: f64 = 20.0;
/// Number of rounds in which a dominant color is found.
const ROUNDS: usize = 10;

/// Judges `part`, which was asked to have the color `target`. `others` are classes that were forced too. `None` if the
/// unforced picture has too little of the part.
pub fn acceptance(pair: &Pair<'_>, part: u8, target: Rgb, others: &[u8]) -> Option<Acceptance> {
    let unit = pair.unit;
    let (ru, rf) = (of_class(pair.labels_unforced, part), of_class(pair.labels_forced, part));
    if area(&ru) < least_core(unit) {
        return None;
    }
    let goal = lab(target);
    let (lab_u, lab_f) = (pair.unforced.mapv(lab), pair.forced.mapv(lab));
    let (du, df) = (lab_u.mapv(|lab| lab.delta_e(goal)), lab_f.mapv(|lab| lab.delta_e(goal)));
    let material = dominant(&lab_f, &inner(&rf, unit)).map(|color| color.delta_e(goal));
    let own = dominant(&lab_u, &inner(&ru, unit))?;
    let made_of = lab_u.mapv(|lab| lab.delta_e(own) <= SAME);

    // A pixel that came at least half of the way to the target counts, because shading may keep it from the target.
    let reached = Zip::from(&du).and(&df).map_collect(|du, df| *df <= NEAR || *df < 0.5 * *du);
    let share = |piece: &Mask| {
        let inside = and(&inner(piece, unit), &made_of);
        (area(&inside) > 0).then(|| area(&and(&inside, &reached)) as f64 / area(&inside) as f64)
    };
    let whole = components(&ru, 2 * least_core(unit)).iter().filter_map(share).fold(1.0, f64::min);

    let took = Zip::from(&du).and(&df).map_collect(|du, df| *df < NEAR && *df + 10.0 < *du);
    let around = not(&or(&made_of, &dilate(&ru, unit)));
    let grown = area(&and(&took, &around)) as f64 / area(&ru) as f64;

    let is = |class: Class| part == class.index();
    let lines = if is(Class::Background) { None } else { kept(&lab_u, &lab_f, own.l, &dilate(&ru, 3 * unit), unit) };
    let least = if is(Class::Eyes) { LINES.0 } else { LINES.1 };
    let neighbor = neighbor(pair, part, others);
    let accepted = material.is_some_and(|material| material <= MATERIAL)
        && whole >= WHOLE
        && lines.is_none_or(|lines| lines >= least)
        && neighbor <= NEIGHBOR
        && grown <= GROWN;
    Some(Acceptance { material, whole, lines, neighbor, grown, accepted })
}

/// Removes the edge of a region, one unit wide, if enough of the region is left.
fn inner(region: &Mask, unit: usize) -> Mask {
    let eroded = erode(region, unit);
    if area(&eroded) >= least_core(unit) { eroded } else { region.clone() }
}

/// Finds the dominant color of a region by a mean shift, which begins at the medians. `None` if the region is empty.
pub fn dominant(lab: &Array2<Lab>, region: &Mask) -> Option<Lab> {
    let pixels: Vec<[f64; 3]> = of(lab, region).map(|lab| [lab.l, lab.a, lab.b]).collect();
    if pixels.is_empty() {
        return None;
    }
    let mut center = [0, 1, 2].map(|axis| median(pixels.iter().map(|pixel| pixel[axis]).collect()));
    for _ in 0..ROUNDS {
        let apart = |pixel: &[f64; 3]| (0..3).map(|axis| (pixel[axis] - center[axis]).powi(2)).sum::<f64>().sqrt();
        let near: Vec<&[f64; 3]> = pixels.iter().filter(|pixel| apart(pixel) <= REACH).collect();
        if near.is_empty() {
            break;
        }
        center = [0, 1, 2].map(|axis| near.iter().map(|pixel| pixel[axis]).sum::<f64>() / near.len() as f64);
    }
    Some(Lab { l: center[0], a: center[1], b: center[2] })
}

/// Returns the largest change of another class's mean color, in CIEDE2000, where the unforced picture has that class.
fn neighbor(pair: &Pair<'_>, part: u8, others: &[u8]) -> f64 {
    let classes: BTreeSet<u8> = pair.labels_unforced.iter().copied().collect();
    let other = classes.into_iter().filter(|class| *class != part && *class != DETAIL && !others.contains(class));
    let regions = other.map(|class| inner(&of_class(pair.labels_unforced, class), pair.unit));
    let change = |region: Mask| mean_lab(pair.unforced, &region).delta_e(mean_lab(pair.forced, &region));
    regions.filter(|region| area(region) >= least_core(pair.unit) / 2).map(change).fold(0.0, f64::max)
}

/// Returns the share of the dark marks in a zone that are kept: within a pixel, half of the mark's contrast is left. A
/// darker tone leaves less room for contrast, so the contrast is compared as a share of the room. `material` is the
/// lightness of the part's material. `None` with few marks.
fn kept(u: &Array2<Lab>, f: &Array2<Lab>, material: f64, zone: &Mask, unit: usize) -> Option<f64> {
    let [lightness_u, lightness_f] = [u, f].map(|lab| lab.mapv(|lab| lab.l));
    let around =
        |lightness: &Array2<f64>| windowed(lightness, 2 * unit, |near| near.iter().sum::<f64>() / near.len() as f64);
    let (around_u, around_f) = (around(&lightness_u), around(&lightness_f));
    let darkest = windowed(&(&lightness_f - &around_f), 1, |near| near.iter().copied().fold(f64::INFINITY, f64::min));
    let (mut all, mut kept) = (0usize, 0usize);
    for (at, _) in zone.indexed_iter().filter(|(_, inside)| **inside) {
        let contrast = lightness_u[at] - around_u[at];
        if contrast <= -MARK && lightness_u[at] <= material - DARKER {
            let room = ((around_f[at] + 16.0) / (around_u[at] + 16.0)).min(1.0);
            all += 1;
            kept += usize::from(darkest[at] <= LEFT * contrast * room);
        }
    }
    (all >= least_core(unit)).then(|| kept as f64 / all as f64)
}

/// Applies a function to the values within r of each pixel, along one axis and then along the other.
fn windowed(values: &Array2<f64>, r: usize, of: impl Fn(&[f64]) -> f64) -> Array2<f64> {
    [Axis(0), Axis(1)].into_iter().fold(values.clone(), |values, axis| {
        let mut result = values.clone();
        for (mut lane, from) in result.lanes_mut(axis).into_iter().zip(values.lanes(axis)) {
            let from = from.to_vec();
            for (i, value) in lane.iter_mut().enumerate() {
                *value = of(&from[i.saturating_sub(r)..(i + r + 1).min(from.len())]);
            }
        }
        result
    })
}
