//! [`Adherence`]: a measure of how closely a picture follows the drawing that it was painted from.

use impasto::hint::{Canny, Drawing, Sketch};
use impasto::{Grid, Raster, Result, Rgb, Size};

/// Distance in pixels within which a painted edge counts as an edge of the drawing.
const TOLERANCE: u32 = 1;
/// Maximum CIEDE2000 from a stroke's color at which a pixel of the original picture belongs to the stroke's object.
const ALIKE: f64 = 4.0;
/// Minimum number of pixels of an object.
const LEAST: usize = 64;

/// A measure of how closely a picture follows lines and strokes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adherence {
    /// F1 of the painted edges against the lines, 0..=1; see [`edge_f1`].
    pub edge_f1: f64,
    /// Median CIEDE2000 between the pixels under strokes and the strokes; `None` without strokes.
    pub strokes: Option<f64>,
    /// Median CIEDE2000 between the objects under strokes and the strokes; `None` if no stroke lies on an object.
    pub objects: Option<f64>,
}

impl Adherence {
    /// Compares `painted` with the drawing that it was painted from. `original` is the picture that the drawing was
    /// made from. An object is the connected area of a stroke's color in `original` around the pixels of the stroke.
    ///
    /// # Errors
    /// [`impasto::Error::Parameter`] for pictures without pixels.
    pub fn measure(original: &Raster, drawing: &Drawing, painted: &Raster) -> Result<Self> {
        let edges = Canny::default().edges(painted)?;
        let layer = drawing.strokes.layer();
        let (mut strokes, mut objects) = (Vec::new(), Vec::new());
        let colors = if layer.bytes().chunks_exact(4).all(|pixel| pixel.ends_with(&[0])) {
            Vec::new()
        } else {
            drawing.strokes.colors()?
        };
        let Size { width, height } = layer.size();
        for (color, region) in colors {
            let inside = region.for_images(Grid::new(height.into(), width.into()), 1)?;
            let inside = Vec::<f32>::try_from(&inside.f_flatten(0, -1)?)?;
            let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            let under: Vec<(u32, u32)> =
                places.zip(&inside).filter(|(_, inside)| **inside > 0.5).map(|(place, _)| place).collect();
            strokes.extend(under.iter().filter_map(|&(x, y)| painted.pixel(x, y)).map(|got| got.delta_e(color)));
            let object = grown(original, color, under);
            if object.len() >= LEAST {
                objects.extend(median_color(painted, &object).map(|got| got.delta_e(color)));
            }
        }
        Ok(Self {
            edge_f1: edge_f1(&edges, &drawing.sketch, TOLERANCE),
            strokes: median(strokes),
            objects: median(objects),
        })
    }
}

/// Returns the F1 of the lines of one sketch against those of another sketch of the same size.
///
/// F1 is the harmonic mean of two shares: of `found` pixels with an `asked` pixel within `tolerance` pixels in both
/// directions, and of the reverse. Two empty sketches have an F1 of 1.
pub fn edge_f1(found: &Sketch, asked: &Sketch, tolerance: u32) -> f64 {
    let share = |of: &Sketch, among: &Sketch| {
        let Size { width, height } = of.size();
        let near = |x: u32, y: u32| {
            let rows = y.saturating_sub(tolerance)..=(y + tolerance).min(height.saturating_sub(1));
            let columns = x.saturating_sub(tolerance)..=(x + tolerance).min(width.saturating_sub(1));
            rows.flat_map(|y| columns.clone().map(move |x| (x, y))).any(|(x, y)| among.is_line(x, y))
        };
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let lines: Vec<_> = pixels.filter(|&(x, y)| of.is_line(x, y)).collect();
        let met = lines.iter().filter(|&&(x, y)| near(x, y)).count();
        (lines.len(), met as f64 / lines.len().max(1) as f64)
    };
    let ((found_count, precision), (asked_count, recall)) = (share(found, asked), share(asked, found));
    match (found_count, asked_count) {
        (0, 0) => 1.0,
        _ if precision + recall == 0.0 => 0.0,
        _ => 2.0 * precision * recall / (precision + recall),
    }
}

