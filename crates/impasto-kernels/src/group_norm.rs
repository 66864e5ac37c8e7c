//! Group norms.

use crate::cells::Cells;
use crate::dispatch::run;
use crate::functions::silu;
use crate::isa::{Simd, Work, joint};
use crate::number::Number;
use std::sync::Mutex;
use tch::{Kind, TchError};

/// Cells whose numbers one thread sums at a time. Partial sums of a fixed number of cells are equal for any number of
/// threads.
const CELLS: usize = 64;
/// Vectors of channels that are summed together, so that whole cache lines are read.
const VECTORS: usize = 4;

/// A group norm over pictures of numbers `N`, with SiLU if asked for. The result has numbers `O`.
pub(crate) struct GroupNorm<'a, N, O> {
    pub(crate) x: Cells<'a, N>,
    pub(crate) out: Cells<'a, O>,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    pub(crate) silu: bool,
}

/// Two numbers for each channel: means and squared deviations from them in sum, or factors and offsets.
type Channels = (Vec<f32>, Vec<f32>);

/// Returns the number of cells of a picture, and of parts of them.
#[inline(always)]
fn parts<N>(x: &Cells<'_, N>) -> (usize, usize) {
    let cells = x.height * x.width;
    (cells, cells.div_ceil(CELLS))
}

/// Mean of some numbers, and the sum of their squared deviations from it.
#[derive(Clone, Copy, Default)]
struct Moments {
    mean: f64,
    deviations: f64,
}

impl Moments {
    /// Joins the moments of pieces, each with the count of its numbers.
    fn join(pieces: impl Iterator<Item = (f64, Self)> + Clone) -> Self {
        let (count, sum) =
            pieces.clone().fold((0.0, 0.0), |(all, sum), (count, own)| (all + count, sum + count * own.mean));
        let mean = sum / count;
        let deviations = pieces.map(|(count, own)| own.deviations + count * (own.mean - mean).powi(2)).sum();
        Self { mean, deviations }
    }
}

impl<N: Number, O: Number> GroupNorm<'_, N, O> {
    /// Normalises all pictures, with the norm's weight and bias for each channel.
    ///
    /// # Safety
    /// Both pictures have the same shape, with these channels.
    ///
    /// # Errors
    /// [`TchError`] if no instruction set computes the kinds.
    pub(crate) unsafe fn run(&self, weight: &[f32], bias: &[f32]) -> Result<(), TchError> {
        let &Self { x, out, channels, groups, silu, .. } = self;
        let mut moments = vec![Moments::default(); x.pictures * parts(&x).1 * groups];
        let places = moments.chunks_mut(groups.max(1)).map(Mutex::new).collect();
        // SAFETY: the caller's promise.
        unsafe { run(&Measurement { x, channels, groups, places })? };
        let factors = self.factors(&moments, weight, bias);
        // SAFETY: the caller's promise; each picture has a factor and an offset for each channel.
        unsafe { run(&Normalization { x, out, channels, silu, factors }) }
    }

    /// Returns the factor and the offset of each channel of each picture, from the moments and the norm's weight and
    /// bias.
    fn factors(&self, moments: &[Moments], weight: &[f32], bias: &[f32]) -> Vec<Channels> {
        let (cells, parts) = parts(&self.x);
        let size = self.channels / self.groups.max(1);
        let of_picture = |moments: &[Moments]| {
            let (mut factors, mut offsets) = (Vec::new(), Vec::new());
            let affine = weight.chunks(size).zip(bias.chunks(size));
            for (group, (weight, bias)) in affine.enumerate() {
                let own = moments.iter().skip(group).step_by(self.groups).enumerate();
                let whole =
                    Moments::join(own.map(|(part, own)| (((cells - part * CELLS).min(CELLS) * size) as f64, *own)));
                let variance = whole.deviations / (cells * size) as f64;
                let scale = (variance + self.eps).sqrt().recip();
                for (weight, bias) in weight.iter().zip(bias) {
                    let factor = f64::from(*weight) * scale;
                    factors.push(factor as f32);
                    offsets.push((f64::from(*bias) - whole.mean * factor) as f32);
                }
            }
            (factors, offsets)
        };
        moments.chunks((parts * self.groups).max(1)).map(of_picture).collect()
    }
}

/// The first pass over the pictures: moments of every group in every part.
struct Measurement<'a, N> {
    x: Cells<'a, N>,
    channels: usize,
    groups: usize,
    /// Moments of the groups, by picture and part.
    places: Vec<Mutex<&'a mut [Moments]>>,
}

