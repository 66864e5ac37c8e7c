//! Measures of a pair of pictures: unforced `u` and forced `f`, with the judge's labels of both.
//!
//! All functions are pure and work on arrays. `docs/yardstick.md` explains each figure.

use crate::picture::{Picture, encoded, lab, light, mean_lab, mean_linear, of};
use crate::regions::{Labels, Mask, and, area, components, core, dilate, erode, iou, least_core, not, of_class, or};
use crate::statistics::{median, quantile};
use impasto::{Lab, Rgb};
use ndarray::{Array2, Zip};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The class of details that belong to no part: eye whites, pupils, windows.
pub const DETAIL: u8 = 7;
/// Luminance (Y) of linear red, green and blue.
const LUMINANCE: [f64; 3] = [0.2126729, 0.7151522, 0.0721750];

/// All figures of one part of one pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub area_unforced: usize,
    pub area: usize,
    pub layout_iou: f64,
    /// True if `u` has enough of the part to be measured.
    pub eligible: bool,
    /// True if less than a quarter of the part is left.
    pub vanished: bool,
    /// CIEDE2000 between the mean colors of each other class in both pictures. The keys are class numbers as text,
    /// because serde flattens no other keys.
    pub leak: BTreeMap<String, f64>,
    pub leak_median: Option<f64>,
    pub leak_max: Option<f64>,
    /// Share of the pixels outside all forced parts that came nearer to the target by more than 10.
    pub dyed: Option<f64>,
    /// Mean change in the ring 2 to 10 units around the part.
    pub halo: Option<f64>,
    /// Figures of the painted color; `None` if the part vanished.
    #[serde(flatten)]
    pub painted: Option<Painted>,
    /// Share of the part's components (each eye by itself) that are covered by more than .8; `None` if the part
    /// vanished or is too small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<f64>,
    /// Share of the part's place in `u` that still has its old color in `f`, and not the asked color.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remainder: Option<f64>,
    /// True if a person would try again: ΔE above 5, coverage below .5, leakage above 6, a block, or a vanished part.
    pub retry: bool,
}

/// The color of the part in `f`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Painted {
    /// Radius of the region's erosion, in units.
    pub radius: usize,
    /// Number of pixels of the eroded region.
    pub core: usize,
    pub mean_linear: [f64; 3],
    /// Mean color in sRGB, 0..=255.
    pub mean_rgb: [f64; 3],
    /// CIEDE2000 between the mean color and the target, the main figure.
    pub delta_e: f64,
    pub delta_e_unforced: f64,
    pub delta_e_trimmed: f64,
    pub delta_e_median_rgb: f64,
    pub delta_e_pixels: f64,
    /// Share of the part's place in `u` that is within 10 of the target in `f`.
    pub coverage: f64,
    pub rgb_min: f64,
    pub rgb_mean: f64,
    pub texture: Option<f64>,
    pub texture_raw: Option<f64>,
    pub gcb: Gcb,
    /// True if the part is a solid block where `u` has shading.
    pub block: bool,
}

/// Figures of GenColorBench's rule, against the target alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gcb {
    pub lab: [f64; 3],
    pub delta_ab: f64,
    pub delta_e: f64,
    pub hue: f64,
    #[serde(rename = "match")]
    pub matches: bool,
}

/// The pictures and labels that [`measure`] compares.
pub struct Pair<'a> {
    pub unforced: &'a Picture,
    pub forced: &'a Picture,
    pub labels_unforced: &'a Labels,
    pub labels_forced: &'a Labels,
    /// Number of pixels in a unit of length, 1 for a picture of 128 pixels.
    pub unit: usize,
}

/// CIEDE2000 up to which a pixel has the asked color.
pub const NEAR: f64 = 10.0;
/// CIEDE2000 below which a pixel has its old color.
const OLD: f64 = 5.0;
/// Covered share above which a component counts as whole.
const WHOLE: f64 = 0.8;

