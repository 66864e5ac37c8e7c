//! Guided filter: sharpens a mask of latent cells along the outlines of a picture.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Radius of the filter's windows in cells. The mask to sharpen is accurate to about one cell.
const CELLS: i64 = 2;
/// Regularization ε of the filter: differences of color count little if their variance, of channels in 0..=1, is below
/// this value.
const EPSILON: f64 = 1e-3;
/// Regularization ε where a mask is feathered: all but the noise of a decoder counts.
const FINE: f64 = 2e-4;
/// Number of times that the map is filtered.
const ROUNDS: usize = 2;

/// Resizes a map to a picture, and sharpens it along the picture's outlines.
///
/// `map`, [n, 1, h, w] in 0..=1, has cells of `cell` × `cell` pixels. The result, [n, 1, H, W] in 0..=1, has the size
/// of `picture`, [n, 3, H, W] in -1..=1, and changes where the picture's colors change.
///
/// In every window the map is approximated by an affine function of the color I: a·I + b. A pixel moves to the mean of
/// its windows' values by the share R² of the map's variance that the colors explain there.
///
/// Source: He, Sun and Tang, "Guided Image Filtering" (ECCV 2010), 3.4, for colors; R² is ours.
pub(crate) fn follow_outlines(map: &Tensor, picture: &Tensor, cell: i64) -> Result<Tensor> {
    let (_, _, height, width) = picture.size4()?;
    let guide = Guide::new(picture, CELLS * cell, EPSILON)?;
    let map = map.f_to_kind(Kind::Float)?.f_to_device(picture.device())?;
    let mut map = map.f_upsample_bicubic2d([height, width], false, None, None)?.f_clamp(0.0, 1.0)?;
    for _ in 0..ROUNDS {
        let Filtered { map: found, explained } = guide.filter(&map)?;
        // Where the colors do not explain the map, the map stays.
        map = map.f_add(&found.f_sub(&map)?.f_mul(&explained)?)?;
    }
    Ok(map)
}

/// Softens the edges of a mask, [n, 1, H, W] of 0 and 1, to the shares that its pixels have in the colors of a picture,
/// [n, 3, H, W] in -1..=1. Edges of the mask are accurate to `radius` pixels.
///
/// Source: He, Sun and Tang, "Guided Image Filtering" (ECCV 2010), 4: feathering.
pub(crate) fn feather(mask: &Tensor, picture: &Tensor, radius: i64) -> Result<Tensor> {
    Ok(Guide::new(picture, radius, FINE)?.filter(mask)?.map)
}

/// A picture that guides a filter.
struct Guide {
    /// The colors in 0..=1, [n, 3, H, W].
    colors: Tensor,
    /// Means of the windows, [n, 3, H, W].
    middle: Tensor,
    /// Inverses of the windows' covariances.
    inverse: Inverse,
    radius: i64,
}

/// A map that was filtered, and the share of its variance that colors explain, both [n, 1, H, W] in 0..=1.
struct Filtered {
    map: Tensor,
    explained: Tensor,
}

impl Guide {
    fn new(picture: &Tensor, radius: i64, epsilon: f64) -> Result<Self> {
        let window = |x: &Tensor| mean(x, radius);
        let colors = picture.f_to_kind(Kind::Float)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?;
        let middle = window(&colors)?;
        let channel = |x: &Tensor, i: i64| x.f_narrow(1, i, 1);
        let covariance = |i: i64, j: i64| -> Result<Tensor> {
            let product = channel(&colors, i)?.f_mul(&channel(&colors, j)?)?;
            let plain = window(&product)?.f_sub(&channel(&middle, i)?.f_mul(&channel(&middle, j)?)?)?;
            Ok(if i == j { plain.f_add_scalar(epsilon)? } else { plain })
        };
        let inverse = Inverse::of([
            covariance(0, 0)?,
            covariance(0, 1)?,
            covariance(0, 2)?,
            covariance(1, 1)?,
            covariance(1, 2)?,
            covariance(2, 2)?,
        ])?;
        Ok(Self { colors, middle, inverse, radius })
    }

