//! A set without vector instructions, on every processor. Its vectors and tiles have the sizes of AVX-512.
//!
//! Tests compute with this set, so that the kernels' arithmetic runs on every machine. It is slow, and never the set of
//! a user who has not named it.

use super::{Bf16, Bf16Simd, LONGEST, Simd, WordsOf};
use crate::words::Pairs;
use std::array::from_fn;

/// The set without vector instructions.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// Applies a function to the lanes of two vectors.
#[inline(always)]
fn zip(a: F32s, b: F32s, f: impl Fn(f32, f32) -> f32) -> F32s {
    from_fn(|lane| f(a[lane], b[lane]))
}

/// Numbers of a vector.
type F32s = [f32; LONGEST];

/// Returns true if a mask has a lane.
#[inline(always)]
fn has(lanes: u16, lane: usize) -> bool {
    lanes >> lane & 1 == 1
}

/// Converts a number in half precision.
fn f16_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15), u32::from(bits >> 10 & 31), u32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction as f32 * (-24.0_f32).exp2(),
        31 => f32::from_bits(0x7f80_0000 | fraction << 13 | if fraction > 0 { 0x40_0000 } else { 0 }),
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign << 31)
}

impl Simd for Scalar {
    const LANES: usize = LONGEST;
    const ROWS: usize = 8;
    const WIDEST: usize = 3;

    type Bf16Words = Pairs;
    type F32s = F32s;
    type Mask = u16;

    #[inline(always)]
    fn lanes(self, at: usize, len: usize) -> u16 {
        match len.saturating_sub(at) {
            some @ 0..LONGEST => (1 << some) - 1,
            _ => !0,
        }
    }

    #[inline(always)]
    fn all(self, lanes: u16) -> bool {
        lanes == !0
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> F32s {
        // SAFETY: the promises of `Simd`.
        unsafe { from.cast::<F32s>().read_unaligned() }
    }

    #[inline(never)]
    unsafe fn load_or(self, others: F32s, from: *const f32, lanes: u16) -> F32s {
        // SAFETY: the promises of `Simd`.
        from_fn(|lane| if has(lanes, lane) { unsafe { from.add(lane).read_unaligned() } } else { others[lane] })
    }

    #[inline(always)]
    unsafe fn store(self, x: F32s, to: *mut f32) {
        // SAFETY: the promises of `Simd`.
        unsafe { to.cast::<F32s>().write_unaligned(x) }
    }

    #[inline(never)]
    unsafe fn store_lanes(self, x: F32s, to: *mut f32, lanes: u16) {
        for lane in (0..LONGEST).filter(|&lane| has(lanes, lane)) {
            // SAFETY: the promises of `Simd`.
            unsafe { to.add(lane).write_unaligned(x[lane]) }
        }
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(never)]
    unsafe fn load_f16(self, from: *const u16, lanes: u16) -> F32s {
        // SAFETY: the promises of `Simd`.
        from_fn(|lane| if has(lanes, lane) { f16_to_f32(unsafe { *from.add(lane) }) } else { 0.0 })
    }

    #[inline(never)]
    unsafe fn load_bf16(self, from: *const u16, lanes: u16) -> F32s {
        // SAFETY: the promises of `Simd`.
        from_fn(|lane| if has(lanes, lane) { Bf16(unsafe { *from.add(lane) }).widen() } else { 0.0 })
    }

    #[inline(never)]
    unsafe fn store_bf16(self, x: F32s, to: *mut u16, lanes: u16) {
        for lane in (0..LONGEST).filter(|&lane| has(lanes, lane)) {
            // SAFETY: the promises of `Simd`.
            unsafe { *to.add(lane) = Bf16::nearest(x[lane]).0 }
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F32s {
        [x; LONGEST]
    }

    #[inline(always)]
    fn add(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| a / b)
    }

    // A call of this function takes the room of the sixteen calls within.
    #[inline(never)]
    fn mul_add(self, a: F32s, b: F32s, c: F32s) -> F32s {
        from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(never)]
    fn neg_mul_add(self, a: F32s, b: F32s, c: F32s) -> F32s {
        from_fn(|lane| (-a[lane]).mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn min(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: F32s, b: F32s) -> F32s {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, x: F32s) -> F32s {
        x.map(f32::abs)
    }

    #[inline(never)]
    fn round(self, x: F32s) -> F32s {
        x.map(f32::round_ties_even)
    }

    #[inline(never)]
    fn scale_by_power_of_two(self, x: F32s, n: F32s) -> F32s {
        // Products of f64 are exact here, so that the result is rounded once.
        zip(x, n, |x, n| (f64::from(x) * f64::from(n).exp2()) as f32)
    }

    #[inline(always)]
    fn greater_than_or_equal(self, a: F32s, b: F32s) -> u16 {
        (0..LONGEST).fold(0, |lanes, lane| lanes | u16::from(a[lane] >= b[lane]) << lane)
    }

    #[inline(always)]
    fn select(self, lanes: u16, a: F32s, b: F32s) -> F32s {
        from_fn(|lane| if has(lanes, lane) { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn reduce_sum(self, mut x: F32s) -> f32 {
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                x[lane] += x[lane + half];
            }
        }
        x[0]
    }

    #[inline(always)]
    fn reduce_max(self, x: F32s) -> f32 {
        x.into_iter().fold(f32::NEG_INFINITY, |most, x| if x > most { x } else { most })
    }

    #[inline(never)]
    fn transpose(self, block: &mut [F32s; LONGEST]) {
        for row in 0..LONGEST {
            for column in 0..row {
                (block[row][column], block[column][row]) = (block[column][row], block[row][column]);
            }
        }
    }
}

impl Bf16Simd for Scalar {
    #[inline(never)]
    unsafe fn load_bf16_words(self, first: *const u16, second: *const u16, lanes: u16) -> F32s {
        let word = |lane| {
            // SAFETY: the promises of `Simd`.
            let (first, second) = unsafe { (*first.add(lane), *second.add(lane)) };
            f32::from_bits(<Pairs as WordsOf<Self, _>>::word(Bf16(first), Bf16(second)))
        };
        from_fn(|lane| if has(lanes, lane) { word(lane) } else { 0.0 })
    }

    #[inline(never)]
    unsafe fn store_bf16_words(self, first: *const u16, second: *const u16, to: *mut u32) {
        for at in 0..2 * LONGEST {
            // SAFETY: the promises of `Simd`.
            unsafe { *to.add(at) = <Pairs as WordsOf<Self, _>>::word(Bf16(*first.add(at)), Bf16(*second.add(at))) }
        }
    }

    #[inline(never)]
    unsafe fn round_to_bf16(self, floats: *mut f32, len: usize) {
        for at in 0..len {
            // SAFETY: the promises of `Simd`. A number ends before the floats that are read next.
            unsafe { *floats.cast::<u16>().add(at) = Bf16::nearest(*floats.add(at)).0 }
        }
    }

    /// The product of the second numbers is added first, as the instruction of AVX-512 does.
    #[inline(never)]
    unsafe fn mul_add_bf16(self, a: F32s, b: F32s, sums: F32s) -> F32s {
        let numbers = |x: f32| (f32::from_bits(x.to_bits() << 16), f32::from_bits(x.to_bits() & 0xffff_0000));
        from_fn(|lane| {
            let ((a_first, a_second), (b_first, b_second)) = (numbers(a[lane]), numbers(b[lane]));
            a_first.mul_add(b_first, a_second.mul_add(b_second, sums[lane]))
        })
    }
}
