//! [`Groups`]: the groups of similar colors of a picture, each with its swatch.

use crate::color::{Lab, labs};
use crate::error::Result;
use palette::white_point::D65;
use tch::{Kind, Tensor};

/// Number of pixels in which groups are found.
const SAMPLES: usize = 1024;
/// Number of clusters before similar clusters become one group.
const CLUSTERS: usize = 16;
/// Weight of lightness in distances between colors of one picture. Light and shade of a thing differ in lightness most,
/// and are to stay in one group.
const LIGHTNESS: f64 = 0.6;
/// Distance between two clusters below which they are one group.
const SIMILAR: f64 = 14.0;
/// Deviation of the colors of a group. Pixels between two groups, as at edges, become mixtures of two swatches.
const SPREAD: f64 = 6.0;
/// Weight of the shares in the choice of swatches.
const SHARES: f64 = 2.0;
/// Rounds in which groups may change their swatches.
const ROUNDS: usize = 20;
/// Share of the pixels around a pixel that have to be of its group for the group to be there.
const THERE: f64 = 0.45;
/// Width of the mixture between two things, in pixels.
const AROUND: usize = 2;
/// Difference in lightness from the group above which a pixel is a line or a light, which stays.
const MARK: f64 = 10.0;
/// Conjugate of the golden ratio, by which the places of the samples are spread over all columns.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// A color of the palette, with its share of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub color: Lab,
    /// Share of the picture; the shares of all targets sum to 1.
    pub share: f64,
}

/// The groups of similar colors of a picture. All pixels of a group go to the same swatch.
///
/// With groups of mass m and color p, and swatches of share s and color c, the chosen swatches make
/// Σ m·|p̂ − ĉ|² + 2·Σ (M − s)²/s small. Here p̂ and ĉ are the colors less their means and divided by their deviations,
/// M is the mass of the groups that go to a swatch. Light groups thus get light swatches, and shares are met as far as
/// whole groups can meet them.
#[derive(Debug)]
pub(super) struct Groups(Vec<Group>);

#[derive(Clone, Copy, Debug)]
struct Group {
    /// Mean color of the group's pixels.
    color: Lab,
    /// The swatch's color.
    swatch: Lab,
}

/// Returns a color as a point, in which distances are those of one picture.
fn point(color: Lab) -> [f64; 3] {
    [LIGHTNESS * color.l, color.a, color.b]
}

fn values(color: Lab) -> [f64; 3] {
    [color.l, color.a, color.b]
}

/// Joins the bits of all pixels within `reach` rows and columns, in a picture of `w` columns.
fn join_near(bits: &[u32], w: usize, reach: usize) -> Vec<u32> {
    let w = w.max(1);
    let rows: Vec<u32> = bits
        .chunks(w)
        .flat_map(|row| {
            let near = move |x: usize| row.iter().take(x + reach + 1).skip(x.saturating_sub(reach));
            (0..row.len()).map(move |x| near(x).fold(0, |all, bits| all | bits))
        })
        .collect();
    let h = rows.len() / w;
    let near = |y: usize| y.saturating_sub(reach)..(y + reach + 1).min(h);
    let at = |y: usize, x: usize| rows.get(y * w + x).copied().unwrap_or_default();
    (0..h * w).map(|pixel| near(pixel / w).fold(0, |all, y| all | at(y, pixel % w))).collect()
}

fn square_distance([a, b, c]: [f64; 3], [x, y, z]: [f64; 3]) -> f64 {
    (a - x).powi(2) + (b - y).powi(2) + (c - z).powi(2)
}

/// Returns the mean of weighted colors.
fn mean(colors: impl Iterator<Item = (f64, Lab)>) -> Lab {
    let (all, l, a, b) = colors.fold((0.0, 0.0, 0.0, 0.0), |(all, l, a, b), (weight, color)| {
        (all + weight, l + weight * color.l, a + weight * color.a, b + weight * color.b)
    });
    let all = if all > 0.0 { all } else { 1.0 };
    Lab { l: l / all, a: a / all, b: b / all }
}

