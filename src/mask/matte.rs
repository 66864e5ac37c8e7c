//! Matting: the pixels of an object's own material, found in a picture.

use super::blur::blur;
use super::distance::distances;
use super::guided_filter::feathered;
use super::histogram::{Histogram, bin};
use super::material::{Material, Seen};
use super::pieces::pieces;
use crate::color::{Lab, labs};
use crate::error::{Error, Result};
use crate::step::Grid;
use std::ops::{Range, RangeInclusive};
use tch::{Device, Kind, Tensor};

/// Distance from the object's place up to which connected pixels may belong to the object, in cells. What is larger is
/// another object of the same color.
const REACH: f64 = 1.5;
/// Distance from the object's place up to which the surroundings' colors are compared with the object's, in cells.
const AROUND: f64 = 4.0;
/// Range of the probability that a pixel belongs to the object, before its color is compared. Within this range, the
/// place is this probability.
const PRIOR: (f64, f64) = (0.02, 0.95);
/// Least probability with which a pixel outside of the place belongs to the object.
const SURE: f64 = 0.85;
/// Distance from the material, as a share of that within the place, up to which a pixel outside of the place may be the
/// material.
const STRICT: f64 = 0.4;
/// Least mean of the place in a piece that is not connected with the object's other pieces, such as a strand of hair
/// behind an ear: in a piece smaller than a cell, and in a larger one of a clear material.
const APART: (f64, f64) = (0.3, 0.25);
/// Distance of such a piece's pixels from the material, as a share of that within the place.
const LOOSE: f64 = 0.9;
/// Smallest area of such a piece, in cells.
const PIECE: f64 = 0.3;
/// Lightness by which a small piece of a highlight, the white of an eye, or teeth is lighter than the material, and the
/// largest share of the material's chroma that the piece has.
const LIGHTER: (f64, f64) = (4.0, 0.85);
/// Smallest share of an object that a connected piece with a material of its own has. Smaller pieces in another color
/// are other things, such as eyes that the map of "shirt" takes in.
const LEAST_PIECE: f64 = 0.2;
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
/// Maximum number of materials of a piece.
const MOST_MATERIALS: usize = 3;
/// Distance in chroma, across the direction of the material's hue, from which on a piece is another thing: for a piece
/// as light as the material, and for a darker piece.
const HUE: (f64, f64) = (9.0, 16.0);
/// Change of that distance, within the width of an edge, at which another thing begins.
const SHARP: f64 = 6.0;
/// Change of lightness from pixel to pixel at which a pixel counts half in a choice of material.
const EDGE: f64 = 4.0;
/// Standard deviation of the Gaussian in which a material's color is averaged, as a share of the picture's shorter
/// side. The color may change gradually.
const GRADUAL: f64 = 1.0 / 32.0;
/// Weight of a material's first color in that average.
const FIRST: f64 = 0.05;
/// Width of a line, in pixels to each side of its middle. Dark parts that are narrower are no material.
const LINE: i64 = 2;
/// Number of rounds in which a material's pixels are collected.
const GROWTH: usize = 5;
/// Width of an edge whose pixels have a share of the material, in pixels.
const FRINGE: i64 = 3;
/// Width of the outline that a dark material keeps, in pixels.
const RIM: i64 = 2;
/// Lightness below which a material is as dark as the lines in it, such as pupils: of any material, and of a gray one.
const BLACK: (f64, f64) = (26.0, 36.0);
/// Largest share of a small object that is farther than a cell from the object's border.
const SMALL_OBJECT: f64 = 0.5;
/// Distance from the material of pixels around an object that are like it, and the largest share of such pixels around
/// an object with a clear material.
const ALIKE: (f64, f64) = (0.7, 0.15);
/// Standard deviation of the Gaussian that softens the edge of a dark material, in pixels.
const SOFT: f64 = 0.7;
/// Standard deviation of the Gaussian that carries a material's color to its fringe, in pixels.
const CARRY: f64 = 2.0;

