//! Panels: groups of a kernel's columns, with which tiles of a product are computed. A panel has 32 columns, or 16 if
//! it is the last one and needs no more.

use crate::avx512::{Ahead, LANES, Number, ROWS, load, store, tile, zeros};

/// Vectors of a panel, unless it is a narrow one.
const VECTORS: usize = 2;
/// Columns of a panel, unless it is a narrow one.
pub(crate) const PANEL: usize = VECTORS * LANES;

/// Returns the columns of the panel that has column `at` of `columns` columns.
#[inline(always)]
pub(crate) fn width(at: usize, columns: usize) -> usize {
    if columns - at / PANEL * PANEL > LANES { PANEL } else { LANES }
}

/// Tells the compiler that a branch is seldom taken, so that it optimizes the other one.
#[cold]
fn seldom() {}

/// Adds a tile of each panel to the sums `to`; if `first`, the tiles replace the sums. Panels of the kernel are [steps,
/// width] words, `stride` words apart; those of the sums are [8, width], and lie 8 · 32 apart.
///
/// # Safety
/// The conditions of [`tile`], with memory for the sums.
#[inline(always)]
pub(crate) unsafe fn add_tiles<N: Number>(
    first: bool,
    rows: [*const u32; ROWS],
    (kernel, stride): (*const u32, usize),
    (steps, columns): (usize, usize),
    ahead: &mut Ahead,
    to: *mut f32,
) {
    let wide = (columns + LANES - 1) / PANEL;
    // SAFETY: the caller's promise.
    unsafe {
        for panel in 0..wide {
            let (panel, to) = (kernel.add(panel * stride), to.add(panel * ROWS * PANEL));
            let before = if first { zeros() } else { load::<VECTORS>(to) };
            store(tile::<N, VECTORS>(before, rows, panel, steps, ahead), to);
        }
        if wide * PANEL < columns {
            seldom();
            let (panel, to) = (kernel.add(wide * stride), to.add(wide * ROWS * PANEL));
            let before = if first { zeros() } else { load::<1>(to) };
            store(tile::<N, 1>(before, rows, panel, steps, ahead), to);
        }
    }
}
