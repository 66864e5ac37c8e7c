//! Layer norms.

use crate::avx512::{LANES, Number, lanes};
use crate::parallel;
use std::arch::x86_64::{
    _mm512_add_ps, _mm512_fmadd_ps, _mm512_maskz_mov_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_sub_ps,
};
use std::ffi::c_void;

/// Rows of a part of the work.
const ROWS: usize = 16;

/// A norm of contiguous rows, whose parts are done in any order, by any threads.
pub(crate) struct LayerNorm {
    pub(crate) x: *const c_void,
    pub(crate) weight: *const c_void,
    pub(crate) bias: *const c_void,
    pub(crate) out: *mut c_void,
    pub(crate) width: usize,
    pub(crate) rows: usize,
    pub(crate) eps: f32,
}

// SAFETY: threads read, or write rows that no other thread reads or writes.
unsafe impl Send for LayerNorm {}
// SAFETY: as above.
unsafe impl Sync for LayerNorm {}

impl LayerNorm {
    /// Runs all parts on libtorch's threads. `part` calls [`part`](Self::part) with the instructions enabled.
    pub(crate) fn run(&self, part: impl Fn(usize) + Sync) {
        parallel::each(self.rows.div_ceil(ROWS), |indexes| indexes.for_each(&part));
    }

    /// Normalises the rows of a part.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512, `N` and `O` enabled. The numbers of the rows are of type `N`, those
    /// of weight, bias and result of type `O`.
    #[inline(always)]
    pub(crate) unsafe fn part<N: Number, O: Number>(&self, index: usize) {
        let (weight, bias) = (self.weight.cast::<O>(), self.bias.cast::<O>());
        let first = index * ROWS;
        for row in first..self.rows.min(first + ROWS) {
            // SAFETY: the caller's promise; each row has `width` numbers.
            unsafe {
                let (from, to) = (self.x.cast::<N>().add(row * self.width), self.out.cast::<O>().add(row * self.width));
                let share = (self.width as f32).recip();
                let mut sum = _mm512_setzero_ps();
                for at in (0..self.width).step_by(LANES) {
                    sum = _mm512_add_ps(sum, N::load(from.add(at), lanes(at, self.width)));
                }
                let mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * share);
                let mut squares = _mm512_setzero_ps();
                for at in (0..self.width).step_by(LANES) {
                    let some = lanes(at, self.width);
                    let apart = _mm512_maskz_mov_ps(some, _mm512_sub_ps(N::load(from.add(at), some), mean));
                    squares = _mm512_fmadd_ps(apart, apart, squares);
                }
                let variance = _mm512_reduce_add_ps(squares) * share;
                let scale = _mm512_set1_ps((variance + self.eps).sqrt().recip());
                for at in (0..self.width).step_by(LANES) {
                    let some = lanes(at, self.width);
                    let apart = _mm512_sub_ps(N::load(from.add(at), some), mean);
                    let factor = _mm512_mul_ps(scale, O::load(weight.add(at), some));
                    O::store(_mm512_fmadd_ps(apart, factor, O::load(bias.add(at), some)), to.add(at), some);
                }
            }
        }
    }
}
