//! Matting: the pixels of an object's own material, found in a picture.
//!
//! [`object`] is an object in a picture, and its surroundings. [`collect`] finds the pixels of the object's materials,
//! [`exclude`] what is left out of them, and [`unclear`] whether they can be told from lines and surroundings.

mod collect;
mod exclude;
mod object;
mod unclear;

use super::blur::blur;
use super::guided_filter::feather;
use super::material::Material;
use super::morphology::{dilate, erode, plane};
use crate::color::Lab;
use crate::error::{Error, Result};
use crate::step::Grid;
use object::{APART, AROUND, FRINGE, Object};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Standard deviation of the Gaussian in which a material's color is averaged, as a share of the picture's shorter
/// side. The color may change gradually.
const GRADUAL: f64 = 1.0 / 32.0;
/// Width of the outline that a dark material keeps, in pixels.
const RIM: i64 = 2;
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
            let mut object = Object::new(&cut(&place)?, &float(&cut(&picture)?)?, cell, gradual)?;
            object.collect()?;
            let found = Self::from_object(&object)?;
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

    /// Returns the matte of an object whose material is collected, with feathered edges.
    fn from_object(object: &Object) -> Result<Self> {
        let Grid { h, w } = object.size;
        let pixels = |has: fn(&Lab) -> bool| -> Result<Tensor> {
            let mask: Vec<bool> = object.own.iter().map(|own| own.as_ref().is_some_and(has)).collect();
            plane(&mask, object.size)
        };
        let (own, dark) = (pixels(|_| true)?, pixels(|color| Material(*color).is_dark())?);
        let channel = |of: fn(&Lab) -> f64| object.own.iter().map(move |own| own.as_ref().map_or(0.0, of) as f32);
        let colors: Vec<f32> = channel(|lab| lab.l).chain(channel(|lab| lab.a)).chain(channel(|lab| lab.b)).collect();
        let colors = Tensor::f_from_slice(&colors)?.f_reshape([1, 3, h, w])?;
        let near = dilate(&own, FRINGE)?;
        let sum = |x: &Tensor| x.f_sum(Kind::Double)?.f_double_value(&[]);
        let light = own.f_sub(&dark)?;
        // The outline of a dark material cannot be told from the material, and stays.
        let inner = erode(&dark, RIM)?;
        let inner = if sum(&inner)? >= 0.5 * sum(&dark)? { inner } else { dark };
        let mut soft = feather(&light, &object.picture, FRINGE)?.f_mul(&near)?;
        // In a picture without edges, such as noise, the filter blurs all away.
        if sum(&soft.f_ge(0.5)?)? < 0.5 * sum(&light)? {
            soft = light;
        }
        let soft = soft.f_maximum(&blur(&inner, SOFT)?)?;
        let carried = blur(&colors, CARRY)?.f_div(&blur(&own, CARRY)?.f_clamp_min(1e-6)?)?.f_mul(&near)?;
        let material = colors.f_where_self(&own.f_gt(0.0)?, &carried)?;
        Ok(Self { share: soft, material, unclear: vec![object.unclear] })
    }
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
    fn lines_enclose_an_eye_of_the_color_of_the_face() -> Result<()> {
        let color = [0.66, 0.36, 0.16];
        let picture = eye(&flat(SKIN), (48.0, 48.0), color);
        let iris = disk(48.0, 48.0, 12.0) - disk(48.0, 48.0, 5.0);
        let iris = (iris - disk(41.0, 42.0, 2.0)).clamp(0.0, 1.0);
        let place = blur(&disk(48.0, 48.0, 17.0), 4.0)?;
        check(&place, &picture, &iris, "an eye with a rim")?;
        assert_eq!(Matte::of(&place, &picture, CELL)?.unclear, [false]);
        // Through a gap in the rim the iris is connected with the face.
        let gap = disk(48.0, 61.0, 4.0);
        assert_eq!(Matte::of(&place, &paint(&picture, &gap, color), CELL)?.unclear, [true]);
        Ok(())
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
    fn both_halves_of_a_bow_are_its_materials() -> Result<()> {
        let (left, right) = (disk(48.0, 38.0, 11.0), disk(48.0, 58.0, 11.0));
        let both = (&left + &right).clamp(0.0, 1.0);
        // sRGB (77, 166, 64), and dark colors: (38, 20, 77) and (51, 13, 26).
        for dark in [[-0.7, -0.84, -0.4], [-0.6, -0.9, -0.8]] {
            let picture = paint(&paint(&flat(SKIN), &left, [-0.4, 0.3, -0.5]), &right, dark);
            let found = Matte::of(&both, &picture, CELL)?.share.ge(0.5);
            // The outline of a dark material stays.
            let dark = disk(48.0, 60.0, 5.0).gt(0.0);
            assert!(found.masked_select(&dark).all().int64_value(&[]) == 1, "the dark half is not found");
        }
        Ok(())
    }

    #[test]
    fn larger_piece_apart_is_another_thing() -> Result<()> {
        // The map of "bow" is faint at a ponytail of the bow's color, and at a ribbon.
        let (bow, tail, ribbon) = (disk(30.0, 30.0, 10.0), disk(64.0, 70.0, 16.0), disk(74.0, 22.0, 5.0));
        let picture = [&bow, &tail, &ribbon].into_iter().fold(flat(SKIN), |all, thing| paint(&all, thing, IRIS));
        let place = &bow + (tail + &ribbon) * 0.4;
        check(&place, &picture, &(bow + ribbon), "a bow with a ribbon")
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
