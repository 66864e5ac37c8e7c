//! Panels: groups of a kernel's columns, with which tiles of a product are computed. A panel has two vectors of
//! columns, or one if it is the last one and needs no more.

use crate::isa::{MOST_ROWS, Simd, Words};
use crate::tile::{Ahead, load, store, tile, zeros};

/// Vectors of a panel, unless it is a narrow one.
const VECTORS: usize = 2;

/// Columns of a panel, unless it is a narrow one.
#[inline(always)]
pub(crate) const fn panel<S: Simd>() -> usize {
    VECTORS * S::LANES
}

/// Returns the columns of the panel that has column `at` of `columns` columns.
#[inline(always)]
pub(crate) fn width<S: Simd>(at: usize, columns: usize) -> usize {
    if columns - at / panel::<S>() * panel::<S>() > S::LANES { panel::<S>() } else { S::LANES }
}

/// Tells the compiler that a branch is seldom taken, so that it optimizes the other one.
#[cold]
fn seldom() {}

/// Adds a tile of each panel to the sums `to`; if `first`, the tiles replace the sums. Panels of the kernel are [steps,
/// width] words, `stride` words apart; those of the sums are [`W::ROWS`, width], with room for whole panels.
///
/// # Safety
/// The conditions of [`tile`], with memory for the sums.
#[inline(always)]
pub(crate) unsafe fn add_tiles<S: Simd, W: Words<S>>(
    simd: S,
    first: bool,
    rows: [*const u32; MOST_ROWS],
    (kernel, stride): (*const u32, usize),
    (steps, columns): (usize, usize),
    ahead: &mut Ahead,
    to: *mut f32,
) {
    let wide = (columns + S::LANES - 1) / panel::<S>();
    // SAFETY: the caller's promise.
    unsafe {
        for at in 0..wide {
            let (kernel, to) = (kernel.add(at * stride), to.add(at * W::ROWS * panel::<S>()));
            if add_at_once::<S, W, VECTORS>(simd, first, rows, kernel, steps, ahead, to) {
                continue;
            }
            let before = if first { zeros(simd) } else { load::<S, VECTORS>(simd, to) };
            store(simd, tile::<S, W, VECTORS>(simd, before, rows, kernel, steps, ahead), to);
        }
        if wide * panel::<S>() < columns {
            seldom();
            let (kernel, to) = (kernel.add(wide * stride), to.add(wide * W::ROWS * panel::<S>()));
            if add_at_once::<S, W, 1>(simd, first, rows, kernel, steps, ahead, to) {
                return;
            }
            let before = if first { zeros(simd) } else { load::<S, 1>(simd, to) };
            store(simd, tile::<S, W, 1>(simd, before, rows, kernel, steps, ahead), to);
        }
    }
}

/// Fetches the memory that a tile's steps fetch, and adds the tile if the processor adds it at once; otherwise does
/// nothing and returns false.
///
/// # Safety
/// The conditions of [`add_tiles`].
#[inline(always)]
unsafe fn add_at_once<S: Simd, W: Words<S>, const V: usize>(
    simd: S,
    first: bool,
    rows: [*const u32; MOST_ROWS],
    kernel: *const u32,
    steps: usize,
    ahead: &mut Ahead,
    to: *mut f32,
) -> bool {
    // SAFETY: the caller's promise.
    let added = unsafe { W::add_at_once(first, rows, kernel, (steps, V), to) };
    if added {
        (0..steps).step_by(Ahead::STEPS).for_each(|_| ahead.fetch(simd));
    }
    added
}
