//! AMX, which multiplies tiles of bf16 at once. Vectors are those of AVX-512.
//!
//! A tile of a product is 32 rows and up to 32 columns: four of the processor's tiles of sums, 16×16 each. In one step,
//! two tiles of rows and two tiles of the kernel, of 16 words each, are multiplied pair by pair. The layout of a panel
//! is that of the processor's tiles, so that tiles are loaded from where product and panels are.

use super::avx512::{self, Avx512, Bf16Products};
use super::{Bf16, Bf16Simd, MOST_ROWS, Simd, Words, WordsOf, Work};
use crate::words::Pairs;
use std::arch::asm;
use std::marker::PhantomData;
use tch::Kind;

/// Rows of the processor's tiles.
const SIDE: usize = 16;
/// Bytes of a row of the processor's tiles.
const BYTES: usize = 64;

/// A unit that multiplies tiles of 16 rows of 64 bytes: the processor's, or a model of it.
///
/// Tiles have numbers from 0 to 7, and keep their numbers from one function to the next on the same thread. `stride` is
/// the number of bytes from a row in memory to the next. Pointers point to as many rows as a tile has. Tiles are
/// [configured](configured). These are the conditions of `unsafe` here.
pub(crate) trait Unit: Copy {
    /// Fills a tile with zeros.
    unsafe fn zero<const TILE: u8>();
    /// Loads a tile.
    unsafe fn load<const TILE: u8>(from: *const u8, stride: isize);
    /// Stores a tile.
    unsafe fn store<const TILE: u8>(to: *mut u8, stride: isize);
    /// Adds the product of two tiles of bf16 to a tile of f32. Each word of `A` has two numbers of a row; each word of
    /// `B` has the numbers of the same two rows of a column.
    unsafe fn multiply<const SUMS: u8, const A: u8, const B: u8>();
}

/// The unit of the processor.
#[derive(Clone, Copy)]
pub(crate) struct Hardware;

// The compiler keeps nothing in tiles, so the functions need not tell it which ones they change.
impl Unit for Hardware {
    #[inline(always)]
    unsafe fn zero<const TILE: u8>() {
        // SAFETY: the promises of `Unit`.
        unsafe { asm!("tilezero tmm{t}", t = const TILE, options(nomem, nostack, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn load<const TILE: u8>(from: *const u8, stride: isize) {
        // SAFETY: the promises of `Unit`.
        unsafe {
            asm!("tileloadd tmm{t}, [{from} + {stride}]", t = const TILE, from = in(reg) from, stride = in(reg) stride,
                options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn store<const TILE: u8>(to: *mut u8, stride: isize) {
        // SAFETY: the promises of `Unit`.
        unsafe {
            asm!("tilestored [{to} + {stride}], tmm{t}", t = const TILE, to = in(reg) to, stride = in(reg) stride,
                options(nostack, preserves_flags));
        }
    }

    #[inline(always)]
    unsafe fn multiply<const SUMS: u8, const A: u8, const B: u8>() {
        // SAFETY: the promises of `Unit`.
        unsafe {
            asm!("tdpbf16ps tmm{sums}, tmm{a}, tmm{b}", sums = const SUMS, a = const A, b = const B,
                options(nomem, nostack, preserves_flags));
        }
    }
}

/// Runs `work` with all tiles of this thread configured as 16 rows of 64 bytes.
///
/// # Safety
/// The processor [lacks](lacking) no instructions.
unsafe fn configured(work: impl FnOnce()) {
    /// A configuration in the format of `ldtilecfg`.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }
    static CONFIGURATION: Configuration = {
        let (mut bytes, mut rows, mut tile) = ([0; 16], [0; 16], 0);
        while tile < 8 {
            bytes[tile] = BYTES as u16;
            rows[tile] = SIDE as u8;
            tile += 1;
        }
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes, rows }
    };

    /// The configuration, which ends when this value is dropped.
    struct Configured;

    impl Drop for Configured {
        fn drop(&mut self) {
            // SAFETY: the processor has the instruction.
            unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) }
        }
    }

    let from = &raw const CONFIGURATION;
    // SAFETY: the processor has the instruction, and the configuration is one of palette 1.
    unsafe { asm!("ldtilecfg [{from}]", from = in(reg) from, options(readonly, nostack, preserves_flags)) };
    let _configured = Configured;
    work();
}

/// Lists the instructions for bf16 that this processor, or its system, lacks.
pub(crate) fn lacking() -> Vec<&'static str> {
    let mut lacking = avx512::lacking(Kind::BFloat16);
    if lacking.is_empty() && !avx512::has_amx() {
        lacking.push("amx-bf16");
    }
    if lacking.is_empty() && !is_permitted() {
        lacking.push("the system's permission for AMX");
    }
    lacking
}

/// Asks the system once to let this process use tiles.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    use std::sync::OnceLock;
    /// `ARCH_REQ_XCOMP_PERM` of arch_prctl, and the number of the tiles' state.
    const ASK: (libc::c_long, libc::c_long) = (0x1023, 18);
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    // SAFETY: the call changes nothing but the permission.
    *PERMITTED.get_or_init(|| unsafe { libc::syscall(libc::SYS_arch_prctl, ASK.0, ASK.1) } == 0)
}

/// Returns false: other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Runs one part of a work.
///
/// # Safety
/// The promise of [`Work::part`]. The processor [lacks](lacking) no instructions.
pub(crate) unsafe fn part<W: Work>(work: &W, index: usize, scratch: &mut W::Scratch) {
    // SAFETY: the caller's promise.
    unsafe {
        match W::KIND {
            Kind::BFloat16 => configured(|| avx512::part::<W, Tiles<Hardware>>(work, index, scratch)),
            _ => avx512::part::<W, Tiles<Hardware>>(work, index, scratch),
        }
    }
}

/// Products of bf16 by a unit that multiplies tiles.
#[derive(Clone, Copy)]
pub(crate) struct Tiles<U>(PhantomData<U>);

impl<U: Unit> Bf16Products for Tiles<U> {
    type Words = Self;
}

impl<U: Unit> Words<Avx512<Self>> for Tiles<U> {
    const PER_WORD: usize = 2;
    const ROWS: usize = 2 * SIDE;
    const STEPS: usize = SIDE;

    #[inline(always)]
    unsafe fn mul_add(
        simd: Avx512<Self>,
        a: <Avx512<Self> as Simd>::F32s,
        b: <Avx512<Self> as Simd>::F32s,
        sums: <Avx512<Self> as Simd>::F32s,
    ) -> <Avx512<Self> as Simd>::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.mul_add_bf16(a, b, sums) }
    }

