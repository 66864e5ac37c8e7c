//! Strokes that a person might paint on a picture to color its parts.

use crate::picture::{Picture, unit};
use crate::regions::{Mask, area, components, erode};
use crate::statistics::median;
use crate::task::Asked;
use impasto::Rgb;
use impasto::hint::Strokes;

/// Least share of a part at which a piece of the part has its own stroke, as the second eye has.
const PIECE: f64 = 0.2;
/// Length of the longest stroke; `RADIUS` is the radius of every stroke. Both are in 128ths of the picture's side.
const LONGEST: usize = 24;
const RADIUS: usize = 2;

/// Draws a stroke of the asked color in each piece of each part. The stroke lies in the middle of the longest row that
/// keeps three units from the border, or fewer in a thin piece.
pub fn strokes(asked: &[Asked], regions: &[Mask], (height, width): (usize, usize)) -> Strokes {
    let unit = unit((height, width));
    let mut strokes = Strokes::new((width as u32, height as u32));
    for (Asked { rgb, .. }, region) in asked.iter().zip(regions) {
        let least = (PIECE * area(region) as f64) as usize;
        for piece in components(region, least.max(1)) {
            let Some([from, to]) = (0..=3).rev().find_map(|margin| longest(&erode(&piece, margin * unit))) else {
                continue;
            };
            let (middle, half) = ((from.1 + to.1) / 2, ((to.1 - from.1) / 2).min(LONGEST * unit / 2));
            let at = |column: usize| (column as f64 + 0.5, from.0 as f64 + 0.5);
            strokes = strokes.line([at(middle - half), at(middle + half)], (RADIUS * unit) as f64, *rgb);
        }
    }
    strokes
}

/// The ends (row, column) of the longest horizontal run in a mask; `None` for an empty mask.
fn longest(mask: &Mask) -> Option<[(usize, usize); 2]> {
    let mut best: Option<[(usize, usize); 2]> = None;
    for (y, row) in mask.rows().into_iter().enumerate() {
        let mut begin = None;
        for x in 0..=row.len() {
            match (row.get(x).is_some_and(|inside| *inside), begin) {
                (true, None) => begin = Some(x),
                (false, Some(first)) => {
                    let longer = best.is_none_or(|[from, to]| x - first > to.1 + 1 - from.1);
                    best = if longer { Some([(y, first), (y, x - 1)]) } else { best };
                    begin = None;
                }
                _ => {}
            }
        }
    }
    best
}

/// Median CIEDE2000 between a color and the pixels under its strokes; `None` without such pixels.
pub fn delta_e(strokes: &Strokes, picture: &Picture, color: Rgb) -> Option<f64> {
    let under =
        picture.indexed_iter().filter(|((y, x), _)| strokes.layer().pixel(*x as u32, *y as u32) == Some((color, 255)));
    let distances: Vec<f64> = under.map(|(_, pixel)| pixel.delta_e(color)).collect();
    (!distances.is_empty()).then(|| median(distances))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn every_piece_of_a_part_has_a_stroke_inside() {
        // The region has two squares with sides of 40 pixels, and a speck.
        let region = Array2::from_shape_fn((128, 128), |(y, x)| {
            (40..80).contains(&y) && ((10..50).contains(&x) || (70..110).contains(&x)) || (y, x) == (3, 3)
        });
        let asked = [Asked { part: "eyes".into(), rgb: Rgb(255, 215, 0) }];
        let strokes = strokes(&asked, std::slice::from_ref(&region), region.dim());
        let painted = |x: u32, y: u32| strokes.layer().pixel(x, y).is_some_and(|(_, alpha)| alpha == 255);
        for (y, x) in (0..128u32).flat_map(|y| (0..128u32).map(move |x| (y, x))) {
            assert!(!painted(x, y) || region[(y as usize, x as usize)], "({x}, {y})");
        }
        assert!([10..50, 70..110].iter().all(|square| square.clone().any(|x| painted(x, 43))));
        assert!(!painted(3, 3));

        let flat = |rgb| Array2::from_elem((128, 128), rgb);
        assert_eq!(delta_e(&strokes, &flat(Rgb(255, 215, 0)), Rgb(255, 215, 0)), Some(0.0));
        assert!(delta_e(&strokes, &flat(Rgb(0, 0, 0)), Rgb(255, 215, 0)).unwrap() > 50.0);
        assert_eq!(delta_e(&strokes, &flat(Rgb(0, 0, 0)), Rgb(1, 2, 3)), None);
    }
}
