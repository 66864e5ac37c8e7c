//! Weights of layers in the order in which the kernels read them.

// See the head of avx512.rs.
#![allow(clippy::needless_range_loop)]

use crate::avx512::{Bf16, LANES, Number, lanes};
use crate::parallel;
use crate::processor::has_kind;
use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm256_maskz_loadu_epi16, _mm512_cvtph_ps, _mm512_loadu_si512, _mm512_permutex2var_ps,
    _mm512_setzero_ps,
};
use std::ffi::c_void;
use tch::{Device, Kind, TchError, Tensor};

/// Columns of a part of the work.
const COLUMNS: usize = 64;

/// Returns true if layers with weights of this kind are computed here, on this processor. Their weights should be
/// [`arranged`] then.
#[must_use]
pub fn arranges(kind: Kind) -> bool {
    has_kind(kind)
}

/// Returns the weights of a layer, [outputs, inputs] or [outputs, inputs, kh, kw], in `kind`, and in the order in which
/// the kernels read them: [inputs, kh, kw, outputs]. The shape stays; the result is an ordinary tensor with other
/// strides.
///
/// # Errors
/// [`TchError`], such as out of memory.
pub fn arranged(weight: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    if weight.is_sparse() || weight.is_mkldnn() || matches!(weight.stride().first(), Some(1) | None) {
        return weight.f_to_kind(kind);
    }
    let mut shape = weight.size();
    shape.rotate_left(1);
    let plain = weight.device() == Device::Cpu && weight.is_contiguous() && !weight.requires_grad();
    let from = weight.f_kind()?;
    let suits = plain && has_kind(kind) && parallel::available() && weight.numel() > 0;
    if !suits || ![Kind::Float, Kind::BFloat16, Kind::Half].contains(&from) {
        // A transposition of a matrix, for which libtorch has a fast copy.
        let rows = weight.f_to_kind(kind)?.f_flatten(1, -1)?.f_transpose(0, 1)?.f_contiguous()?;
        return rows.f_reshape(shape)?.f_movedim_int(-1, 0);
    }
    let out = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
    let rows = weight.size().first().map_or(0, |&rows| rows as usize);
    let columns = weight.numel() / rows;
    let turn = Transposition { from: weight.data_ptr(), to: out.data_ptr(), rows, columns };
    parallel::each(columns.div_ceil(COLUMNS), |parts| {
        for part in parts {
            // SAFETY: `has_kind` has found the instructions, and the memory has numbers of these kinds.
            unsafe {
                match (from, kind) {
                    (Kind::Float, Kind::BFloat16) => bf16::<f32>(&turn, part),
                    (Kind::BFloat16, Kind::BFloat16) => bf16::<Bf16>(&turn, part),
                    (_, Kind::BFloat16) => bf16::<F16>(&turn, part),
                    (Kind::Float, _) => f32::<f32>(&turn, part),
                    (Kind::BFloat16, _) => f32::<Bf16>(&turn, part),
                    _ => f32::<F16>(&turn, part),
                }
            }
        }
    });
    out.f_movedim_int(-1, 0)
}

/// Numbers that are read as floats.
trait Floats: Copy {
    /// Loads numbers as floats, in some lanes. The other lanes are zero, and nothing is read for them.
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512;
}

impl Floats for f32 {
    #[inline(always)]
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { Number::load(from, lanes) }
    }
}

impl Floats for Bf16 {
    #[inline(always)]
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { Number::load(from, lanes) }
    }
}

/// A number in half precision.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct F16(u16);

impl Floats for F16 {
    #[inline(always)]
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from.cast())) }
    }
}

/// The transposition of a matrix of `rows` rows, whose parts are done in any order, by any threads.
struct Transposition {
    from: *const c_void,
    to: *mut c_void,
    rows: usize,
    columns: usize,
}

// SAFETY: threads read, or write columns that no other thread reads or writes.
unsafe impl Send for Transposition {}
// SAFETY: as above.
unsafe impl Sync for Transposition {}

impl Transposition {
    /// Turns a part: up to 64 columns of all rows.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512 and of `N` enabled. The memory holds numbers of types `F` and `N`.
    #[inline(always)]
    unsafe fn part<F: Floats, N: Number>(&self, part: usize) {
        let first = part * COLUMNS;
        for row in (0..self.rows).step_by(LANES) {
            for column in (first..self.columns.min(first + COLUMNS)).step_by(LANES) {
                // SAFETY: the caller's promise; lanes beyond the matrix are neither read nor written.
                unsafe {
                    let mut block = [_mm512_setzero_ps(); LANES];
                    for lane in 0..LANES.min(self.rows - row) {
                        let from = self.from.cast::<F>().add((row + lane) * self.columns + column);
                        block[lane] = F::load(from, lanes(column, self.columns));
                    }
                    transpose(&mut block);
                    for lane in 0..LANES.min(self.columns - column) {
                        let to = self.to.cast::<N>().add((column + lane) * self.rows + row);
                        N::store(block[lane], to, lanes(row, self.rows));
                    }
                }
            }
        }
    }
}

/// Lanes from which two new rows are made of two rows 1, 2, 4 and 8 apart. Lanes of the second row begin at 16.
const SWAPS: [[[i32; LANES]; 2]; 4] = {
    let mut swaps = [[[0; LANES]; 2]; 4];
    let mut stage = 0;
    while stage < 4 {
        let distance = 1 << stage;
        let mut lane = 0;
        while lane < LANES {
            let upper = lane & distance != 0;
            swaps[stage][0][lane] = if upper { LANES + lane - distance } else { lane } as i32;
            swaps[stage][1][lane] = if upper { LANES + lane } else { lane + distance } as i32;
            lane += 1;
        }
        stage += 1;
    }
    swaps
};

/// Transposes a block of 16 rows of 16 floats, by exchanging halves of pairs of rows.
#[inline(always)]
unsafe fn transpose(block: &mut [__m512; LANES]) {
    for stage in 0..4 {
        let distance = 1 << stage;
        // SAFETY: the caller has the instructions enabled; each list of lanes fills a vector.
        unsafe {
            let [first, second]: [__m512i; 2] = [
                _mm512_loadu_si512(SWAPS[stage][0].as_ptr().cast()),
                _mm512_loadu_si512(SWAPS[stage][1].as_ptr().cast()),
            ];
            for row in 0..LANES {
                if row & distance == 0 {
                    let (a, b) = (block[row], block[row + distance]);
                    block[row] = _mm512_permutex2var_ps(a, first, b);
                    block[row + distance] = _mm512_permutex2var_ps(a, second, b);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn f32<F: Floats>(turn: &Transposition, part: usize) {
    // SAFETY: the instructions are enabled here; the caller knows the kinds of the numbers.
    unsafe { turn.part::<F, f32>(part) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn bf16<F: Floats>(turn: &Transposition, part: usize) {
    // SAFETY: the instructions are enabled here; the caller knows the kinds of the numbers.
    unsafe { turn.part::<F, Bf16>(part) }
}
