//! [`Recoloring`]: a picture in the colors of a palette.

use super::choice::{Choice, Target};
use super::things::{Thing, Things, mean, square_distance, values};
use crate::color::{Lab, labs};
use crate::error::Result;
use tch::{Kind, Tensor};

/// Largest side of the picture in which things are found, in pixels. Larger pictures are made smaller for that.
const SIDE: i64 = 256;
/// Difference in lightness from the thing above which a pixel is a line or a light, which stays.
const MARK: f64 = 10.0;
/// Lightness by which things of one swatch differ from it at most. Darker things are darker then, too.
const TONE: f64 = 3.0;

/// Returns the target that is nearest to a color.
fn nearest(color: Lab, targets: &[Target]) -> Option<usize> {
    let squares = targets.iter().map(|target| square_distance(values(color), values(target.color)));
    squares.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}

/// Returns the mean distance in L\*a\*b\* of `colors` from their nearest targets.
pub(super) fn distance(colors: &[Lab], targets: &[Target]) -> f64 {
    let apart = |color: &Lab| {
        let target = nearest(*color, targets).and_then(|at| targets.get(at));
        target.map_or(0.0, |target| square_distance(values(*color), values(target.color)).sqrt())
    };
    colors.iter().map(apart).sum::<f64>() / colors.len().max(1) as f64
}

/// Returns the share of `colors` whose nearest target each target is.
pub(super) fn shares(colors: &[Lab], targets: &[Target]) -> Vec<f64> {
    let mut shares = vec![0.0; targets.len()];
    for color in colors {
        if let Some(share) = nearest(*color, targets).and_then(|index| shares.get_mut(index)) {
            *share += 1.0 / colors.len() as f64;
        }
    }
    shares
}

/// A recoloring of pictures.
#[derive(Debug)]
pub(super) struct Recoloring<'t> {
    pub targets: &'t [Target],
    /// Share of light and shade that stays.
    pub shading: f64,
}

impl Recoloring<'_> {
    /// Moves the colors of a picture to the targets, [3, h, w] sRGB in -1..=1 → [3, h, w] f32 on the CPU. Pixels that
    /// are not `free` stay.
    pub(super) fn of(&self, picture: &Tensor, free: &[bool]) -> Result<Tensor> {
        let (_, h, w) = picture.size3()?;
        let (small_h, small_w) = small((h, w));
        let place = |pixel: usize| {
            let (y, x) = (pixel as i64 / w.max(1), pixel as i64 % w.max(1));
            (y * small_h / h.max(1) * small_w + x * small_w / w.max(1)) as usize
        };
        let colors = labs(picture)?;
        let things = if (small_h, small_w) == (h, w) {
            Things::of(&colors, free, w as usize)
        } else {
            let mut free_cells = vec![true; (small_h * small_w) as usize];
            for (pixel, _) in free.iter().enumerate().filter(|(_, free)| !**free) {
                free_cells.get_mut(place(pixel)).into_iter().for_each(|free| *free = false);
            }
            let cells = picture.f_unsqueeze(0)?.f_adaptive_avg_pool2d([small_h, small_w])?.f_squeeze_dim(0)?;
            Things::of(&labs(&cells)?, &free_cells, small_w as usize)
        };
        let swatches = self.swatches(&things);
        let moved = colors.iter().zip(free).enumerate().map(|(pixel, (color, free))| {
            if *free { self.move_color(*color, &things, place(pixel), &swatches) } else { *color }
        });
        let moved: Vec<f32> =
            moved.flat_map(|color| color.to_srgb().map(|channel| 2.0 * channel as f32 - 1.0)).collect();
        Ok(Tensor::f_from_slice(&moved)?.f_reshape([h, w, 3])?.f_permute([2, 0, 1])?.f_to_kind(Kind::Float)?)
    }

    /// Returns the color of each thing: its swatch, lighter or darker if other things have the same swatch.
    fn swatches(&self, things: &Things) -> Vec<Lab> {
        let chosen = Choice::new(things, self.targets).best();
        let same = |swatch: usize| {
            let own = things.things.iter().zip(&chosen).filter(move |(_, chosen)| **chosen == swatch);
            own.map(|(thing, _)| (thing.mass, thing.color))
        };
        let color = |(thing, swatch): (&Thing, &usize)| {
            let Some(target) = self.targets.get(*swatch) else { return thing.color };
            let tone = self.shading * (thing.color.l - mean(same(*swatch)).l).clamp(-TONE, TONE);
            change_light(target.color, tone)
        };
        things.things.iter().zip(&chosen).map(color).collect()
    }

    /// Returns the color to which a color at a pixel moves. Of its difference in lightness from its thing the share
    /// `shading` stays, and all that is more than shading.
    fn move_color(&self, color: Lab, things: &Things, pixel: usize, swatches: &[Lab]) -> Lab {
        let memberships = things.memberships(color, pixel);
        let of = |colors: &dyn Fn(usize) -> Option<Lab>| {
            mean(memberships.iter().filter_map(|(share, thing)| Some((*share, colors(*thing)?))))
        };
        let to = of(&|thing| swatches.get(thing).copied());
        let from = of(&|thing| things.things.get(thing).map(|thing| thing.color)).l;
        let apart = color.l - from;
        change_light(to, self.shading * apart.clamp(-MARK, MARK) + (apart - apart.clamp(-MARK, MARK)))
    }
}