impl<N> Measurement<'_, N> {
    /// Joins the moments of channels to those of groups.
    #[inline(never)]
    fn join(&self, cells: usize, (means, deviations): &Channels, groups: &mut [Moments]) {
        let size = self.channels / self.groups.max(1);
        for (group, (means, deviations)) in groups.iter_mut().zip(means.chunks(size).zip(deviations.chunks(size))) {
            let of_channel = |(&mean, &deviations): (&f32, &f32)| {
                (cells as f64, Moments { mean: mean.into(), deviations: deviations.into() })
            };
            *group = Moments::join(means.iter().zip(deviations).map(of_channel));
        }
    }
}

impl<N: Number> Work for Measurement<'_, N> {
    const KIND: Kind = N::KIND;
    type Scratch = Channels;

    fn parts<S: Simd>(&self) -> usize {
        self.places.len()
    }

    /// Computes the moments of a part. Numbers are summed as distances from the channel's number in the first cell, so
    /// that large means cost no digits.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, channels: &mut Channels) {
        let (cells, parts) = parts(&self.x);
        let (picture, first) = (index / parts, index % parts * CELLS);
        let last = cells.min(first + CELLS);
        let (means, deviations) = channels;
        means.resize(self.channels.next_multiple_of(S::LANES), 0.0);
        deviations.resize(self.channels.next_multiple_of(S::LANES), 0.0);
        // SAFETY: the caller's promise; the part begins within the picture.
        let start = unsafe { self.x.cell(picture, first / self.x.width, first % self.x.width) };
        for channel in (0..self.channels).step_by(VECTORS * S::LANES) {
            let vectors = (self.channels - channel).div_ceil(S::LANES).min(VECTORS);
            // SAFETY: the caller's promise; only channels of the picture are read.
            unsafe {
                let (mut sum, mut square) = ([simd.splat(0.0); VECTORS], [simd.splat(0.0); VECTORS]);
                let mut from_start = [simd.splat(0.0); VECTORS];
                for v in 0..vectors {
                    let at = channel + v * S::LANES;
                    from_start[v] = N::load(simd, start.add(at), simd.lanes(at, self.channels));
                }
                for cell in first + 1..last {
                    let from = self.x.cell(picture, cell / self.x.width, cell % self.x.width);
                    for v in 0..vectors {
                        let at = channel + v * S::LANES;
                        let x = N::load(simd, from.add(at), simd.lanes(at, self.channels));
                        let x = simd.sub(x, from_start[v]);
                        sum[v] = simd.add(sum[v], x);
                        square[v] = simd.mul_add(x, x, square[v]);
                    }
                }
                let part = simd.splat(((last - first) as f32).recip());
                for v in 0..vectors {
                    let at = channel + v * S::LANES;
                    let mean = simd.mul(sum[v], part);
                    let deviation = simd.neg_mul_add(sum[v], mean, square[v]);
                    simd.store(simd.add(from_start[v], mean), means.as_mut_ptr().add(at));
                    simd.store(deviation, deviations.as_mut_ptr().add(at));
                }
            }
        }
        if let Some(Ok(mut place)) = self.places.get(index).map(Mutex::lock) {
            self.join(last - first, channels, &mut place);
        }
    }
}

/// The second pass: each number times its channel's factor, plus the offset.
struct Normalization<'a, N, O> {
    x: Cells<'a, N>,
    out: Cells<'a, O>,
    channels: usize,
    silu: bool,
    /// Factors and offsets, by picture.
    factors: Vec<Channels>,
}

impl<N: Number, O: Number> Work for Normalization<'_, N, O> {
    const KIND: Kind = joint(N::KIND, O::KIND);
    type Scratch = ();

    fn parts<S: Simd>(&self) -> usize {
        self.x.pictures * parts(&self.x).1
    }

    /// Normalises a part.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, (): &mut ()) {
        let (cells, parts) = parts(&self.x);
        let (picture, first) = (index / parts, index % parts * CELLS);
        let Some((factors, offsets)) = self.factors.get(picture) else { return };
        for cell in first..cells.min(first + CELLS) {
            let (row, column) = (cell / self.x.width, cell % self.x.width);
            // SAFETY: the caller's promise; there is a factor and an offset for each channel.
            unsafe {
                let (from, to) = (self.x.cell(picture, row, column), self.out.cell(picture, row, column));
                for channel in (0..self.channels).step_by(S::LANES) {
                    let some = simd.lanes(channel, self.channels);
                    let factor = simd.load_or(simd.splat(0.0), factors.as_ptr().add(channel), some);
                    let offset = simd.load_or(simd.splat(0.0), offsets.as_ptr().add(channel), some);
                    let y = simd.mul_add(N::load(simd, from.add(channel), some), factor, offset);
                    let y = if self.silu { silu(simd, y) } else { y };
                    O::store(simd, y, to.add(channel), some);
                }
            }
        }
    }
}
