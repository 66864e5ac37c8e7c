//! 3×3 convolutions of f32 by Winograd's algorithm F(2×2, 3×3).
//!
//! A tile is 2×2 cells of the result. The 4×4 cells under the kernel and the kernel itself are transformed, so that 16
//! products take the place of 36. After upsampling by two, neighboring cells are equal, and 7 of the 16 products are
//! zero.
//!
//! Source: Lavin and Gray (2015), "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308).

use crate::cells::{Cells, Kernel};
use crate::isa::{LONGEST, MOST_ROWS, Simd, Work};
use crate::number::{Floats, Number};
use crate::panels::{add_tiles, panel, width};
use crate::tile::Ahead;
use crate::words::Singles;
use tch::Kind;

/// Most columns of a part of the work.
const COLUMNS: usize = 64;
/// Input channels of a block of the kernel.
const DEPTH: usize = 32;
/// Floats from one product's block of the kernel to the next. A power of two would put all 16 in the same places of a
/// cache.
const BLOCK: usize = DEPTH * COLUMNS + LONGEST;
/// Tiles of a part of the work, in rows of tiles that are multiplied together.
const ROWS_OF_TILES: usize = 8;
/// Products of a tile.
const PRODUCTS: usize = 16;

/// A convolution, whose parts are done in any order, by any threads.
pub(crate) struct Winograd<'a> {
    x: Cells<'a, f32>,
    /// True if the picture is upsampled by two, by repeating cells.
    upsampled: bool,
    kernel: Kernel<'a, f32>,
    bias: Option<*const f32>,
    out: Cells<'a, f32>,
    /// Cells that are added to the result, which may be the result's.
    with: Option<Cells<'a, f32>>,
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
    /// Transformed cells: [blocks of channels, 16, tiles, channels], which are read one after the other. Some floats
    /// lie between the products, as between those of the kernel.
    cells: Vec<f32>,
    /// A transformed block of the kernel: 16 times panels of [channels, columns].
    kernel: Vec<f32>,
    /// Sums: [16, tiles / `S::ROWS`, panels], each with room for [`S::ROWS`, columns of a panel].
    sums: Vec<f32>,
}

impl<'a> Winograd<'a> {
    /// `with` is added to the result; it may be `out`.
    pub(crate) fn new(
        (x, kernel, bias): (Cells<'a, f32>, Kernel<'a, f32>, Option<*const f32>),
        upsampled: bool,
        out: Cells<'a, f32>,
        with: Option<Cells<'a, f32>>,
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
        let columns = self.kernel.outputs.div_ceil(groups).next_multiple_of(LONGEST);
        (self.kernel.outputs.div_ceil(columns), columns)
    }

    /// Returns the products that are not zero.
    #[inline(always)]
    fn products(&self) -> impl Iterator<Item = usize> + use<> {
        let upsampled = self.upsampled;
        (0..PRODUCTS).filter(move |product| !upsampled || (product / 4 != 2 && product % 4 != 2))
    }

    /// Returns the place of a tile of sums, of a panel.
    #[inline(always)]
    fn sums<S: Simd>(product: usize, rows: usize, row: usize, at: usize) -> usize {
        ((product * rows + row) * (COLUMNS / panel::<S>()) + at) * S::ROWS * panel::<S>()
    }

