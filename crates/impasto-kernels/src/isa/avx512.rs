//! AVX-512, with its instructions for bf16 where numbers are bf16.

use super::{Bf16, Bf16Simd, LONGEST, Simd, WordsOf, Work};
use crate::words::Pairs;
use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;
use std::marker::PhantomData;
use tch::Kind;

/// Proof that the processor has AVX-512: values exist only in functions that have the instructions enabled. `P` says
/// how bf16 are multiplied.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<P>(PhantomData<P>);

/// A way to multiply bf16 beside the vectors of AVX-512.
pub(crate) trait Bf16Products: Copy {
    /// The words that are multiplied.
    type Words: WordsOf<Avx512<Self>, Bf16>;
}

/// Products of bf16 by vectors.
#[derive(Clone, Copy)]
pub(crate) struct Vectors;

impl Bf16Products for Vectors {
    type Words = Pairs;
}

/// Defines a function that runs one part of a work with instructions enabled, and one that lists those of the
/// instructions that the processor lacks.
macro_rules! entry {
    ($part:ident, $lacking:ident, $($feature:tt)*) => {
        #[target_feature($(enable = $feature),*)]
        unsafe fn $part<W: Work, P: Bf16Products>(work: &W, index: usize, scratch: &mut W::Scratch) {
            // SAFETY: the instructions are enabled here; the rest is the caller's promise.
            unsafe { work.part(Avx512::<P>(PhantomData), index, scratch) }
        }

        fn $lacking() -> Vec<&'static str> {
            let features = [$(($feature, is_x86_feature_detected!($feature))),*];
            features.into_iter().filter_map(|(feature, found)| (!found).then_some(feature)).collect()
        }
    };
}

entry!(part_f32, lacking_f32, "avx512f" "avx512bw" "avx512vl" "avx512dq" "fma");
entry!(part_bf16, lacking_bf16, "avx512f" "avx512bw" "avx512vl" "avx512dq" "fma" "avx512bf16");

/// Lists the instructions for numbers of a kind, f32 or bf16, that this processor lacks.
pub(crate) fn lacking(kind: Kind) -> Vec<&'static str> {
    match kind {
        Kind::BFloat16 => lacking_bf16(),
        _ => lacking_f32(),
    }
}

/// Returns true if this processor has AMX for bf16. libtorch uses AMX, which multiplies bf16 faster than AVX-512 does.
pub(crate) fn has_amx() -> bool {
    // Bits 22 and 24 of edx in leaf 7 stand for products of bf16 and for tiles. A processor with AVX-512 has the leaf.
    lacking_f32().is_empty() && __cpuid_count(7, 0).edx >> 22 & 0b101 == 0b101
}

/// Runs one part of a work.
///
/// # Safety
/// The promise of [`Work::part`]. The processor [lacks](lacking) no instructions for the kind of the work.
pub(crate) unsafe fn part<W: Work, P: Bf16Products>(work: &W, index: usize, scratch: &mut W::Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        match W::KIND {
            Kind::BFloat16 => part_bf16::<W, P>(work, index, scratch),
            _ => part_f32::<W, P>(work, index, scratch),
        }
    }
}

/// Lanes from which two new rows are made of two rows 1, 2, 4 and 8 apart. Lanes of the second row begin at 16.
const SWAPS: [[[i32; LONGEST]; 2]; 4] = {
    let mut swaps = [[[0; LONGEST]; 2]; 4];
    let mut stage = 0;
    while stage < 4 {
        let distance = 1 << stage;
        let mut lane = 0;
        while lane < LONGEST {
            let upper = lane & distance != 0;
            swaps[stage][0][lane] = if upper { LONGEST + lane - distance } else { lane } as i32;
            swaps[stage][1][lane] = if upper { LONGEST + lane } else { lane + distance } as i32;
            lane += 1;
        }
        stage += 1;
    }
    swaps
};

/// The places of the two bf16 of a word, of which the second row's begin at 32.
const PLACES: [u16; 4 * LONGEST] = {
    let mut places = [0; 4 * LONGEST];
    let mut word = 0;
    while word < 2 * LONGEST {
        places[2 * word] = word as u16;
        places[2 * word + 1] = (word + 2 * LONGEST) as u16;
        word += 1;
    }
    places
};

impl<P: Bf16Products> Simd for Avx512<P> {
    const LANES: usize = 16;
    const ROWS: usize = 8;
    // The sums of 8 rows and 3 vectors fill 24 of the 32 registers.
    const WIDEST: usize = 3;

    type Bf16Words = P::Words;
    type F32s = __m512;
    type Mask = __mmask16;

    #[inline(always)]
    fn lanes(self, at: usize, len: usize) -> __mmask16 {
        match len.saturating_sub(at) {
            some @ 0..Self::LANES => (1 << some) - 1,
            _ => !0,
        }
    }

