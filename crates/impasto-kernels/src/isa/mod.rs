//! Instruction sets of processors. Each set is one file with an implementation of [`Simd`], over which the kernels are
//! generic.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;

use tch::Kind;

/// Floats of the longest vector of any instruction set.
pub(crate) const LONGEST: usize = 16;
/// Rows of the tallest tile of any instruction set.
pub(crate) const TALLEST: usize = 8;
/// Rows of the tallest tile of a product.
pub(crate) const MOST_ROWS: usize = 32;

/// A bf16: the upper half of an f32's bits.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

impl Bf16 {
    /// Returns the number as a float.
    pub(crate) fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    /// Rounds to the nearest number; of two, to the even one.
    #[inline(always)]
    pub(crate) fn nearest(x: f32) -> Self {
        let bits = x.to_bits();
        // Rounding could turn the bits of a NaN into those of an infinity.
        let rounded = if x.is_nan() { bits | 0x40_0000 } else { bits.wrapping_add(0x7fff + (bits >> 16 & 1)) };
        Self((rounded >> 16) as u16)
    }
}

/// An instruction set: vectors of f32, and the operations of one processor on them.
///
/// A value exists only where the processor has the instructions; AVX-512 also needs those for bf16 to round to bf16 and
/// to multiply bf16. Pointers point to as many numbers as a function's comment says. These are the conditions of
/// `unsafe` here.
///
/// Functions that take a vector are inlined into a caller that has the instructions enabled. Loops over vectors count
/// instead of iterating over arrays: an iterator that takes an array has a destructor; a call of it, where the
/// compiler does not inline it, keeps all vectors in memory instead of registers.
///
/// The names are those of the crate `pulp`.
pub(crate) trait Simd: Copy {
    /// Floats of a vector; a divisor of [`LONGEST`].
    const LANES: usize;
    /// Rows of a tile, at most [`TALLEST`].
    const ROWS: usize;
    /// Vectors of the widest panel: 2 or 3. The sums of a tile, the columns and a row fit in the registers.
    const WIDEST: usize;

    /// A vector.
    type F32s: Copy;
    /// Some lanes of a vector.
    type Mask: Copy;
    /// The words as which bf16 are multiplied: pairs, if the set is a [`Bf16Simd`].
    type Bf16Words: WordsOf<Self, Bf16>;

    /// Returns the lanes of the vector at `at` that hold numbers of a row of `len`.
    fn lanes(self, at: usize, len: usize) -> Self::Mask;
    /// Returns true if a mask has all lanes.
    fn all(self, lanes: Self::Mask) -> bool;

    /// Loads a vector.
    unsafe fn load(self, from: *const f32) -> Self::F32s;
    /// Loads some lanes. The other lanes are those of `others`, and nothing is read for them.
    unsafe fn load_or(self, others: Self::F32s, from: *const f32, lanes: Self::Mask) -> Self::F32s;
    /// Stores a vector.
    unsafe fn store(self, x: Self::F32s, to: *mut f32);
    /// Stores some lanes.
    unsafe fn store_lanes(self, x: Self::F32s, to: *mut f32, lanes: Self::Mask);
    /// Fetches a cache line that will be read soon. Any address is allowed.
    fn prefetch(self, line: *const u8);

