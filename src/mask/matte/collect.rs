//! Collection of the pixels of an object's materials.

use super::super::blur::blur;
use super::super::histogram::Histogram;
use super::super::material::{Material, Seen};
use super::super::morphology::{opened, plane};
use super::super::pieces::pieces;
use super::exclude::has_other_hue;
use super::object::{APART, AROUND, LEAST_PIECE, Object, PIECE, REACH, mark, median};
use crate::color::Lab;
use crate::error::Result;
use crate::step::Grid;
use std::ops::RangeInclusive;
use tch::Tensor;

/// Distance from the material, as a share of that within the place, up to which a pixel outside of the place may be the
/// material.
const STRICT: f64 = 0.4;
/// Distance from the material of pixels in a piece apart from the object's others, as a share of that within the place.
const LOOSE: f64 = 0.9;
/// Largest area of a piece apart from the object's others, as a share of these. A larger piece is another object.
const LARGEST_APART: f64 = 0.5;
/// Share of the largest piece of a material below which a lighter piece is a highlight.
const SMALL: f64 = 0.1;
/// Share of a piece that has the object's common material, and the same for a small piece. A piece with less has a
/// material of its own, and a small piece with less has none.
const COMMON: (f64, f64) = (0.25, 0.5);
/// Smallest share of a piece that another material has, and smallest share of the pixels around in its color that the
/// piece has.
const ANOTHER: (f64, f64) = (0.25, 0.8);
/// Lightness of another material. Pupils, rims and lashes are darker; the whites of eyes and highlights are lighter.
const NO_LINE: RangeInclusive<f64> = 25.0..=85.0;
/// Smallest share of a piece that another material has if it is as dark as lines: without what is as narrow as lines.
/// Pupils have less.
const WIDE: f64 = 0.3;
/// Maximum number of materials of a piece.
const MOST_MATERIALS: usize = 3;
/// Weight of a material's first color in the average of the colors near a pixel.
const FIRST: f64 = 0.05;
/// Width of a line, in pixels to each side of its middle. Dark parts that are narrower are no material.
const LINE: i64 = 2;
/// Number of rounds in which a material's pixels are collected.
const GROWTH: usize = 5;

impl Object {
    /// Finds the pixels of the object's materials.
    pub(super) fn collect(&mut self) -> Result<()> {
        let inside: Vec<bool> = self.distance.iter().map(|distance| *distance == 0.0).collect();
        let area = inside.iter().filter(|inside| **inside).count() as f64;
        if area == 0.0 {
            return Ok(());
        }
        let outside = self.outside();
        let probable = self.probable();
        let all: Vec<Seen> = self.at(inside.iter().copied()).collect();
        let Some(common) = Material::of(&all, &outside) else { return Ok(()) };
        let is_small = |piece: &Vec<usize>| (piece.len() as f64) < LEAST_PIECE * area;
        let (small, large): (Vec<_>, Vec<_>) = pieces(inside, self.size.w as usize).into_iter().partition(is_small);
        for piece in large {
            self.collect_piece(&piece, common, &outside, &probable)?;
        }
        // Small pieces, which may be many, are collected together.
        let has_common = |piece: &Vec<usize>| self.share(piece, &common) >= COMMON.1;
        let seeds: Vec<usize> = small.into_iter().filter(has_common).flatten().collect();
        let _ = self.collect_material(&seeds, common, &probable)?;
        if !self.clear()? {
            self.collect_apart()?;
        }
        if !self.is_enough()? {
            // Without a material of its own, the whole place is the object.
            let all: Vec<usize> = (0..self.distance.len()).filter(|at| self.distance.get(*at) == Some(&0.0)).collect();
            self.own.fill(None);
            if let Some(color) = median(self.of(&all).into_iter().map(|seen| seen.color)) {
                self.claim(&all, color);
            }
        }
        Ok(())
    }