    fn filter(&self, map: &Tensor) -> Result<Filtered> {
        let Self { colors, middle, inverse, radius } = self;
        let window = |x: &Tensor| mean(x, *radius);
        let over_channels = |x: &Tensor| x.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let share = window(map)?;
        let with_color = window(&colors.f_mul(map)?)?.f_sub(&middle.f_mul(&share)?)?;
        let a = inverse.times(&with_color)?;
        let b = share.f_sub(&over_channels(&a.f_mul(middle)?)?)?;
        let found = over_channels(&window(&a)?.f_mul(colors)?)?.f_add(&window(&b)?)?.f_clamp(0.0, 1.0)?;
        let variance = window(&map.f_square()?)?.f_sub(&share.f_square()?)?.f_add_scalar(1e-6)?;
        let explained = window(&over_channels(&a.f_mul(&with_color)?)?.f_div(&variance)?.f_clamp(0.0, 1.0)?)?;
        Ok(Filtered { map: found, explained })
    }
}

/// Returns the share of every cell where an outlined map, [n, 1, H, W], is 0.5 or more: [n, 1, h, w]. `cell` is the
/// side of a cell in pixels.
pub(crate) fn covered(outlined: &Tensor, cell: i64) -> Result<Tensor> {
    let inside = outlined.f_ge(0.5)?.f_to_kind(Kind::Float)?;
    Ok(inside.f_avg_pool2d([cell; 2], [cell; 2], [0; 2], false, true, None)?)
}

/// Computes means over windows of 2·`radius` + 1 pixels a side. Pixels beyond the picture do not count.
///
/// Each mean is computed from a difference of two running sums, so the cost does not depend on the radius. Sums are
/// f64, because sums along a picture are large and variances small.
fn mean(x: &Tensor, radius: i64) -> Result<Tensor> {
    let along = |x: &Tensor, axis: i64, beside: [i64; 2]| -> Result<Tensor> {
        let none = x.f_narrow(axis, 0, 1)?.f_zeros_like()?.f_to_kind(Kind::Double)?;
        let sums = Tensor::f_cat(&[&none, &x.f_cumsum(axis, Kind::Double)?], axis)?;
        let (_, _, h, w) = x.size4()?;
        let length = if axis == 2 { h } else { w };
        let places = Tensor::f_arange(length, (Kind::Int64, x.device()))?;
        let first = places.f_sub_scalar(radius)?.f_clamp_min(0)?;
        let end = places.f_add_scalar(radius + 1)?.f_clamp_max(length)?;
        let sum = sums.f_index_select(axis, &end)?.f_sub(&sums.f_index_select(axis, &first)?)?;
        Ok(sum.f_div(&end.f_sub(&first)?.f_view(beside)?)?)
    };
    Ok(along(&along(x, 2, [-1, 1])?, 3, [1, -1])?.f_to_kind(x.kind())?)
}

/// The inverse of a symmetric 3 × 3 matrix at every pixel, by cofactors.
struct Inverse([[Tensor; 3]; 3]);

impl Inverse {
    /// Inverts the matrix with the entries rr, rg, rb, gg, gb and bb, [n, 1, H, W] each.
    fn of([rr, rg, rb, gg, gb, bb]: [Tensor; 6]) -> Result<Self> {
        let minor =
            |a: &Tensor, b: &Tensor, c: &Tensor, d: &Tensor| -> Result<Tensor> { Ok(a.f_mul(b)?.f_sub(&c.f_mul(d)?)?) };
        let (c00, c01, c02) = (minor(&gg, &bb, &gb, &gb)?, minor(&gb, &rb, &rg, &bb)?, minor(&rg, &gb, &gg, &rb)?);
        let (c11, c12, c22) = (minor(&rr, &bb, &rb, &rb)?, minor(&rg, &rb, &rr, &gb)?, minor(&rr, &gg, &rg, &rg)?);
        let determinant = rr.f_mul(&c00)?.f_add(&rg.f_mul(&c01)?)?.f_add(&rb.f_mul(&c02)?)?;
        let over = |cofactor: &Tensor| cofactor.f_div(&determinant);
        Ok(Self([
            [over(&c00)?, over(&c01)?, over(&c02)?],
            [over(&c01)?, over(&c11)?, over(&c12)?],
            [over(&c02)?, over(&c12)?, over(&c22)?],
        ]))
    }