/// Returns weighted colors less their mean and divided by their deviation.
fn standardize(colors: &[(f64, Lab)]) -> Vec<[f64; 3]> {
    let middle = mean(colors.iter().copied());
    let apart = |color: Lab| [color.l - middle.l, color.a - middle.a, color.b - middle.b];
    let all: f64 = colors.iter().map(|(weight, _)| weight).sum();
    let squares = colors.iter().map(|(weight, color)| weight * square_distance(apart(*color), [0.0; 3]));
    let deviation = (squares.sum::<f64>() / all.max(1e-9)).sqrt().max(1.0);
    colors.iter().map(|(_, color)| apart(*color).map(|value| value / deviation)).collect()
}

impl Groups {
    /// Finds the groups of the `free` pixels of a picture, whose pixels have these `colors`, and chooses a swatch for
    /// each group.
    fn new(colors: &[Lab], free: &[bool], targets: &[Target]) -> Self {
        let own: Vec<Lab> = colors.iter().zip(free).filter(|(_, free)| **free).map(|(color, _)| *color).collect();
        let groups = merge(clusters(&own));
        let swatches: Vec<(f64, Lab)> = targets.iter().map(|target| (target.share, target.color)).collect();
        let (sources, goals) = (standardize(&groups), standardize(&swatches));
        let cost = |(source, (mass, _)): (&[f64; 3], &(f64, Lab))| -> Vec<f64> {
            goals.iter().map(|goal| mass * square_distance(*source, *goal)).collect()
        };
        let choice = Choice {
            costs: sources.iter().zip(&groups).map(cost).collect(),
            masses: groups.iter().map(|(mass, _)| *mass).collect(),
            shares: targets.iter().map(|target| target.share).collect(),
        };
        let group = |((_, color), chosen): (&(f64, Lab), usize)| {
            let swatch = targets.get(chosen).map_or(*color, |target| target.color);
            Group { color: *color, swatch }
        };
        Self(groups.iter().zip(choice.best()).map(group).collect())
    }

    /// Finds the groups of the `free` pixels of a picture that has the palette already. Each group takes its nearest
    /// swatch.
    fn near(colors: &[Lab], free: &[bool], targets: &[Target]) -> Self {
        let own: Vec<Lab> = colors.iter().zip(free).filter(|(_, free)| **free).map(|(color, _)| *color).collect();
        let group = |(_, color): (f64, Lab)| Group { color, swatch: nearest(color, targets).unwrap_or(color) };
        Self(merge(clusters(&own)).into_iter().map(group).collect())
    }

    /// Returns the index of the group that is nearest to each color.
    fn labels(&self, colors: &[Lab]) -> Vec<usize> {
        let label = |color: &Lab| {
            let squares = self.0.iter().map(|group| square_distance(point(*color), point(group.color)));
            squares.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
        };
        colors.iter().map(label).collect()
    }

    /// Returns the share of a color that belongs to each of the `allowed` groups; the shares sum to 1.
    fn memberships(&self, color: Lab, allowed: u32) -> Vec<f64> {
        let square = |(index, group): (usize, &Group)| {
            if allowed & 1 << index == 0 { f64::INFINITY } else { square_distance(point(color), point(group.color)) }
        };
        let squares: Vec<f64> = self.0.iter().enumerate().map(square).collect();
        let least = squares.iter().copied().fold(f64::INFINITY, f64::min);
        let weight = |square: &f64| ((least - square) / (2.0 * SPREAD * SPREAD)).exp();
        let all: f64 = squares.iter().map(weight).sum();
        squares.iter().map(|square| weight(square) / all).collect()
    }

    /// Returns the groups that are near each pixel of a picture of `w` columns, as bits. A group is at a pixel if a
    /// large share of the pixels around are of that group, and it is near within twice that distance. A pixel between
    /// two things has a color between theirs, which a third group may have too. All groups are allowed where none is
    /// near.
    fn groups_near(&self, colors: &[Lab], w: usize) -> Vec<u32> {
        let own: Vec<u32> = self.labels(colors).into_iter().map(|label| 1 << label).collect();
        let (w, h) = (w.max(1), own.len() / w.max(1));
        let near = |at: usize, most: usize| at.saturating_sub(AROUND)..(at + AROUND + 1).min(most);
        let is_there = |(pixel, group): (usize, &u32)| {
            let (rows, columns) = (near(pixel / w, h), near(pixel % w, w));
            let all = (rows.len() * columns.len()) as f64;
            let row = |y: usize| own.get(y * w + columns.start..y * w + columns.end).unwrap_or_default();
            let alike: usize = rows.map(|y| row(y).iter().filter(|other| *other == group).count()).sum();
            if alike as f64 >= THERE * all { *group } else { 0 }
        };
        let there: Vec<u32> = own.iter().enumerate().map(is_there).collect();
        join_near(&there, w, 2 * AROUND).into_iter().map(|near| if near == 0 { u32::MAX } else { near }).collect()
    }

