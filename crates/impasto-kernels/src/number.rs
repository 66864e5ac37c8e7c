//! Numbers of tensors: f32, bf16 and half precision.

use crate::isa::Simd;
use crate::tensors::unfit;
use tch::{Kind, TchError, Tensor};

/// Numbers that are read as floats.
pub(crate) trait Floats: Copy + Send + Sync {
    /// The kind of tensors with these numbers.
    const KIND: Kind;

    /// Loads numbers as floats, in some lanes. The other lanes are zero, and nothing is read for them.
    unsafe fn load<S: Simd>(simd: S, from: *const Self, lanes: S::Mask) -> S::F32s;
}

/// Numbers that are multiplied. The factors of a product are 32-bit words of one f32 or two bf16; sums are f32.
///
/// The conditions of `unsafe` are those of [`Simd`].
pub(crate) trait Number: Floats {
    /// Numbers of a word.
    const PER_WORD: usize;
    const ZERO: Self;

    /// Joins the numbers of a word. A word of one number has only the first.
    fn word(first: Self, second: Self) -> u32;

    /// Rounds to the nearest number; of two, to the even one.
    fn round(x: f32) -> Self;

    /// Rounds floats to numbers and stores some lanes.
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask);

    /// Loads numbers of two rows as words, in some lanes. The other lanes are zero, and nothing is read for them. Words
    /// of one number hold the first row only.
    unsafe fn load_words<S: Simd>(simd: S, first: *const Self, second: *const Self, lanes: S::Mask) -> S::F32s;

    /// Stores 2 · `S::LANES` numbers of each of two rows as words. Words of one number hold the first row only.
    unsafe fn store_words<S: Simd>(simd: S, first: *const Self, second: *const Self, to: *mut u32);

    /// Adds the product of two words to each lane of `sums`.
    unsafe fn mul_add<S: Simd>(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s;

    /// Rounds `len` floats to numbers in the same memory, from its start; `len` is a multiple of 2 · `S::LANES`.
    unsafe fn round_all<S: Simd>(simd: S, floats: *mut f32, len: usize);
}

/// Returns the first number of a tensor.
pub(crate) fn numbers<N: Floats>(tensor: &Tensor) -> Result<*mut N, TchError> {
    match tensor.f_kind()? == N::KIND {
        true => Ok(tensor.data_ptr().cast()),
        false => Err(unfit("a tensor", tensor, &format!("{:?}", N::KIND))),
    }
}

impl Floats for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise. Some processors are slower with a mask.
        unsafe { if simd.all(lanes) { simd.load(from) } else { simd.load_or(simd.splat(0.0), from, lanes) } }
    }
}

impl Number for f32 {
    const PER_WORD: usize = 1;
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn word(first: Self, _: Self) -> u32 {
        first.to_bits()
    }

    #[inline(always)]
    fn round(x: f32) -> Self {
        x
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask) {
        // SAFETY: the caller's promise.
        unsafe { if simd.all(lanes) { simd.store(x, to) } else { simd.store_lanes(x, to, lanes) } }
    }

    #[inline(always)]
    unsafe fn load_words<S: Simd>(simd: S, first: *const Self, _: *const Self, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_or(simd.splat(0.0), first, lanes) }
    }

    #[inline(always)]
    unsafe fn store_words<S: Simd>(simd: S, first: *const Self, _: *const Self, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe {
            simd.store(simd.load(first), to.cast());
            simd.store(simd.load(first.add(S::LANES)), to.add(S::LANES).cast());
        }
    }

    #[inline(always)]
    unsafe fn mul_add<S: Simd>(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s {
        simd.mul_add(a, b, sums)
    }

    #[inline(always)]
    unsafe fn round_all<S: Simd>(_: S, _: *mut f32, _: usize) {}
}

/// A bf16: the upper half of an f32's bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

impl Bf16 {
    /// Returns the number as a float.
    pub(crate) fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl Floats for Bf16 {
    const KIND: Kind = Kind::BFloat16;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16(from.cast(), lanes) }
    }
}

impl Number for Bf16 {
    const PER_WORD: usize = 2;
    const ZERO: Self = Self(0);

    #[inline(always)]
    fn word(first: Self, second: Self) -> u32 {
        u32::from(first.0) | u32::from(second.0) << 16
    }

    #[inline(always)]
    fn round(x: f32) -> Self {
        let bits = x.to_bits();
        // Rounding could turn the bits of a NaN into those of an infinity.
        let rounded = if x.is_nan() { bits | 0x40_0000 } else { bits.wrapping_add(0x7fff + (bits >> 16 & 1)) };
        Self((rounded >> 16) as u16)
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16(x, to.cast(), lanes) }
    }

    #[inline(always)]
    unsafe fn load_words<S: Simd>(simd: S, first: *const Self, second: *const Self, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16_words(first.cast(), second.cast(), lanes) }
    }

    #[inline(always)]
    unsafe fn store_words<S: Simd>(simd: S, first: *const Self, second: *const Self, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16_words(first.cast(), second.cast(), to) }
    }

    #[inline(always)]
    unsafe fn mul_add<S: Simd>(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.mul_add_bf16(a, b, sums) }
    }

    #[inline(always)]
    unsafe fn round_all<S: Simd>(simd: S, floats: *mut f32, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.round_to_bf16(floats, len) }
    }
}

/// A number in half precision.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct F16(u16);

impl Floats for F16 {
    const KIND: Kind = Kind::Half;

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self, lanes: S::Mask) -> S::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_f16(from.cast(), lanes) }
    }
}
