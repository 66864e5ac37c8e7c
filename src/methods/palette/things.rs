//! [`Things`]: the things of a picture, as far as color and outlines tell them apart.

use crate::color::Lab;
use crate::mask::{label_pieces, neighbors};
use palette::white_point::D65;
use std::collections::{BTreeMap, HashMap};

/// Number of pixels in which clusters of colors are found.
const SAMPLES: usize = 1024;
/// Most clusters.
const CLUSTERS: usize = 16;
/// Distance between two clusters below which they are one. Clusters nearer than that would be too narrow in shades.
const NEAR: f64 = 6.0;
/// Weight of lightness in distances between colors of one picture. Light and shade of a thing differ in lightness most,
/// and are to stay in one thing.
const LIGHTNESS: f64 = 0.6;
/// Distance between two colors below which they are of one thing.
const SIMILAR: f64 = 14.0;
/// Mean difference of colors across a border below which the border is a shade's, and no outline.
const SMOOTH: f64 = 11.0;
/// Distance between two shades of one thing at most.
const SHADES: f64 = 36.0;
/// Lightness by which lines are darker than both sides.
const LINE: f64 = 8.0;
/// Share of a border's length from which lines make the border an outline.
const LINED: f64 = 0.3;
/// Share of the pixels around a pixel that have to be of its cluster for the cluster to be there.
const THERE: f64 = 0.45;
/// Width of the mixture between two things, in pixels of the picture in which things are found.
const AROUND: usize = 2;
/// Share of the picture of the smallest piece of a thing. Smaller ones are lines and lights.
const PIECE: f64 = 0.001;
/// Most shades of a picture: the bits of a `u64`.
const MOST: usize = 64;
/// Deviation of the colors of a shade. Pixels between two shades, as at edges, become mixtures of both.
const SPREAD: f64 = 6.0;
/// Conjugate of the golden ratio, by which the places of the samples are spread over all columns.
const GOLDEN: f64 = 0.618_033_988_749_894_8;

/// The things of a picture.
///
/// The colors of the picture are divided into clusters by k-means. The connected pieces of a cluster are joined with
/// neighbors across smooth borders, such as those of light and shade, and pieces of similar color are one thing,
/// wherever they are.
#[derive(Debug)]
pub(super) struct Things {
    pub things: Vec<Thing>,
    /// The colors of the things: one for each cluster that a thing has.
    shades: Vec<Shade>,
    /// The shades near each pixel, as bits.
    near: Vec<u64>,
    /// Share of the border of the thing with the smaller border that is shared by two things, the lower index first.
    pub borders: BTreeMap<(usize, usize), f64>,
}

/// A thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thing {
    /// Mean color.
    pub color: Lab,
    /// Share of all things.
    pub mass: f64,
}

#[derive(Clone, Copy, Debug)]
struct Shade {
    color: Lab,
    thing: usize,
}

/// Returns a color as a point, in which distances are those of one picture.
fn point(color: Lab) -> [f64; 3] {
    [LIGHTNESS * color.l, color.a, color.b]
}

pub(super) fn values(color: Lab) -> [f64; 3] {
    [color.l, color.a, color.b]
}

/// Returns the distance of two colors of one picture.
fn apart(one: Lab, other: Lab) -> f64 {
    square_distance(point(one), point(other)).sqrt()
}

pub(super) fn square_distance([a, b, c]: [f64; 3], [x, y, z]: [f64; 3]) -> f64 {
    (a - x).powi(2) + (b - y).powi(2) + (c - z).powi(2)
}

/// Returns the mean of weighted colors.
pub(super) fn mean(colors: impl Iterator<Item = (f64, Lab)>) -> Lab {
    let (all, l, a, b) = colors.fold((0.0, 0.0, 0.0, 0.0), |(all, l, a, b), (weight, color)| {
        (all + weight, l + weight * color.l, a + weight * color.a, b + weight * color.b)
    });
    let all = if all > 0.0 { all } else { 1.0 };
    Lab { l: l / all, a: a / all, b: b / all }
}