    /// Returns the color to which a color moves, if only the `allowed` groups are near. Of its difference in lightness
    /// from its group the share `shading` stays, and all that is more than shading: darker places have the same hue and
    /// less chroma.
    fn move_color(&self, color: Lab, allowed: u32, shading: f64) -> Lab {
        let memberships = self.memberships(color, allowed);
        let to = mean(memberships.iter().zip(&self.0).map(|(share, group)| (*share, group.swatch)));
        let from: f64 = memberships.iter().zip(&self.0).map(|(share, group)| share * group.color.l).sum();
        let apart = color.l - from;
        let shade = shading * apart.clamp(-MARK, MARK) + (apart - apart.clamp(-MARK, MARK));
        let l = (to.l + shade).clamp(0.0, 100.0);
        let chroma = if l <= to.l {
            (l + 16.0) / (to.l + 16.0)
        } else {
            ((100.0 - l) / (100.0 - to.l).max(1e-9)).clamp(0.0, 1.0).sqrt()
        };
        Lab { l, a: chroma * to.a, b: chroma * to.b }
    }
}

/// Returns the target that is nearest to a color.
fn nearest(color: Lab, targets: &[Target]) -> Option<Lab> {
    let colors = targets.iter().map(|target| target.color);
    let square = |other: &Lab| square_distance(values(color), values(*other));
    colors.min_by(|a, b| square(a).total_cmp(&square(b)))
}

/// Returns the mean distance in L\*a\*b\* of `colors` from their nearest targets.
pub(super) fn distance(colors: &[Lab], targets: &[Target]) -> f64 {
    let apart = |color: &Lab| {
        nearest(*color, targets).map_or(0.0, |target| square_distance(values(*color), values(target)).sqrt())
    };
    colors.iter().map(apart).sum::<f64>() / colors.len().max(1) as f64
}

/// Returns the clusters of colors, each with its share of the colors.
fn clusters(colors: &[Lab]) -> Vec<(f64, Lab)> {
    let count = colors.len().min(SAMPLES);
    let every = colors.len() as f64 / count.max(1) as f64;
    let place = |index: usize| (every * (index as f64 + (GOLDEN * index as f64).fract())) as usize;
    let samples: Vec<Lab> = (0..count).filter_map(|index| colors.get(place(index)).copied()).collect();
    let points: Vec<palette::Lab<D65, f32>> = samples
        .iter()
        .map(|color| {
            let [l, a, b] = point(*color).map(|value| value as f32);
            palette::Lab::new(l, a, b)
        })
        .collect();
    let found = kmeans_colors::get_kmeans_hamerly(CLUSTERS.min(count), 40, 0.1, false, &points, 0);
    let own = |index: usize| {
        let own = found.indices.iter().zip(&samples).filter(move |(at, _)| usize::from(**at) == index);
        own.map(|(_, color)| (1.0 / count as f64, *color))
    };
    let cluster = |index: usize| (own(index).map(|(share, _)| share).sum::<f64>(), mean(own(index)));
    (0..found.centroids.len()).map(cluster).filter(|(mass, _)| *mass > 0.0).collect()
}

/// Joins similar clusters, the nearest first.
fn merge(mut clusters: Vec<(f64, Lab)>) -> Vec<(f64, Lab)> {
    loop {
        let mut nearest = (SIMILAR * SIMILAR, None);
        for (i, (_, one)) in clusters.iter().enumerate() {
            for (j, (_, other)) in clusters.iter().enumerate().take(i) {
                let apart = square_distance(point(*one), point(*other));
                if apart < nearest.0 {
                    nearest = (apart, Some((i, j)));
                }
            }
        }
        let Some((i, j)) = nearest.1 else { return clusters };
        let one = clusters.swap_remove(i);
        if let Some(other) = clusters.get_mut(j) {
            *other = (one.0 + other.0, mean([one, *other].into_iter()));
        }
    }
}

