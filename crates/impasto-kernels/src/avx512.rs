//! Matrix products and softmax in AVX-512.
//!
//! Every function is inlined into a caller that has the instructions enabled. Callers ask the processor first, and pass
//! pointers to as many numbers as a function's comment says; these are the conditions of `unsafe` here.
//!
//! Loops count instead of iterating over arrays of vectors. An iterator that takes an array has a destructor; a call of
//! it, where the compiler does not inline it, keeps all vectors in memory instead of registers.

#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

/// Floats of a vector.
pub(crate) const LANES: usize = 16;
/// Rows of a tile.
pub(crate) const ROWS: usize = 8;
/// Vectors of the widest panel. The sums of a tile of 8 rows and 3 vectors fill 24 of the 32 registers.
pub(crate) const WIDEST: usize = 3;

/// Numbers that are multiplied. The factors of a product are 32-bit words of one f32 or two bf16; sums are f32.
pub(crate) trait Number: Copy {
    /// Numbers of a word.
    const PER_WORD: usize;
    const ZERO: Self;

    /// Joins the numbers of a word. A word of one number has only the first.
    fn word(first: Self, second: Self) -> u32;

    /// Rounds to the nearest number; of two, to the even one.
    fn round(x: f32) -> Self;

    /// Loads numbers as floats, in some lanes. The other lanes are zero, and nothing is read for them.
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512;

    /// Rounds floats to numbers and stores some lanes.
    unsafe fn store(x: __m512, to: *mut Self, lanes: __mmask16);

    /// Loads numbers of two rows as words, in some lanes. The other lanes are zero, and nothing is read for them. Words
    /// of one number hold the first row only.
    unsafe fn words(first: *const Self, second: *const Self, lanes: __mmask16) -> __m512i;

    /// Stores 32 numbers of each of two rows as 32 words. Words of one number hold the first row only.
    unsafe fn store_words(first: *const Self, second: *const Self, to: *mut u32);

    /// Adds the product of two words to each lane of `sums`.
    unsafe fn multiply_add(sums: __m512, a: __m512, b: __m512) -> __m512;

    /// Rounds `len` floats to numbers in the same memory, from its start; `len` is a multiple of 2 · [`LANES`].
    unsafe fn round_all(floats: *mut f32, len: usize);
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
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512 {
        // SAFETY: see the head of this file. Some processors are slower with a mask.
        unsafe { if lanes == !0 { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps(lanes, from) } }
    }

    #[inline(always)]
    unsafe fn store(x: __m512, to: *mut Self, lanes: __mmask16) {
        // SAFETY: see the head of this file.
        unsafe { if lanes == !0 { _mm512_storeu_ps(to, x) } else { _mm512_mask_storeu_ps(to, lanes, x) } }
    }

    #[inline(always)]
    unsafe fn words(first: *const Self, _: *const Self, lanes: __mmask16) -> __m512i {
        // SAFETY: see the head of this file.
        unsafe { _mm512_castps_si512(_mm512_maskz_loadu_ps(lanes, first)) }
    }

