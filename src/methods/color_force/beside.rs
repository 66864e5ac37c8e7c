//! The surroundings of a forced region: whether the color spread there, and whether another thing changed.

use crate::color::{Lab, Rgb, labs};
use crate::error::Result;
use crate::mask::label_pieces;
use tch::{Kind, Tensor};

/// Distance around the region, in cells, within which other things are compared.
const REACH: i64 = 2;
/// CIEDE2000 up to which a pixel has the color asked for, and by which it must have come nearer to have taken it.
const TOOK: f64 = 10.0;
/// Side of the squares by which things are told apart, in CIELAB.
const TONE: f64 = 12.0;

/// Changes beside a region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Beside {
    /// Pixels around the region that took the color asked for, as a share of the region's pixels.
    pub grown: f64,
    /// Largest CIEDE2000 between the mean colors of another thing before and after. Another thing is a connected piece
    /// of one tone around the region, a cell or more in area, such as a mouth beside skin.
    pub neighbor: f64,
}

/// Compares the surroundings of a region in two pictures, `before` and `after`, [3, H, W] in -1..=1.
///
/// `region`, [H, W] of 0 and 1, has the forced pixels. `others`, of the same shape, has the pixels that other methods
/// changed. `cell` is the side of a latent cell in pixels.
pub(super) fn beside(
    before: &Tensor,
    after: &Tensor,
    region: &Tensor,
    others: Option<&Tensor>,
    cell: i64,
    asked: Rgb,
) -> Result<Beside> {
    // Squares with a quarter of a cell's side count as one pixel, because outlines and noise are finer.
    let grain = (cell / 4).max(1);
    let small = |x: &Tensor| -> Result<Tensor> {
        Ok(x.f_unsqueeze(0)?.f_avg_pool2d([grain; 2], [grain; 2], [0; 2], true, false, None::<i64>)?)
    };
    let inside = small(&region.f_unsqueeze(0)?)?;
    let (.., width) = inside.size4()?;
    let grown = |by: i64| -> Result<Vec<bool>> {
        let found = inside.f_gt(0.0)?.f_to_kind(Kind::Float)?;
        let found = found.f_max_pool2d([2 * by + 1; 2], [1, 1], [by; 2], [1, 1], false)?;
        Ok(Vec::try_from(&found.f_gt(0.0)?.f_flatten(0, -1)?)?)
    };
    // Pixels next to the region are a mixture.
    let (mixed, reach) = (grown(1)?, grown(REACH * cell / grain)?);
    let foreign: Vec<bool> = match others {
        Some(others) => Vec::try_from(&small(&others.f_unsqueeze(0)?)?.f_gt(0.0)?.f_flatten(0, -1)?)?,
        None => vec![false; mixed.len()],
    };
    let free: Vec<bool> = mixed.iter().zip(&foreign).map(|(mixed, foreign)| !mixed && !foreign).collect();
    let colors = |x: &Tensor| labs(&small(x)?.f_squeeze_dim(0)?);
    let (before, after) = (colors(before)?, colors(after)?);
    let area: f64 = inside.f_ge(0.5)?.f_sum(Kind::Double)?.f_double_value(&[])?;

    let asked = asked.lab();
    let pixels = before.iter().zip(&after).zip(free.iter().zip(&reach));
    let took = pixels.filter(|((before, after), (free, reach))| {
        let now = after.delta_e(asked);
        **free && **reach && now < TOOK && now + TOOK < before.delta_e(asked)
    });
    let grown = took.count() as f64 / area.max(1.0);

    let least = (cell / grain).pow(2) as usize;
    let tones = before.iter().zip(&free).map(|(before, free)| free.then(|| tone(before))).collect();
    let is_near = |piece: &Vec<usize>| piece.iter().any(|at| reach.get(*at) == Some(&true));
    let things = label_pieces(tones, width as usize).into_iter().filter(|piece| piece.len() >= least && is_near(piece));
    let changes = things.map(|thing| mean(&before, &thing).delta_e(mean(&after, &thing)));
    let neighbor = changes.fold(0.0, f64::max);
    Ok(Beside { grown, neighbor })
}

/// Returns the cube of CIELAB that a color lies in.
fn tone(color: &Lab) -> [i64; 3] {
    [color.l, color.a, color.b].map(|x| (x / TONE).round() as i64)
}

/// Returns the mean of the colors at some places.
fn mean(colors: &[Lab], places: &[usize]) -> Lab {
    let all = places.iter().filter_map(|at| colors.get(*at));
    let [l, a, b] = all.fold([0.0; 3], |[l, a, b], color| [l + color.l, a + color.a, b + color.b]);
    let count = places.len().max(1) as f64;
    Lab { l: l / count, a: a / count, b: b / count }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const GOLD: Rgb = Rgb(255, 215, 0);

    /// A square by its top row, its left column and its side, in pixels.
    type Square = (i64, i64, i64);

    /// A picture of 64 × 64 pixels: gray, and squares in a color.
    fn picture(squares: &[(Square, [f32; 3])]) -> Tensor {
        let picture = Tensor::zeros([3, 64, 64], (Kind::Float, Device::Cpu));
        for ((top, left, side), color) in squares {
            let color = Tensor::from_slice(color).reshape([3, 1, 1]).expand([3, *side, *side], false);
            picture.narrow(1, *top, *side).narrow(2, *left, *side).copy_(&color);
        }
        picture
    }

    fn region((top, left, side): Square) -> Tensor {
        let region = Tensor::zeros([64, 64], (Kind::Float, Device::Cpu));
        let _ = region.narrow(0, top, side).narrow(1, left, side).fill_(1.0);
        region
    }

    const SKIN: Square = (8, 8, 24);
    const MOUTH: Square = (36, 8, 16);
    const RED: [f32; 3] = [0.8, -0.6, -0.6];
    const IN_GOLD: [f32; 3] = [1.0, 0.686, -1.0];

    #[test]
    fn thing_beside_that_takes_the_color_is_seen() -> Result<()> {
        let before = picture(&[(SKIN, [0.6, 0.3, 0.2]), (MOUTH, RED)]);
        let clean = picture(&[(SKIN, IN_GOLD), (MOUTH, RED)]);
        let good = beside(&before, &clean, &region(SKIN), None, 8, GOLD)?;
        assert_eq!(good, Beside { grown: 0.0, neighbor: 0.0 });
        let spread = picture(&[(SKIN, IN_GOLD), (MOUTH, IN_GOLD)]);
        let bad = beside(&before, &spread, &region(SKIN), None, 8, GOLD)?;
        assert!(bad.grown > 0.2 && bad.neighbor > 30.0, "{bad:?}");
        let gone = picture(&[(SKIN, IN_GOLD)]);
        let bad = beside(&before, &gone, &region(SKIN), None, 8, GOLD)?;
        assert!(bad.grown == 0.0 && bad.neighbor > 20.0, "the mouth is gone: {bad:?}");
        Ok(())
    }

    #[test]
    fn what_other_methods_change_is_left_out() -> Result<()> {
        let before = picture(&[(SKIN, [0.6, 0.3, 0.2]), (MOUTH, RED)]);
        let both = picture(&[(SKIN, IN_GOLD), (MOUTH, IN_GOLD)]);
        let found = beside(&before, &both, &region(SKIN), Some(&region(MOUTH)), 8, GOLD)?;
        assert_eq!(found, Beside { grown: 0.0, neighbor: 0.0 });
        Ok(())
    }
}