/// The choice of a swatch for each group.
struct Choice {
    /// Cost of each swatch for each group.
    costs: Vec<Vec<f64>>,
    /// Share of the picture of each group.
    masses: Vec<f64>,
    /// Share of the picture that each swatch is to have.
    shares: Vec<f64>,
}

impl Choice {
    /// Begins with the cheapest swatches, and changes one group at a time while the value falls.
    fn best(&self) -> Vec<usize> {
        let cheapest = |costs: &Vec<f64>| -> usize {
            costs.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
        };
        let mut chosen: Vec<usize> = self.costs.iter().map(cheapest).collect();
        let mut best = self.value(&chosen);
        for _ in 0..ROUNDS {
            let before = best;
            for group in 0..chosen.len() {
                for swatch in 0..self.shares.len() {
                    let mut other = chosen.clone();
                    other.get_mut(group).into_iter().for_each(|at| *at = swatch);
                    let now = self.value(&other);
                    if now < best - 1e-12 {
                        (best, chosen) = (now, other);
                    }
                }
            }
            if best == before {
                break;
            }
        }
        chosen
    }

    /// Returns the sum of the costs and of the missed shares.
    fn value(&self, chosen: &[usize]) -> f64 {
        let cost: f64 = chosen.iter().zip(&self.costs).filter_map(|(at, costs)| costs.get(*at)).sum();
        let missed = self.shares.iter().enumerate().map(|(index, share)| {
            let own = chosen.iter().zip(&self.masses).filter(|(at, _)| **at == index);
            (own.map(|(_, mass)| mass).sum::<f64>() - share).powi(2) / share
        });
        cost + SHARES * missed.sum::<f64>()
    }
}

/// Returns the share of `colors` whose nearest target each target is.
pub(super) fn shares(colors: &[Lab], targets: &[Target]) -> Vec<f64> {
    let mut shares = vec![0.0; targets.len()];
    for color in colors {
        let apart = targets.iter().map(|target| square_distance(values(*color), values(target.color)));
        let nearest = apart.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index);
        if let Some(share) = nearest.and_then(|index| shares.get_mut(index)) {
            *share += 1.0 / colors.len() as f64;
        }
    }
    shares
}

/// A recoloring of pictures.
#[derive(Debug)]
pub(super) struct Recoloring<'t> {
    pub targets: &'t [Target],
    /// Share of shading that stays, 0..=1.
    pub shading: f64,
}

