//! Layer norms.

use crate::isa::{Simd, Work, joint};
use crate::number::Number;
use tch::Kind;

/// Rows of a part of the work.
const ROWS: usize = 16;

/// A norm of contiguous rows of numbers `N`, with weights, biases and result of numbers `O`.
pub(crate) struct LayerNorm<N, O> {
    pub(crate) x: *const N,
    pub(crate) weight: *const O,
    pub(crate) bias: *const O,
    pub(crate) out: *mut O,
    pub(crate) width: usize,
    pub(crate) rows: usize,
    /// Number of adjacent rows that share a weight and a bias.
    pub(crate) shared: usize,
    pub(crate) eps: f32,
}

// SAFETY: threads read, or write rows that no other thread reads or writes.
unsafe impl<N: Number, O: Number> Send for LayerNorm<N, O> {}
// SAFETY: as above.
unsafe impl<N: Number, O: Number> Sync for LayerNorm<N, O> {}

impl<N: Number, O: Number> Work for LayerNorm<N, O> {
    const KIND: Kind = joint(N::KIND, O::KIND);
    type Scratch = ();

    fn parts<S: Simd>(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Normalises the rows of a part.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, (): &mut ()) {
        let first = index * ROWS;
        for row in first..self.rows.min(first + ROWS) {
            // SAFETY: the caller's promise; each row has `width` numbers.
            unsafe {
                let (from, to) = (self.x.add(row * self.width), self.out.add(row * self.width));
                let own = row / self.shared * self.width;
                let (weight, bias) = (self.weight.add(own), self.bias.add(own));
                let share = (self.width as f32).recip();
                let mut sum = simd.splat(0.0);
                for at in (0..self.width).step_by(S::LANES) {
                    sum = simd.add(sum, N::load(simd, from.add(at), simd.lanes(at, self.width)));
                }
                let mean = simd.splat(simd.reduce_sum(sum) * share);
                let mut squares = simd.splat(0.0);
                for at in (0..self.width).step_by(S::LANES) {
                    let some = simd.lanes(at, self.width);
                    let apart = simd.sub(N::load(simd, from.add(at), some), mean);
                    let apart = simd.select(some, apart, simd.splat(0.0));
                    squares = simd.mul_add(apart, apart, squares);
                }
                let variance = simd.reduce_sum(squares) * share;
                let scale = simd.splat((variance + self.eps).sqrt().recip());
                for at in (0..self.width).step_by(S::LANES) {
                    let some = simd.lanes(at, self.width);
                    let apart = simd.sub(N::load(simd, from.add(at), some), mean);
                    let factor = simd.mul(scale, O::load(simd, weight.add(at), some));
                    let y = simd.mul_add(apart, factor, O::load(simd, bias.add(at), some));
                    O::store(simd, y, to.add(at), some);
                }
            }
        }
    }
}
