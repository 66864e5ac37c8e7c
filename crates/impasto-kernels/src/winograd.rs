//! 3×3 convolutions of f32 by Winograd's algorithm F(2×2, 3×3).
//!
//! A tile is 2×2 cells of the result. The 4×4 cells under the kernel and the kernel itself are transformed, so that 16
//! products take the place of 36. After upsampling by two, neighboring cells are equal, and 7 of the 16 products are
//! zero.
//!
//! Source: Lavin and Gray (2015), "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308).

// See the head of avx512.rs.
#![allow(clippy::needless_range_loop)]

use crate::avx512::{Ahead, LANES, Number, ROWS, lanes};
use crate::cells::{Cells, Kernel};
use crate::panels::{PANEL, add_tiles, width};
use crate::parallel;
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};

/// Most columns of a part of the work.
const COLUMNS: usize = 64;
/// Input channels of a block of the kernel.
const DEPTH: usize = 32;
/// Floats from one product's block of the kernel to the next. A power of two would put all 16 in the same places of a
/// cache.
const BLOCK: usize = DEPTH * COLUMNS + LANES;
/// Tiles of a part of the work.
const TILES: usize = 64;
/// Products of a tile.
const PRODUCTS: usize = 16;

/// A convolution, whose parts are done in any order, by any threads.
pub(crate) struct Winograd<'a> {
    x: Cells<'a>,
    /// True if the picture is upsampled by two, by repeating cells.
    upsampled: bool,
    kernel: Kernel<'a>,
    bias: Option<*const f32>,
    out: Cells<'a>,
    /// Cells that are added to the result, which may be the result's.
    with: Option<Cells<'a>>,
}

// SAFETY: threads only read the bias.
unsafe impl Send for Winograd<'_> {}
// SAFETY: as above.
unsafe impl Sync for Winograd<'_> {}

/// Memory of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Tiles whose transformed cells are held.
    tiles: Option<usize>,
    /// Transformed cells: [16, tiles, inputs].
    cells: Vec<f32>,
    /// A transformed block of the kernel: 16 times panels of [channels, columns].
    kernel: Vec<f32>,
    /// Sums: [16, tiles / 8, 2 panels], each with room for [8, 32 columns].
    sums: Vec<f32>,
}

impl<'a> Winograd<'a> {
    /// `with` is added to the result; it may be `out`.
    pub(crate) fn new(
        (x, kernel, bias): (Cells<'a>, Kernel<'a>, Option<*const f32>),
        upsampled: bool,
        out: Cells<'a>,
        with: Option<Cells<'a>>,
    ) -> Self {
        Self { x, upsampled, kernel, bias, out, with }
    }

    /// Rows and columns of tiles in a picture, and the number of all tiles.
    #[inline(always)]
    fn tiles(&self) -> (usize, usize, usize) {
        let (rows, columns) = (self.out.height.div_ceil(2), self.out.width.div_ceil(2));
        (rows, columns, self.out.pictures * rows * columns)
    }

    /// Number of groups of columns, and columns of a group.
    #[inline(always)]
    fn groups(&self) -> (usize, usize) {
        let groups = self.kernel.outputs.div_ceil(COLUMNS);
        let columns = self.kernel.outputs.div_ceil(groups).next_multiple_of(LANES);
        (self.kernel.outputs.div_ceil(columns), columns)
    }

    /// Runs all parts on libtorch's threads. `part` calls [`part`](Self::part) with the instructions enabled.
    pub(crate) fn run(&self, part: impl Fn(usize, &mut Scratch) + Sync) {
        parallel::each_with(self.tiles().2.div_ceil(TILES) * self.groups().0, part);
    }