/// The pixels of an object's own material.
#[derive(Debug)]
pub(crate) struct Matte {
    /// Share of each pixel that is the material, [n, 1, H, W] in 0..=1 on the CPU.
    pub share: Tensor,
    /// The material's color at each pixel, [n, 3, H, W] in CIELAB; 0 beyond the material's fringe.
    pub material: Tensor,
    /// True for each image in which the object is small, and its material is as dark as lines or also that of much of
    /// the surroundings.
    pub unclear: Vec<bool>,
}

impl Matte {
    /// Finds an object's material in a picture, [n or 1, 3, H, W] in -1..=1. `place`, [n, 1, H, W] in 0..=1, is the
    /// object's place along the outlines of the picture; the object has most pixels of .5 and more. `cell` is the side
    /// of a latent cell in pixels.
    ///
    /// 1. Pixels near the place are the object's if their color is more frequent in the place than around it (Bayes'
    ///    rule with the place as prior).
    /// 2. A material is the color that most of a connected piece of the place has and that its surroundings lack, in
    ///    any shade. Lines, highlights and other things within the place have other colors.
    /// 3. The object's pixels of the material that are connected with the place are the result. The material's color
    ///    may change gradually from pixel to pixel.
    /// 4. The edges are feathered: a pixel between two colors gets the share that the material has in it.
    pub(crate) fn of(place: &Tensor, picture: &Tensor, cell: i64) -> Result<Self> {
        let (n, _, height, width) = place.size4()?;
        let pictures = picture.size4()?.0;
        let gradual = GRADUAL * height.min(width) as f64;
        let float = |x: &Tensor| Ok::<_, Error>(x.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?);
        let share = Tensor::f_zeros([n, 1, height, width], (Kind::Float, Device::Cpu))?;
        let material = Tensor::f_zeros([n, 3, height, width], (Kind::Float, Device::Cpu))?;
        let mut unclear = vec![false; n as usize];
        for (image, unclear) in (0..).zip(&mut unclear) {
            let (place, picture) =
                (float(&place.f_narrow(0, image, 1)?)?, picture.f_narrow(0, image.min(pictures - 1), 1)?);
            let Some((rows, columns)) = surroundings(&place, cell)? else { continue };
            let cut = |x: &Tensor| -> Result<Tensor> {
                Ok(x.f_narrow(2, rows.start, rows.end - rows.start)?.f_narrow(
                    3,
                    columns.start,
                    columns.end - columns.start,
                )?)
            };
            let found = Object::new(&cut(&place)?, &float(&cut(&picture)?)?, cell, gradual)?.matte()?;
            *unclear = found.unclear.contains(&true);
            cut(&share.f_narrow(0, image, 1)?)?.f_copy_(&found.share)?;
            cut(&material.f_narrow(0, image, 1)?)?.f_copy_(&found.material)?;
        }
        Ok(Self { share, material, unclear })
    }

    /// Returns the matte of one image.
    pub(crate) fn image(&self, image: i64) -> Result<Self> {
        let unclear = self.unclear.get(image as usize).copied().into_iter().collect();
        Ok(Self { share: self.share.f_narrow(0, image, 1)?, material: self.material.f_narrow(0, image, 1)?, unclear })
    }

    /// Returns the share of each cell that is the material, [n, 1, h, w]. `cell` is the side of a cell in pixels.
    pub(crate) fn cells(&self, cell: i64) -> Result<Tensor> {
        Ok(self.share.f_avg_pool2d([cell; 2], [cell; 2], [0; 2], false, true, None)?)
    }

    pub(crate) fn shallow_clone(&self) -> Self {
        let (share, material) = (self.share.shallow_clone(), self.material.shallow_clone());
        Self { share, material, unclear: self.unclear.clone() }
    }
}