    /// Returns the picture, row and column of a tile's first cell.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (rows, columns, _) = self.tiles();
        let of_picture = tile % (rows * columns);
        (tile / (rows * columns), 2 * (of_picture / columns), 2 * (of_picture % columns))
    }

    /// Returns the place of a block of channels of transformed cells, of `tiles` tiles.
    #[inline(always)]
    fn cells(block: usize, product: usize, tiles: usize) -> usize {
        (block * PRODUCTS + product) * (tiles * DEPTH + LONGEST)
    }

    /// Transforms the cells d under a tile to Bᵀ·d·B, for each channel. `place` is the tile's among `tiles` tiles.
    #[inline(always)]
    unsafe fn transform_cells<S: Simd>(&self, simd: S, tile: usize, (place, tiles): (usize, usize), to: *mut f32) {
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
            for channel in (0..kernel.inputs).step_by(S::LANES) {
                let some = simd.lanes(channel, kernel.inputs);
                let mut d = [[simd.splat(0.0); 4]; 4];
                for y in 0..4 {
                    for x in 0..4 {
                        if let Some(cell) = under[y][x] {
                            d[y][x] = f32::load(simd, cell.add(channel), some);
                        }
                    }
                }
                let mut rows = [[simd.splat(0.0); 4]; 4]; // Bᵀ·d
                for x in 0..4 {
                    let column = Self::spread(simd, [d[0][x], d[1][x], d[2][x], d[3][x]]);
                    for y in 0..4 {
                        rows[y][x] = column[y];
                    }
                }
                for y in 0..4 {
                    let row = Self::spread(simd, rows[y]);
                    for x in 0..4 {
                        let to = to.add(Self::cells(channel / DEPTH, y * 4 + x, tiles) + place * DEPTH);
                        simd.store(row[x], to.add(channel % DEPTH));
                    }
                }
            }
        }
    }

    /// Multiplies by Bᵀ.
    #[inline(always)]
    fn spread<S: Simd>(simd: S, [a, b, c, d]: [S::F32s; 4]) -> [S::F32s; 4] {
        [simd.sub(a, c), simd.add(b, c), simd.sub(c, b), simd.sub(b, d)]
    }

    /// Transforms a block g of the kernel to G·g·Gᵀ, for each input and output.
    #[inline(always)]
    unsafe fn transform_kernel<S: Simd>(
        &self,
        simd: S,
        (input, inputs): (usize, usize),
        (column, columns): (usize, usize),
        to: *mut f32,
    ) {
        // SAFETY: only numbers of the kernel are read; the block has room for the results.
        unsafe {
            for channel in 0..inputs {
                for at in (0..columns).step_by(S::LANES) {
                    let some = simd.lanes(at, columns);
                    let mut rows = [[simd.splat(0.0); 3]; 4]; // G·g
                    for x in 0..3 {
                        let number = |y| self.kernel.number(input + channel, y, x).wrapping_add(column + at);
                        let mut column = [simd.splat(0.0); 3];
                        for y in 0..3 {
                            column[y] = f32::load(simd, number(y), some);
                        }
                        let column = Self::interpolate(simd, column);
                        for y in 0..4 {
                            rows[y][x] = column[y];
                        }
                    }
                    let to = to.add(
                        at / panel::<S>() * DEPTH * panel::<S>()
                            + channel * width::<S>(at, columns)
                            + at % panel::<S>(),
                    );
                    for y in 0..4 {
                        let row = Self::interpolate(simd, rows[y]);
                        for x in 0..4 {
                            simd.store(row[x], to.add((y * 4 + x) * BLOCK));
                        }
                    }
                }
            }
        }
    }

    /// Multiplies by G.
    #[inline(always)]
    fn interpolate<S: Simd>(simd: S, [a, b, c]: [S::F32s; 3]) -> [S::F32s; 4] {
        let half = simd.splat(0.5);
        let (outer, middle) = (simd.mul(half, simd.add(a, c)), simd.mul(half, b));
        [a, simd.add(outer, middle), simd.sub(outer, middle), c]
    }

    /// Returns the memory of a block of the kernel; of no size after the last one.
    #[inline(always)]
    fn ahead(&self, input: usize, (column, columns): (usize, usize), portions: usize) -> Ahead {
        let Self { kernel, .. } = self;
        if input >= kernel.inputs {
            return Ahead::nothing();
        }
        // Numbers of an input lie together: 9 rows of outputs.
        let at = kernel.number(input, 0, 0).wrapping_add(column);
        let rows = 9 * DEPTH.min(kernel.inputs - input);
        Ahead::rows(at.cast(), kernel.outputs * size_of::<f32>(), columns * size_of::<f32>(), rows, portions)
    }

    /// Transforms a tile's sums m to Aᵀ·m·A, adds the bias, and writes the cells.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        tile: usize,
        (place, rows): (usize, usize),
        (column, columns): (usize, usize),
        sums: *const f32,
    ) {
        let (picture, top, left) = self.place(tile);
        // SAFETY: sums of all products that are not zero are there; only cells of the result are written.
        unsafe {
            for at in (0..columns).step_by(S::LANES) {
                let some = simd.lanes(at, columns);
                let mut m = [[simd.splat(0.0); 4]; 4];
                for product in self.products() {
                    let sums = sums.add(Self::sums::<S>(product, rows, place / S::ROWS, at / panel::<S>()));
                    let at = place % S::ROWS * width::<S>(at, columns) + at % panel::<S>();
                    m[product / 4][product % 4] = simd.load(sums.add(at));
                }
                let mut half = [[simd.splat(0.0); 4]; 2]; // Aᵀ·m
                for x in 0..4 {
                    let column = Self::gather(simd, [m[0][x], m[1][x], m[2][x], m[3][x]]);
                    for y in 0..2 {
                        half[y][x] = column[y];
                    }
                }
                let bias = match self.bias {
                    Some(bias) => f32::load(simd, bias.add(column + at), some),
                    None => simd.splat(0.0),
                };
                for y in 0..2 {
                    let row = Self::gather(simd, half[y]);
                    for x in 0..2 {
                        let mut number = simd.add(row[x], bias);
                        let (y, x) = (top + y, left + x);
                        if y < self.out.height && x < self.out.width {
                            if let Some(with) = self.with {
                                let with = with.cell(picture, y, x).add(column + at);
                                number = simd.add(number, f32::load(simd, with, some));
                            }
                            let to = self.out.cell(picture, y, x).add(column + at);
                            f32::store(simd, number, to, some);
                        }
                    }
                }
            }
        }
    }

    /// Multiplies by Aᵀ.
    #[inline(always)]
    fn gather<S: Simd>(simd: S, [a, b, c, d]: [S::F32s; 4]) -> [S::F32s; 2] {
        [simd.add(simd.add(a, b), c), simd.sub(simd.sub(b, c), d)]
    }
}