/// Returns the mean colors of clusters.
fn clusters(colors: &[Lab]) -> Vec<Lab> {
    let count = colors.len().min(SAMPLES);
    let every = colors.len() as f64 / count.max(1) as f64;
    let place = |index: usize| (every * (index as f64 + (GOLDEN * index as f64).fract())) as usize;
    let points: Vec<palette::Lab<D65, f32>> = (0..count)
        .filter_map(|index| colors.get(place(index)))
        .map(|color| {
            let [l, a, b] = point(*color).map(|value| value as f32);
            palette::Lab::new(l, a, b)
        })
        .collect();
    let found = kmeans_colors::get_kmeans_hamerly(CLUSTERS.min(count), 40, 0.1, false, &points, 0);
    let is_used = |index: usize| found.indices.iter().any(|at| usize::from(*at) == index);
    let center = |(_, center): (usize, &palette::Lab<D65, f32>)| Lab {
        l: f64::from(center.l) / LIGHTNESS,
        a: center.a.into(),
        b: center.b.into(),
    };
    let centers = found.centroids.iter().enumerate().filter(|(index, _)| is_used(*index)).map(center);
    let mut clusters: Vec<Lab> = Vec::new();
    for center in centers {
        if clusters.iter().all(|other| apart(center, *other) >= NEAR) {
            clusters.push(center);
        }
    }
    clusters
}

/// Returns the index of the color that is nearest.
fn nearest(color: Lab, colors: &[Lab]) -> Option<usize> {
    let squares = colors.iter().map(|other| square_distance(point(color), point(*other)));
    squares.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}

/// Keeps the labels that a large share of the pixels around have too.
fn inner(labels: &[Option<usize>], w: usize) -> Vec<Option<usize>> {
    let (w, h) = (w.max(1), labels.len() / w.max(1));
    let near = |at: usize, most: usize| at.saturating_sub(AROUND)..(at + AROUND + 1).min(most);
    let keep = |(pixel, label): (usize, &Option<usize>)| {
        let (rows, columns) = (near(pixel / w, h), near(pixel % w, w));
        let all = (rows.len() * columns.len()) as f64;
        let row = |y: usize| labels.get(y * w + columns.start..y * w + columns.end).unwrap_or_default();
        let alike: usize = rows.map(|y| row(y).iter().filter(|other| *other == label).count()).sum();
        label.filter(|_| alike as f64 >= THERE * all)
    };
    labels.iter().enumerate().map(keep).collect()
}