    #[inline(always)]
    unsafe fn store_words(first: *const Self, _: *const Self, to: *mut u32) {
        // SAFETY: see the head of this file.
        unsafe {
            _mm512_storeu_ps(to.cast(), _mm512_loadu_ps(first));
            _mm512_storeu_ps(to.add(LANES).cast(), _mm512_loadu_ps(first.add(LANES)));
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the head of this file.
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }

    #[inline(always)]
    unsafe fn round_all(_: *mut f32, _: usize) {}
}

/// A bf16: the upper half of an f32's bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

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
    unsafe fn load(from: *const Self, lanes: __mmask16) -> __m512 {
        // SAFETY: see the head of this file. A bf16 is the upper half of a float.
        unsafe {
            let halves = if lanes == !0 {
                _mm256_loadu_si256(from.cast())
            } else {
                _mm256_maskz_loadu_epi16(lanes, from.cast())
            };
            let halves = _mm512_cvtepu16_epi32(halves);
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }

    #[inline(always)]
    unsafe fn store(x: __m512, to: *mut Self, lanes: __mmask16) {
        // SAFETY: see the head of this file; the transmuted types have the same size, and any bits are valid.
        unsafe {
            let numbers = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
            if lanes == !0 {
                _mm256_storeu_si256(to.cast(), numbers);
            } else {
                _mm256_mask_storeu_epi16(to.cast(), lanes, numbers);
            }
        }
    }

    #[inline(always)]
    unsafe fn words(first: *const Self, second: *const Self, lanes: __mmask16) -> __m512i {
        // SAFETY: see the head of this file.
        unsafe {
            let first = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, first.cast()));
            let second = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, second.cast()));
            _mm512_or_si512(first, _mm512_slli_epi32::<16>(second))
        }
    }

    #[inline(always)]
    unsafe fn store_words(first: *const Self, second: *const Self, to: *mut u32) {
        /// The places of a word's two numbers, of which the second row's begin at 32.
        const PLACES: [u16; 4 * LANES] = {
            let mut places = [0; 4 * LANES];
            let mut word = 0;
            while word < 2 * LANES {
                places[2 * word] = word as u16;
                places[2 * word + 1] = (word + 2 * LANES) as u16;
                word += 1;
            }
            places
        };
        // SAFETY: see the head of this file.
        unsafe {
            let (first, second) = (_mm512_loadu_si512(first.cast()), _mm512_loadu_si512(second.cast()));
            for half in 0..2 {
                let places = _mm512_loadu_si512(PLACES.as_ptr().add(half * 2 * LANES).cast());
                let words = _mm512_permutex2var_epi16(first, places, second);
                _mm512_storeu_si512(to.add(half * LANES).cast(), words);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sums: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see the head of this file; the transmuted types have the same size, and any bits are valid.
        unsafe {
            _mm512_dpbf16_ps(
                sums,
                std::mem::transmute::<__m512, __m512bh>(a),
                std::mem::transmute::<__m512, __m512bh>(b),
            )
        }
    }

    #[inline(always)]
    unsafe fn round_all(floats: *mut f32, len: usize) {
        for at in (0..len).step_by(2 * LANES) {
            // SAFETY: see the head of this file. A vector of results ends before the floats that are read next.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(floats.add(at)), _mm512_loadu_ps(floats.add(at + LANES)));
                let numbers = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_ps(floats.add(at / 2), numbers);
            }
        }
    }
}

/// Sums of a tile: 8 rows of V vectors.
pub(crate) type Tile<const V: usize> = [[__m512; V]; ROWS];

/// A tile of zeros.
#[inline(always)]
pub(crate) unsafe fn zeros<const V: usize>() -> Tile<V> {
    // SAFETY: see the head of this file.
    unsafe { [[_mm512_setzero_ps(); V]; ROWS] }
}

/// Loads a tile from [8, V · 16] floats.
#[inline(always)]
pub(crate) unsafe fn load<const V: usize>(from: *const f32) -> Tile<V> {
    // SAFETY: see the head of this file.
    unsafe {
        let mut sums = zeros::<V>();
        for row in 0..ROWS {
            for v in 0..V {
                sums[row][v] = _mm512_loadu_ps(from.add((row * V + v) * LANES));
            }
        }
        sums
    }
}

/// Stores a tile as [8, V · 16] floats.
#[inline(always)]
pub(crate) unsafe fn store<const V: usize>(sums: Tile<V>, to: *mut f32) {
    // SAFETY: see the head of this file.
    unsafe {
        for row in 0..ROWS {
            for v in 0..V {
                _mm512_storeu_ps(to.add((row * V + v) * LANES), sums[row][v]);
            }
        }
    }
}

/// Memory that will be read soon, and is fetched into the cache in small portions meanwhile.
pub(crate) struct Ahead {
    at: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    /// Cache lines of a row.
    lines: usize,
    /// Rows that are left, and rows of a portion.
    left: usize,
    portion: usize,
}

impl Ahead {
    /// Steps of a product between two portions.
    pub(crate) const STEPS: usize = 16;

    /// Returns memory of no size.
    #[inline(always)]
    pub(crate) fn nothing() -> Self {
        Self { at: std::ptr::null(), stride: 0, lines: 0, left: 0, portion: 0 }
    }

    /// Returns `rows` rows of `bytes` bytes, which begin `stride` bytes apart, to be fetched in at most `portions`
    /// portions.
    #[inline(always)]
    pub(crate) fn rows(at: *const u8, stride: usize, bytes: usize, rows: usize, portions: usize) -> Self {
        Self { at, stride, lines: bytes.div_ceil(64), left: rows, portion: rows.div_ceil(portions.max(1)) }
    }

    /// Fetches the next portion.
    #[inline(always)]
    unsafe fn fetch(&mut self) {
        for _ in 0..self.portion.min(self.left) {
            for line in 0..self.lines {
                // SAFETY: fetching reads no memory, so any address is allowed.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(self.at.wrapping_add(64 * line).cast()) };
            }
            self.at = self.at.wrapping_add(self.stride);
            self.left -= 1;
        }
    }
}

