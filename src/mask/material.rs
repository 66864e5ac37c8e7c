//! The material of an object: its pixels without lines, highlights and things in other colors.

use super::pieces::pieces;
use crate::color::{Lab, labs};
use crate::error::Result;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use tch::{Device, Tensor};

/// Side of a bin of colors, in CIELAB.
const BIN: f64 = 6.0;
/// Distance from a bin's middle, in each axis of CIELAB, up to which colors make up the material's mean color.
const AROUND: f64 = 1.5 * BIN;
/// Largest distance of a pixel's chroma from the material's chroma at the pixel's lightness, in CIELAB.
const CHROMA: f64 = 16.0;
/// Lightness by which a shade may be darker or lighter than the material.
const SHADES: (f64, f64) = (24.0, 25.0);
/// Smallest share of a piece that another material has, and smallest share of the picture's pixels in its color that
/// the piece has.
const ANOTHER: (f64, f64) = (0.25, 0.8);
/// Lightness of another material. Pupils, rims and lashes are darker; the whites of eyes and highlights are lighter.
const NO_LINE: RangeInclusive<f64> = 25.0..=85.0;
/// Smallest share of an object that a connected piece has. Smaller pieces are noise of the outline.
const LEAST_PIECE: f64 = 0.1;

/// Finds the pixels of an object's own material.
///
/// `place`, [n, 1, H, W] in 0..=1, is the object's place along the outlines of `picture`, [n or 1, 3, H, W] in -1..=1.
/// The result, [n, 1, H, W], is 1 for pixels of the place (.5 and more) in the color that most of each connected piece
/// has and that little of the rest of the picture has, in any shade. Other pixels are 0.
pub(crate) fn material(place: &Tensor, picture: &Tensor) -> Result<Tensor> {
    let (n, _, height, width) = place.size4()?;
    let pictures = picture.size4()?.0;
    let mut found = Vec::new();
    for image in 0..n {
        let inside = place.f_select(0, image)?.f_ge(0.5)?.f_flatten(0, -1)?.f_to_device(Device::Cpu)?;
        let colors = labs(&picture.f_select(0, image.min(pictures - 1))?)?;
        let own = of_image(&Vec::<bool>::try_from(&inside)?, &colors, width as usize);
        found.push(Tensor::f_from_slice(&own)?.f_reshape([1, 1, height, width])?);
    }
    Ok(Tensor::f_cat(&found, 0)?.f_to_device(place.device())?)
}

fn of_image(inside: &[bool], colors: &[Lab], width: usize) -> Vec<f32> {
    let mut outside: HashMap<Bin, f64> = HashMap::new();
    for (_, color) in inside.iter().zip(colors).filter(|(inside, _)| !**inside) {
        *outside.entry(bin(color)).or_default() += 1.0;
    }
    let area = inside.iter().filter(|inside| **inside).count() as f64;
    let mut own = vec![0.0; inside.len()];
    for piece in pieces(inside.to_vec(), width).iter().filter(|piece| piece.len() as f64 >= LEAST_PIECE * area) {
        let mut rest: Vec<(usize, &Lab)> = piece.iter().filter_map(|at| Some((*at, colors.get(*at)?))).collect();
        for number in 0.. {
            let Some(material) = Material::of(rest.iter().map(|(_, color)| *color), &outside) else { break };
            let (found, left): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, color)| material.has(color));
            if number > 0 && !material.is_another(found.len() as f64, piece.len() as f64, &outside) {
                break;
            }
            for (at, _) in found {
                own.get_mut(at).into_iter().for_each(|own| *own = 1.0);
            }
            rest = left;
        }
    }
    own
}

/// A cube of colors in CIELAB, of [`BIN`] on each side.
type Bin = [i32; 3];

fn bin(color: &Lab) -> Bin {
    [color.l, color.a, color.b].map(|x| (x / BIN).round() as i32)
}

/// Returns the color in the middle of a bin.
fn middle(bin: &Bin) -> Lab {
    let [l, a, b] = bin.map(|x| f64::from(x) * BIN);
    Lab { l, a, b }
}

/// Returns the sum of the values of a bin and of the bins around it.
fn around(bins: &HashMap<Bin, f64>, [l, a, b]: Bin) -> f64 {
    let near = (0..27).map(|i| [l + i / 9 - 1, a + i / 3 % 3 - 1, b + i % 3 - 1]);
    near.filter_map(|bin| bins.get(&bin)).sum()
}

/// A material, by its mean color.
#[derive(Debug)]
struct Material(Lab);