    /// Loads some lanes of numbers in half precision. The other lanes are zero, and nothing is read for them.
    unsafe fn load_f16(self, from: *const u16, lanes: Self::Mask) -> Self::F32s;
    /// Loads some lanes of bf16. The other lanes are zero, and nothing is read for them.
    unsafe fn load_bf16(self, from: *const u16, lanes: Self::Mask) -> Self::F32s;
    /// Rounds to bf16 and stores some lanes.
    unsafe fn store_bf16(self, x: Self::F32s, to: *mut u16, lanes: Self::Mask);
    /// A vector of the same number in each lane.
    fn splat(self, x: f32) -> Self::F32s;
    /// a + b.
    fn add(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// a − b.
    fn sub(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// a · b.
    fn mul(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// a / b.
    fn div(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// a · b + c, rounded once.
    fn mul_add(self, a: Self::F32s, b: Self::F32s, c: Self::F32s) -> Self::F32s;
    /// c − a · b, rounded once.
    fn neg_mul_add(self, a: Self::F32s, b: Self::F32s, c: Self::F32s) -> Self::F32s;
    /// The smaller number; `b` if one is NaN.
    fn min(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// The larger number; `b` if one is NaN.
    fn max(self, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// |x|.
    fn abs(self, x: Self::F32s) -> Self::F32s;
    /// The nearest integer; of two, the even one.
    fn round(self, x: Self::F32s) -> Self::F32s;
    /// x · 2ⁿ, rounded once, of integers n from −150 to 128.
    fn scale_by_power_of_two(self, x: Self::F32s, n: Self::F32s) -> Self::F32s;
    /// The lanes where a ≥ b.
    fn greater_than_or_equal(self, a: Self::F32s, b: Self::F32s) -> Self::Mask;
    /// Lanes of `a` where the mask has them, and lanes of `b` elsewhere.
    fn select(self, lanes: Self::Mask, a: Self::F32s, b: Self::F32s) -> Self::F32s;
    /// The sum of the lanes, halves first: of 0 and 8, of 1 and 9, ….
    fn reduce_sum(self, x: Self::F32s) -> f32;
    /// The largest lane.
    fn reduce_max(self, x: Self::F32s) -> f32;
    /// Transposes the first [`LANES`](Self::LANES) vectors.
    fn transpose(self, block: &mut [Self::F32s; LONGEST]);
}

/// An instruction set that multiplies words of two bf16.
pub(crate) trait Bf16Simd: Simd {
    /// Loads bf16 of two rows as words of two, in some lanes. The other lanes are zero, and nothing is read for them.
    unsafe fn load_bf16_words(self, first: *const u16, second: *const u16, lanes: Self::Mask) -> Self::F32s;
    /// Stores 2 · [`LANES`](Self::LANES) bf16 of each of two rows as words of two.
    unsafe fn store_bf16_words(self, first: *const u16, second: *const u16, to: *mut u32);
    /// Rounds `len` floats to bf16 in the same memory, from its start; `len` is a multiple of 2 ·
    /// [`LANES`](Self::LANES).
    unsafe fn round_to_bf16(self, floats: *mut f32, len: usize);
    /// Adds the products of two bf16 of `a` and `b` to each lane of `sums`.
    unsafe fn mul_add_bf16(self, a: Self::F32s, b: Self::F32s, sums: Self::F32s) -> Self::F32s;
}

/// Words that an instruction set multiplies. Sums are f32.
///
/// The conditions of `unsafe` are those of [`Simd`].
pub(crate) trait Words<S: Simd> {
    /// Numbers of a word.
    const PER_WORD: usize;
    /// Rows of a tile of a product, at most [`MOST_ROWS`].
    const ROWS: usize = S::ROWS;
    /// Steps of a product are a multiple of this number. The words of further steps are zeros.
    const STEPS: usize = 1;

    /// Adds the product of two words to each lane of `sums`.
    unsafe fn mul_add(simd: S, a: S::F32s, b: S::F32s, sums: S::F32s) -> S::F32s;

    /// Turns `len` floats into words in the same memory, from its start; `len` is a multiple of 2 · `S::LANES`.
    unsafe fn of_floats(simd: S, floats: *mut f32, len: usize);

    /// Adds a tile of a product to the sums `to`, [`Self::ROWS`, `vectors` · `S::LANES`], if the processor does so at
    /// once; if `first`, the tile replaces the sums. Returns false if vectors have to add the tile. `rows` are those of
    /// [`WordsOf::rows`], and the panel is [`steps`, `vectors` · `S::LANES`] words.
    #[inline(always)]
    unsafe fn add_at_once(
        _first: bool,
        _rows: [*const u32; MOST_ROWS],
        _panel: *const u32,
        (_steps, _vectors): (usize, usize),
        _to: *mut f32,
    ) -> bool {
        false
    }
}

/// Words made of numbers `N`.
pub(crate) trait WordsOf<S: Simd, N>: Words<S> {
    /// Joins the numbers of a word. A word of one number has only the first.
    fn word(first: N, second: N) -> u32;

    /// Loads numbers of two rows as words, in some lanes. The other lanes are zero, and nothing is read for them. Words
    /// of one number hold the first row only.
    unsafe fn load(simd: S, first: *const N, second: *const N, lanes: S::Mask) -> S::F32s;

    /// Stores 2 · `S::LANES` numbers of each of two rows as words. Words of one number hold the first row only.
    unsafe fn store(simd: S, first: *const N, second: *const N, to: *mut u32);

    /// Returns rows of words for a tile of a product: the first [`ROWS`](Words::ROWS) rows of `len` numbers as they
    /// are, or `copies` of them.
    #[inline(always)]
    unsafe fn rows(
        _simd: S,
        rows: [*const u32; MOST_ROWS],
        _len: usize,
        _copies: &mut Vec<u32>,
    ) -> [*const u32; MOST_ROWS] {
        rows
    }
}

/// Work on tensors, whose parts are done in any order, by any threads. It is written once for all instruction sets.
pub(crate) trait Work: Sync {
    /// The kind of numbers whose instructions the parts need: bf16 if any of the numbers are, otherwise f32.
    const KIND: Kind;
    /// Memory of one thread.
    type Scratch: Default;

    /// Returns the number of parts for an instruction set.
    fn parts<S: Simd>(&self) -> usize;

    /// Runs one part.
    ///
    /// # Safety
    /// The caller has the instructions of `S` enabled, and those for [`KIND`](Self::KIND). The tensors fit together.
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, scratch: &mut Self::Scratch);
}

/// Returns the kind of the instructions for numbers of two kinds, as a [`Work::KIND`].
pub(crate) const fn joint(one: Kind, other: Kind) -> Kind {
    match (one, other) {
        (Kind::BFloat16, _) | (_, Kind::BFloat16) => Kind::BFloat16,
        _ => Kind::Float,
    }
}
