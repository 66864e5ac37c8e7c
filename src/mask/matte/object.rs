//! An object in one picture, and its surroundings.

use super::super::distance::distances;
use super::super::histogram::{Histogram, bin};
use super::super::material::{Material, Seen};
use crate::color::{Lab, labs};
use crate::error::Result;
use crate::step::Grid;
use tch::{Kind, Tensor};

/// Distance from the object's place up to which connected pixels may belong to the object, in cells. What is larger is
/// another object of the same color.
pub(super) const REACH: f64 = 1.5;
/// Distance from the object's place up to which the surroundings' colors are compared with the object's, in cells.
pub(super) const AROUND: f64 = 4.0;
/// Least mean of the place in a piece that is not connected with the object's other pieces, such as a strand of hair
/// behind an ear: in a piece smaller than a cell, and in a larger one of a clear material.
pub(super) const APART: (f64, f64) = (0.3, 0.25);
/// Smallest area of a piece that counts, in cells.
pub(super) const PIECE: f64 = 0.3;
/// Smallest share of an object that a connected piece with a material of its own has. Smaller pieces in another color
/// are other things, such as eyes that the map of "shirt" takes in.
pub(super) const LEAST_PIECE: f64 = 0.2;
/// Width of an edge whose pixels have a share of the material, in pixels.
pub(super) const FRINGE: i64 = 3;
/// Range of the probability that a pixel belongs to the object, before its color is compared. Within this range, the
/// place is this probability.
const PRIOR: (f64, f64) = (0.02, 0.95);
/// Least probability with which a pixel outside of the place belongs to the object.
const SURE: f64 = 0.85;
/// Change of lightness from pixel to pixel at which a pixel counts half in a choice of material.
const EDGE: f64 = 4.0;

/// An object in one picture.
pub(super) struct Object {
    /// The picture, [1, 3, H, W] in -1..=1.
    pub picture: Tensor,
    pub place: Vec<f32>,
    pub seen: Vec<Seen>,
    pub size: Grid,
    pub cell: f64,
    /// Standard deviation of the Gaussian in which the material's color is averaged, in pixels.
    pub gradual: f64,
    /// Distance of each pixel from the place, in pixels.
    pub distance: Vec<f64>,
    /// The material's color, for the pixels found so far.
    pub own: Vec<Option<Lab>>,
    /// True if the material found cannot be told well from lines or from the surroundings.
    pub unclear: bool,
}

impl Object {
    /// Creates an object without material. `place` is [1, 1, H, W]; `picture` is [1, 3, H, W].
    pub(super) fn new(place: &Tensor, picture: &Tensor, cell: i64, gradual: f64) -> Result<Self> {
        let (_, _, h, w) = picture.size4()?;
        let size = Grid::new(h, w);
        let colors = labs(&picture.f_squeeze_dim(0)?)?;
        let edges = edges(&colors, size)?;
        let weight = |edge: f32| 1.0 / (1.0 + (f64::from(edge) / EDGE).powi(2));
        let seen =
            colors.into_iter().zip(edges).map(|(color, edge)| Seen { color, bin: bin(&color), weight: weight(edge) });
        let place = Vec::<f32>::try_from(&place.f_flatten(0, -1)?)?;
        let inside: Vec<bool> = place.iter().map(|place| *place >= 0.5).collect();
        let distance = distances(&inside, size);
        let own = vec![None; place.len()];
        let picture = picture.shallow_clone();
        Ok(Self {
            picture,
            place,
            seen: seen.collect(),
            size,
            cell: cell as f64,
            gradual,
            distance,
            own,
            unclear: false,
        })
    }

