//! Tiles of a matrix product.

use crate::isa::{MOST_ROWS, Simd, TALLEST, Words};

/// Sums of a tile: `S::ROWS` rows of V vectors. Further rows are not used.
pub(crate) type Tile<S, const V: usize> = [[<S as Simd>::F32s; V]; TALLEST];

/// A tile of zeros.
#[inline(always)]
pub(crate) fn zeros<S: Simd, const V: usize>(simd: S) -> Tile<S, V> {
    [[simd.splat(0.0); V]; TALLEST]
}

/// Loads a tile from [`S::ROWS`, V · `S::LANES`] floats.
///
/// # Safety
/// The floats are there.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd, const V: usize>(simd: S, from: *const f32) -> Tile<S, V> {
    let mut sums = zeros::<S, V>(simd);
    for row in 0..S::ROWS {
        for v in 0..V {
            // SAFETY: the caller's promise.
            sums[row][v] = unsafe { simd.load(from.add((row * V + v) * S::LANES)) };
        }
    }
    sums
}

/// Stores a tile as [`S::ROWS`, V · `S::LANES`] floats.
///
/// # Safety
/// There is room for the floats.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const V: usize>(simd: S, sums: Tile<S, V>, to: *mut f32) {
    for row in 0..S::ROWS {
        for v in 0..V {
            // SAFETY: the caller's promise.
            unsafe { simd.store(sums[row][v], to.add((row * V + v) * S::LANES)) }
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
    pub(crate) fn fetch<S: Simd>(&mut self, simd: S) {
        for _ in 0..self.portion.min(self.left) {
            for line in 0..self.lines {
                simd.prefetch(self.at.wrapping_add(64 * line));
            }
            self.at = self.at.wrapping_add(self.stride);
            self.left -= 1;
        }
    }
}

/// Adds a tile of a product to `sums`: Σ rows[row][step] · b[step][column] over `steps` words. `b` is a panel,
/// [steps, V · `S::LANES`] words.
///
/// # Safety
/// The first `S::ROWS` rows have `steps` words, and the panel is there. The processor has the instructions for `W`.
#[inline(always)]
pub(crate) unsafe fn tile<S: Simd, W: Words<S>, const V: usize>(
    simd: S,
    mut sums: Tile<S, V>,
    rows: [*const u32; MOST_ROWS],
    b: *const u32,
    steps: usize,
    ahead: &mut Ahead,
) -> Tile<S, V> {
    for from in (0..steps).step_by(Ahead::STEPS) {
        ahead.fetch(simd);
        for step in from..steps.min(from + Ahead::STEPS) {
            // SAFETY: the caller's promise.
            unsafe {
                let mut columns = [simd.splat(0.0); V];
                for v in 0..V {
                    columns[v] = simd.load(b.add((step * V + v) * S::LANES).cast());
                }
                for row in 0..S::ROWS {
                    let x = simd.splat(rows[row].add(step).cast::<f32>().read_unaligned());
                    for v in 0..V {
                        sums[row][v] = W::mul_add(simd, x, columns[v], sums[row][v]);
                    }
                }
            }
        }
    }
    sums
}
