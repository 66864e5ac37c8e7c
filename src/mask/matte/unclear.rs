//! Whether a small object's material can be told from its lines and from its surroundings.

use super::super::distance::distances;
use super::super::material::Material;
use super::object::{Object, REACH};
use crate::color::Lab;

/// Lightness below which a material is as dark as the lines in it, such as pupils: of any material, and of a gray one.
const BLACK: (f64, f64) = (26.0, 36.0);
/// Largest share of a small object that is farther than a cell from the object's border.
const SMALL_OBJECT: f64 = 0.5;
/// Distance from the material of pixels around an object that are like it, and the largest share of such pixels around
/// an object with a clear material.
const ALIKE: (f64, f64) = (0.7, 0.15);

impl Object {
    /// Returns true if a small object cannot be told well from its lines or from its surroundings, by its material.
    /// Most of a small object is within a cell of its border.
    pub(super) fn is_unclear(&self) -> bool {
        let outside: Vec<bool> = self.distance.iter().map(|away| *away > 0.0).collect();
        let inside = outside.iter().filter(|outside| !**outside).count() as f64;
        let inner = distances(&outside, self.size).into_iter().filter(|away| *away > self.cell).count() as f64;
        if inner > SMALL_OBJECT * inside {
            return false;
        }
        let black = |own: &Lab| own.l < if Material(*own).is_gray() { BLACK.1 } else { BLACK.0 };
        let (own, dark) = self
            .own
            .iter()
            .flatten()
            .fold((0.0, 0.0), |(own, dark), color| (own + 1.0, dark + f64::from(u8::from(black(color)))));
        let materials = self.materials();
        let has = |color: &Lab| materials.iter().any(|own| Material(*own).distance(color) <= ALIKE.0);
        let around = self.seen.iter().zip(&self.own).zip(&self.distance);
        let around = around.filter(|((_, own), away)| own.is_none() && **away > 0.0 && **away <= REACH * self.cell);
        let (all, alike) = around.fold((0.0, 0.0), |(all, alike), ((seen, _), _)| {
            (all + 1.0, alike + f64::from(u8::from(has(&seen.color))))
        });
        dark > 0.5 * own || alike > ALIKE.1 * all
    }
}