impl Material {
    /// Finds the color that many of an object's pixels have and few of the picture's other pixels. `outside` counts
    /// these other pixels. `None` for an object without pixels.
    fn of<'a>(own: impl Iterator<Item = &'a Lab> + Clone, outside: &HashMap<Bin, f64>) -> Option<Self> {
        let mut inside: HashMap<Bin, f64> = HashMap::new();
        own.clone().for_each(|color| *inside.entry(bin(color)).or_default() += 1.0);
        // Pixels of a color times the share of the picture's pixels in that color that the object has.
        let score = |bin: Bin| {
            let mine = around(&inside, bin);
            mine * mine / (mine + around(outside, bin))
        };
        let best = inside.keys().max_by(|a, b| score(**a).total_cmp(&score(**b)).then(a.cmp(b)))?;
        let middle = middle(best);
        let is_near = |color: &&Lab| {
            let apart = [color.l - middle.l, color.a - middle.a, color.b - middle.b];
            apart.iter().all(|apart| apart.abs() <= AROUND)
        };
        let (sum, count) = own
            .filter(is_near)
            .fold(([0.0; 3], 0.0), |([l, a, b], count), color| ([l + color.l, a + color.a, b + color.b], count + 1.0));
        let [l, a, b] = sum.map(|sum: f64| sum / count);
        Some(Self(Lab { l, a, b }))
    }

    /// Returns true if the material, of `count` pixels of a piece of `all` pixels, belongs to the object beside another
    /// material: two bows of different colors, but not an iris and a pupil, or an iris and the skin around the eye.
    fn is_another(&self, count: f64, all: f64, outside: &HashMap<Bin, f64>) -> bool {
        let other: f64 = outside.iter().filter(|(bin, _)| self.has(&middle(bin))).map(|(_, count)| count).sum();
        count >= ANOTHER.0 * all && count >= ANOTHER.1 * (count + other) && NO_LINE.contains(&self.0.l)
    }

    /// Returns true if a color is a shade of the material. The chroma of a shade is proportional to its light.
    fn has(&self, color: &Lab) -> bool {
        let Lab { l, a, b } = self.0;
        let shade = (color.l + 16.0) / (l + 16.0);
        let apart = (color.a - a * shade).hypot(color.b - b * shade);
        (l - SHADES.0..=l + SHADES.1).contains(&color.l) && apart <= CHROMA
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    const SKIN: [f32; 3] = [0.8, 0.5, 0.3];
    const IRIS: [f32; 3] = [-0.6, 0.0, 0.7];
    const BLACK: [f32; 3] = [-0.9, -0.9, -0.9];
    const WHITE: [f32; 3] = [1.0, 1.0, 1.0];

    /// A picture of 64 × 64 pixels in one color.
    fn flat(color: [f32; 3]) -> Tensor {
        Tensor::from_slice(&color).reshape([1, 3, 1, 1]).expand([1, 3, 64, 64], false).contiguous()
    }

    /// The pixels of a disk around (`y`, `x`), [1, 1, 64, 64].
    fn disk(y: f64, x: f64, radius: f64) -> Tensor {
        let axis = |middle: f64| (Tensor::arange(64, (Kind::Float, Device::Cpu)) - middle).square();
        (axis(y).unsqueeze(1) + axis(x).unsqueeze(0)).le(radius * radius).to_kind(Kind::Float).reshape([1, 1, 64, 64])
    }

    fn paint(picture: &Tensor, inside: &Tensor, color: [f32; 3]) -> Tensor {
        flat(color).where_self(&inside.gt(0.0), picture)
    }

    /// An eye in a face: a black rim, an iris, a pupil and a highlight.
    fn eye(picture: &Tensor, (y, x): (f64, f64), iris: [f32; 3]) -> Tensor {
        let rings = [(12.0, BLACK), (10.0, iris), (4.0, BLACK)];
        let eye = rings.iter().fold(picture.shallow_clone(), |all, (r, color)| paint(&all, &disk(y, x, *r), *color));
        paint(&eye, &disk(y - 5.0, x - 5.0, 2.0), WHITE)
    }

    #[test]
    fn iris_is_the_material_of_an_eye() -> Result<()> {
        let picture = eye(&flat(SKIN), (32.0, 32.0), IRIS);
        // The place is too large: it takes in skin around the eye.
        let found = material(&disk(32.0, 32.0, 14.0), &picture)?;
        let iris = disk(32.0, 32.0, 10.0) - disk(32.0, 32.0, 4.0);
        let highlight = disk(27.0, 27.0, 2.0);
        assert_eq!(found, (iris - highlight).clamp(0.0, 1.0));
        Ok(())
    }

    #[test]
    fn mouth_is_not_the_material_of_skin() -> Result<()> {
        let mouth = disk(48.0, 32.0, 6.0);
        let face = disk(32.0, 32.0, 28.0);
        let picture = paint(&paint(&flat(IRIS), &face, SKIN), &mouth, [0.7, -0.6, -0.5]);
        assert_eq!(material(&face, &picture)?, face - mouth);
        Ok(())
    }

    #[test]
    fn shades_are_of_the_same_material() -> Result<()> {
        let place = disk(32.0, 32.0, 20.0);
        // The shade is darker: linear light falls to a half.
        let picture = paint(&paint(&flat(SKIN), &place, IRIS), &disk(40.0, 32.0, 8.0), [-0.72, -0.27, 0.25]);
        assert_eq!(material(&place, &picture)?, place);
        Ok(())
    }

    #[test]
    fn each_piece_has_a_material_of_its_own() -> Result<()> {
        let (left, right) = (disk(32.0, 16.0, 10.0), disk(32.0, 48.0, 10.0));
        let picture = paint(&paint(&flat(SKIN), &left, IRIS), &right, [0.1, 0.6, -0.5]);
        let both = left + right;
        assert_eq!(material(&both, &picture)?, both);
        let pictures = Tensor::cat(&[flat(SKIN), picture], 0);
        let places = both.repeat([2, 1, 1, 1]);
        assert_eq!(material(&places, &pictures)?, places, "each image by its own picture");
        Ok(())
    }

    #[test]
    fn empty_place_has_no_material() -> Result<()> {
        assert_eq!(material(&(disk(32.0, 32.0, 9.0) * 0.0), &flat(SKIN))?.sum(Kind::Float).double_value(&[]), 0.0);
        Ok(())
    }
}
