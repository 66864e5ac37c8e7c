//! A comparison of the mask with the picture. The comparison finds pixels beside the mask that still have the object's
//! old color, pieces of the object that were painted only in part, and lines that are gone.

use crate::color::{Rgb, labs};
use crate::error::Result;
use crate::mask::pieces;
use tch::{Kind, Tensor};

/// Distance from the cutoff, as a share of a map's range, below which a cell is undecided.
const UNDECIDED: f64 = 0.3;
/// Distance around the region, in cells, within which the rest of the region's object is searched for.
const REACH: i64 = 2;
/// CIEDE2000 up to which a pixel counts as having the old color of the region beside it.
const ALIKE: f64 = 6.0;
/// CIEDE2000 up to which a pixel counts as unchanged.
const UNCHANGED: f64 = 5.0;
/// CIEDE2000 up to which a pixel has the color asked for. A pixel whose old color is this near needs no change.
const NEAR: f64 = 10.0;

/// Lightness, in CIELAB, by which a line is darker than the mean around it.
const LINE: f64 = 7.0;
/// Share of a line's contrast that a kept line still has.
const LEFT: f64 = 0.5;

/// Smallest share of the object that counts as a connected piece; smaller pieces are noise of the outline.
const LEAST_PIECE: f64 = 0.1;

/// The comparison of a region in the finished picture with the first pass's picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Comparison {
    /// Pixels around the region that keep the region's old color, as a share of the region's pixels. The old color is
    /// averaged over the nearby part of the region. 0 for an empty region.
    pub remainder: f64,
    /// Smallest share of pixels with the color among the connected pieces of the object, such as each eye. The object
    /// is the region and its remainder. 0 for an empty region.
    pub least_covered: f64,
    /// Share of the dark lines in and around the region that are still there. `None` without lines.
    pub lines_kept: Option<f64>,
}

/// Compares the picture of the first pass, `before`, with the picture after the force, `after`.
///
/// `before` and `after` are [3, H, W] in -1..=1. `region`, [H, W] of 0 and 1, has the forced pixels. `cell` is the side
/// of a latent cell in pixels. `asked` is the color asked for.
pub(super) fn compare(before: &Tensor, after: &Tensor, region: &Tensor, cell: i64, asked: Rgb) -> Result<Comparison> {
    let lines_kept = lines_kept(before, after, region, cell)?;
    // Squares with a quarter of a cell's side count as one pixel, because outlines and noise are finer.
    let grain = (cell / 4).max(1);
    let small = |x: &Tensor| -> Result<Tensor> {
        Ok(x.f_unsqueeze(0)?.f_avg_pool2d([grain; 2], [grain; 2], [0; 2], true, false, None::<i64>)?)
    };
    let (before, after) = (small(before)?, small(after)?);
    let inside = small(&region.f_unsqueeze(0)?)?.f_ge(0.5)?.f_to_kind(Kind::Float)?; // [1, 1, h, w]
    let (.., width) = inside.size4()?;
    let radius = (REACH * cell / grain).max(1);
    let window = |x: &Tensor| x.f_avg_pool2d([2 * radius + 1; 2], [1, 1], [radius; 2], false, true, None::<i64>);
    let share = window(&inside)?;
    // The mean old color of the region within reach of each pixel.
    let old = window(&before.f_mul(&inside)?)?.f_div(&share.f_clamp_min(1e-6)?)?;
    let rows = |x: &Tensor| labs(&x.f_squeeze_dim(0)?);
    let flat = |x: &Tensor| -> Result<Vec<f32>> { Ok(Vec::try_from(&x.f_flatten(0, -1)?.f_contiguous()?)?) };
    let (before, after, old) = (rows(&before)?, rows(&after)?, rows(&old)?);
    let (inside, share) = (flat(&inside)?, flat(&share)?);
    let asked = asked.lab();
    // `None` outside the object; inside it, true for pixels that have the color.
    let mut thing: Vec<Option<bool>> = vec![None; before.len()];
    let (mut area, mut left) = (0usize, 0usize);
    let pixels = before.iter().zip(&after).zip(&old).zip(&inside).zip(&share);
    for (mine, ((((before, after), old), inside), share)) in thing.iter_mut().zip(pixels) {
        if *inside > 0.0 {
            area += 1;
            *mine = Some(after.delta_e(asked) <= NEAR);
        } else if *share > 0.0
            && before.delta_e(*after) <= UNCHANGED
            && before.delta_e(*old) <= ALIKE
            && before.delta_e(asked) > NEAR
        {
            left += 1;
            *mine = Some(false);
        }
    }
    if area == 0 {
        return Ok(Comparison { remainder: 0.0, least_covered: 0.0, lines_kept: None });
    }
    let least = (LEAST_PIECE * (area + left) as f64).max(1.0);
    let colored = |piece: &Vec<usize>| {
        let colored = piece.iter().filter(|at| thing.get(**at).is_some_and(|colored| *colored == Some(true)));
        colored.count() as f64 / piece.len() as f64
    };
    let pieces = pieces(thing.iter().map(Option::is_some).collect(), width as usize);
    let pieces = pieces.iter().filter(|piece| piece.len() as f64 >= least);
    let least_covered = pieces.map(colored).fold(1.0, f64::min);
    Ok(Comparison { remainder: left as f64 / area as f64, least_covered, lines_kept })
}

