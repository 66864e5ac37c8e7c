//! AVX2 with FMA and F16C. It has no instructions for bf16, so bf16 are multiplied as f32.

use super::{LONGEST, Simd, Work};
use crate::words::Singles;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

/// Proof that the processor has AVX2, FMA and F16C: values exist only in functions that have the instructions enabled.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Lists the instructions that this processor lacks.
pub(crate) fn lacking() -> Vec<&'static str> {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
    ];
    features.into_iter().filter_map(|(feature, found)| (!found).then_some(feature)).collect()
}

/// Runs one part of a work.
///
/// # Safety
/// The promise of [`Work::part`]. The processor [lacks](lacking) no instructions.
#[target_feature(enable = "avx2", enable = "fma", enable = "f16c")]
pub(crate) unsafe fn part<W: Work>(work: &W, index: usize, scratch: &mut W::Scratch) {
    // SAFETY: the instructions are enabled here; the rest is the caller's promise.
    unsafe { work.part(Avx2(()), index, scratch) }
}

/// The first numbers of this list are lanes that a vector has, and the last ones are lanes that it lacks.
const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    /// Loads some of eight halves of words. The other lanes are zero, and nothing is read for them.
    #[inline(always)]
    unsafe fn load_halves(self, from: *const u16, lanes: __m256i) -> __m128i {
        // SAFETY: the promises of `Simd`.
        unsafe {
            if self.all(lanes) {
                return _mm_loadu_si128(from.cast());
            }
            let (bits, mut some) = (_mm256_movemask_ps(_mm256_castsi256_ps(lanes)), [0u16; 8]);
            for (lane, half) in some.iter_mut().enumerate() {
                if bits >> lane & 1 == 1 {
                    *half = *from.add(lane);
                }
            }
            _mm_loadu_si128(some.as_ptr().cast())
        }
    }

    /// Rounds to bf16: the nearest number; of two, the even one.
    #[inline(always)]
    fn round_to_bf16_halves(self, x: __m256) -> __m128i {
        // SAFETY: the processor has the instructions.
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd));
            // Rounding could turn the bits of a NaN into those of an infinity.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let upper = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper))
        }
    }

    /// Returns 2ⁿ of integers n from −126 to 127.
    #[inline(always)]
    fn power_of_two(self, n: __m256i) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
    }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    // The sums of 6 rows and 2 vectors, 2 vectors of columns and a number of a row fill 15 of the 16 registers.
    const ROWS: usize = 6;
    const WIDEST: usize = 2;

    type Bf16Words = Singles;
    type F32s = __m256;
    type Mask = __m256i;

    #[inline(always)]
    fn lanes(self, at: usize, len: usize) -> __m256i {
        let some = len.saturating_sub(at).min(8);
        // SAFETY: eight numbers follow each of the first nine.
        unsafe { _mm256_loadu_si256(LANES.as_ptr().add(8 - some).cast()) }
    }

    #[inline(always)]
    fn all(self, lanes: __m256i) -> bool {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_movemask_ps(_mm256_castsi256_ps(lanes)) == 0xff }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_or(self, others: __m256, from: *const f32, lanes: __m256i) -> __m256 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm256_blendv_ps(others, _mm256_maskload_ps(from, lanes), _mm256_castsi256_ps(lanes)) }
    }

    #[inline(always)]
    unsafe fn store(self, x: __m256, to: *mut f32) {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm256_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn store_lanes(self, x: __m256, to: *mut f32, lanes: __m256i) {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm256_maskstore_ps(to, lanes, x) }
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: fetching reads no memory, so any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16, lanes: __m256i) -> __m256 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm256_cvtph_ps(self.load_halves(from, lanes)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, lanes: __m256i) -> __m256 {
        // SAFETY: the promises of `Simd`. A bf16 is the upper half of a float.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(self.load_halves(from, lanes));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, x: __m256, to: *mut u16, lanes: __m256i) {
        let halves = self.round_to_bf16_halves(x);
        // SAFETY: the promises of `Simd`.
        unsafe {
            if self.all(lanes) {
                return _mm_storeu_si128(to.cast(), halves);
            }
            let (bits, mut some) = (_mm256_movemask_ps(_mm256_castsi256_ps(lanes)), [0u16; 8]);
            _mm_storeu_si128(some.as_mut_ptr().cast(), halves);
            for (lane, half) in some.into_iter().enumerate() {
                if bits >> lane & 1 == 1 {
                    *to.add(lane) = half;
                }
            }
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, x: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), x) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    /// Multiplies by two powers, of which the first does not round numbers near 1. A NaN as `n` gives a NaN, because
    /// `x` is one too.
    #[inline(always)]
    fn scale_by_power_of_two(self, x: __m256, n: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe {
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let x = _mm256_mul_ps(x, self.power_of_two(half));
            _mm256_mul_ps(x, self.power_of_two(_mm256_sub_epi32(n, half)))
        }
    }

    #[inline(always)]
    fn greater_than_or_equal(self, a: __m256, b: __m256) -> __m256i {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_castps_si256(_mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
    }

    #[inline(always)]
    fn select(self, lanes: __m256i, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm256_blendv_ps(b, a, _mm256_castsi256_ps(lanes)) }
    }

    #[inline(always)]
    fn reduce_sum(self, x: __m256) -> f32 {
        // SAFETY: the processor has the instructions.
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
        }
    }

    #[inline(always)]
    fn reduce_max(self, x: __m256) -> f32 {
        // SAFETY: the processor has the instructions.
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
        }
    }

    /// Exchanges numbers, then pairs of them, then halves of pairs of rows.
    #[inline(always)]
    fn transpose(self, block: &mut [__m256; LONGEST]) {
        // SAFETY: the processor has the instructions.
        unsafe {
            for row in [0, 2, 4, 6] {
                let (a, b) = (block[row], block[row + 1]);
                (block[row], block[row + 1]) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            }
            for row in [0, 4] {
                let [a, b, c, d] = [block[row], block[row + 1], block[row + 2], block[row + 3]];
                block[row] = _mm256_shuffle_ps::<0x44>(a, c);
                block[row + 1] = _mm256_shuffle_ps::<0xee>(a, c);
                block[row + 2] = _mm256_shuffle_ps::<0x44>(b, d);
                block[row + 3] = _mm256_shuffle_ps::<0xee>(b, d);
            }
            for row in 0..4 {
                let (a, b) = (block[row], block[row + 4]);
                block[row] = _mm256_permute2f128_ps::<0x20>(a, b);
                block[row + 4] = _mm256_permute2f128_ps::<0x31>(a, b);
            }
        }
    }
}
