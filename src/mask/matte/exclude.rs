//! Other things within an object's place that look like its material: highlights, and small pieces of another hue.

use super::super::material::Material;
use super::super::morphology::{grown, opened};
use super::super::pieces::pieces;
use super::object::{FRINGE, LEAST_PIECE, Object, PIECE, mark, median};
use crate::color::Lab;
use crate::error::Result;

/// Lightness by which a small piece of a highlight, the white of an eye, or teeth is lighter than the material, and the
/// largest share of the material's chroma that the piece has.
const LIGHTER: (f64, f64) = (4.0, 0.85);
/// Distance in chroma, across the direction of the material's hue, from which on a piece is another thing: for a piece
/// as light as the material, and for a darker piece.
const HUE: (f64, f64) = (9.0, 16.0);
/// Change of that distance, within the width of an edge, at which another thing begins.
const SHARP: f64 = 6.0;

impl Object {
    /// Returns true if a small piece is lighter than the material: a highlight, the white of an eye, or teeth.
    pub(super) fn is_light(&self, piece: &[usize], material: Lab) -> bool {
        let chroma = |color: &Lab| color.a.hypot(color.b);
        let is_paler = |own: &Lab| Material(material).is_gray() || chroma(own) <= LIGHTER.1 * chroma(&material);
        let own = median(self.of(piece).into_iter().map(|seen| seen.color));
        own.is_some_and(|own| own.l > material.l + LIGHTER.0 && is_paler(&own))
    }

    /// Returns the pixels found without small pieces of another hue, such as a red mouth in red skin. Shades are darker
    /// than the `material`, and their hue differs less; a blush has no edge.
    pub(super) fn without_other_hues(&self, found: &[usize], material: Lab) -> Result<Vec<usize>> {
        let mut other = vec![false; self.seen.len()];
        let is_other = |at: &&usize| self.seen.get(**at).is_some_and(|seen| has_other_hue(&seen.color, material));
        found.iter().filter(is_other).for_each(|at| mark(&mut other, &[*at], true));
        let other = opened(&other, self.size, 1)?;
        let mut own = vec![false; self.seen.len()];
        mark(&mut own, found, true);
        own.iter_mut().zip(&other).for_each(|(own, other)| *own &= !other);
        let (least, most) = (PIECE * self.cell * self.cell, LEAST_PIECE * found.len() as f64);
        let mut removed = vec![false; self.seen.len()];
        for piece in pieces(other, self.size.w as usize) {
            if (least..most).contains(&(piece.len() as f64)) && self.has_edge(&piece, &own, material) {
                mark(&mut removed, &piece, true);
            }
        }
        let removed = grown(&removed, self.size, 1)?;
        Ok(found.iter().copied().filter(|at| removed.get(*at) != Some(&true)).collect())
    }

    /// Returns true if the hue changes within a few pixels from a piece to the material around it, whose pixels are
    /// `own`.
    fn has_edge(&self, piece: &[usize], own: &[bool], material: Lab) -> bool {
        let width = self.size.w as usize;
        let hue = |at: &usize| self.seen.get(*at).map(|seen| Material(material).hue_across(&seen.color));
        let mean = |pixels: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = pixels.fold((0.0, 0.0), |(sum, count), hue| (sum + hue, count + 1.0));
            (count > 0.0).then(|| sum / count)
        };
        let beside = |at: &usize| {
            let (at, by) = (*at, FRINGE as usize);
            let left = (at % width >= by).then(|| at - by);
            let right = (at % width + by < width).then_some(at + by);
            [left, right, at.checked_sub(by * width), Some(at + by * width)].into_iter().flatten()
        };
        let around = piece.iter().flat_map(beside).filter(|at| own.get(*at) == Some(&true));
        let around = mean(&mut around.filter_map(|at| hue(&at)));
        // Without material around it, lines enclose the piece.
        around.zip(mean(&mut piece.iter().filter_map(hue))).is_none_or(|(own, other)| (own - other).abs() >= SHARP)
    }
}

/// Returns true if a color's hue is too far from that of the `material` for a shade.
pub(super) fn has_other_hue(color: &Lab, material: Lab) -> bool {
    let least = if color.l >= material.l - LIGHTER.0 { HUE.0 } else { HUE.1 };
    Material(material).hue_across(color).abs() > least
}