/// An object in one picture.
struct Object {
    /// The picture, [1, 3, H, W] in -1..=1.
    picture: Tensor,
    place: Vec<f32>,
    seen: Vec<Seen>,
    size: Grid,
    cell: f64,
    /// Standard deviation of the Gaussian in which the material's color is averaged, in pixels.
    gradual: f64,
    /// Distance of each pixel from the place, in pixels.
    distance: Vec<f64>,
    /// The material's color, for the pixels found so far.
    own: Vec<Option<Lab>>,
    /// True if the material found cannot be told well from lines or from the surroundings.
    unclear: bool,
}

impl Object {
    /// Creates an object without material. `place` is [1, 1, H, W]; `picture` is [1, 3, H, W].
    fn new(place: &Tensor, picture: &Tensor, cell: i64, gradual: f64) -> Result<Self> {
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

    /// Finds the material, and feathers its edges.
    fn matte(mut self) -> Result<Matte> {
        self.collect()?;
        let Grid { h, w } = self.size;
        let own: Vec<f32> = self.own.iter().map(|own| f32::from(u8::from(own.is_some()))).collect();
        let own = Tensor::f_from_slice(&own)?.f_reshape([1, 1, h, w])?;
        let channel = |of: fn(&Lab) -> f64| self.own.iter().map(move |own| own.as_ref().map_or(0.0, of) as f32);
        let colors: Vec<f32> = channel(|lab| lab.l).chain(channel(|lab| lab.a)).chain(channel(|lab| lab.b)).collect();
        let colors = Tensor::f_from_slice(&colors)?.f_reshape([1, 3, h, w])?;
        let near = dilated(&own, FRINGE)?;
        let sum = |x: &Tensor| x.f_sum(Kind::Double)?.f_double_value(&[]);
        let dark: Vec<f32> = self
            .own
            .iter()
            .map(|own| f32::from(u8::from(own.is_some_and(|color| Material(color).is_dark()))))
            .collect();
        let dark = Tensor::f_from_slice(&dark)?.f_reshape([1, 1, h, w])?;
        let light = own.f_sub(&dark)?;
        // The outline of a dark material cannot be told from the material, and stays.
        let inner = eroded(&dark, RIM)?;
        let inner = if sum(&inner)? >= 0.5 * sum(&dark)? { inner } else { dark };
        let mut soft = feathered(&light, &self.picture, FRINGE)?.f_mul(&near)?;
        // In a picture without edges, such as noise, the filter blurs all away.
        if sum(&soft.f_ge(0.5)?)? < 0.5 * sum(&light)? {
            soft = light;
        }
        let soft = soft.f_maximum(&blur(&inner, SOFT)?)?;
        let carried = blur(&colors, CARRY)?.f_div(&blur(&own, CARRY)?.f_clamp_min(1e-6)?)?.f_mul(&near)?;
        let material = colors.f_where_self(&own.f_gt(0.0)?, &carried)?;
        Ok(Matte { share: soft, material, unclear: vec![self.unclear] })
    }

    /// Finds the pixels of the object's materials.
    fn collect(&mut self) -> Result<()> {
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
        self.unclear = self.is_unclear();
        self.collect_apart()?;
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

    /// Returns true if a small object cannot be told well from its lines or from its surroundings, by its material.
    /// Most of a small object is within a cell of its border.
    fn is_unclear(&self) -> bool {
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

    /// Returns the colors of the materials found so far.
    fn materials(&self) -> Vec<Lab> {
        let mut colors: Vec<Lab> = Vec::new();
        for own in self.own.iter().flatten() {
            if !colors.contains(own) {
                colors.push(*own);
            }
        }
        colors
    }

    /// Returns true if the material fills half of a cell somewhere.
    fn is_enough(&self) -> Result<bool> {
        let Grid { h, w } = self.size;
        let own: Vec<f32> = self.own.iter().map(|own| f32::from(u8::from(own.is_some()))).collect();
        let cell = self.cell as i64;
        let own = Tensor::f_from_slice(&own)?.f_reshape([1, 1, h, w])?;
        let cells = own.f_avg_pool2d([cell; 2], [cell; 2], [0; 2], false, true, None)?;
        Ok(cells.f_max()?.f_double_value(&[])? >= 0.5)
    }

    /// Adds pieces of the object's materials that are not connected with the others.
    fn collect_apart(&mut self) -> Result<()> {
        let least = PIECE * self.cell * self.cell;
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
                if area >= least && place >= apart * area && !self.is_light(&piece, color) {
                    self.claim(&piece, color);
                }
            }
        }
        Ok(())
    }

    /// Returns true if a small piece is lighter than the material: a highlight, the white of an eye, or teeth.
    fn is_light(&self, piece: &[usize], material: Lab) -> bool {
        let chroma = |color: &Lab| color.a.hypot(color.b);
        let is_paler = |own: &Lab| Material(material).is_gray() || chroma(own) <= LIGHTER.1 * chroma(&material);
        let own = median(self.of(piece).into_iter().map(|seen| seen.color));
        own.is_some_and(|own| own.l > material.l + LIGHTER.0 && is_paler(&own))
    }

    /// Gives pixels the color of their material, unless they have one already.
    fn claim(&mut self, pixels: &[usize], color: Lab) {
        for at in pixels {
            if let Some(own) = self.own.get_mut(*at) {
                let _ = own.get_or_insert(color);
            }
        }
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
            if number > 0 && !self.is_another(&material, self.share(&rest, &material) * rest.len() as f64, all) {
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

    /// Returns the pixels found without small pieces of another hue, such as a red mouth in red skin. Shades are darker
    /// than the `material`, and their hue differs less; a blush has no edge.
    fn without_other_hues(&self, found: &[usize], material: Lab) -> Result<Vec<usize>> {
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
        let removed: Vec<f32> = removed.into_iter().map(|removed| f32::from(u8::from(removed))).collect();
        let Grid { h, w } = self.size;
        let removed = dilated(&Tensor::f_from_slice(&removed)?.f_reshape([1, 1, h, w])?, 1)?;
        let removed = Vec::<f32>::try_from(&removed.f_flatten(0, -1)?)?;
        Ok(found.iter().copied().filter(|at| removed.get(*at) != Some(&1.0)).collect())
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

    /// Returns the share of some pixels that have a material.
    fn share(&self, pixels: &[usize], material: &Material) -> f64 {
        let count = self.of(pixels).iter().filter(|seen| material.has(&seen.color)).count();
        count as f64 / pixels.len().max(1) as f64
    }

    /// Returns true if a material, of `count` pixels of a piece of `all` pixels, belongs to the object beside another
    /// material: two bows of different colors, but not an iris and a pupil, or an iris and the skin around the eye.
    fn is_another(&self, material: &Material, count: f64, all: f64) -> bool {
        let around = self.seen.iter().zip(&self.distance);
        let around = around.filter(|(_, distance)| **distance > 0.0 && **distance <= AROUND * self.cell);
        let other = around.filter(|(seen, _)| material.has(&seen.color)).count() as f64;
        count >= ANOTHER.0 * all && count >= ANOTHER.1 * (count + other) && NO_LINE.contains(&material.0.l)
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
        let near = averaged(&planes, self.gradual)?.f_squeeze_dim(0)?.f_permute([1, 2, 0])?.f_contiguous()?;
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

    /// Returns the pixels that are probably the object's, by Bayes' rule. The place is the prior. The likelihoods are
    /// the frequencies of a pixel's color in the place and around it.
    fn probable(&self) -> Vec<bool> {
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
    fn outside(&self) -> Histogram {
        let around = self.distance.iter().map(|distance| *distance > 0.0 && *distance <= AROUND * self.cell);
        Histogram::of(self.at(around).map(|seen| (seen.bin, seen.weight))).spread()
    }

    fn at(&self, which: impl Iterator<Item = bool>) -> impl Iterator<Item = Seen> {
        self.seen.iter().zip(which).filter_map(|(seen, inside)| inside.then_some(*seen))
    }

    fn of(&self, pixels: &[usize]) -> Vec<Seen> {
        pixels.iter().filter_map(|at| self.seen.get(*at).copied()).collect()
    }
}

/// Returns true if a color's hue is too far from that of the `material` for a shade.
fn has_other_hue(color: &Lab, material: Lab) -> bool {
    let least = if color.l >= material.l - LIGHTER.0 { HUE.0 } else { HUE.1 };
    Material(material).hue_across(color).abs() > least
}

/// Sets the marks of some pixels.
fn mark(marks: &mut [bool], pixels: &[usize], value: bool) {
    for at in pixels {
        marks.get_mut(*at).into_iter().for_each(|mark| *mark = value);
    }
}

/// Returns the median of each channel; `None` without colors.
fn median(colors: impl Iterator<Item = Lab> + Clone) -> Option<Lab> {
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

/// Averages planes, [1, n, H, W], with a Gaussian of about `sigma` pixels. Averages of squares of pixels are blurred,
/// because wide Gaussians take much time at full size.
fn averaged(planes: &Tensor, sigma: f64) -> Result<Tensor> {
    let (_, _, h, w) = planes.size4()?;
    let side = ((sigma / 2.0) as i64).clamp(1, h.min(w));
    let small = planes.f_avg_pool2d([side; 2], [side; 2], [0; 2], true, false, None::<i64>)?;
    Ok(blur(&small, sigma / side as f64)?.f_upsample_bilinear2d([h, w], false, None, None)?)
}

/// Returns the rows and the columns of a place, [1, 1, H, W], with its surroundings; `None` if the place is empty.
fn surroundings(place: &Tensor, cell: i64) -> Result<Option<(Range<i64>, Range<i64>)>> {
    let inside = place.f_ge(APART.1)?;
    let (_, _, h, w) = place.size4()?;
    let range = |dim: i64, size: i64| -> Result<Option<Range<i64>>> {
        let found = inside.f_amax([dim], false)?.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
        let found = Vec::<i64>::try_from(&found)?;
        let margin = (AROUND + 1.0) as i64 * cell;
        let ends = found.first().zip(found.last());
        Ok(ends.map(|(first, last)| (first - margin).max(0)..(last + 1 + margin).min(size)))
    };
    Ok(range(3, h)?.zip(range(2, w)?))
}

/// Grows a mask, [1, 1, H, W] of 0 and 1, by some pixels.
fn dilated(mask: &Tensor, by: i64) -> Result<Tensor> {
    Ok(mask.f_max_pool2d([2 * by + 1; 2], [1, 1], [by; 2], [1, 1], false)?)
}

/// Shrinks a mask, [1, 1, H, W] of 0 and 1, by some pixels.
fn eroded(mask: &Tensor, by: i64) -> Result<Tensor> {
    let not = |x: &Tensor| -> Result<Tensor> { Ok(x.f_neg()?.f_add_scalar(1.0)?) };
    not(&dilated(&not(mask)?, by)?)
}

/// Removes the parts of a mask that are narrower than 2·`by` + 1 pixels: a morphological opening.
fn opened(mask: &[bool], Grid { h, w }: Grid, by: i64) -> Result<Vec<bool>> {
    let values: Vec<f32> = mask.iter().map(|inside| f32::from(u8::from(*inside))).collect();
    let mask = Tensor::f_from_slice(&values)?.f_reshape([1, 1, h, w])?;
    let opened = dilated(&eroded(&mask, by)?, by)?;
    Ok(Vec::<f32>::try_from(&opened.f_flatten(0, -1)?)?.into_iter().map(|inside| inside > 0.5).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SKIN: [f32; 3] = [0.8, 0.5, 0.3];
    const IRIS: [f32; 3] = [-0.6, 0.0, 0.7];
    const BLACK: [f32; 3] = [-0.9, -0.9, -0.9];
    const WHITE: [f32; 3] = [1.0, 1.0, 1.0];
    /// Side of a cell in pixels.
    const CELL: i64 = 8;

    /// A picture of 96 × 96 pixels in one color.
    fn flat(color: [f32; 3]) -> Tensor {
        Tensor::from_slice(&color).reshape([1, 3, 1, 1]).expand([1, 3, 96, 96], false).contiguous()
    }

    /// The pixels of a disk around (`y`, `x`), [1, 1, 96, 96].
    fn disk(y: f64, x: f64, radius: f64) -> Tensor {
        let axis = |middle: f64| (Tensor::arange(96, (Kind::Float, Device::Cpu)) - middle).square();
        (axis(y).unsqueeze(1) + axis(x).unsqueeze(0)).le(radius * radius).to_kind(Kind::Float).reshape([1, 1, 96, 96])
    }

    fn paint(picture: &Tensor, inside: &Tensor, color: [f32; 3]) -> Tensor {
        flat(color).where_self(&inside.gt(0.0), picture)
    }

    /// An eye in a face: a black rim, an iris, a pupil and a highlight.
    fn eye(picture: &Tensor, (y, x): (f64, f64), iris: [f32; 3]) -> Tensor {
        let rings = [(14.0, BLACK), (12.0, iris), (5.0, BLACK)];
        let eye = rings.iter().fold(picture.shallow_clone(), |all, (r, color)| paint(&all, &disk(y, x, *r), *color));
        paint(&eye, &disk(y - 7.0, x - 6.0, 2.0), WHITE)
    }

    /// Checks that the matte has a share of .5 and more in `material`, and elsewhere nearly nowhere.
    fn check(place: &Tensor, picture: &Tensor, material: &Tensor, what: &str) -> Result<()> {
        let found = Matte::of(place, picture, CELL)?.share.ge(0.5).to_kind(Kind::Float);
        let sum = |x: &Tensor| x.sum(Kind::Double).double_value(&[]);
        let (all, hit, stray) = (sum(material), sum(&(&found * material)), sum(&(&found * (1.0 - material))));
        assert!(hit >= 0.95 * all && stray <= 0.05 * all, "{what}: {hit} of {all} pixels found, {stray} others");
        Ok(())
    }

    #[test]
    fn iris_is_the_material_of_an_eye() -> Result<()> {
        let picture = eye(&flat(SKIN), (48.0, 48.0), IRIS);
        let iris = disk(48.0, 48.0, 12.0) - disk(48.0, 48.0, 5.0);
        let iris = (iris - disk(41.0, 42.0, 2.0)).clamp(0.0, 1.0);
        check(&disk(48.0, 48.0, 18.0), &picture, &iris, "a place that takes in skin around the eye")?;
        let place = blur(&disk(48.0, 50.0, 11.0), 3.0)?;
        check(&place, &picture, &iris, "a soft place that misses the eye's border")
    }

    #[test]
    fn mouth_is_not_the_material_of_skin() -> Result<()> {
        let (mouth, face) = (disk(68.0, 48.0, 7.0), disk(48.0, 48.0, 36.0));
        let picture = paint(&paint(&flat(IRIS), &face, SKIN), &mouth, [0.7, -0.6, -0.5]);
        check(&face, &picture, &(&face - mouth), "a face")
    }

    #[test]
    fn mouth_in_the_hue_of_red_skin_is_not_its_material() -> Result<()> {
        // sRGB (218, 78, 44) and (228, 74, 66): as near as a shade.
        let (skin, lips) = ([0.71, -0.39, -0.65], [0.79, -0.42, -0.48]);
        let (mouth, face) = (disk(66.0, 48.0, 9.0), disk(48.0, 48.0, 36.0));
        let picture = paint(&paint(&flat(IRIS), &face, skin), &mouth, lips);
        check(&face, &picture, &(&face - mouth), "a face")?;
        // A blush has the color of the mouth, but no edge.
        let soft = blur(&disk(66.0, 48.0, 9.0), 9.0)?;
        let blush = paint(&flat(IRIS), &face, skin) * (1.0 - &soft) + flat(lips) * &soft;
        check(&face, &blush, &face, "a blush")?;
        // A fold of yellow hair is brown, and so is darker.
        let fold = disk(56.0, 48.0, 9.0);
        let hair = paint(&paint(&flat(IRIS), &face, [1.0, 0.69, -1.0]), &fold, [0.57, 0.18, -0.85]);
        check(&face, &hair, &face, "yellow hair")
    }

    #[test]
    fn small_piece_of_another_color_is_another_thing() -> Result<()> {
        let (eye, shirt) = (disk(20.0, 48.0, 10.0), disk(70.0, 48.0, 24.0));
        let picture = paint(&paint(&flat(SKIN), &eye, [-0.8, 0.3, -0.4]), &shirt, IRIS);
        check(&(&eye + &shirt), &picture, &shirt, "a map of \"shirt\" that takes in an eye")
    }

    #[test]
    fn shades_are_of_the_same_material() -> Result<()> {
        let place = disk(48.0, 48.0, 28.0);
        let picture = paint(&paint(&flat(SKIN), &place, IRIS), &disk(56.0, 48.0, 10.0), [-0.72, -0.27, 0.25]);
        check(&place, &picture, &place, "half of the light falls on a part")
    }

    #[test]
    fn each_piece_has_a_material_of_its_own() -> Result<()> {
        let (left, right) = (disk(48.0, 22.0, 14.0), disk(48.0, 74.0, 14.0));
        let picture = paint(&paint(&flat(SKIN), &left, IRIS), &right, [0.1, 0.6, -0.5]);
        let both = left + right;
        check(&both, &picture, &both, "two bows")?;
        let pictures = Tensor::cat(&[flat(SKIN), picture], 0);
        check(&both.repeat([2, 1, 1, 1]), &pictures, &both.repeat([2, 1, 1, 1]), "each image by its own picture")
    }

    #[test]
    fn other_thing_of_the_same_color_is_left_alone() -> Result<()> {
        let (bow, dress) = (disk(24.0, 48.0, 12.0), disk(76.0, 48.0, 18.0));
        let picture = paint(&paint(&flat(SKIN), &bow, IRIS), &dress, IRIS);
        check(&bow, &picture, &bow, "a bow above a dress of the same color")
    }

    #[test]
    fn eye_as_dark_as_its_pupil_has_no_clear_material() -> Result<()> {
        let (iris, face) = (disk(48.0, 48.0, 14.0), [0.9, 0.88, 0.85]);
        let unclear = |picture: &Tensor| -> Result<Vec<bool>> { Ok(Matte::of(&iris, picture, CELL)?.unclear) };
        assert_eq!(unclear(&eye(&flat(SKIN), (48.0, 48.0), IRIS))?, [false]);
        assert_eq!(unclear(&eye(&flat(SKIN), (48.0, 48.0), [-0.78, -0.78, -0.7]))?, [true], "near black");
        assert_eq!(unclear(&eye(&flat(face), (48.0, 48.0), [0.85, 0.86, 0.88]))?, [true], "white in white");
        let pictures = Tensor::cat(&[eye(&flat(SKIN), (48.0, 48.0), IRIS), eye(&flat(SKIN), (48.0, 48.0), BLACK)], 0);
        assert_eq!(Matte::of(&iris.repeat([2, 1, 1, 1]), &pictures, CELL)?.unclear, [false, true], "image by image");
        Ok(())
    }

    #[test]
    fn edges_are_shared() -> Result<()> {
        let place = disk(48.0, 48.0, 24.0);
        let soft = blur(&place, 1.0)?;
        let picture = flat(IRIS) * &soft + flat(SKIN) * (1.0 - &soft);
        let found = Matte::of(&place, &picture, CELL)?.share;
        let apart = (&found - &soft).abs().max().double_value(&[]);
        assert!(apart < 0.2, "the share of a pixel between two colors is off by {apart}");
        Ok(())
    }

    #[test]
    fn empty_place_has_no_material() -> Result<()> {
        let found = Matte::of(&(disk(48.0, 48.0, 9.0) * 0.0), &flat(SKIN), CELL)?;
        assert_eq!(found.share.abs().max().double_value(&[]), 0.0);
        Ok(())
    }
}