/// Returns the share of the dark pixels of `before`, in the region and up to three quarters of a cell around it, that
/// are dark in `after` too, within a pixel. `None` without dark pixels.
///
/// A pixel is dark if its lightness is below the mean around it. A darker tone leaves less room for contrast, so the
/// contrast is compared as a share of the room.
fn lines_kept(before: &Tensor, after: &Tensor, region: &Tensor, cell: i64) -> Result<Option<f64>> {
    let unit = (cell / 4).max(1);
    let around =
        |x: &Tensor, radius: i64| x.f_avg_pool2d([2 * radius + 1; 2], [1, 1], [radius; 2], false, false, None::<i64>);
    let highest = |x: &Tensor, radius: i64| x.f_max_pool2d([2 * radius + 1; 2], [1, 1], [radius; 2], [1, 1], false);
    let (before, after) = (lightness(before)?, lightness(after)?);
    let (tone_before, tone_after) = (around(&before, 2 * unit)?, around(&after, 2 * unit)?);
    let contrast = before.f_sub(&tone_before)?;
    let zone = highest(&region.f_unsqueeze(0)?.f_unsqueeze(0)?, 3 * unit)?.f_gt(0.0)?;
    let lines = contrast.f_le(-LINE)?.f_logical_and(&zone)?;
    let darkest = highest(&tone_after.f_sub(&after)?, 1)?;
    let room = tone_after.f_add_scalar(16.0)?.f_div(&tone_before.f_add_scalar(16.0)?)?.f_clamp_max(1.0)?;
    let kept = darkest.f_ge_tensor(&contrast.f_mul(&room)?.f_mul_scalar(-LEFT)?)?.f_logical_and(&lines)?;
    let count = |pixels: &Tensor| pixels.f_sum(Kind::Double)?.f_double_value(&[]);
    let all = count(&lines)?;
    Ok(if all > 0.0 { Some(count(&kept)? / all) } else { None })
}

/// Returns the lightness of a picture in CIELAB, [3, H, W] in -1..=1 → [1, 1, H, W].
fn lightness(picture: &Tensor) -> Result<Tensor> {
    let (_, height, width) = picture.size3()?;
    let colors: Vec<f32> = labs(picture)?.iter().map(|lab| lab.l as f32).collect();
    Ok(Tensor::f_from_slice(&colors)?.f_reshape([1, 1, height, width])?)
}