    #[inline(always)]
    unsafe fn of_floats(simd: Avx512<Self>, floats: *mut f32, len: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.round_to_bf16(floats, len) }
    }

    #[inline(always)]
    unsafe fn add_at_once(
        first: bool,
        rows: [*const u32; MOST_ROWS],
        panel: *const u32,
        (steps, vectors): (usize, usize),
        to: *mut f32,
    ) -> bool {
        let [upper, next, ..] = rows;
        let stride = (next as isize).wrapping_sub(upper as isize);
        let (lower, width) = (rows[SIDE], vectors * BYTES);
        let to: *mut u8 = to.cast();
        let sums = [[to, to.wrapping_add(BYTES)], [SIDE * width, SIDE * width + BYTES].map(|at| to.wrapping_add(at))];
        let (width, is_wide) = (width as isize, vectors > 1);
        // SAFETY: the caller's promise: rows, panel and sums are there.
        unsafe {
            if first {
                U::zero::<0>();
                U::zero::<1>();
                U::zero::<2>();
                U::zero::<3>();
            } else {
                U::load::<0>(sums[0][0], width);
                U::load::<2>(sums[1][0], width);
                if is_wide {
                    U::load::<1>(sums[0][1], width);
                    U::load::<3>(sums[1][1], width);
                }
            }
            for step in (0..steps).step_by(SIDE) {
                let columns: *const u8 = panel.add(step * vectors * SIDE).cast();
                U::load::<4>(upper.wrapping_add(step).cast(), stride);
                U::load::<5>(lower.wrapping_add(step).cast(), stride);
                U::load::<6>(columns, width);
                U::multiply::<0, 4, 6>();
                U::multiply::<2, 5, 6>();
                if is_wide {
                    U::load::<7>(columns.add(BYTES), width);
                    U::multiply::<1, 4, 7>();
                    U::multiply::<3, 5, 7>();
                }
            }
            U::store::<0>(sums[0][0], width);
            U::store::<2>(sums[1][0], width);
            if is_wide {
                U::store::<1>(sums[0][1], width);
                U::store::<3>(sums[1][1], width);
            }
        }
        true
    }
}

impl<U: Unit> WordsOf<Avx512<Self>, Bf16> for Tiles<U> {
    #[inline(always)]
    fn word(first: Bf16, second: Bf16) -> u32 {
        <Pairs as WordsOf<Avx512<Self>, Bf16>>::word(first, second)
    }

