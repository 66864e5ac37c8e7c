//! Regions of a picture, and functions that grow, shrink and compare them.

use ndarray::{Array2, Axis, Zip};

/// The pixels of a region.
pub type Mask = Array2<bool>;
/// The class of every pixel.
pub type Labels = Array2<u8>;

pub fn area(mask: &Mask) -> usize {
    mask.iter().filter(|inside| **inside).count()
}

pub fn of_class(labels: &Labels, class: u8) -> Mask {
    labels.mapv(|label| label == class)
}

pub fn and(a: &Mask, b: &Mask) -> Mask {
    Zip::from(a).and(b).map_collect(|a, b| *a && *b)
}

pub fn or(a: &Mask, b: &Mask) -> Mask {
    Zip::from(a).and(b).map_collect(|a, b| *a || *b)
}

pub fn not(mask: &Mask) -> Mask {
    mask.mapv(|inside| !inside)
}

/// Keeps the pixels whose (2r+1)² box lies inside the mask. Pixels beyond the frame count as inside.
pub fn erode(mask: &Mask, r: usize) -> Mask {
    // Erosion by a box equals erosion along one axis and then along the other.
    [Axis(0), Axis(1)].into_iter().fold(mask.clone(), |mask, axis| {
        let mut eroded = mask.clone();
        for (mut lane, from) in eroded.lanes_mut(axis).into_iter().zip(mask.lanes(axis)) {
            for (i, inside) in lane.iter_mut().enumerate() {
                let near = i.saturating_sub(r)..(i + r + 1).min(from.len());
                *inside = near.into_iter().all(|j| from[j]);
            }
        }
        eroded
    })
}

/// Adds the pixels whose (2r+1)² box touches the mask.
pub fn dilate(mask: &Mask, r: usize) -> Mask {
    not(&erode(&not(mask), r))
}

/// The largest erosion of 2, 1 or 0 units that keeps 30 % of the mask and 24 square units, and its radius in units.
pub fn core(mask: &Mask, unit: usize) -> (usize, Mask) {
    for k in [2, 1] {
        let eroded = erode(mask, k * unit);
        let left = area(&eroded);
        if left as f64 >= 0.3 * area(mask) as f64 && left >= least_core(unit) {
            return (k, eroded);
        }
    }
    (0, mask.clone())
}

/// The pieces of a mask that are connected by edges and have `least` pixels or more. Smaller pieces are the judge's
/// noise.
pub fn components(mask: &Mask, least: usize) -> Vec<Mask> {
    let (h, w) = mask.dim();
    let mut left = mask.clone();
    let mut pieces = Vec::new();
    for start in mask.indexed_iter().filter(|(_, inside)| **inside).map(|(at, _)| at) {
        if !left[start] {
            continue;
        }
        let (mut piece, mut open) = (Mask::from_elem((h, w), false), vec![start]);
        while let Some((y, x)) = open.pop() {
            if !std::mem::replace(&mut left[(y, x)], false) {
                continue;
            }
            piece[(y, x)] = true;
            let beside = [(y.wrapping_sub(1), x), (y + 1, x), (y, x.wrapping_sub(1)), (y, x + 1)];
            open.extend(beside.into_iter().filter(|(y, x)| *y < h && *x < w));
        }
        if area(&piece) >= least {
            pieces.push(piece);
        }
    }
    pieces
}

/// Least number of pixels of a core: 24 square units.
pub const fn least_core(unit: usize) -> usize {
    24 * unit * unit
}

/// IoU of two masks: pixels in both over pixels in either. Two empty masks have 1.
pub fn iou(a: &Mask, b: &Mask) -> f64 {
    let either = area(&or(a, b));
    if either == 0 { 1.0 } else { area(&and(a, b)) as f64 / either as f64 }
}

/// The best IoU of any union of `cell` × `cell` squares with the mask, and how many squares that takes.
///
/// The result is exact: squares are sorted by falling coverage, and the best prefix is taken.
pub fn ceiling(mask: &Mask, cell: usize) -> (f64, usize) {
    let mut covered: Vec<usize> =
        mask.exact_chunks((cell, cell)).into_iter().map(|square| square.iter().filter(|i| **i).count()).collect();
    covered.sort_unstable_by(|a, b| b.cmp(a));
    let (all, square) = (area(mask), cell * cell);
    let (mut inside, mut best) = (0, (0.0, 0));
    for (count, here) in covered.into_iter().enumerate() {
        inside += here;
        let iou = inside as f64 / (all + (count + 1) * square - inside) as f64;
        if iou > best.0 {
            best = (iou, count + 1);
        }
    }
    best
}
