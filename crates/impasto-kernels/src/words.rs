//! Words: the factors of a product, 32 bits each. A word is one f32, or two bf16.
//!
//! An instruction set that multiplies bf16 takes words of two. Any other set takes bf16 as f32: they are widened while
//! they are packed.

use crate::isa::{Bf16, Bf16Simd, MOST_ROWS, Simd, Words, WordsOf};

/// Words of one f32.
pub(crate) struct Singles;

/// Words of two bf16.
pub(crate) struct Pairs;

impl<S: Simd> Words<S> for Singles {
    const PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn mul_add(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s {
        simd.mul_add(a, b, sums)
    }

    #[inline(always)]
    unsafe fn of_floats(_: S, _: *mut f32, _: usize) {}
}

impl<S: Simd> WordsOf<S, f32> for Singles {
    #[inline(always)]
    fn word(first: f32, _: f32) -> u32 {
        first.to_bits()
    }

    #[inline(always)]
    unsafe fn load(simd: S, first: *const f32, _: *const f32, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_or(simd.splat(0.0), first, lanes) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, first: *const f32, _: *const f32, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe {
            simd.store(simd.load(first), to.cast());
            simd.store(simd.load(first.add(S::LANES)), to.add(S::LANES).cast());
        }
    }
}

impl<S: Simd> WordsOf<S, Bf16> for Singles {
    #[inline(always)]
    fn word(first: Bf16, _: Bf16) -> u32 {
        first.widen().to_bits()
    }

    #[inline(always)]
    unsafe fn load(simd: S, first: *const Bf16, _: *const Bf16, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16(first.cast(), lanes) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, first: *const Bf16, _: *const Bf16, to: *mut u32) {
        let all = simd.lanes(0, S::LANES);
        // SAFETY: the caller's promise.
        unsafe {
            simd.store(simd.load_bf16(first.cast(), all), to.cast());
            simd.store(simd.load_bf16(first.add(S::LANES).cast(), all), to.add(S::LANES).cast());
        }
    }

    /// Copies the rows as floats.
    #[inline(always)]
    unsafe fn rows(
        simd: S,
        mut rows: [*const u32; MOST_ROWS],
        len: usize,
        copies: &mut Vec<u32>,
    ) -> [*const u32; MOST_ROWS] {
        let stride = len.next_multiple_of(S::LANES);
        copies.resize(S::ROWS * stride, 0);
        for (row, from) in rows.iter_mut().enumerate().take(S::ROWS) {
            // SAFETY: the caller's promise; the copies have room for all rows, with whole vectors.
            unsafe {
                let to = copies.as_mut_ptr().add(row * stride);
                for at in (0..len).step_by(S::LANES) {
                    let numbers = simd.load_bf16(from.cast::<u16>().add(at), simd.lanes(at, len));
                    simd.store(numbers, to.add(at).cast());
                }
                *from = to;
            }
        }
        rows
    }
}

impl<S: Bf16Simd> Words<S> for Pairs {
    const PER_WORD: usize = 2;

    #[inline(always)]
    unsafe fn mul_add(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.mul_add_bf16(a, b, sums) }
    }

    #[inline(always)]
    unsafe fn of_floats(simd: S, floats: *mut f32, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.round_to_bf16(floats, len) }
    }
}

impl<S: Bf16Simd> WordsOf<S, Bf16> for Pairs {
    #[inline(always)]
    fn word(first: Bf16, second: Bf16) -> u32 {
        u32::from(first.0) | u32::from(second.0) << 16
    }

    #[inline(always)]
    unsafe fn load(simd: S, first: *const Bf16, second: *const Bf16, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16_words(first.cast(), second.cast(), lanes) }
    }

    #[inline(always)]
    unsafe fn store(simd: S, first: *const Bf16, second: *const Bf16, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16_words(first.cast(), second.cast(), to) }
    }
}