impl Recoloring<'_> {
    /// Moves the colors of a picture to the targets, [3, h, w] sRGB in -1..=1 → [3, h, w] f32 on the CPU. Pixels that
    /// are not `free` stay. The groups of a picture that is `near` the palette take their nearest swatches.
    pub(super) fn of(&self, picture: &Tensor, free: &[bool], near: bool) -> Result<Tensor> {
        let (_, h, w) = picture.size3()?;
        let (colors, w) = (labs(picture)?, w as usize);
        let groups =
            if near { Groups::near(&colors, free, self.targets) } else { Groups::new(&colors, free, self.targets) };
        let moved = |((color, allowed), free): ((&Lab, u32), &bool)| {
            if *free { groups.move_color(*color, allowed, self.shading) } else { *color }
        };
        let moved = colors.iter().zip(groups.groups_near(&colors, w)).zip(free).map(moved);
        let moved: Vec<f32> =
            moved.flat_map(|color| color.to_srgb().map(|channel| 2.0 * channel as f32 - 1.0)).collect();
        Ok(Tensor::f_from_slice(&moved)?.f_reshape([h, w as i64, 3])?.f_permute([2, 0, 1])?.f_to_kind(Kind::Float)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Rgb;

    fn targets(colors: [(Rgb, f64); 2]) -> Vec<Target> {
        colors.map(|(color, share)| Target { color: color.lab(), share }).to_vec()
    }

    fn groups(colors: &[Lab], targets: &[Target]) -> Groups {
        Groups::new(colors, &vec![true; colors.len()], targets)
    }

    const NAVY: Rgb = Rgb(20, 30, 90);
    const CREAM: Rgb = Rgb(250, 240, 210);

    #[test]
    fn dark_things_become_the_dark_swatch() {
        let (dark, light) = (Rgb(90, 20, 20).lab(), Rgb(200, 180, 180).lab());
        let colors: Vec<Lab> = [[dark; 30].as_slice(), [light; 70].as_slice()].concat();
        for share in [0.3, 0.5] {
            let groups = self::groups(&colors, &targets([(NAVY, share), (CREAM, 1.0 - share)]));
            assert!(groups.move_color(dark, u32::MAX, 0.0).delta_e(NAVY.lab()) < 1.0);
            assert!(groups.move_color(light, u32::MAX, 0.0).delta_e(CREAM.lab()) < 1.0);
        }
    }

    #[test]
    fn thing_is_not_divided_to_meet_shares() {
        let sky: Vec<Lab> = (0..90u8).map(|at| Rgb(60 + at / 9, 120, 220 + at / 9).lab()).collect();
        let colors = [sky.as_slice(), [Rgb(90, 50, 20).lab(); 10].as_slice()].concat();
        let groups = self::groups(&colors, &targets([(NAVY, 0.5), (CREAM, 0.5)]));
        let moved: Vec<Lab> = sky.iter().map(|color| groups.move_color(*color, u32::MAX, 0.0)).collect();
        assert!(moved.iter().all(|color| color.delta_e(moved[0]) < 1.0), "one swatch for the sky");
    }

    #[test]
    fn shares_decide_between_things_alike() {
        let (one, other) = (Rgb(120, 120, 160).lab(), Rgb(160, 120, 120).lab());
        let colors: Vec<Lab> = [[one; 60].as_slice(), [other; 40].as_slice()].concat();
        let groups = self::groups(&colors, &targets([(NAVY, 0.6), (CREAM, 0.4)]));
        let got = shares(
            &colors.iter().map(|color| groups.move_color(*color, u32::MAX, 0.0)).collect::<Vec<_>>(),
            &targets([(NAVY, 0.6), (CREAM, 0.4)]),
        );
        assert!((got[0] - 0.6).abs() < 0.01 || (got[0] - 0.4).abs() < 0.01, "both swatches are used: {got:?}");
    }

    #[test]
    fn shading_keeps_the_order_of_shades() {
        let colors: Vec<Lab> = (120..140u8).map(|gray| Rgb(gray, gray, gray).lab()).collect();
        let groups = self::groups(&colors, &targets([(NAVY, 0.5), (NAVY, 0.5)]));
        let [flat, shaded] = [0.0, 1.0].map(|shading| {
            let [dark, light] = [colors[0], colors[19]].map(|color| groups.move_color(color, u32::MAX, shading));
            light.l - dark.l
        });
        assert!(flat.abs() < 1e-9 && (shaded - (colors[19].l - colors[0].l)).abs() < 1e-6, "{flat} {shaded}");
    }

    #[test]
    fn picture_without_free_pixels_stays() -> Result<()> {
        let picture = Tensor::linspace(-1.0, 1.0, 48, (Kind::Float, tch::Device::Cpu)).reshape([3, 4, 4]);
        let targets = targets([(NAVY, 0.5), (CREAM, 0.5)]);
        for near in [false, true] {
            let moved = Recoloring { targets: &targets, shading: 0.6 }.of(&picture, &[false; 16], near)?;
            assert!((moved - &picture).abs().max().double_value(&[]) < 0.01, "a pixel moved by more than its rounding");
        }
        Ok(())
    }

    #[test]
    fn flat_picture_becomes_one_swatch() {
        let colors = vec![Rgb(128, 128, 128).lab(); 64];
        let moved = groups(&colors, &targets([(NAVY, 0.3), (CREAM, 0.7)])).move_color(colors[0], u32::MAX, 1.0);
        assert!(moved.delta_e(CREAM.lab()) < 1.0, "{moved:?}");
    }
}