/// Joins the bits of all pixels within `reach` rows and columns, in a picture of `w` columns.
fn join_near(bits: &[u64], w: usize, reach: usize) -> Vec<u64> {
    let w = w.max(1);
    let rows: Vec<u64> = bits
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

/// The border of two pieces.
#[derive(Clone, Copy, Default)]
struct Border {
    /// Pairs of pixels at the border.
    length: f64,
    /// Sum of the differences of the nearest colors of both sides.
    differences: f64,
    /// Pairs with a line between both sides.
    lines: f64,
}

impl Border {
    /// Returns true for a border between light and shade of one thing.
    fn is_smooth(&self) -> bool {
        self.differences < SMOOTH * self.length && self.lines < LINED * self.length
    }
}

/// The pieces of a picture, some of which are joined.
struct Pieces {
    /// Sum of the colors and number of the pixels of each piece; a joined piece's are with the piece that it joined.
    sums: Vec<(f64, Lab)>,
    /// The piece that each piece joined; a piece that joined none has its own index.
    joined: Vec<usize>,
    borders: BTreeMap<(usize, usize), Border>,
}

impl Pieces {
    fn color(&self, piece: usize) -> Lab {
        let (count, sum) = self.sums.get(piece).copied().unwrap_or((1.0, Lab { l: 0.0, a: 0.0, b: 0.0 }));
        Lab { l: sum.l / count, a: sum.a / count, b: sum.b / count }
    }

    /// Lets the second of two pieces, which have not joined others, join the first.
    fn join(&mut self, one: usize, other: usize) {
        let Some((count, sum)) = self.sums.get(other).copied() else { return };
        if let Some((all, whole)) = self.sums.get_mut(one) {
            *all += count;
            *whole = Lab { l: whole.l + sum.l, a: whole.a + sum.a, b: whole.b + sum.b };
        }
        self.joined.iter_mut().filter(|to| **to == other).for_each(|to| *to = one);
        for ((a, b), border) in std::mem::take(&mut self.borders) {
            let [a, b] = [a, b].map(|piece| if piece == other { one } else { piece });
            if a != b {
                let whole = self.borders.entry((a.min(b), a.max(b))).or_default();
                whole.length += border.length;
                whole.differences += border.differences;
                whole.lines += border.lines;
            }
        }
    }

    /// Joins neighbors across smooth borders, the smoothest first.
    fn join_shades(&mut self) {
        loop {
            let smooth = self.borders.iter().filter(|(_, border)| border.is_smooth());
            let close = smooth.filter(|((a, b), _)| apart(self.color(*a), self.color(*b)) < SHADES);
            let smoothest =
                close.min_by(|(_, a), (_, b)| (a.differences / a.length).total_cmp(&(b.differences / b.length)));
            let Some((&(one, other), _)) = smoothest else { return };
            self.join(one, other);
        }
    }

    /// Joins pieces of similar color, wherever they are, the nearest first.
    fn join_similar(&mut self) {
        loop {
            let own: Vec<usize> = (0..self.joined.len()).filter(|at| self.joined.get(*at) == Some(at)).collect();
            let colors: Vec<(usize, Lab)> = own.iter().map(|piece| (*piece, self.color(*piece))).collect();
            let pairs = colors
                .iter()
                .enumerate()
                .flat_map(|(at, one)| colors.iter().take(at).map(move |other| (apart(one.1, other.1), other.0, one.0)));
            let Some((_, one, other)) = pairs.filter(|(apart, ..)| *apart < SIMILAR).min_by(|a, b| a.0.total_cmp(&b.0))
            else {
                return;
            };
            self.join(one, other);
        }
    }
}

/// Spreads the pieces over the pixels between them. Returns for each pixel the nearest pixel of a piece, where one is
/// within `reach`.
fn spread(owners: &[Option<usize>], w: usize, reach: usize) -> Vec<Option<usize>> {
    let mut nearest: Vec<Option<usize>> = owners.iter().enumerate().map(|(at, owner)| owner.map(|_| at)).collect();
    let mut front: Vec<usize> = nearest.iter().flatten().copied().collect();
    for _ in 0..reach {
        let mut next = Vec::new();
        for at in front {
            let from = nearest.get(at).copied().flatten();
            for near in neighbors(at, w) {
                if let Some(free) = nearest.get_mut(near).filter(|nearest| nearest.is_none()) {
                    *free = from;
                    next.push(near);
                }
            }
        }
        front = next;
    }
    nearest
}

/// Returns the borders of pieces: those of pixels whose nearest pieces differ.
fn borders(owners: &[Option<usize>], colors: &[Lab], w: usize) -> BTreeMap<(usize, usize), Border> {
    let nearest = spread(owners, w, 2 * AROUND);
    let side = |at: usize| {
        let from = nearest.get(at).copied().flatten()?;
        Some((owners.get(from).copied().flatten()?, *colors.get(from)?, colors.get(at)?.l))
    };
    let mut all: BTreeMap<(usize, usize), Border> = BTreeMap::new();
    for at in 0..colors.len() {
        let next = [(!(at + 1).is_multiple_of(w)).then_some(at + 1), Some(at + w)];
        for other in next.into_iter().flatten() {
            let (Some(one), Some(other)) = (side(at), side(other)) else { continue };
            if one.0 != other.0 {
                let border = all.entry((one.0.min(other.0), one.0.max(other.0))).or_default();
                border.length += 1.0;
                border.differences += apart(one.1, other.1);
                let is_line = one.2.min(other.2) < one.1.l.min(other.1.l) - LINE;
                border.lines += f64::from(u8::from(is_line));
            }
        }
    }
    all
}

impl Things {
    /// Finds the things of the `free` pixels of a picture of `w` columns, whose pixels have these `colors`.
    pub(super) fn of(colors: &[Lab], free: &[bool], w: usize) -> Self {
        let w = w.max(1);
        let own: Vec<Lab> = colors.iter().zip(free).filter(|(_, free)| **free).map(|(color, _)| *color).collect();
        let clusters = clusters(&own);
        let label = |(color, free): (&Lab, &bool)| free.then(|| nearest(*color, &clusters)).flatten();
        let labels: Vec<Option<usize>> = colors.iter().zip(free).map(label).collect();
        let mut found = label_pieces(inner(&labels, w), w);
        let least = (PIECE * own.len() as f64).max(1.0);
        found.retain(|piece| piece.len() as f64 >= least);
        if found.is_empty() && !own.is_empty() {
            // A picture of small marks alone is one thing.
            found = vec![(0..colors.len()).filter(|at| free.get(*at) == Some(&true)).collect()];
        }
        let mut owners: Vec<Option<usize>> = vec![None; colors.len()];
        for (index, piece) in found.iter().enumerate() {
            piece.iter().for_each(|at| owners.get_mut(*at).into_iter().for_each(|owner| *owner = Some(index)));
        }
        let sum = |piece: &Vec<usize>| {
            let color = mean(piece.iter().filter_map(|at| colors.get(*at)).map(|color| (1.0, *color)));
            let count = piece.len() as f64;
            (count, Lab { l: count * color.l, a: count * color.a, b: count * color.b })
        };
        let mut pieces = Pieces {
            sums: found.iter().map(sum).collect(),
            joined: (0..found.len()).collect(),
            borders: borders(&owners, colors, w),
        };
        pieces.join_shades();
        pieces.join_similar();
        let kept: Vec<usize> = (0..found.len()).filter(|at| pieces.joined.get(*at) == Some(at)).collect();
        let number: HashMap<usize, usize> = kept.iter().enumerate().map(|(number, piece)| (*piece, number)).collect();
        let thing_of = |piece: usize| pieces.joined.get(piece).and_then(|to| number.get(to)).copied();
        let all: f64 = kept.iter().filter_map(|piece| pieces.sums.get(*piece)).map(|(count, _)| count).sum();
        let thing = |piece: &usize| {
            let count = pieces.sums.get(*piece).map_or(0.0, |(count, _)| *count);
            Thing { color: pieces.color(*piece), mass: count / all.max(1.0) }
        };
        let mut things = Self {
            things: kept.iter().map(thing).collect(),
            shades: Vec::new(),
            near: Vec::new(),
            borders: BTreeMap::new(),
        };
        things.measure_borders(&pieces, &number);
        let shade_of = |at: usize| -> Option<(usize, usize)> {
            Some((labels.get(at).copied().flatten()?, thing_of(owners.get(at).copied().flatten()?)?))
        };
        things.find_shades(colors, shade_of, w);
        things
    }

    fn measure_borders(&mut self, pieces: &Pieces, number: &HashMap<usize, usize>) {
        let mut whole = vec![0.0; self.things.len()];
        let shared = pieces.borders.iter().filter_map(|((one, other), border)| {
            let (one, other) = (*number.get(one)?, *number.get(other)?);
            Some(((one.min(other), one.max(other)), border.length))
        });
        let shared: BTreeMap<(usize, usize), f64> = shared.collect();
        for ((one, other), length) in &shared {
            [one, other].into_iter().for_each(|at| whole.get_mut(*at).into_iter().for_each(|sum| *sum += length));
        }
        let share = |((one, other), length): ((usize, usize), f64)| {
            let least = whole.get(one).copied().unwrap_or(length).min(whole.get(other).copied().unwrap_or(length));
            ((one, other), length / least.max(1.0))
        };
        self.borders = shared.into_iter().map(share).collect();
    }

    /// Finds the shades of the things, and the places near which they are. `shade_of` has the cluster and the thing of
    /// a pixel.
    fn find_shades(&mut self, colors: &[Lab], shade_of: impl Fn(usize) -> Option<(usize, usize)>, w: usize) {
        let mut sums: BTreeMap<(usize, usize), (f64, Lab)> = BTreeMap::new();
        for (at, color) in colors.iter().enumerate() {
            let Some(shade) = shade_of(at) else { continue };
            let (count, sum) = sums.entry(shade).or_insert((0.0, Lab { l: 0.0, a: 0.0, b: 0.0 }));
            *count += 1.0;
            *sum = Lab { l: sum.l + color.l, a: sum.a + color.a, b: sum.b + color.b };
        }
        let mut sums: Vec<((usize, usize), (f64, Lab))> = sums.into_iter().collect();
        sums.sort_by(|(_, (one, _)), (_, (other, _))| other.total_cmp(one));
        sums.truncate(MOST);
        let color = |(count, sum): (f64, Lab)| Lab { l: sum.l / count, a: sum.a / count, b: sum.b / count };
        self.shades = sums.iter().map(|((_, thing), sum)| Shade { color: color(*sum), thing: *thing }).collect();
        let bit: HashMap<(usize, usize), u64> =
            sums.iter().enumerate().map(|(index, (shade, _))| (*shade, 1 << index)).collect();
        let own = |at: usize| shade_of(at).and_then(|shade| bit.get(&shade)).copied().unwrap_or_default();
        let own: Vec<u64> = (0..colors.len()).map(own).collect();
        let near = join_near(&own, w, 2 * AROUND);
        self.near = near.into_iter().map(|near| if near == 0 { u64::MAX } else { near }).collect();
    }

    /// Returns the shares of a color that belong to the things near a pixel; the shares sum to 1.
    pub(super) fn memberships(&self, color: Lab, pixel: usize) -> Vec<(f64, usize)> {
        let allowed = self.near.get(pixel).copied().unwrap_or(u64::MAX);
        let shades = self.shades.iter().enumerate().filter(|(index, _)| allowed >> index & 1 == 1);
        let squares: Vec<(f64, usize)> =
            shades.map(|(_, shade)| (square_distance(point(color), point(shade.color)), shade.thing)).collect();
        let least = squares.iter().map(|(square, _)| *square).fold(f64::INFINITY, f64::min);
        let weights =
            squares.iter().map(|(square, thing)| (((least - square) / (2.0 * SPREAD * SPREAD)).exp(), *thing));
        let all: f64 = weights.clone().map(|(weight, _)| weight).sum();
        weights.map(|(weight, thing)| (weight / all, thing)).collect()
    }
}
