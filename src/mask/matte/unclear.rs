//! A small object whose material cannot be told from its lines or from its surroundings, and lines that enclose it.

use super::super::distance::distances;
use super::super::material::Material;
use super::super::morphology::{dilate, erode, grown, opened};
use super::super::pieces::pieces;
use super::object::{FRINGE, LEAST_PIECE, Object, REACH, mark};
use crate::color::Lab;
use crate::error::Result;
use tch::Tensor;

/// Lightness below which a material is as dark as the lines in it, such as pupils: of any material, and of a gray one.
const BLACK: (f64, f64) = (26.0, 36.0);
/// Largest share of a small object that is farther than a cell from the object's border.
const SMALL_OBJECT: f64 = 0.5;
/// Distance from the material of pixels around an object that are like it, and the largest share of such pixels around
/// an object with a clear material.
const ALIKE: (f64, f64) = (0.7, 0.15);
/// Value of the place from which on a pixel is surely the object's, and the smallest share of such pixels of the
/// material that lines enclose, in each piece of the place.
const SURE: (f32, f64) = (0.9, 0.9);
/// Largest share of an enclosed piece that is outside of the place.
const BEYOND: f64 = 0.3;
/// Half of the greatest width of a dark line, in pixels, and the least lightness by which the line is darker.
const DARK_LINE: (i64, f64) = (3, 2.0);
/// Half of the greatest width of a gap in a line that encloses an object, in pixels.
const GAP: i64 = 1;

impl Object {
    /// Decides whether a small object's material can be told well from its lines and from its surroundings. Most of a
    /// small object is within a cell of its border.
    ///
    /// If the surroundings have the material's color, too, lines may enclose the object: the rims of brown eyes in a
    /// brown face. Then what is beyond the lines is left out. Returns true if lines enclose the object.
    pub(super) fn clear(&mut self) -> Result<bool> {
        let outside: Vec<bool> = self.distance.iter().map(|away| *away > 0.0).collect();
        let inside = outside.iter().filter(|outside| !**outside).count() as f64;
        let inner = distances(&outside, self.size).into_iter().filter(|away| *away > self.cell).count() as f64;
        let is_small = inner <= SMALL_OBJECT * inside;
        let (is_dark, is_alike) = (self.is_dark(), self.is_alike());
        let is_enclosed = is_small && !is_dark && is_alike && self.enclose()?;
        self.unclear = is_small && !is_enclosed && (is_dark || is_alike);
        Ok(is_enclosed)
    }

    /// Returns true if most of the material is as dark as lines.
    fn is_dark(&self) -> bool {
        let black = |own: &&Lab| own.l < if Material(**own).is_gray() { BLACK.1 } else { BLACK.0 };
        let dark = self.own.iter().flatten().filter(black).count();
        2 * dark > self.own.iter().flatten().count()
    }

    /// Returns true if many other pixels around the object have a material's color.
    fn is_alike(&self) -> bool {
        let around = self.like_material().into_iter().zip(&self.own).zip(&self.distance);
        let around = around.filter(|((_, own), away)| own.is_none() && **away > 0.0 && **away <= REACH * self.cell);
        let (all, alike) =
            around.fold((0.0, 0.0), |(all, alike), ((like, _), _)| (all + 1.0, alike + f64::from(u8::from(like))));
        alike > ALIKE.1 * all
    }

    /// Returns, for each pixel, whether it has a material's color.
    fn like_material(&self) -> Vec<bool> {
        let materials = self.materials();
        let has = |color: &Lab| materials.iter().any(|own| Material(*own).distance(color) <= ALIKE.0);
        self.seen.iter().map(|seen| has(&seen.color)).collect()
    }

    /// Leaves out the pixels that are connected with pixels of their color beyond the place. Returns false, and changes
    /// nothing, if these include pixels that are surely the object's.
    fn enclose(&mut self) -> Result<bool> {
        let width = self.size.w as usize;
        let pixels = self.like_material().into_iter().zip(&self.own).zip(self.is_line()?);
        let alike: Vec<bool> = pixels.map(|((like, own), line)| (like || own.is_some()) && !line).collect();
        let [mut within, mut beyond] = [(); 2].map(|()| vec![false; self.own.len()]);
        for piece in pieces(opened(&alike, self.size, GAP)?, width) {
            let outside = piece.iter().filter(|at| self.distance.get(**at).is_some_and(|away| *away > 0.0)).count();
            let is_within = outside as f64 <= BEYOND * piece.len() as f64;
            mark(if is_within { &mut within } else { &mut beyond }, &piece, true);
        }
        let [within, beyond] = [within, beyond].map(|pixels| grown(&pixels, self.size, FRINGE));
        let is_enclosed = within?.into_iter().zip(beyond?).map(|(within, beyond)| within || !beyond);
        let kept: Vec<Option<Lab>> =
            self.own.iter().zip(is_enclosed).map(|(own, enclosed)| own.filter(|_| enclosed)).collect();
        let place: Vec<bool> = self.distance.iter().map(|away| *away == 0.0).collect();
        let has_enough = |piece: &Vec<usize>| {
            let sure = piece.iter().filter(|at| self.place.get(**at).is_some_and(|place| *place >= SURE.0));
            let count = |own: &[Option<Lab>]| {
                sure.clone().filter(|at| own.get(**at).is_some_and(Option::is_some)).count() as f64
            };
            count(&kept) >= SURE.1 * count(&self.own)
        };
        let area = place.iter().filter(|inside| **inside).count() as f64;
        let is_large = |piece: &&Vec<usize>| piece.len() as f64 >= LEAST_PIECE * area;
        let is_enough = pieces(place, width).iter().filter(is_large).all(has_enough);
        if is_enough {
            self.own = kept;
        }
        Ok(is_enough)
    }

    /// Returns, for each pixel, whether it is on a line that is darker than what is on both sides.
    fn is_line(&self) -> Result<Vec<bool>> {
        let lightness: Vec<f32> = self.seen.iter().map(|seen| seen.color.l as f32).collect();
        let lightness = Tensor::f_from_slice(&lightness)?.f_reshape([1, 1, self.size.h, self.size.w])?;
        let without = erode(&dilate(&lightness, DARK_LINE.0)?, DARK_LINE.0)?;
        let depth = Vec::<f32>::try_from(&without.f_sub(&lightness)?.f_flatten(0, -1)?)?;
        Ok(depth.into_iter().map(|depth| f64::from(depth) >= DARK_LINE.1).collect())
    }
}
