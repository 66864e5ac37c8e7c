//! The placement of painted objects. The painting study uses this module too, so the module depends on no suite and no
//! record.

use crate::regions::{Labels, Mask, and, area, of_class};
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// Least share of the picture at which an object counts as present.
pub const THERE: f64 = 0.01;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// True if the object has 1 % of the picture or more.
    pub detected: bool,
    /// Middle of the object in pixels: y, x.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centre: Option<[f64; 2]>,
    /// Share of the object inside the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// True if the object is detected, and its middle and at least half of its area are inside the region.
    pub placed: bool,
}

pub fn placement(labels: &Labels, class: u8, region: &Mask) -> Placement {
    let thing = of_class(labels, class);
    let all = area(&thing);
    if all == 0 {
        return Placement::default();
    }
    let (mut y, mut x) = (0.0, 0.0);
    for ((row, column), _) in thing.indexed_iter().filter(|(_, inside)| **inside) {
        y += row as f64 + 0.5;
        x += column as f64 + 0.5;
    }
    let (y, x) = (y / all as f64, x / all as f64);
    let (h, w) = labels.dim();
    let inside = region[((y as usize).min(h - 1), (x as usize).min(w - 1))];
    let share = area(&and(&thing, region)) as f64 / all as f64;
    let detected = is_there(labels, class);
    Placement { detected, centre: Some([y, x]), share: Some(share), placed: detected && inside && share >= 0.5 }
}

/// Returns true if a class has at least the share [`THERE`] of the picture.
pub fn is_there(labels: &Labels, class: u8) -> bool {
    area(&of_class(labels, class)) as f64 / labels.len() as f64 >= THERE
}

/// The pixels of an area that is given as shares of the picture: left, top, right, bottom.
pub fn inside([left, top, right, bottom]: [f64; 4], (h, w): (usize, usize)) -> Mask {
    Array2::from_shape_fn((h, w), |(y, x)| {
        let (y, x) = ((y as f64 + 0.5) / h as f64, (x as f64 + 0.5) / w as f64);
        (left..right).contains(&x) && (top..bottom).contains(&y)
    })
}

/// Returns the box in which the object of an area is painted. A square area is painted whole. A longer area has a box
/// in its middle of about an object's size, because a larger box has room for two objects.
pub fn painted([left, top, right, bottom]: [f64; 4]) -> [f64; 4] {
    const OF_A_SIDE: f64 = 0.875;
    let (w, h) = (right - left, bottom - top);
    if w == h {
        return [left, top, right, bottom];
    }
    let half = OF_A_SIDE * w.min(h) / 2.0;
    let (x, y) = ((left + right) / 2.0, (top + bottom) / 2.0);
    [x - half, y - half, x + half, y + half]
}