/// Returns each image's undecided cells as a share of the cells that reach the cutoff. Cells of `map`, [n, 1, h, w],
/// with a saliency near `cutoff`, [n, 1, 1, 1], are undecided. `range` is the largest saliency that a map can have. An
/// object that stands out has a small share; above 1.5 the map hardly locates the object.
pub(super) fn undecided(map: &Tensor, cutoff: &Tensor, range: f64) -> Result<Vec<f64>> {
    let count = |cells: &Tensor| cells.f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Double);
    let near = count(&map.f_sub(cutoff)?.f_abs()?.f_lt(UNDECIDED * range)?)?;
    let above = count(&map.f_ge_tensor(cutoff)?)?.f_clamp_min(1.0)?;
    Ok(Vec::try_from(&near.f_div(&above)?.f_to_device(tch::Device::Cpu)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// A picture of 64 × 64 pixels with a rectangle in the color `on`, `rows` high and 32 wide, from pixel (16, 16).
    fn square(on: [f32; 3], rows: i64) -> Tensor {
        let off = Tensor::from_slice(&[-0.6f32, -0.6, 0.8]).reshape([3, 1, 1]);
        let picture = off.expand([3, 64, 64], false).contiguous();
        let on = Tensor::from_slice(&on).reshape([3, 1, 1]);
        picture.narrow(1, 16, rows).narrow(2, 16, 32).copy_(&on.expand([3, rows, 32], false));
        picture
    }

    fn mask(rows: i64) -> Tensor {
        let mask = Tensor::zeros([64, 64], (Kind::Float, Device::Cpu));
        let _ = mask.narrow(0, 16, rows).narrow(1, 16, 32).fill_(1.0);
        mask
    }

    #[test]
    fn half_painted_squares_leave_a_remainder() -> Result<()> {
        let before = square([0.2, -0.5, -0.5], 32);
        let gold = Rgb(255, 215, 0);
        let gold_on = [1.0, 0.686, -1.0];
        let whole = square(gold_on, 32);
        let nothing = Comparison { remainder: 0.0, least_covered: 1.0, lines_kept: None };
        assert_eq!(compare(&before, &whole, &mask(32), 8, gold)?, nothing);
        let half = before.copy();
        half.narrow(1, 16, 16).copy_(&whole.narrow(1, 16, 16));
        let told = compare(&before, &half, &mask(16), 8, gold)?;
        assert!(told.remainder > 0.5 && told.least_covered < 0.7, "{told:?}");
        // Pixels that already have the asked color are no remainder, and an empty region leaves none.
        let red = Rgb(153, 64, 64);
        assert_eq!(compare(&before, &before, &mask(16), 8, red)?, nothing);
        let empty = Tensor::zeros([64, 64], (Kind::Float, Device::Cpu));
        assert_eq!(compare(&before, &half, &empty, 8, gold)?, Comparison { least_covered: 0.0, ..nothing });
        Ok(())
    }

    #[test]
    fn lines_that_are_painted_over_are_lost() -> Result<()> {
        let gold_on = [1.0, 0.686, -1.0];
        // A dark bar in the square, three pixels wide, and another bar far away.
        let lined = |on: [f32; 3], bars: &[i64]| {
            let picture = square(on, 32);
            bars.iter().for_each(|x| drop(picture.narrow(1, 20, 24).narrow(2, *x, 3).fill_(-0.95)));
            picture
        };
        let before = lined([0.2, -0.5, -0.5], &[28, 58]);
        let kept =
            |after: &Tensor| Ok::<_, crate::Error>(compare(&before, after, &mask(32), 8, Rgb(255, 215, 0))?.lines_kept);
        assert_eq!(kept(&lined(gold_on, &[28]))?, Some(1.0), "the other bar is too far away to count");
        assert_eq!(kept(&lined(gold_on, &[29]))?, Some(1.0), "a bar may move by a pixel");
        assert_eq!(kept(&lined(gold_on, &[]))?, Some(0.0));
        Ok(())
    }

    #[test]
    fn cells_near_the_cutoff_are_undecided() -> Result<()> {
        let map = |inside: f64, border: i64| {
            let map = Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu));
            let _ = map.narrow(2, 0, 4).fill_(inside);
            let _ = map.narrow(2, 4, border).fill_(0.3);
            map
        };
        let maps = Tensor::cat(&[map(0.9, 0), map(0.9, 2), map(0.6, 4)], 0);
        let cutoff = Tensor::from(0.5f32).expand([3, 1, 1, 1], false);
        assert_eq!(undecided(&maps, &cutoff, 1.0)?, [0.0, 0.5, 2.0]);
        assert_eq!(undecided(&maps.zeros_like(), &cutoff, 1.0)?, [0.0; 3], "no cell is above the cutoff or near it");
        Ok(())
    }
}