    /// Returns the pixels that are probably the object's, by Bayes' rule. The place is the prior. The likelihoods are
    /// the frequencies of a pixel's color in the place and around it.
    pub(super) fn probable(&self) -> Vec<bool> {
        let count = |is: &dyn Fn(f64) -> bool| {
            let near = self.seen.iter().zip(&self.distance).filter(|(_, away)| is(**away));
            Histogram::of(near.map(|(seen, _)| (seen.bin, 1.0)))
        };
        let inside = count(&|away| away == 0.0);
        let around = count(&|away| away > 0.0 && away <= AROUND * self.cell);
        let (all_inside, all_around) = (inside.sum().max(1.0), around.sum().max(1.0));
        let (inside, around) = (inside.spread(), around.spread());
        let pixels = self.seen.iter().zip(&self.place).zip(&self.distance);
        pixels
            .map(|((seen, place), away)| {
                let prior = f64::from(*place).clamp(PRIOR.0, PRIOR.1);
                let [inside, around] =
                    [inside.at(seen.bin) / all_inside, around.at(seen.bin) / all_around].map(|share| share + 1e-6);
                let odds = inside / around * prior / (1.0 - prior);
                odds / (1.0 + odds) >= if *away > 0.0 { SURE } else { 0.5 }
            })
            .collect()
    }

    /// Counts the colors around the place.
    pub(super) fn outside(&self) -> Histogram {
        let around = self.distance.iter().map(|distance| *distance > 0.0 && *distance <= AROUND * self.cell);
        Histogram::of(self.at(around).map(|seen| (seen.bin, seen.weight))).spread()
    }

    /// Returns the colors of the materials found so far.
    pub(super) fn materials(&self) -> Vec<Lab> {
        let mut colors: Vec<Lab> = Vec::new();
        for own in self.own.iter().flatten() {
            if !colors.contains(own) {
                colors.push(*own);
            }
        }
        colors
    }

    /// Gives pixels the color of their material, unless they have one already.
    pub(super) fn claim(&mut self, pixels: &[usize], color: Lab) {
        for at in pixels {
            if let Some(own) = self.own.get_mut(*at) {
                let _ = own.get_or_insert(color);
            }
        }
    }

    /// Returns the share of some pixels that have a material.
    pub(super) fn share(&self, pixels: &[usize], material: &Material) -> f64 {
        let count = self.of(pixels).iter().filter(|seen| material.has(&seen.color)).count();
        count as f64 / pixels.len().max(1) as f64
    }

    pub(super) fn of(&self, pixels: &[usize]) -> Vec<Seen> {
        pixels.iter().filter_map(|at| self.seen.get(*at).copied()).collect()
    }

    pub(super) fn at(&self, which: impl Iterator<Item = bool>) -> impl Iterator<Item = Seen> {
        self.seen.iter().zip(which).filter_map(|(seen, inside)| inside.then_some(*seen))
    }
}

/// Sets the marks of some pixels.
pub(super) fn mark(marks: &mut [bool], pixels: &[usize], value: bool) {
    for at in pixels {
        marks.get_mut(*at).into_iter().for_each(|mark| *mark = value);
    }
}

/// Returns the median of each channel; `None` without colors.
pub(super) fn median(colors: impl Iterator<Item = Lab> + Clone) -> Option<Lab> {
    let channel = |of: fn(&Lab) -> f64| -> Option<f64> {
        let mut values: Vec<f64> = colors.clone().map(|lab| of(&lab)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Lab { l: channel(|lab| lab.l)?, a: channel(|lab| lab.a)?, b: channel(|lab| lab.b)? })
}

/// Returns the change of lightness from each pixel to the next, by Sobel's filter.
fn edges(colors: &[Lab], Grid { h, w }: Grid) -> Result<Vec<f32>> {
    let lightness: Vec<f32> = colors.iter().map(|lab| lab.l as f32).collect();
    let lightness = Tensor::f_from_slice(&lightness)?.f_reshape([1, 1, h, w])?.f_replication_pad2d([1; 4])?;
    let across = Tensor::f_from_slice(&[-1f32, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0])?.f_reshape([1, 1, 3, 3])?;
    let along = across.f_transpose(2, 3)?;
    let kernels = Tensor::f_cat(&[across, along], 0)?.f_mul_scalar(0.125)?;
    let changes = lightness.f_conv2d(&kernels, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1)?;
    let edges = changes.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?.f_sqrt()?;
    Ok(Vec::try_from(&edges.f_flatten(0, -1)?)?)
}