/// Adds a tile of a product to `sums`: Σ rows[row][step] · b[step][column] over `steps` words. `b` is a panel,
/// [steps, V · 16] words.
#[inline(always)]
pub(crate) unsafe fn tile<N: Number, const V: usize>(
    mut sums: Tile<V>,
    rows: [*const u32; ROWS],
    b: *const u32,
    steps: usize,
    ahead: &mut Ahead,
) -> Tile<V> {
    // SAFETY: see the head of this file.
    unsafe {
        for from in (0..steps).step_by(Ahead::STEPS) {
            ahead.fetch();
            for step in from..steps.min(from + Ahead::STEPS) {
                let mut columns = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    columns[v] = _mm512_loadu_ps(b.add((step * V + v) * LANES).cast::<f32>());
                }
                for row in 0..ROWS {
                    let x = _mm512_set1_ps(rows[row].add(step).cast::<f32>().read_unaligned());
                    for v in 0..V {
                        sums[row][v] = N::multiply_add(sums[row][v], x, columns[v]);
                    }
                }
            }
        }
        sums
    }
}

/// Returns e^x of each lane, within two units in the last place. Below −104 the result is 0.
///
/// Source: Cephes, `expf` (range reduction by ln 2 in two parts, polynomial of degree 5).
#[inline(always)]
pub(crate) unsafe fn exp(x: __m512) -> __m512 {
    // SAFETY: see the head of this file.
    unsafe {
        let x = _mm512_max_ps(_mm512_set1_ps(-104.0), x); // a NaN stays, because it is the second operand
        let n = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E));
        let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(n);
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
        let p = _mm512_set1_ps(1.987_569_2e-4);
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.398_199_9e-3));
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.333_452e-3));
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.166_579_6e-2));
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.166_666_65));
        let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5));
        let p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.0)));
        _mm512_scalef_ps(p, n)
    }
}

/// Returns x·Φ(x) of each lane, where Φ is the normal distribution, within 2·10⁻⁷ · max(1, |x|).
///
/// Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 7.1.26.
#[inline(always)]
pub(crate) unsafe fn gelu(x: __m512) -> __m512 {
    // SAFETY: see the head of this file.
    unsafe {
        let one = _mm512_set1_ps(1.0);
        let z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
        let t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.327_591_1), one));
        let p = _mm512_set1_ps(1.061_405_4);
        let p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453_152));
        let p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421_413_8));
        let p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284_496_74));
        let p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254_829_6));
        let tail = _mm512_mul_ps(_mm512_mul_ps(p, t), exp(_mm512_fnmadd_ps(z, z, _mm512_setzero_ps())));
        let tail = _mm512_mul_ps(tail, _mm512_set1_ps(0.5)); // Φ(−|x|)
        let positive = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, _mm512_setzero_ps());
        _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, one, tail))
    }
}

/// Returns the lanes of the vector at `at` that hold numbers of a row of `len`.
#[inline(always)]
pub(crate) fn lanes(at: usize, len: usize) -> __mmask16 {
    match len.saturating_sub(at) {
        some @ 0..LANES => (1 << some) - 1,
        _ => !0,
    }
}

/// Replaces each of `len` numbers x by e^(x − max), and returns the sum of the results. The row ends at the next
/// multiple of 2 · [`LANES`], and the numbers from `len` to there become 0.
#[inline(always)]
pub(crate) unsafe fn exponentials(row: *mut f32, len: usize) -> f32 {
    // SAFETY: see the head of this file.
    unsafe {
        let least = _mm512_set1_ps(f32::NEG_INFINITY);
        let mut most = [least; 2];
        for at in (0..len).step_by(2 * LANES) {
            for lane in 0..2 {
                let at = at + lane * LANES;
                most[lane] = _mm512_max_ps(most[lane], _mm512_mask_loadu_ps(least, lanes(at, len), row.add(at)));
            }
        }
        let most = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(most[0], most[1])));
        let mut sums = [_mm512_setzero_ps(); 2];
        for at in (0..len).step_by(2 * LANES) {
            for lane in 0..2 {
                let at = at + lane * LANES;
                let e = exp(_mm512_sub_ps(_mm512_loadu_ps(row.add(at)), most));
                let e = _mm512_maskz_mov_ps(lanes(at, len), e);
                _mm512_storeu_ps(row.add(at), e);
                sums[lane] = _mm512_add_ps(sums[lane], e);
            }
        }
        _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]))
    }
}