    /// Finds the materials of a connected piece of the place. The first is the `common` material of the whole place, if
    /// the piece has enough of it.
    fn collect_piece(
        &mut self,
        piece: &[usize],
        common: Material,
        outside: &Histogram,
        probable: &[bool],
    ) -> Result<()> {
        let all = piece.len() as f64;
        let mut rest = piece.to_vec();
        for number in 0..MOST_MATERIALS {
            let first = (number == 0 && self.share(&rest, &common) >= COMMON.0).then_some(common);
            let Some(material) = first.or_else(|| Material::of(&self.of(&rest), outside)) else { break };
            if number > 0 && !self.is_another(&material, &rest, all)? {
                break;
            }
            if !self.collect_material(&rest, material, probable)? {
                break;
            }
            rest.retain(|at| self.own.get(*at).is_some_and(Option::is_none));
            if (rest.len() as f64) < LEAST_PIECE * all {
                break;
            }
        }
        Ok(())
    }

    /// Finds the pixels of one material, from the `seeds` that have it. Returns false if there are none.
    fn collect_material(&mut self, seeds: &[usize], material: Material, probable: &[bool]) -> Result<bool> {
        if seeds.is_empty() {
            return Ok(false);
        }
        let found = self.grown(seeds, material, probable)?;
        let Some(color) = median(self.of(&found).into_iter().map(|seen| seen.color)) else { return Ok(false) };
        let found = self.without_other_hues(&found, color)?;
        self.claim(&found, color);
        Ok(true)
    }

    /// Adds pieces of the object's materials that are not connected with the others.
    fn collect_apart(&mut self) -> Result<()> {
        let found = self.own.iter().flatten().count() as f64;
        let sizes = PIECE * self.cell * self.cell..=LARGEST_APART * found;
        for color in self.materials() {
            let material = Material(color);
            let free = self.seen.iter().zip(&self.own).map(|(seen, own)| {
                own.is_none() && material.distance(&seen.color) <= LOOSE && !has_other_hue(&seen.color, color)
            });
            let free = opened(&free.collect::<Vec<bool>>(), self.size, 1)?;
            for piece in pieces(free, self.size.w as usize) {
                let place =
                    piece.iter().filter_map(|at| self.place.get(*at)).map(|place| f64::from(*place)).sum::<f64>();
                let area = piece.len() as f64;
                let apart = if area >= self.cell * self.cell && !self.unclear { APART.1 } else { APART.0 };
                if sizes.contains(&area) && place >= apart * area && !self.is_light(&piece, color) {
                    self.claim(&piece, color);
                }
            }
        }
        Ok(())
    }

    /// Returns true if the material fills half of a cell somewhere.
    fn is_enough(&self) -> Result<bool> {
        let own: Vec<bool> = self.own.iter().map(Option::is_some).collect();
        let (own, cell) = (plane(&own, self.size)?, self.cell as i64);
        let cells = own.f_avg_pool2d([cell; 2], [cell; 2], [0; 2], false, true, None)?;
        Ok(cells.f_max()?.f_double_value(&[])? >= 0.5)
    }

    /// Returns true if a material of some pixels, the `rest` of a piece of `all` pixels, belongs to the object beside
    /// another material: two bows of different colors, but not an iris and a pupil, or an iris and the skin around the
    /// eye.
    fn is_another(&self, material: &Material, rest: &[usize], all: f64) -> Result<bool> {
        let has = |at: &usize| self.seen.get(*at).is_some_and(|seen| material.has(&seen.color));
        let mut own = vec![false; self.seen.len()];
        rest.iter().filter(|at| has(at)).for_each(|at| mark(&mut own, &[*at], true));
        let pixels = |own: &[bool]| own.iter().filter(|own| **own).count() as f64;
        let count = pixels(&own);
        let around = self.seen.iter().zip(&self.distance);
        let around = around.filter(|(_, distance)| **distance > 0.0 && **distance <= AROUND * self.cell);
        let other = around.filter(|(seen, _)| material.has(&seen.color)).count() as f64;
        let is_wide = || -> Result<bool> {
            Ok(*NO_LINE.start() <= material.0.l || pixels(&opened(&own, self.size, LINE)?) >= WIDE * all)
        };
        Ok(count >= ANOTHER.0 * all
            && count >= ANOTHER.1 * (count + other)
            && material.0.l <= *NO_LINE.end()
            && is_wide()?)
    }