/// Measures `part`, which was asked to have the color `target`. `others` are classes that were forced too and cannot
/// leak.
pub fn measure(pair: &Pair<'_>, part: u8, target: Rgb, others: &[u8]) -> Measure {
    let (u, f, unit) = (pair.unforced, pair.forced, pair.unit);
    let (ru, rf) = (of_class(pair.labels_unforced, part), of_class(pair.labels_forced, part));
    let goal = lab(target);
    let (lab_u, lab_f) = (u.mapv(lab), f.mapv(lab));
    let (du, df) = (lab_u.mapv(|lab| lab.delta_e(goal)), lab_f.mapv(|lab| lab.delta_e(goal)));

    let classes = |labels: &Labels| labels.iter().copied().collect::<BTreeSet<u8>>();
    let mut leak = BTreeMap::new();
    for class in classes(pair.labels_unforced).intersection(&classes(pair.labels_forced)).copied() {
        if class == part || class == DETAIL || others.contains(&class) {
            continue;
        }
        let both = and(&of_class(pair.labels_unforced, class), &of_class(pair.labels_forced, class));
        // A region that cannot be eroded by a unit is not counted: it is too thin to tell from its neighbors' edges.
        if let (1.., inside) = core(&both, unit) {
            let _ = leak.insert(class.to_string(), mean_lab(u, &inside).delta_e(mean_lab(f, &inside)));
        }
    }

    let own = or(&ru, &rf);
    let mut forced = own.clone();
    for class in others {
        forced = or(&forced, &of_class(pair.labels_unforced, *class));
        forced = or(&forced, &of_class(pair.labels_forced, *class));
    }
    let away = not(&forced);
    let nearer = Zip::from(&away).and(&du).and(&df).map_collect(|away, du, df| *away && df + 10.0 < *du);
    let ring = and(&dilate(&own, 10 * unit), &not(&dilate(&own, 2 * unit)));
    let change = |inside: &Mask| -> Vec<f64> {
        of(&lab_u, inside).zip(of(&lab_f, inside)).map(|(a, b)| a.delta_e(*b)).collect()
    };
    let change = change(&ring);

    let mut measure = Measure {
        area_unforced: area(&ru),
        area: area(&rf),
        layout_iou: iou(&ru, &rf),
        eligible: core(&ru, unit).0 >= 1,
        vanished: area(&rf) == 0 || (area(&rf) as f64) < 0.25 * area(&ru) as f64,
        leak_median: (!leak.is_empty()).then(|| median(leak.values().copied().collect())),
        leak_max: leak.values().copied().reduce(f64::max),
        leak,
        dyed: share(area(&nearer), area(&away)),
        halo: (!change.is_empty()).then(|| mean(&change)),
        painted: None,
        whole: None,
        remainder: None,
        retry: true,
    };
    if measure.vanished {
        return measure;
    }

    let (mut radius, core_u) = core(&ru, unit);
    let mut core_f = erode(&rf, radius * unit);
    while radius > 0 && area(&core_f) < least_core(unit) {
        radius -= 1;
        core_f = erode(&rf, radius * unit);
    }
    let mean_linear = mean_linear(f, &core_f);
    let distances: Vec<f64> = of(f, &rf).map(|pixel| rgb_distance(*pixel, target)).collect();
    let (texture, texture_raw) = texture(&lab_u, &lab_f, &erode(&and(&ru, &rf), radius * unit), unit);
    let cover = erode(&ru, radius * unit);
    let covered = of(&df, &cover).filter(|delta_e| **delta_e <= 10.0).count();
    // A pixel that came at least half of the way to the target counts as painted, because shading may keep the pixel
    // from the target itself.
    let reached = Zip::from(&du).and(&df).map_collect(|du, df| *df <= NEAR || *df < 0.5 * *du);
    let pieces = components(&ru, least_core(unit));
    let covered_by = |piece: &Mask| share(area(&and(&reached, &and(piece, &cover))), area(&and(piece, &cover)));
    let whole = pieces.iter().filter_map(covered_by).map(|covered| f64::from(u8::from(covered > WHOLE)));
    let whole: Vec<f64> = whole.collect();
    measure.whole = (!whole.is_empty()).then(|| mean(&whole));
    let changed = Zip::from(&lab_u).and(&lab_f).map_collect(|u, f| u.delta_e(*f));
    let old = Zip::from(&changed).and(&df).map_collect(|changed, df| *changed < OLD && *df > NEAR);
    measure.remainder = share(area(&and(&old, &cover)), area(&cover));
    let block = matches!((texture, texture_raw), (Some(a), Some(b)) if a.max(b) < 0.25);
    let pixels: Vec<Lab> = of(&lab_f, &core_f).copied().collect();
    let painted = Painted {
        radius,
        core: area(&core_f),
        mean_linear,
        mean_rgb: encoded(mean_linear),
        delta_e: Lab::from_linear(mean_linear).delta_e(goal),
        delta_e_unforced: mean_lab(u, &core_u).delta_e(goal),
        delta_e_trimmed: trimmed_lab(f, &core_f).delta_e(goal),
        delta_e_median_rgb: median_lab(f, &core_f).delta_e(goal),
        delta_e_pixels: median(of(&df, &core_f).copied().collect()),
        coverage: share(covered, area(&cover)).unwrap_or(0.0),
        rgb_min: distances.iter().copied().fold(f64::INFINITY, f64::min),
        rgb_mean: mean(&distances),
        texture,
        texture_raw,
        gcb: gcb(&pixels, goal),
        block,
    };
    measure.retry = painted.delta_e > 5.0
        || painted.coverage < 0.5
        || measure.leak_median.is_some_and(|leak| leak > 6.0)
        || painted.block;
    measure.painted = Some(painted);
    measure
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// The mean color without the darkest and the brightest tenth of the pixels.
fn trimmed_lab(picture: &Picture, mask: &Mask) -> Lab {
    let mut pixels: Vec<[f64; 3]> = of(picture, mask).map(|pixel| light(*pixel)).collect();
    let luminance = |light: &[f64; 3]| -> f64 { light.iter().zip(LUMINANCE).map(|(x, y)| x * y).sum() };
    pixels.sort_by(|a, b| luminance(a).total_cmp(&luminance(b)));
    let cut = pixels.len() / 10;
    let kept = &pixels[cut..pixels.len() - cut];
    Lab::from_linear([0, 1, 2].map(|channel| kept.iter().map(|light| light[channel]).sum::<f64>() / kept.len() as f64))
}

/// The color of each channel's median in linear light.
fn median_lab(picture: &Picture, mask: &Mask) -> Lab {
    let channel = |channel: usize| median(of(picture, mask).map(|pixel| light(*pixel)[channel]).collect());
    Lab::from_linear([channel(0), channel(1), channel(2)])
}

fn rgb_distance(a: Rgb, b: Rgb) -> f64 {
    let apart = |a: u8, b: u8| ((f64::from(a) - f64::from(b)) / 255.0).powi(2);
    (apart(a.0, b.0) + apart(a.1, b.1) + apart(a.2, b.2)).sqrt()
}

/// The share of shading that is left: std(L*)/(mean(L*) + 16), and std(L*) alone, of `f` over `u`. `None` if `u` is
/// flat or the mask is small.
fn texture(u: &Array2<Lab>, f: &Array2<Lab>, mask: &Mask, unit: usize) -> (Option<f64>, Option<f64>) {
    if area(mask) < least_core(unit) {
        return (None, None);
    }
    let of_one = |lab: &Array2<Lab>| {
        let lightness: Vec<f64> = of(lab, mask).map(|lab| lab.l).collect();
        let middle = mean(&lightness);
        let std = (lightness.iter().map(|l| (l - middle).powi(2)).sum::<f64>() / lightness.len() as f64).sqrt();
        (std / (middle + 16.0), std)
    };
    let ((a, raw_a), (b, raw_b)) = (of_one(u), of_one(f));
    if raw_a >= 1.0 { (Some(b / a), Some(raw_b / raw_a)) } else { (None, None) }
}

/// Applies GenColorBench's rule to the pixels of a region.
fn gcb(pixels: &[Lab], target: Lab) -> Gcb {
    let found = dominant(pixels, target);
    let chroma = |lab: Lab| lab.a.hypot(lab.b);
    let (delta_ab, delta_e) = ((found.a - target.a).hypot(found.b - target.b), found.delta_e(target));
    let hue = if chroma(found) >= 5.0 && chroma(target) >= 5.0 {
        let angle = |lab: Lab| lab.b.atan2(lab.a).to_degrees();
        let apart = (angle(found) - angle(target)).abs() % 360.0;
        apart.min(360.0 - apart)
    } else {
        0.0
    };
    let matches = delta_ab < 5.0 && delta_e < 5.0 && hue < 30.0;
    Gcb { lab: [found.l, found.a, found.b], delta_ab, delta_e, hue, matches }
}

/// A region's color as GenColorBench reads it. The rule takes the upper half of chroma near the main axis of a*b*. The
/// color is the mean of the tenth of these pixels that is nearest to the target.
fn dominant(pixels: &[Lab], target: Lab) -> Lab {
    let chroma: Vec<f64> = pixels.iter().map(|lab| lab.a.hypot(lab.b)).collect();
    if median(chroma.clone()) < 10.0 {
        let dull: Vec<Lab> = chosen(pixels, |i| chroma[i] < 15.0);
        return nearest(if dull.len() > 10 { &dull } else { pixels }, target);
    }
    let second = second_axis(pixels);
    let (q1, q3) = (quantile(&mut second.clone(), 0.25), quantile(&mut second.clone(), 0.75));
    let reach = 1.5 * (q3 - q1);
    let on: Vec<bool> = second.iter().map(|z| (q1 - reach..=q3 + reach).contains(z)).collect();
    let many = |on: &[bool]| on.iter().filter(|on| **on).count();
    let on_axis = if many(&on) > 10 { on.clone() } else { vec![true; on.len()] };
    let middle = median(chroma.iter().zip(&on_axis).filter(|(_, on)| **on).map(|(chroma, _)| *chroma).collect());
    let vivid: Vec<Lab> = chosen(pixels, |i| chroma[i] >= middle && on_axis[i]);
    if vivid.len() > 5 {
        nearest(&vivid, target)
    } else if many(&on) > 5 {
        nearest(&chosen(pixels, |i| on[i]), target)
    } else {
        nearest(pixels, target)
    }
}

fn chosen(pixels: &[Lab], keep: impl Fn(usize) -> bool) -> Vec<Lab> {
    pixels.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, lab)| *lab).collect()
}