    /// Multiplies the inverse by vectors, [n, 3, H, W].
    fn times(&self, x: &Tensor) -> Result<Tensor> {
        let channel = |i: i64| x.f_narrow(1, i, 1);
        let row = |[a, b, c]: &[Tensor; 3]| -> Result<Tensor> {
            Ok(a.f_mul(&channel(0)?)?.f_add(&b.f_mul(&channel(1)?)?)?.f_add(&c.f_mul(&channel(2)?)?)?)
        };
        let [first, second, third] = &self.0;
        Ok(Tensor::f_cat(&[row(first)?, row(second)?, row(third)?], 1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Returns a picture of 64 × 64 pixels, with a disk on a ground of another color, and the mask of the disk.
    fn disk() -> (Tensor, Tensor) {
        let axis = Tensor::arange(64, (Kind::Float, Device::Cpu)) - 29.5;
        let inside = (axis.square().unsqueeze(0) + axis.square().unsqueeze(1)).le(17.0 * 17.0).to_kind(Kind::Float);
        let [on, off] = [[0.8f32, -0.2, -0.6], [-0.3, 0.4, 0.5]].map(|c| Tensor::from_slice(&c).reshape([1, 3, 1, 1]));
        let inside = inside.reshape([1, 1, 64, 64]);
        (&inside * &on + (1.0 - &inside) * &off, inside)
    }

    fn iou(a: &Tensor, b: &Tensor) -> f64 {
        let sum = |x: Tensor| x.sum(Kind::Double).double_value(&[]);
        sum(a * b) / sum((a + b).clamp(0.0, 1.0))
    }

    #[test]
    fn coarse_masks_find_the_outline() -> Result<()> {
        let (picture, inside) = disk();
        let cells = inside.avg_pool2d([8; 2], [8; 2], [0; 2], false, true, None).ge(0.3).to_kind(Kind::Float);
        let blocks = cells.upsample_nearest2d([64, 64], None, None);
        let found = follow_outlines(&cells, &picture, 8)?.ge(0.5).to_kind(Kind::Float);
        let (before, after) = (iou(&blocks, &inside), iou(&found, &inside));
        assert!(before < 0.85 && after > 0.99, "{before} {after}");
        assert_eq!(covered(&inside, 8)?, inside.avg_pool2d([8; 2], [8; 2], [0; 2], false, true, None));
        Ok(())
    }

    #[test]
    fn without_outlines_the_map_stays() -> Result<()> {
        let (_, inside) = disk();
        let cells = inside.avg_pool2d([8; 2], [8; 2], [0; 2], false, true, None);
        let found = follow_outlines(&cells, &Tensor::zeros([1, 3, 64, 64], (Kind::Float, Device::Cpu)), 8)?;
        let as_it_was = cells.upsample_bicubic2d([64, 64], false, None, None).clamp(0.0, 1.0);
        assert!((found - as_it_was).abs().max().double_value(&[]) < 1e-4);
        Ok(())
    }

    #[test]
    fn mean_equals_the_mean_of_each_window() -> Result<()> {
        let x = Tensor::from_slice(&[0.5f32, -1.0, 2.0, 0.25, 3.0, 1.0]).reshape([1, 1, 2, 3]);
        // Every window of radius 1 covers both rows.
        let want = Tensor::from_slice(&[2.75f32 / 4.0, 5.75 / 6.0, 5.0 / 4.0])
            .reshape([1, 1, 1, 3])
            .expand([1, 1, 2, 3], false);
        assert!((mean(&x, 1)? - want).abs().max().double_value(&[]) < 1e-6);
        assert!((mean(&x, 5)? - x.mean(Kind::Float)).abs().max().double_value(&[]) < 1e-6);
        Ok(())
    }

    #[test]
    fn inverse_solves_the_matrix_equation() -> Result<()> {
        let entries = [2.0f32, 0.3, -0.4, 1.5, 0.2, 1.1].map(|x| Tensor::from_slice(&[x]).reshape([1, 1, 1, 1]));
        let x = Tensor::from_slice(&[0.5f32, -1.0, 2.0]).reshape([1, 3, 1, 1]);
        let solved = Vec::<f32>::try_from(&Inverse::of(entries)?.times(&x)?.flatten(0, -1))?;
        let matrix = [[2.0, 0.3, -0.4], [0.3, 1.5, 0.2], [-0.4, 0.2, 1.1]];
        for (row, want) in matrix.iter().zip([0.5, -1.0, 2.0]) {
            let got: f32 = row.iter().zip(&solved).map(|(a, b)| a * b).sum();
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        Ok(())
    }
}