    /// Returns the pixels of a material that are connected with those of `seeds`, whose colors change gradually.
    fn grown(&self, seeds: &[usize], material: Material, probable: &[bool]) -> Result<Vec<usize>> {
        let mut is_seed = vec![false; self.seen.len()];
        let has = |at: &usize| self.seen.get(*at).is_some_and(|seen| material.has(&seen.color));
        seeds.iter().filter(|at| has(at)).for_each(|at| mark(&mut is_seed, &[*at], true));
        let mut found = is_seed.clone();
        for _ in 0..GROWTH {
            let pixels = self.tones(&found, material)?.into_iter().zip(&self.seen).zip(&self.distance).zip(probable);
            let alike = pixels.map(|(((tone, seen), away), probable)| {
                *probable && tone.distance(&seen.color) <= if *away > 0.0 { STRICT } else { 1.0 }
            });
            let mut alike: Vec<bool> = alike.collect();
            if material.is_dark() {
                alike = opened(&alike, self.size, LINE)?;
            }
            self.limit(&mut alike);
            found = vec![false; self.seen.len()];
            let pieces = pieces(alike, self.size.w as usize);
            let largest = pieces.iter().map(Vec::len).max().unwrap_or_default() as f64;
            let is_ours = |piece: &&Vec<usize>| {
                let is_small = (piece.len() as f64) < SMALL * largest;
                piece.iter().any(|at| is_seed.get(*at) == Some(&true))
                    && !(is_small && self.is_light(piece, material.0))
            };
            pieces.iter().filter(is_ours).for_each(|piece| mark(&mut found, piece, true));
        }
        Ok(found.iter().enumerate().filter_map(|(at, found)| found.then_some(at)).collect())
    }

    /// Returns the material's color near each pixel: the mean color of the pixels found near it, and a little of the
    /// material's first color.
    fn tones(&self, found: &[bool], Material(first): Material) -> Result<Vec<Material>> {
        let Grid { h, w } = self.size;
        let plane = |of: fn(&Lab) -> f64| {
            self.seen.iter().zip(found).map(move |(seen, found)| if *found { of(&seen.color) as f32 } else { 0.0 })
        };
        let planes = plane(|_| 1.0).chain(plane(|lab| lab.l)).chain(plane(|lab| lab.a)).chain(plane(|lab| lab.b));
        let planes = Tensor::f_from_slice(&planes.collect::<Vec<f32>>())?.f_reshape([1, 4, h, w])?;
        let near = average(&planes, self.gradual)?.f_squeeze_dim(0)?.f_permute([1, 2, 0])?.f_contiguous()?;
        let near = Vec::<f32>::try_from(&near.f_flatten(0, -1)?)?;
        let (near, _) = near.as_chunks::<4>();
        let tone = |sums: &[f32; 4]| {
            let [weight, l, a, b] = sums.map(f64::from);
            let mean = |sum: f64, first: f64| (sum + FIRST * first) / (weight + FIRST);
            Material(Lab { l: mean(l, first.l), a: mean(a, first.a), b: mean(b, first.b) })
        };
        Ok(near.iter().map(tone).collect())
    }

    /// Removes pixels outside of the place that are connected with pixels beyond its reach.
    fn limit(&self, pixels: &mut [bool]) {
        let outside = pixels.iter().zip(&self.distance).map(|(inside, away)| *inside && *away > 0.0).collect();
        for piece in pieces(outside, self.size.w as usize) {
            if piece.iter().filter_map(|at| self.distance.get(*at)).any(|away| *away > REACH * self.cell) {
                mark(pixels, &piece, false);
            }
        }
    }
}

/// Averages planes, [1, n, H, W], with a Gaussian of about `sigma` pixels. Averages of squares of pixels are blurred,
/// because wide Gaussians take much time at full size.
fn average(planes: &Tensor, sigma: f64) -> Result<Tensor> {
    let (_, _, h, w) = planes.size4()?;
    let side = ((sigma / 2.0) as i64).clamp(1, h.min(w));
    let small = planes.f_avg_pool2d([side; 2], [side; 2], [0; 2], true, false, None::<i64>)?;
    Ok(blur(&small, sigma / side as f64)?.f_upsample_bilinear2d([h, w], false, None, None)?)
}