/// Position of every pixel on the axis of a*b* along which the pixels differ least.
fn second_axis(pixels: &[Lab]) -> Vec<f64> {
    let n = pixels.len() as f64;
    let middle = |of: fn(&Lab) -> f64| pixels.iter().map(of).sum::<f64>() / n;
    let (a, b) = (middle(|lab| lab.a), middle(|lab| lab.b));
    let covariance =
        |of: &dyn Fn(f64, f64) -> f64| pixels.iter().map(|lab| of(lab.a - a, lab.b - b)).sum::<f64>() / (n - 1.0);
    let (aa, ab, bb) = (covariance(&|a, _| a * a), covariance(&|a, b| a * b), covariance(&|_, b| b * b));
    // The smaller eigenvalue of [[aa, ab], [ab, bb]] and its vector.
    let least = (aa + bb) / 2.0 - (((aa - bb) / 2.0).powi(2) + ab * ab).sqrt();
    let (x, y) = if aa > bb { (ab, least - aa) } else { (least - bb, ab) };
    let length = x.hypot(y);
    let (x, y) = if length > 0.0 { (x / length, y / length) } else { (1.0, 0.0) };
    pixels.iter().map(|lab| (lab.a - a) * x + (lab.b - b) * y).collect()
}

/// The mean of the tenth of the pixels that is nearest to the target, at least five. Of ten pixels or fewer all count.
fn nearest(pixels: &[Lab], target: Lab) -> Lab {
    let mut by_distance: Vec<(f64, Lab)> = pixels.iter().map(|lab| (lab.delta_e(target), *lab)).collect();
    if pixels.len() > 10 {
        by_distance.sort_by(|a, b| a.0.total_cmp(&b.0));
        by_distance.truncate((pixels.len() / 10).max(5));
    }
    let n = by_distance.len() as f64;
    let mean = |of: fn(&Lab) -> f64| by_distance.iter().map(|(_, lab)| of(lab)).sum::<f64>() / n;
    Lab { l: mean(|lab| lab.l), a: mean(|lab| lab.a), b: mean(|lab| lab.b) }
}