impl Work for Winograd<'_> {
    const KIND: Kind = Kind::Float;
    type Scratch = Scratch;

    fn parts<S: Simd>(&self) -> usize {
        self.tiles().2.div_ceil(ROWS_OF_TILES * S::ROWS) * self.groups().0
    }

    /// Computes one part: up to eight rows of tiles, of up to 64 columns.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, scratch: &mut Scratch) {
        let Self { kernel, .. } = self;
        let (groups, columns) = self.groups();
        let tiles = ROWS_OF_TILES * S::ROWS;
        let (first, column) = (index / groups * tiles, index % groups * columns);
        let count = tiles.min(self.tiles().2 - first);
        let columns = columns.min(kernel.outputs - column);
        let (rows, panels) = (count.div_ceil(S::ROWS), columns.div_ceil(panel::<S>()));
        let tiles = rows * S::ROWS;
        scratch.kernel.resize(PRODUCTS * BLOCK, 0.0);
        scratch.sums.resize(PRODUCTS * rows * S::ROWS * COLUMNS, 0.0);
        // SAFETY: the caller's promise; scratch memory has the sizes that the functions ask for.
        unsafe {
            if scratch.tiles != Some(first) {
                scratch.cells.resize(Self::cells(kernel.inputs.div_ceil(DEPTH), 0, tiles), 0.0);
                for tile in 0..count {
                    self.transform_cells(simd, first + tile, (tile, tiles), scratch.cells.as_mut_ptr());
                }
                scratch.tiles = Some(first);
            }
            for input in (0..kernel.inputs).step_by(DEPTH) {
                let depth = DEPTH.min(kernel.inputs - input);
                self.transform_kernel(simd, (input, depth), (column, columns), scratch.kernel.as_mut_ptr());
                let portions = self.products().count() * rows * panels * depth.div_ceil(Ahead::STEPS);
                let mut ahead = self.ahead(input + DEPTH, (column, columns), portions);
                for product in self.products() {
                    for row in 0..rows {
                        let cells = scratch.cells.as_ptr().add(Self::cells(input / DEPTH, product, tiles));
                        let mut from = [cells.cast::<u32>(); MOST_ROWS];
                        for (at, from) in from.iter_mut().enumerate().take(S::ROWS) {
                            *from = cells.add((row * S::ROWS + at) * DEPTH).cast();
                        }
                        let block = (scratch.kernel.as_ptr().add(product * BLOCK).cast(), DEPTH * panel::<S>());
                        let to = scratch.sums.as_mut_ptr().add(Self::sums::<S>(product, rows, row, 0));
                        add_tiles::<S, Singles>(simd, input == 0, from, block, (depth, columns), &mut ahead, to);
                    }
                }
            }
            for tile in 0..count {
                self.finish(simd, first + tile, (tile, rows), (column, columns), scratch.sums.as_ptr());
            }
        }
    }
}
