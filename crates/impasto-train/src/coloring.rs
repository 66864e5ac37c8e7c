//! [`Coloring`]: a measure of how well a sketch was colored like a reference.

use super::adherence::{edge_f1, median, median_color};
use super::dataset::{Class, Drawing};
use impasto::hint::Canny;
use impasto::{Raster, Result};

/// Largest distance in pixels at which a painted edge counts as an edge of the drawing.
const TOLERANCE: u32 = 1;
/// Minimum number of a part's pixels away from its border; smaller parts are not measured.
const LEAST: usize = 60;
/// Distance in pixels from a part's border at which its pixels begin to count.
const INSIDE: u32 = 3;
/// Classes of a sketch's empty areas.
const EMPTY: [Class; 3] = [Class::Background, Class::Sky, Class::Ground];
/// CIEDE2000 above which two colors count as different. A leak needs two differences from the empty area's color: that
/// of the reference at the same place, and that of the painted pixel.
const APART: f64 = 15.0;
/// Value of [`Coloring::leaked`] above which a picture shows the reference's layout ([`Coloring::is_entangled`]).
const ENTANGLED: f64 = 0.1;

/// A measure of how well a sketch was colored like a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Coloring {
    /// CIEDE2000 between the painted median color of each part and the part's color in the reference, by class.
    pub parts: Vec<(Class, f64)>,
    /// F1 of the painted edges against the drawing's, 0..=1; see [`edge_f1`].
    pub edge_f1: f64,
    /// Share of the pixels of empty areas (background, sky, ground) that show the reference's layout, 0..=1.
    ///
    /// Only pixels count at which the reference differs from the area's color. Such a pixel leaks if three conditions
    /// hold:
    ///
    /// * It differs from the area's color.
    /// * It differs from the drawing at the same place.
    /// * It is nearer to the reference at the same place.
    ///
    /// The share is 0 if no pixel counts, and 1 for a copy of the reference.
    pub leaked: f64,
}

impl Coloring {
    /// Compares `painted` with the drawing that its sketch was taken from, and with a reference of the same things in
    /// the same colors ([`Dataset::draw_in_colors_of`](super::dataset::Dataset::draw_in_colors_of)). All three have one
    /// size.
    ///
    /// # Errors
    /// [`impasto::Error::Parameter`] for pictures without pixels.
    pub fn measure(drawing: &Drawing, reference: &Drawing, painted: &Raster) -> Result<Self> {
        let asked = Canny::default().edges(&drawing.picture)?;
        let found = Canny::default().edges(painted)?;
        let (mut parts, mut leaked, mut apart) = (Vec::new(), 0usize, 0usize);
        for (class, color) in reference.record.colors() {
            let inside = interior(drawing, class);
            if inside.len() < LEAST {
                continue;
            }
            parts.extend(median_color(painted, &inside).map(|got| (class, got.delta_e(color.rgb))));
            if !EMPTY.contains(&class) {
                continue;
            }
            for &(x, y) in &inside {
                let there = reference.picture.pixel(x, y).filter(|there| there.delta_e(color.rgb) > APART);
                let own = drawing.picture.pixel(x, y);
                let Some(((there, got), own)) = there.zip(painted.pixel(x, y)).zip(own) else { continue };
                // The area's own light and shade are no leak.
                let off = got.delta_e(color.rgb).min(got.delta_e(own));
                apart += 1;
                leaked += usize::from(off > APART && got.delta_e(there) < off);
            }
        }
        let leaked = leaked as f64 / apart.max(1) as f64;
        Ok(Self { parts, edge_f1: edge_f1(&found, &asked, TOLERANCE), leaked })
    }

    /// Returns true if the reference's layout shows in the picture: more than a tenth of the pixels leaked
    /// ([`leaked`](Self::leaked)).
    pub fn is_entangled(&self) -> bool {
        self.leaked > ENTANGLED
    }

    /// Returns the median over the parts of many pictures, or `None` if there are no parts.
    pub fn median_of_parts(all: &[Self]) -> Option<f64> {
        median(all.iter().flat_map(|coloring| coloring.parts.iter().map(|(_, apart)| *apart)).collect())
    }
}

/// Returns the pixels of a class that have no other class within `INSIDE` pixels to their sides, above or below.
fn interior(drawing: &Drawing, class: Class) -> Vec<(u32, u32)> {
    let (h, w) = drawing.mask.dim();
    let is = |x: i64, y: i64| {
        let index = usize::try_from(y).ok().zip(usize::try_from(x).ok());
        index.and_then(|index| drawing.mask.get(index)).is_none_or(|found| *found == class.index())
    };
    let reach = i64::from(INSIDE);
    let inside = |(x, y): (i64, i64)| (-reach..=reach).all(|d| is(x + d, y) && is(x, y + d));
    let here = |(x, y): (i64, i64)| drawing.mask.get((y as usize, x as usize)) == Some(&class.index());
    let pixels = (0..h as i64).flat_map(|y| (0..w as i64).map(move |x| (x, y)));
    pixels.filter(|at| here(*at) && inside(*at)).map(|(x, y)| (x as u32, y as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Dataset, Record};
    use impasto::Rgb;

    #[test]
    fn picture_is_told_from_its_reference() -> Result<()> {
        let dataset = Dataset::new(128)?;
        let mut drawings = (0..).map(|seed| dataset.draw(seed));
        let portrait = drawings.find(|drawing| matches!(drawing, Ok(Drawing { record: Record::Portrait { .. }, .. })));
        let drawing = portrait.expect("there is always another")?;
        let reference = dataset.draw_in_colors_of(&drawing.record, 77)?;
        let itself = Coloring::measure(&drawing, &reference, &drawing.picture)?;
        assert!(itself.parts.len() >= 4 && itself.parts.iter().all(|(_, apart)| *apart < 4.0), "{itself:?}");
        assert!(itself.edge_f1 == 1.0 && !itself.is_entangled(), "{itself:?}");
        let copied = Coloring::measure(&drawing, &reference, &reference.picture)?;
        assert!(copied.is_entangled() && copied.edge_f1 < 0.7, "{copied:?}");
        let gray = Coloring::measure(&drawing, &reference, &Raster::flat(Rgb(128, 128, 128), (128, 128)))?;
        assert!(Coloring::median_of_parts(&[gray]) > Some(10.0) && Coloring::median_of_parts(&[]).is_none());
        Ok(())
    }
}
