//! Hints for a ControlNet in training: lines and strokes that a person might draw before the picture exists.

use super::scribble::Scribble;
use impasto::hint::{Canny, Drawing, Sketch, Strokes};
use impasto::{Raster, Result, Rgb, Size};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::ops::Range;

/// Probabilities of hints without lines, without strokes, and without either.
const WITHOUT: (f64, f64, f64) = (0.1, 0.15, 0.05);
/// Probability of edges found with other thresholds than the usual ones.
const OTHER_THRESHOLDS: f64 = 0.2;
/// Probabilities of smooth strokes of one flat color each, as people draw them: with a pen, and with a broad brush.
/// Other strokes are scribbles. A network learns from broad strokes what colors mean, and only then to fill an object
/// from a thin stroke. A network that is trained for an hour without broad strokes follows lines alone.
const SMOOTH: (f64, f64) = (0.3, 0.4);
/// Radius in pixels of a pen's strokes.
const PEN: Range<f64> = 1.0..3.0;
/// Radius of a brush's strokes, in shares of the picture's smaller side.
const BRUSH: Range<f64> = 0.01..0.15;
/// Distance in RGB, 0..=441, within which a pixel has a stroke's color.
const ALIKE: i32 = 40;

/// Makes a random drawing of a picture: edges, and strokes in the picture's own colors. Some drawings lack edges or
/// strokes, and a few are empty, so that the network learns to work with less.
///
/// # Errors
/// The errors of [`Canny::edges`] and [`Scribble::draw`].
///
/// Source: "Coloring with ControlNet" (2024); the probabilities and the smooth strokes are this crate's.
pub(super) fn drawing(picture: &Raster, rng: &mut impl Rng) -> Result<Drawing> {
    let (lines, strokes, both) = WITHOUT;
    let nothing = rng.random_bool(both);
    let (lines, strokes) = (nothing || rng.random_bool(lines), nothing || rng.random_bool(strokes));
    let mut canny = Canny::default();
    if rng.random_bool(OTHER_THRESHOLDS) {
        canny.low = rng.random_range(50.0..150.0);
        canny.high = rng.random_range(150.0..300.0);
    }
    let sketch = if lines { Sketch::blank(picture.size()) } else { canny.edges(picture)? };
    let seed = rng.random();
    let strokes = match strokes {
        true => Strokes::new(picture.size()),
        false => {
            let Size { width, height } = picture.size();
            let side = width.min(height);
            let (kind, (pen, brush)) = (rng.random::<f64>(), SMOOTH);
            if kind < pen {
                smooth(picture, PEN, rng)
            } else if kind < pen + brush {
                smooth(picture, BRUSH.start * f64::from(side)..BRUSH.end * f64::from(side), rng)
            } else {
                Scribble::for_side(side).draw(picture, seed)?
            }
        }
    };
    Ok(Drawing { sketch, strokes })
}

/// Makes a drawing as a person who wants the picture would draw: its edges, and smooth strokes in its colors. A seed
/// makes the same drawing every time.
///
/// # Errors
/// The errors of [`Canny::edges`].
pub fn drawn_by_a_person(picture: &Raster, seed: u64) -> Result<Drawing> {
    let strokes = smooth(picture, PEN, &mut Pcg64Mcg::seed_from_u64(seed));
    Ok(Drawing { sketch: Canny::default().edges(picture)?, strokes })
}

/// Draws one to eight curves with radii in pixels. Each curve has the picture's color halfway along the curve, and ends
/// where the picture has another color.
fn smooth(picture: &Raster, radius: Range<f64>, rng: &mut impl Rng) -> Strokes {
    let Size { width, height } = picture.size();
    let (width, height) = (f64::from(width), f64::from(height));
    let reach = 0.25 * width.min(height);
    let mut strokes = Strokes::new(picture.size());
    for _ in 0..rng.random_range(1..=8) {
        let middle = (rng.random_range(0.0..width), rng.random_range(0.0..height));
        let mut off = || rng.random_range(-reach..=reach);
        let (along, bend) = ((off(), off()), (0.3 * off(), 0.3 * off()));
        let points = (0..=12).map(|i| {
            let t = f64::from(i) / 6.0 - 1.0; // -1..=1
            (middle.0 + t * along.0 + t * t * bend.0, middle.1 + t * along.1 + t * t * bend.1)
        });
        let Some(color) = picture.pixel(middle.0 as u32, middle.1 as u32) else { continue };
        // A stroke ends where the picture has another color, because a person would not paint over a border.
        let alike = |&(x, y): &(f64, f64)| {
            x >= 0.0 && y >= 0.0 && picture.pixel(x as u32, y as u32).is_some_and(|other| other.delta_e(color) < 10.0)
        };
        let points: Vec<_> = points.collect();
        let (before, after) = points.split_at(points.len() / 2);
        let kept: Vec<_> = before.iter().rev().take_while(|at| alike(at)).collect();
        let path = kept.into_iter().rev().chain(after.iter().take_while(|at| alike(at))).copied();
        strokes = inside(strokes, picture, path.collect(), rng.random_range(radius.clone()), color);
    }
    strokes
}

/// Paints a stroke only where the picture has the stroke's color. A broad brush reaches beyond the borders of an
/// object, but a person does not paint there.
fn inside(strokes: Strokes, picture: &Raster, path: Vec<(f64, f64)>, radius: f64, color: Rgb) -> Strokes {
    let whole = Strokes::new(picture.size()).line(path, radius, color);
    let near = |Rgb(r, g, b): Rgb| {
        let apart = [(r, color.0), (g, color.1), (b, color.2)].map(|(a, b)| i32::from(a) - i32::from(b));
        apart.iter().map(|off| off * off).sum::<i32>() <= ALIKE * ALIKE
    };
    let Size { width, height } = picture.size();
    let mut layer = strokes.layer().clone();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        let painted = whole.layer().pixel(x, y).is_some_and(|(_, alpha)| alpha > 0);
        if painted && picture.pixel(x, y).is_some_and(near) {
            layer.set(x, y, color, 255);
        }
    }
    Strokes::of(layer)
}

#[cfg(test)]
mod tests {
    use super::super::dataset::Dataset;
    use super::*;

    #[test]
    fn drawings_have_edges_and_strokes_in_own_colors() -> Result<()> {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let picture = Dataset::new(128)?.draw(3)?.picture;
        let (mut blank, mut bare, mut off, mut painted) = (0, 0, 0, 0);
        for _ in 0..200 {
            let drawing = drawing(&picture, &mut rng)?;
            let pixels = || (0..128).flat_map(|y| (0..128).map(move |x| (x, y)));
            blank += usize::from(pixels().all(|(x, y)| !drawing.sketch.is_line(x, y)));
            let strokes: Vec<_> = pixels()
                .filter_map(|(x, y)| Some((picture.pixel(x, y)?, drawing.strokes.layer().pixel(x, y)?)))
                .collect();
            let own: Vec<_> = strokes.iter().filter(|(_, (_, alpha))| *alpha == 255).collect();
            bare += usize::from(own.is_empty());
            painted += own.len();
            off += own.iter().filter(|(color, (stroke, _))| color.delta_e(*stroke) > 15.0).count();
        }
        assert!(
            (10..=55).contains(&blank) && (15..=70).contains(&bare),
            "{blank} without lines, {bare} without strokes"
        );
        assert!(painted > 200 * 50 && off * 10 < painted, "{off} of {painted} pixels have another color");
        Ok(())
    }
}
