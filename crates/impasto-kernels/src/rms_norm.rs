//! Norms by the root mean square.

use crate::isa::{Simd, Work, joint};
use crate::number::Number;
use tch::Kind;

/// Rows of a part of the work. They are short: the numbers of a head.
const ROWS: usize = 256;

/// A norm of contiguous rows of numbers `N`, with weight and result of numbers `O`.
pub(crate) struct RmsNorm<N, O> {
    pub(crate) x: *const N,
    pub(crate) weight: *const O,
    pub(crate) out: *mut O,
    pub(crate) width: usize,
    pub(crate) rows: usize,
    pub(crate) eps: f32,
}

// SAFETY: threads read, or write rows that no other thread reads or writes.
unsafe impl<N: Number, O: Number> Send for RmsNorm<N, O> {}
// SAFETY: as above.
unsafe impl<N: Number, O: Number> Sync for RmsNorm<N, O> {}

impl<N: Number, O: Number> Work for RmsNorm<N, O> {
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
                let mut squares = simd.splat(0.0);
                for at in (0..self.width).step_by(S::LANES) {
                    let x = N::load(simd, from.add(at), simd.lanes(at, self.width)); // 0 beyond the row
                    squares = simd.mul_add(x, x, squares);
                }
                let mean = simd.reduce_sum(squares) / self.width as f32;
                let scale = simd.splat((mean + self.eps).sqrt().recip());
                for at in (0..self.width).step_by(S::LANES) {
                    let some = simd.lanes(at, self.width);
                    let factor = simd.mul(scale, O::load(simd, self.weight.add(at), some));
                    O::store(simd, simd.mul(N::load(simd, from.add(at), some), factor), to.add(at), some);
                }
            }
        }
    }
}