/// Returns the pixels of a picture that have a color and are connected with pixels of `from` that have the same color.
fn grown(picture: &Raster, color: Rgb, from: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let Size { width, height } = picture.size();
    let mut seen = vec![false; width as usize * height as usize];
    let (mut open, mut object) = (from, Vec::new());
    while let Some((x, y)) = open.pop() {
        let Some(seen) = seen.get_mut(y as usize * width as usize + x as usize) else { continue };
        let alike = picture.pixel(x, y).is_some_and(|pixel| pixel.delta_e(color) <= ALIKE);
        if std::mem::replace(seen, true) || !alike {
            continue;
        }
        object.push((x, y));
        let beside = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
        open.extend(beside.into_iter().filter(|(x, y)| *x < width && *y < height));
    }
    object
}

/// Returns the median of each channel over some pixels.
pub(super) fn median_color(picture: &Raster, pixels: &[(u32, u32)]) -> Option<Rgb> {
    let colors: Vec<Rgb> = pixels.iter().filter_map(|&(x, y)| picture.pixel(x, y)).collect();
    let channel = |of: fn(&Rgb) -> u8| {
        let mut values: Vec<u8> = colors.iter().map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    Some(Rgb(channel(|c| c.0)?, channel(|c| c.1)?, channel(|c| c.2)?))
}

/// Returns the median of some numbers, or `None` if there are none.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use impasto::hint::Strokes;

    fn sketch(rows: &[&str]) -> Sketch {
        let mut paper = Raster::flat(Rgb(255, 255, 255), (8, 5));
        for (y, row) in (0..).zip(rows) {
            for (x, _) in (0..).zip(row.chars()).filter(|(_, pixel)| *pixel == '#') {
                paper.set(x, y, Rgb(0, 0, 0));
            }
        }
        Sketch::of_line_art(&paper).unwrap()
    }

    /// Expects the figures of an independent program.
    #[test]
    fn edges_agree_as_the_reference_says() {
        let found = sketch(&["........", "..####..", "..#..#..", "..####..", "........"]);
        let asked = sketch(&["........", ".####...", ".#..#...", ".####...", ".......#"]);
        for (tolerance, f1) in [(0, 0.571_428_571_428_571_3), (1, 0.952_380_952_380_952_3), (2, 1.0)] {
            assert!((edge_f1(&found, &asked, tolerance) - f1).abs() < 1e-9, "tolerance {tolerance}");
        }
        let blank = Sketch::blank((8, 5));
        assert_eq!((edge_f1(&blank, &blank, 1), edge_f1(&blank, &asked, 1)), (1.0, 0.0));
    }

    #[test]
    fn object_is_the_area_of_one_color_under_a_stroke() -> Result<()> {
        // A red square on white, painted blue, with a red stroke that reaches beyond it.
        let (red, blue, white) = (Rgb(220, 30, 30), Rgb(30, 30, 220), Rgb(255, 255, 255));
        let mut original = Raster::flat(white, (64, 64));
        let mut painted = original.clone();
        for (x, y) in (16..48).flat_map(|y| (16..48).map(move |x| (x, y))) {
            original.set(x, y, red);
            painted.set(x, y, if y < 20 { red } else { blue });
        }
        let strokes = Strokes::new((64, 64)).line([(10.0, 18.0), (40.0, 18.0)], 1.0, red);
        let drawing = Drawing { sketch: Canny::default().edges(&original)?, strokes };
        let own = Adherence::measure(&original, &drawing, &original)?;
        assert_eq!((own.edge_f1, own.strokes, own.objects), (1.0, Some(0.0), Some(0.0)));
        let other = Adherence::measure(&original, &drawing, &painted)?;
        assert_eq!((other.strokes, other.objects), (Some(0.0), Some(blue.delta_e(red))));
        let bare = Drawing { strokes: Strokes::new((64, 64)), ..drawing };
        let bare = Adherence::measure(&original, &bare, &painted)?;
        assert!(bare.strokes.is_none() && bare.objects.is_none() && bare.edge_f1 < 1.0);
        Ok(())
    }
}