    #[inline(always)]
    fn all(self, lanes: __mmask16) -> bool {
        lanes == !0
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_or(self, others: __m512, from: *const f32, lanes: __mmask16) -> __m512 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm512_mask_loadu_ps(others, lanes, from) }
    }

    #[inline(always)]
    unsafe fn store(self, x: __m512, to: *mut f32) {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    unsafe fn store_lanes(self, x: __m512, to: *mut f32, lanes: __mmask16) {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm512_mask_storeu_ps(to, lanes, x) }
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: fetching reads no memory, so any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16, lanes: __mmask16) -> __m512 {
        // SAFETY: the promises of `Simd`.
        unsafe { _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16, lanes: __mmask16) -> __m512 {
        // SAFETY: the promises of `Simd`. A bf16 is the upper half of a float.
        unsafe {
            let halves = if self.all(lanes) {
                _mm256_loadu_si256(from.cast())
            } else {
                _mm256_maskz_loadu_epi16(lanes, from.cast())
            };
            let halves = _mm512_cvtepu16_epi32(halves);
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, x: __m512, to: *mut u16, lanes: __mmask16) {
        // SAFETY: the promises of `Simd`; the transmuted types have the same size, and any bits are valid.
        unsafe {
            let numbers = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            if self.all(lanes) {
                _mm256_storeu_si256(to.cast(), numbers);
            } else {
                _mm256_mask_storeu_epi16(to.cast(), lanes, numbers);
            }
        }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn neg_mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, x: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_abs_ps(x) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }

    #[inline(always)]
    fn scale_by_power_of_two(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_scalef_ps(x, n) }
    }

    #[inline(always)]
    fn greater_than_or_equal(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b) }
    }

    #[inline(always)]
    fn select(self, lanes: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_mask_mov_ps(b, lanes, a) }
    }

    #[inline(always)]
    fn reduce_sum(self, x: __m512) -> f32 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_reduce_add_ps(x) }
    }

    #[inline(always)]
    fn reduce_max(self, x: __m512) -> f32 {
        // SAFETY: the processor has the instructions.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    /// Exchanges halves of pairs of rows.
    #[inline(always)]
    fn transpose(self, block: &mut [__m512; LONGEST]) {
        for stage in 0..4 {
            let distance = 1 << stage;
            // SAFETY: the processor has the instructions; each list of lanes fills a vector.
            unsafe {
                let [first, second]: [__m512i; 2] = [
                    _mm512_loadu_si512(SWAPS[stage][0].as_ptr().cast()),
                    _mm512_loadu_si512(SWAPS[stage][1].as_ptr().cast()),
                ];
                for row in 0..LONGEST {
                    if row & distance == 0 {
                        let (a, b) = (block[row], block[row + distance]);
                        block[row] = _mm512_permutex2var_ps(a, first, b);
                        block[row + distance] = _mm512_permutex2var_ps(a, second, b);
                    }
                }
            }
        }
    }
}

impl<P: Bf16Products> Bf16Simd for Avx512<P> {
    #[inline(always)]
    unsafe fn load_bf16_words(self, first: *const u16, second: *const u16, lanes: __mmask16) -> __m512 {
        // SAFETY: the promises of `Simd`.
        unsafe {
            let first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, first.cast()));
            let second = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, second.cast()));
            _mm512_castsi512_ps(_mm512_or_si512(first, _mm512_slli_epi32::<16>(second)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_words(self, first: *const u16, second: *const u16, to: *mut u32) {
        // SAFETY: the promises of `Simd`; a half of `PLACES` fills a vector.
        unsafe {
            let (first, second) = (_mm512_loadu_si512(first.cast()), _mm512_loadu_si512(second.cast()));
            for half in 0..2 {
                let places = _mm512_loadu_si512(PLACES.as_ptr().add(half * 2 * Self::LANES).cast());
                let words = _mm512_permutex2var_epi16(first, places, second);
                _mm512_storeu_si512(to.add(half * Self::LANES).cast(), words);
            }
        }
    }

    #[inline(always)]
    unsafe fn round_to_bf16(self, floats: *mut f32, len: usize) {
        for at in (0..len).step_by(2 * Self::LANES) {
            // SAFETY: the promises of `Simd`. A vector of results ends before the floats that are read next.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(floats.add(at)), _mm512_loadu_ps(floats.add(at + Self::LANES)));
                let numbers = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_ps(floats.add(at / 2), numbers);
            }
        }
    }

    #[inline(always)]
    unsafe fn mul_add_bf16(self, a: __m512, b: __m512, sums: __m512) -> __m512 {
        // SAFETY: the promises of `Simd`; the transmuted types have the same size, and any bits are valid.
        unsafe {
            _mm512_dpbf16_ps(
                sums,
                std::mem::transmute::<__m512, __m512bh>(a),
                std::mem::transmute::<__m512, __m512bh>(b),
            )
        }
    }
}
