//! Numbers of tensors: f32, bf16 and half precision.

use crate::isa::{Bf16, Simd, WordsOf};
use crate::tensors::unfit;
use crate::words::Singles;
use tch::{Kind, TchError, Tensor};

/// Numbers that are read as floats.
pub(crate) trait Floats: Copy + Send + Sync {
    /// The kind of tensors with these numbers.
    const KIND: Kind;

    /// Loads numbers as floats, in some lanes. The other lanes are zero, and nothing is read for them.
    unsafe fn load<S: Simd>(simd: S, from: *const Self, lanes: S::Mask) -> S::F32s;
}

/// Numbers that layers read and write. Their products are those of [`Words`](Self::Words).
///
/// The conditions of `unsafe` are those of [`Simd`].
pub(crate) trait Number: Floats {
    /// The words as which an instruction set multiplies these numbers.
    type Words<S: Simd>: WordsOf<S, Self>;

    const ZERO: Self;

    /// Rounds floats to numbers and stores some lanes.
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask);
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
    type Words<S: Simd> = Singles;

    const ZERO: Self = 0.0;

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask) {
        // SAFETY: the caller's promise.
        unsafe { if simd.all(lanes) { simd.store(x, to) } else { simd.store_lanes(x, to, lanes) } }
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
    type Words<S: Simd> = S::Bf16Words;

    const ZERO: Self = Self(0);

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, x: S::F32s, to: *mut Self, lanes: S::Mask) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16(x, to.cast(), lanes) }
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