/// Returns a color in another light: darker colors have the same hue and less chroma.
fn change_light(color: Lab, by: f64) -> Lab {
    let l = (color.l + by).clamp(0.0, 100.0);
    let chroma = if l <= color.l {
        (l + 16.0) / (color.l + 16.0)
    } else {
        ((100.0 - l) / (100.0 - color.l).max(1e-9)).clamp(0.0, 1.0).sqrt()
    };
    Lab { l, a: chroma * color.a, b: chroma * color.b }
}

/// Returns the sides of the picture in which things are found.
fn small((h, w): (i64, i64)) -> (i64, i64) {
    let longest = h.max(w).max(1);
    if longest <= SIDE { (h, w) } else { ((h * SIDE / longest).max(1), (w * SIDE / longest).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    const NAVY: Rgb = Rgb(20, 30, 90);
    const CREAM: Rgb = Rgb(250, 240, 210);
    const GOLD: Rgb = Rgb(245, 213, 118);

    fn targets(colors: &[(Rgb, f64)]) -> Vec<Target> {
        colors.iter().map(|(color, share)| Target { color: color.lab(), share: *share }).collect()
    }

    /// Paints a picture of 48 × 48 pixels in which a pixel's color depends on its row and column.
    fn paint(color: impl Fn(usize, usize) -> Rgb) -> Result<Tensor> {
        let pixels = (0..48 * 48).flat_map(|at| {
            let Rgb(r, g, b) = color(at / 48, at % 48);
            [r, g, b].map(|channel| f32::from(channel) / 127.5 - 1.0)
        });
        Ok(Tensor::f_from_slice(&pixels.collect::<Vec<_>>())?.f_reshape([48, 48, 3])?.f_permute([2, 0, 1])?)
    }

    fn recolor(picture: &Tensor, swatches: &[(Rgb, f64)], shading: f64) -> Result<Vec<Lab>> {
        let free = vec![true; (picture.size3()?.1 * picture.size3()?.2) as usize];
        labs(&Recoloring { targets: &targets(swatches), shading }.of(picture, &free)?)
    }

    /// Returns the pixel in a row and a column.
    fn at(colors: &[Lab], row: usize, column: usize) -> Lab {
        colors[48 * row + column]
    }

    /// Red hair, in the light on the left and shaded on the right, on a green wall, with an outline around the shaded
    /// half if `outlined`. The shade deepens over twenty pixels.
    fn hair(outlined: bool) -> Result<Tensor> {
        paint(|y, x| match (y, x) {
            (0..10, _) | (38.., _) => Rgb(60, 130, 60),
            (_, 0..6) | (_, 42..) => Rgb(60, 130, 60),
            (_, 23..25) if outlined => Rgb(20, 5, 5),
            (_, 6..14) => Rgb(210, 60, 50),
            (_, 34..) => Rgb(140, 40, 33),
            (_, x) => {
                let share = (x - 13) as f64 / 21.0;
                let between = |from: f64, to: f64| (from + share * (to - from)) as u8;
                Rgb(between(210.0, 140.0), between(60.0, 40.0), between(50.0, 33.0))
            }
        })
    }

    #[test]
    fn light_and_shade_of_a_thing_stay_together() -> Result<()> {
        let swatches = [(NAVY, 1.0 / 3.0), (CREAM, 1.0 / 3.0), (GOLD, 1.0 / 3.0)];
        let colors = recolor(&hair(false)?, &swatches, 0.0)?;
        let hair = |column: usize| {
            let color = at(&colors, 24, column);
            nearest(color, &targets(&swatches))
        };
        assert_eq!(hair(12), hair(36));
        assert_ne!(hair(12), nearest(at(&colors, 3, 3), &targets(&swatches)));
        Ok(())
    }

    #[test]
    fn outlines_divide_things() -> Result<()> {
        let swatches = [(NAVY, 1.0 / 3.0), (CREAM, 1.0 / 3.0), (GOLD, 1.0 / 3.0)];
        let colors = recolor(&hair(true)?, &swatches, 0.0)?;
        let [light, shaded] = [12, 36].map(|column| nearest(at(&colors, 24, column), &targets(&swatches)));
        assert_ne!(light, shaded);
        let lighter = at(&colors, 24, 12).l.max(at(&colors, 24, 36).l);
        assert!(at(&colors, 24, 23).l < lighter - 15.0, "the outline stays dark");
        Ok(())
    }

    #[test]
    fn dark_things_become_the_dark_swatch() -> Result<()> {
        let halves = paint(|y, _| if y < 16 { Rgb(90, 20, 20) } else { Rgb(200, 180, 180) })?;
        for share in [0.3, 0.5] {
            let colors = recolor(&halves, &[(NAVY, share), (CREAM, 1.0 - share)], 0.0)?;
            assert!(at(&colors, 4, 20).delta_e(NAVY.lab()) < 1.0);
            assert!(at(&colors, 40, 20).delta_e(CREAM.lab()) < 1.0);
        }
        Ok(())
    }

    #[test]
    fn thing_is_not_divided_to_meet_shares() -> Result<()> {
        let sky = paint(|y, _| if y < 44 { Rgb(60 + y as u8 / 5, 120, 220) } else { Rgb(90, 50, 20) })?;
        let colors = recolor(&sky, &[(NAVY, 0.5), (CREAM, 0.5)], 0.0)?;
        let first = at(&colors, 2, 2);
        assert!((0..40).all(|row| at(&colors, row, 20).delta_e(first) < 1.0), "one swatch for the sky");
        Ok(())
    }

    #[test]
    fn shading_keeps_the_order_of_shades() -> Result<()> {
        let picture = paint(|_, x| Rgb(120 + x as u8 / 3, 120 + x as u8 / 3, 120 + x as u8 / 3))?;
        let (before, slate) = (labs(&picture)?, Rgb(100, 110, 130));
        let difference = |colors: &[Lab]| at(colors, 24, 47).l - at(colors, 24, 0).l;
        let [flat, shaded] = [0.0, 1.0].map(|shading| recolor(&picture, &[(slate, 0.5), (slate, 0.5)], shading));
        let (flat, shaded) = (difference(&flat?), difference(&shaded?));
        let missed = (shaded - difference(&before)).abs(); // colors are read in 8 bits
        assert!(flat.abs() < 0.4 && missed < 0.4, "{flat} {shaded}");
        Ok(())
    }

    #[test]
    fn picture_without_free_pixels_stays() -> Result<()> {
        let picture = Tensor::linspace(-1.0, 1.0, 48, (Kind::Float, tch::Device::Cpu)).reshape([3, 4, 4]);
        let targets = targets(&[(NAVY, 0.5), (CREAM, 0.5)]);
        let moved = Recoloring { targets: &targets, shading: 0.6 }.of(&picture, &[false; 16])?;
        assert!((moved - &picture).abs().max().double_value(&[]) < 0.01, "a pixel moved by more than its rounding");
        Ok(())
    }

    #[test]
    fn large_pictures_are_recolored_as_small_ones() -> Result<()> {
        let halves = paint(|y, _| if y < 16 { Rgb(90, 20, 20) } else { Rgb(200, 180, 180) })?;
        let large = halves.f_unsqueeze(0)?.f_upsample_nearest2d([480, 480], None, None)?.f_squeeze_dim(0)?;
        let colors = recolor(&large, &[(NAVY, 0.3), (CREAM, 0.7)], 0.0)?;
        assert!(colors[480 * 40 + 200].delta_e(NAVY.lab()) < 1.0);
        assert!(colors[480 * 400 + 200].delta_e(CREAM.lab()) < 1.0);
        Ok(())
    }

    #[test]
    fn flat_picture_becomes_one_swatch() -> Result<()> {
        let colors = recolor(&paint(|_, _| Rgb(128, 128, 128))?, &[(NAVY, 0.3), (CREAM, 0.7)], 1.0)?;
        assert!(at(&colors, 24, 24).delta_e(CREAM.lab()) < 1.0);
        Ok(())
    }
}