    #[inline(always)]
    unsafe fn load(
        simd: Avx512<Self>,
        first: *const Bf16,
        second: *const Bf16,
        lanes: <Avx512<Self> as Simd>::Mask,
    ) -> <Avx512<Self> as Simd>::F32s {
        // SAFETY: the caller's promise.
        unsafe { simd.load_bf16_words(first.cast(), second.cast(), lanes) }
    }

    #[inline(always)]
    unsafe fn store(simd: Avx512<Self>, first: *const Bf16, second: *const Bf16, to: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bf16_words(first.cast(), second.cast(), to) }
    }

    /// Copies the rows, unless they are whole steps and lie equally far apart, as the processor's tiles need them.
    #[inline(always)]
    unsafe fn rows(
        _: Avx512<Self>,
        mut rows: [*const u32; MOST_ROWS],
        len: usize,
        copies: &mut Vec<u32>,
    ) -> [*const u32; MOST_ROWS] {
        let apart = |pair: &[*const u32]| (pair[1] as usize).wrapping_sub(pair[0] as usize);
        let mut distances = rows.windows(2).map(apart);
        let first = distances.next();
        if len.is_multiple_of(2 * SIDE) && distances.all(|distance| Some(distance) == first) {
            return rows;
        }
        let words = len.div_ceil(2).next_multiple_of(SIDE);
        copies.clear();
        copies.resize(MOST_ROWS * words, 0);
        for (row, from) in rows.iter_mut().enumerate() {
            // SAFETY: the caller's promise; each copy has room for the numbers.
            unsafe {
                let to = copies.as_mut_ptr().add(row * words);
                to.cast::<Bf16>().copy_from_nonoverlapping(from.cast::<Bf16>(), len);
                *from = to;
            }
        }
        rows
    }
}

#[cfg(test)]
pub(crate) mod model {
    //! A model of the processor's unit, so that the kernels for AMX are tested on every processor with AVX-512.

    use super::{SIDE, Unit};
    use crate::isa::Bf16;
    use std::array::from_fn;
    use std::cell::RefCell;

    /// A tile, as words.
    type Tile = [[u32; SIDE]; SIDE];

    thread_local!(static TILES: RefCell<[Tile; 8]> = const { RefCell::new([[[0; SIDE]; SIDE]; 8]) });

    /// The model.
    #[derive(Clone, Copy)]
    pub(crate) struct Model;

    impl Unit for Model {
        unsafe fn zero<const TILE: u8>() {
            TILES.with_borrow_mut(|tiles| tiles[usize::from(TILE)] = [[0; SIDE]; SIDE]);
        }

        unsafe fn load<const TILE: u8>(from: *const u8, stride: isize) {
            let row = |row: usize| from.wrapping_offset(row as isize * stride).cast::<[u32; SIDE]>();
            // SAFETY: the promises of `Unit`.
            TILES.with_borrow_mut(|tiles| tiles[usize::from(TILE)] = from_fn(|at| unsafe { row(at).read_unaligned() }));
        }

        unsafe fn store<const TILE: u8>(to: *mut u8, stride: isize) {
            TILES.with_borrow(|tiles| {
                for (row, words) in tiles[usize::from(TILE)].iter().enumerate() {
                    // SAFETY: the promises of `Unit`.
                    unsafe { to.wrapping_offset(row as isize * stride).cast::<[u32; SIDE]>().write_unaligned(*words) };
                }
            });
        }

        /// Adds as the manual of the processors describes it: the sums of even and of odd numbers are added to each
        /// other first. Numbers below the normal ones are zeros.
        unsafe fn multiply<const SUMS: u8, const A: u8, const B: u8>() {
            let flushed = |x: f32| if x.is_subnormal() { 0.0 } else { x };
            let number = |word: u32, odd: usize| flushed(Bf16((word >> (16 * odd)) as u16).widen());
            TILES.with_borrow_mut(|tiles| {
                let (a, b) = (tiles[usize::from(A)], tiles[usize::from(B)]);
                for (row, sums) in tiles[usize::from(SUMS)].iter_mut().enumerate() {
                    for (column, sum) in sums.iter_mut().enumerate() {
                        let mut of = [0.0f32; 2];
                        for step in 0..SIDE {
                            for (odd, of) in of.iter_mut().enumerate() {
                                *of = flushed(*of + flushed(number(a[row][step], odd) * number(b[step][column], odd)));
                            }
                        }
                        *sum = flushed(f32::from_bits(*sum) + flushed(of[0] + of[1])).to_bits();
                    }
                }
            });
        }
    }
}
