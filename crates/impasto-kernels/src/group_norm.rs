//! Group norms.

// See the head of avx512.rs.
#![allow(clippy::needless_range_loop)]

use crate::avx512::{LANES, Number, exp, lanes};
use crate::cells::Cells;
use crate::parallel;
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_maskz_loadu_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps, _mm512_sub_ps,
};
use std::sync::Mutex;

/// Cells whose numbers one thread sums at a time. Partial sums of a fixed number of cells are equal for any number of
/// threads.
const CELLS: usize = 64;
/// Vectors of channels that are summed together, so that whole cache lines are read.
const VECTORS: usize = 4;

/// A group norm over pictures, with SiLU if asked for.
pub(crate) struct GroupNorm<'a> {
    pub(crate) x: Cells<'a>,
    pub(crate) out: Cells<'a>,
    pub(crate) channels: usize,
    pub(crate) groups: usize,
    pub(crate) eps: f64,
    pub(crate) silu: bool,
}

/// Two numbers for each channel: means and squared deviations from them in sum, or factors and offsets.
pub(crate) type Channels = (Vec<f32>, Vec<f32>);

/// Mean of some numbers, and the sum of their squared deviations from it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Moments {
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

impl GroupNorm<'_> {
    /// Cells of a picture, and parts of them.
    fn parts(&self) -> (usize, usize) {
        let cells = self.x.height * self.x.width;
        (cells, cells.div_ceil(CELLS))
    }

    /// Returns the number of cells of a part of a picture.
    fn cells(&self, part: usize) -> usize {
        (self.parts().0 - part * CELLS).min(CELLS)
    }

    /// Returns the moments of every group in every part, by picture, part and group. `of_part` calls
    /// [`part`](Self::part) with the instructions enabled.
    pub(crate) fn moments(&self, of_part: impl Fn(usize, &mut Channels) + Sync) -> Vec<Moments> {
        let parts = self.parts().1;
        let mut moments = vec![Moments::default(); self.x.pictures * parts * self.groups];
        let places: Vec<Mutex<&mut [Moments]>> = moments.chunks_mut(self.groups.max(1)).map(Mutex::new).collect();
        parallel::each(places.len(), |indexes| {
            let zeros = || vec![0.0; self.channels.next_multiple_of(LANES)];
            let mut channels = (zeros(), zeros());
            for index in indexes {
                of_part(index, &mut channels);
                if let Some(Ok(mut place)) = places.get(index).map(Mutex::lock) {
                    self.join(self.cells(index % parts), &channels, &mut place);
                }
            }
        });
        drop(places);
        moments
    }

    /// Joins the moments of channels to those of groups.
    fn join(&self, cells: usize, (means, deviations): &Channels, groups: &mut [Moments]) {
        let size = self.channels / self.groups.max(1);
        for (group, (means, deviations)) in groups.iter_mut().zip(means.chunks(size).zip(deviations.chunks(size))) {
            let of_channel = |(&mean, &deviations): (&f32, &f32)| {
                (cells as f64, Moments { mean: mean.into(), deviations: deviations.into() })
            };
            *group = Moments::join(means.iter().zip(deviations).map(of_channel));
        }
    }

    /// Computes the moments of a part. Numbers are summed as distances from the channel's number in the first cell, so
    /// that large means cost no digits.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512 and of `N` enabled. The numbers of the picture are of type `N`.
    #[inline(always)]
    pub(crate) unsafe fn part<N: Number>(&self, index: usize, (means, deviations): &mut Channels) {
        let (cells, parts) = self.parts();
        let (picture, first) = (index / parts, index % parts * CELLS);
        let last = cells.min(first + CELLS);
        // SAFETY: the caller's promise; the part begins within the picture.
        let start = unsafe { self.x.cell::<N>(picture, first / self.x.width, first % self.x.width) };
        for channel in (0..self.channels).step_by(VECTORS * LANES) {
            let vectors = (self.channels - channel).div_ceil(LANES).min(VECTORS);
            // SAFETY: the caller's promise; only channels of the picture are read.
            unsafe {
                let (mut sum, mut square) = ([_mm512_setzero_ps(); VECTORS], [_mm512_setzero_ps(); VECTORS]);
                let mut from_start = [_mm512_setzero_ps(); VECTORS];
                for v in 0..vectors {
                    let at = channel + v * LANES;
                    from_start[v] = N::load(start.add(at), lanes(at, self.channels));
                }
                for cell in first + 1..last {
                    let from = self.x.cell::<N>(picture, cell / self.x.width, cell % self.x.width);
                    for v in 0..vectors {
                        let at = channel + v * LANES;
                        let x = _mm512_sub_ps(N::load(from.add(at), lanes(at, self.channels)), from_start[v]);
                        sum[v] = _mm512_add_ps(sum[v], x);
                        square[v] = _mm512_fmadd_ps(x, x, square[v]);
                    }
                }
                let part = _mm512_set1_ps(((last - first) as f32).recip());
                for v in 0..vectors {
                    let at = channel + v * LANES;
                    let mean = _mm512_mul_ps(sum[v], part);
                    let deviation = _mm512_fnmadd_ps(sum[v], mean, square[v]);
                    _mm512_storeu_ps(means.as_mut_ptr().add(at), _mm512_add_ps(from_start[v], mean));
                    _mm512_storeu_ps(deviations.as_mut_ptr().add(at), deviation);
                }
            }
        }
    }

    /// Returns the factor and the offset of each channel of each picture, from the moments and the norm's weight and
    /// bias.
    pub(crate) fn factors(&self, moments: &[Moments], weight: &[f32], bias: &[f32]) -> Vec<Channels> {
        let (cells, parts) = self.parts();
        let size = self.channels / self.groups.max(1);
        let of_picture = |moments: &[Moments]| {
            let (mut factors, mut offsets) = (Vec::new(), Vec::new());
            let affine = weight.chunks(size).zip(bias.chunks(size));
            for (group, (weight, bias)) in affine.enumerate() {
                let own = moments.iter().skip(group).step_by(self.groups).enumerate();
                let whole = Moments::join(own.map(|(part, own)| ((self.cells(part) * size) as f64, *own)));
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

    /// Runs [`apply`](Self::apply) for all parts on libtorch's threads.
    pub(crate) fn run(&self, apply: impl Fn(usize) + Sync) {
        parallel::each(self.x.pictures * self.parts().1, |indexes| indexes.for_each(&apply));
    }

    /// Normalises a part.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512, `N` and `O` enabled. The numbers of the picture are of type `N`,
    /// those of the result of type `O`.
    #[inline(always)]
    pub(crate) unsafe fn apply<N: Number, O: Number>(&self, index: usize, factors: &[Channels]) {
        let (cells, parts) = self.parts();
        let (picture, first) = (index / parts, index % parts * CELLS);
        let Some((factors, offsets)) = factors.get(picture) else { return };
        for cell in first..cells.min(first + CELLS) {
            let (row, column) = (cell / self.x.width, cell % self.x.width);
            // SAFETY: the caller's promise; there is a factor and an offset for each channel.
            unsafe {
                let (from, to) = (self.x.cell::<N>(picture, row, column), self.out.cell::<O>(picture, row, column));
                for channel in (0..self.channels).step_by(LANES) {
                    let some = lanes(channel, self.channels);
                    let factor = _mm512_maskz_loadu_ps(some, factors.as_ptr().add(channel));
                    let offset = _mm512_maskz_loadu_ps(some, offsets.as_ptr().add(channel));
                    let y = _mm512_fmadd_ps(N::load(from.add(channel), some), factor, offset);
                    let y = if self.silu { silu(y) } else { y };
                    O::store(y, to.add(channel), some);
                }
            }
        }
    }
}

/// Computes x / (1 + e^−x) of each lane.
#[inline(always)]
unsafe fn silu(x: __m512) -> __m512 {
    // SAFETY: the caller has the instructions enabled.
    unsafe {
        // Beyond 88, e^−x would overflow.
        let e = exp(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), x), _mm512_set1_ps(88.0)));
        _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0), e))
    }
}