    /// Runs one part: up to 64 tiles, of up to 64 columns.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512 enabled. All numbers are f32.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, index: usize, scratch: &mut Scratch) {
        let Self { kernel, .. } = self;
        let (groups, columns) = self.groups();
        let (first, column) = (index / groups * TILES, index % groups * columns);
        let count = TILES.min(self.tiles().2 - first);
        let columns = columns.min(kernel.outputs - column);
        let (rows, panels) = (count.div_ceil(ROWS), columns.div_ceil(PANEL));
        scratch.kernel.resize(PRODUCTS * BLOCK, 0.0);
        scratch.sums.resize(PRODUCTS * rows * ROWS * COLUMNS, 0.0);
        // SAFETY: the caller's promise; scratch memory has the sizes that the functions ask for.
        unsafe {
            if scratch.tiles != Some(first) {
                scratch.cells.resize(PRODUCTS * rows * ROWS * kernel.inputs, 0.0);
                for tile in 0..count {
                    self.transform_cells(
                        first + tile,
                        scratch.cells.as_mut_ptr().add(tile * kernel.inputs),
                        rows * ROWS,
                    );
                }
                scratch.tiles = Some(first);
            }
            for input in (0..kernel.inputs).step_by(DEPTH) {
                let depth = DEPTH.min(kernel.inputs - input);
                self.transform_kernel((input, depth), (column, columns), scratch.kernel.as_mut_ptr());
                let portions = self.products().count() * rows * panels * depth.div_ceil(Ahead::STEPS);
                let mut ahead = self.ahead(input + DEPTH, (column, columns), portions);
                for product in self.products() {
                    for row in 0..rows {
                        let cells = scratch.cells.as_ptr().add(((product * rows + row) * ROWS) * kernel.inputs + input);
                        let mut from = [cells.cast::<u32>(); ROWS];
                        for (row, from) in from.iter_mut().enumerate() {
                            *from = cells.add(row * kernel.inputs).cast();
                        }
                        let block = (scratch.kernel.as_ptr().add(product * BLOCK).cast(), DEPTH * PANEL);
                        let to = scratch.sums.as_mut_ptr().add(Self::sums(product, rows, row, 0));
                        add_tiles::<f32>(input == 0, from, block, (depth, columns), &mut ahead, to);
                    }
                }
            }
            for tile in 0..count {
                self.finish(first + tile, (tile, rows), (column, columns), scratch.sums.as_ptr());
            }
        }
    }

    /// Returns the products that are not zero.
    #[inline(always)]
    fn products(&self) -> impl Iterator<Item = usize> + use<> {
        let upsampled = self.upsampled;
        (0..PRODUCTS).filter(move |product| !upsampled || (product / 4 != 2 && product % 4 != 2))
    }

    /// Returns the place of a tile of sums.
    #[inline(always)]
    fn sums(product: usize, rows: usize, row: usize, panel: usize) -> usize {
        ((product * rows + row) * (COLUMNS / PANEL) + panel) * ROWS * PANEL
    }

    /// Returns the picture, row and column of a tile's first cell.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rows, columns, _) = self.tiles();
        let of_picture = tile % (rows * columns);
        (tile / (rows * columns), 2 * (of_picture / columns), 2 * (of_picture % columns))
    }

    /// Transforms the cells d under a tile to Bᵀ·d·B, for each channel. Products lie `tiles` rows of channels apart.
    #[inline(always)]
    unsafe fn transform_cells(&self, tile: usize, to: *mut f32, tiles: usize) {
        let (picture, top, left) = self.place(tile);
        let Self { x: cells, kernel, .. } = self;
        let halvings = usize::from(self.upsampled);
        // SAFETY: only cells of the picture are read; the destination has room for each product's channels.
        unsafe {
            let mut under = [[None::<*const f32>; 4]; 4];
            for (y, under) in under.iter_mut().enumerate() {
                for (x, cell) in under.iter_mut().enumerate() {
                    let (y, x) = ((top + y).wrapping_sub(1), (left + x).wrapping_sub(1));
                    if y < cells.height << halvings && x < cells.width << halvings {
                        *cell = Some(cells.cell(picture, y >> halvings, x >> halvings));
                    }
                }
            }
            for channel in (0..kernel.inputs).step_by(LANES) {
                let some = lanes(channel, kernel.inputs);
                let mut d = [[_mm512_setzero_ps(); 4]; 4];
                for y in 0..4 {
                    for x in 0..4 {
                        if let Some(cell) = under[y][x] {
                            d[y][x] = f32::load(cell.add(channel), some);
                        }
                    }
                }
                let mut rows = [[_mm512_setzero_ps(); 4]; 4]; // Bᵀ·d
                for x in 0..4 {
                    let column = Self::spread([d[0][x], d[1][x], d[2][x], d[3][x]]);
                    for y in 0..4 {
                        rows[y][x] = column[y];
                    }
                }
                for y in 0..4 {
                    let row = Self::spread(rows[y]);
                    for x in 0..4 {
                        let to = to.add((y * 4 + x) * tiles * kernel.inputs + channel);
                        f32::store(row[x], to, some);
                    }
                }
            }
        }
    }

    /// Multiplies by Bᵀ.
    #[inline(always)]
    unsafe fn spread([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        // SAFETY: the caller has the instructions enabled.
        unsafe { [_mm512_sub_ps(a, c), _mm512_add_ps(b, c), _mm512_sub_ps(c, b), _mm512_sub_ps(b, d)] }
    }

    /// Transforms a block g of the kernel to G·g·Gᵀ, for each input and output.
    #[inline(always)]
    unsafe fn transform_kernel(
        &self,
        (input, inputs): (usize, usize),
        (column, columns): (usize, usize),
        to: *mut f32,
    ) {
        // SAFETY: only numbers of the kernel are read; the block has room for the results.
        unsafe {
            for channel in 0..inputs {
                for at in (0..columns).step_by(LANES) {
                    let some = lanes(at, columns);
                    let mut rows = [[_mm512_setzero_ps(); 3]; 4]; // G·g
                    for x in 0..3 {
                        let number = |y| self.kernel.number::<f32>(input + channel, y, x).wrapping_add(column + at);
                        let column =
                            [f32::load(number(0), some), f32::load(number(1), some), f32::load(number(2), some)];
                        let column = Self::interpolate(column);
                        for y in 0..4 {
                            rows[y][x] = column[y];
                        }
                    }
                    let to = to.add(at / PANEL * DEPTH * PANEL + channel * width(at, columns) + at % PANEL);
                    for y in 0..4 {
                        let row = Self::interpolate(rows[y]);
                        for x in 0..4 {
                            _mm512_storeu_ps(to.add((y * 4 + x) * BLOCK), row[x]);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies by G.
    #[inline(always)]
    unsafe fn interpolate([a, b, c]: [__m512; 3]) -> [__m512; 4] {
        // SAFETY: the caller has the instructions enabled.
        unsafe {
            let half = _mm512_set1_ps(0.5);
            let (outer, middle) = (_mm512_mul_ps(half, _mm512_add_ps(a, c)), _mm512_mul_ps(half, b));
            [a, _mm512_add_ps(outer, middle), _mm512_sub_ps(outer, middle), c]
        }
    }

    /// Returns the memory of a block of the kernel; of no size after the last one.
    #[inline(always)]
    fn ahead(&self, input: usize, (column, columns): (usize, usize), portions: usize) -> Ahead {
        let Self { kernel, .. } = self;
        if input >= kernel.inputs {
            return Ahead::nothing();
        }
        // Numbers of an input lie together: 9 rows of outputs.
        let at = kernel.number::<f32>(input, 0, 0).wrapping_add(column);
        let rows = 9 * DEPTH.min(kernel.inputs - input);
        Ahead::rows(at.cast(), kernel.outputs * size_of::<f32>(), columns * size_of::<f32>(), rows, portions)
    }

    /// Transforms a tile's sums m to Aᵀ·m·A, adds the bias, and writes the cells.
    #[inline(always)]
    unsafe fn finish(
        &self,
        tile: usize,
        (place, rows): (usize, usize),
        (column, columns): (usize, usize),
        sums: *const f32,
    ) {
        let (picture, top, left) = self.place(tile);
        // SAFETY: sums of all products that are not zero are there; only cells of the result are written.
        unsafe {
            for at in (0..columns).step_by(LANES) {
                let some = lanes(at, columns);
                let mut m = [[_mm512_setzero_ps(); 4]; 4];
                for product in self.products() {
                    let sums = sums.add(Self::sums(product, rows, place / ROWS, at / PANEL));
                    let at = place % ROWS * width(at, columns) + at % PANEL;
                    m[product / 4][product % 4] = _mm512_loadu_ps(sums.add(at));
                }
                let mut half = [[_mm512_setzero_ps(); 4]; 2]; // Aᵀ·m
                for x in 0..4 {
                    let column = Self::gather([m[0][x], m[1][x], m[2][x], m[3][x]]);
                    for y in 0..2 {
                        half[y][x] = column[y];
                    }
                }
                let bias = match self.bias {
                    Some(bias) => f32::load(bias.add(column + at), some),
                    None => _mm512_setzero_ps(),
                };
                for y in 0..2 {
                    let row = Self::gather(half[y]);
                    for x in 0..2 {
                        let mut number = _mm512_add_ps(row[x], bias);
                        let (y, x) = (top + y, left + x);
                        if y < self.out.height && x < self.out.width {
                            if let Some(with) = self.with {
                                let with = with.cell::<f32>(picture, y, x).add(column + at);
                                number = _mm512_add_ps(number, f32::load(with, some));
                            }
                            let to = self.out.cell::<f32>(picture, y, x).add(column + at);
                            f32::store(number, to, some);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies by Aᵀ.
    #[inline(always)]
    unsafe fn gather([a, b, c, d]: [__m512; 4]) -> [__m512; 2] {
        // SAFETY: the caller has the instructions enabled.
        unsafe { [_mm512_add_ps(_mm512_add_ps(a, b), c), _mm512_sub_ps(_mm512_sub_ps(b, c), d)] }
    }
}
