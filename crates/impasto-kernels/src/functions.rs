//! Functions of vectors: the exponential, SiLU, GELU, the largest number, and the exponentials of a softmax.

use crate::isa::Simd;
use crate::number::{Floats, Number};

/// Returns e^x of each lane, within two units in the last place. Below −104 the result is 0.
///
/// Source: Cephes, `expf` (range reduction by ln 2 in two parts, polynomial of degree 5).
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32s) -> S::F32s {
    let x = simd.max(simd.splat(-104.0), x); // a NaN stays, because it is the second operand
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.neg_mul_add(n, simd.splat(0.693_359_4), x);
    let r = simd.neg_mul_add(n, simd.splat(-2.121_944_4e-4), r);
    let p = simd.splat(1.987_569_2e-4);
    let p = simd.mul_add(p, r, simd.splat(1.398_199_9e-3));
    let p = simd.mul_add(p, r, simd.splat(8.333_452e-3));
    let p = simd.mul_add(p, r, simd.splat(4.166_579_6e-2));
    let p = simd.mul_add(p, r, simd.splat(0.166_666_65));
    let p = simd.mul_add(p, r, simd.splat(0.5));
    let p = simd.mul_add(simd.mul(r, r), p, simd.add(r, simd.splat(1.0)));
    simd.scale_by_power_of_two(p, n)
}

/// Returns x / (1 + e^−x) of each lane.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::F32s) -> S::F32s {
    // Beyond 88, e^−x would overflow.
    let e = exp(simd, simd.min(simd.sub(simd.splat(0.0), x), simd.splat(88.0)));
    simd.div(x, simd.add(simd.splat(1.0), e))
}

/// Returns x·Φ(x) of each lane, where Φ is the normal distribution, within 2·10⁻⁷ · max(1, |x|).
///
/// Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::F32s) -> S::F32s {
    let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
    let z = simd.mul(simd.abs(x), simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = simd.div(one, simd.mul_add(z, simd.splat(0.327_591_1), one));
    let p = simd.splat(1.061_405_4);
    let p = simd.mul_add(p, t, simd.splat(-1.453_152));
    let p = simd.mul_add(p, t, simd.splat(1.421_413_8));
    let p = simd.mul_add(p, t, simd.splat(-0.284_496_74));
    let p = simd.mul_add(p, t, simd.splat(0.254_829_6));
    let tail = simd.mul(simd.mul(p, t), exp(simd, simd.neg_mul_add(z, z, zero)));
    let tail = simd.mul(tail, simd.splat(0.5)); // Φ(−|x|)
    let positive = simd.greater_than_or_equal(x, zero);
    simd.mul(x, simd.select(positive, simd.sub(one, tail), tail))
}

/// Returns the approximation of GELU by tanh, x/2·(1 + tanh(√(2/π)·(x + .044715·x³))), of each lane.
#[inline(always)]
pub(crate) fn gelu_by_tanh<S: Simd>(simd: S, x: S::F32s) -> S::F32s {
    // (1 + tanh(u))/2 = 1/(1 + e^−2u), and −2·√(2/π) is −1.595769.
    let cubic = simd.mul_add(simd.mul(x, x), simd.splat(0.044_715), simd.splat(1.0));
    let exponent = simd.mul(simd.mul(x, simd.splat(-1.595_769)), cubic);
    // Beyond 88, the exponential would overflow.
    let e = exp(simd, simd.min(exponent, simd.splat(88.0)));
    simd.div(x, simd.add(simd.splat(1.0), e))
}

/// Adds `len` numbers to others.
///
/// # Safety
/// The numbers are there. `to` ends at the next multiple of `S::LANES`.
#[inline(always)]
pub(crate) unsafe fn add_row<S: Simd>(simd: S, from: *const f32, to: *mut f32, len: usize) {
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            let more = <f32 as Floats>::load(simd, from.add(at), simd.lanes(at, len));
            simd.store(simd.add(simd.load(to.add(at)), more), to.add(at));
        }
    }
}

/// Stores `len` numbers times a factor, rounded to numbers of another kind.
///
/// # Safety
/// The numbers are there, and there is room for the results. `from` ends at the next multiple of `S::LANES`.
#[inline(always)]
pub(crate) unsafe fn scale_row<S: Simd, N: Number>(simd: S, from: *const f32, factor: f32, to: *mut N, len: usize) {
    for at in (0..len).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe {
            N::store(simd, simd.mul(simd.load(from.add(at)), simd.splat(factor)), to.add(at), simd.lanes(at, len))
        }
    }
}

/// Returns the largest of `len` numbers.
///
/// # Safety
/// The numbers are there.
#[inline(always)]
pub(crate) unsafe fn largest<S: Simd>(simd: S, row: *const f32, len: usize) -> f32 {
    let least = simd.splat(f32::NEG_INFINITY);
    // SAFETY: the caller's promise.
    unsafe {
        // Whole pairs of vectors need no masks, which take some processors several instructions.
        let (pair, whole) = (2 * S::LANES, len / (2 * S::LANES) * (2 * S::LANES));
        let mut most = [least; 2];
        for at in (0..whole).step_by(pair) {
            for lane in 0..2 {
                most[lane] = simd.max(most[lane], simd.load(row.add(at + lane * S::LANES)));
            }
        }
        let rest = (whole < len).then_some([whole, whole + S::LANES]);
        for (lane, at) in rest.into_iter().flatten().enumerate() {
            most[lane] = simd.max(most[lane], simd.load_or(least, row.add(at), simd.lanes(at, len)));
        }
        simd.reduce_max(simd.max(most[0], most[1]))
    }
}

/// Replaces each of `len` numbers x by e^(x − max), and returns the sum of the results. The row ends at the next
/// multiple of 2 · `S::LANES`, and the numbers from `len` to there become 0.
///
/// # Safety
/// The row is there, up to its end.
#[inline(always)]
pub(crate) unsafe fn exponentials<S: Simd>(simd: S, row: *mut f32, len: usize) -> f32 {
    let zero = simd.splat(0.0);
    // SAFETY: the caller's promise.
    unsafe {
        let (pair, whole) = (2 * S::LANES, len / (2 * S::LANES) * (2 * S::LANES));
        let rest = (whole < len).then_some([whole, whole + S::LANES]);
        let most = simd.splat(largest(simd, row, len));
        let mut sums = [zero; 2];
        for at in (0..whole).step_by(pair) {
            for lane in 0..2 {
                let at = at + lane * S::LANES;
                let e = exp(simd, simd.sub(simd.load(row.add(at)), most));
                simd.store(e, row.add(at));
                sums[lane] = simd.add(sums[lane], e);
            }
        }
        for (lane, at) in rest.into_iter().flatten().enumerate() {
            let e = exp(simd, simd.sub(simd.load(row.add(at)), most));
            let e = simd.select(simd.lanes(at, len), e, zero);
            simd.store(e, row.add(at));
            sums[lane] = simd.add(sums[lane], e);
        }
        simd.reduce_sum(simd.add(sums[0], sums[1]))
    }
}
