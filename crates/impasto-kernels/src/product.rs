//! Convolutions, and linear layers, as matrix products.
//!
//! A product has a row for each cell of the result, a column for each output channel, and a summand for each input
//! channel at each place (row and column) of the kernel. Rows of the factors are read where they are in the picture.
//! Kernels are copied in blocks that stay in the cache, into panels that vectors read one after the other.

use crate::cells::{Cells, Kernel};
use crate::functions::{gelu, gelu_by_tanh};
use crate::isa::{MOST_ROWS, Simd, Words, WordsOf, Work, joint};
use crate::number::Number;
use crate::panels::{add_tiles, panel, width};
use crate::serial::threads;
use crate::tile::Ahead;

use tch::Kind;

/// Most columns of a part. Longer pieces of memory are read faster.
const COLUMNS: usize = 128;
/// Words of a block of the kernel, for each column: 128 kB for all columns.
const DEPTH: usize = 256;
/// Most rows of a part; the sums of a part are 128 kB.
const ROWS_OF_A_PART: usize = 512;
/// Fewest rows of a part, unless there are fewer at all. A block of the kernel is copied for each part.
const LEAST_ROWS: usize = 32;

/// The steps and margins of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct Steps {
    /// Cells from one place of the kernel to the next.
    pub(crate) stride: usize,
    /// Zeros above and to the left of the picture.
    pub(crate) top: usize,
    pub(crate) left: usize,
}

/// The step from the sums of a product to the numbers that are stored.
#[derive(Clone, Copy)]
pub(crate) enum Finish<T> {
    Store,
    /// The numbers of these cells are added. The cells may be those of the result.
    Add(T),
    /// The numbers of the result's cells are multiplied by the GELU of the sums.
    Gate,
    Gelu,
    GeluTanh,
}

/// A convolution, whose parts are done in any order, by any threads.
pub(crate) struct Product<'a, N, O> {
    x: Cells<'a, N>,
    kernel: Kernel<'a, N>,
    steps: Steps,
    /// One number for each output.
    bias: Option<*const N>,
    out: Cells<'a, O>,
    finish: Finish<Cells<'a, O>>,
    /// Rows of a part.
    rows: usize,
    /// Number of threads that share the parts.
    threads: usize,
}

// SAFETY: threads only read the bias.
unsafe impl<N: Number, O: Number> Send for Product<'_, N, O> {}
// SAFETY: as above.
unsafe impl<N: Number, O: Number> Sync for Product<'_, N, O> {}

/// Memory of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    /// A block of the kernel: panels of [words, columns].
    kernel: Vec<u32>,
    /// Sums of a part: tiles of `ROWS` rows, each with room for panels of [`ROWS`, columns].
    sums: Vec<f32>,
    /// Zeros, in place of cells beyond the picture.
    zeros: Vec<u32>,
    /// Copies of a tile's cells, if they cannot be multiplied where they are.
    words: Vec<u32>,
    /// Picture, row and column of the result for each row of a part.
    places: Vec<[usize; 3]>,
}

impl<'a, N: Number, O: Number> Product<'a, N, O> {
    pub(crate) fn new(
        (x, kernel, bias): (Cells<'a, N>, Kernel<'a, N>, Option<*const N>),
        steps: Steps,
        out: Cells<'a, O>,
        finish: Finish<Cells<'a, O>>,
    ) -> Self {
        let all = out.pictures * out.height * out.width;
        let groups = kernel.outputs.div_ceil(COLUMNS);
        let (mut rows, threads) = (ROWS_OF_A_PART, threads());
        // Threads share parts evenly if there are several for each. A single thread has nothing to share.
        let parts = if threads > 1 { 4 * threads } else { 1 };
        while rows > LEAST_ROWS && all.div_ceil(rows) * groups < parts {
            rows /= 2;
        }
        Self { x, kernel, steps, bias, out, finish, rows, threads }
    }

    /// Returns the picture, row and column of a row of the product.
    #[inline(always)]
    fn place(&self, row: usize) -> [usize; 3] {
        let cell = row % (self.out.height * self.out.width);
        [row / (self.out.height * self.out.width), cell / self.out.width, cell % self.out.width]
    }

    /// Returns the cells under a place of the kernel, from channel `input` on, for the first of the places of rows.
    /// Cells beyond the picture, and rows beyond the last one, are zeros.
    #[inline(always)]
    unsafe fn cells(
        &self,
        places: &[[usize; 3]],
        (down, right): (usize, usize),
        input: usize,
        zeros: *const u32,
    ) -> [*const u32; MOST_ROWS] {
        let mut cells = [zeros; MOST_ROWS];
        for (cell, [picture, y, x]) in cells.iter_mut().zip(places) {
            let y = (y * self.steps.stride + down).wrapping_sub(self.steps.top);
            let x = (x * self.steps.stride + right).wrapping_sub(self.steps.left);
            if y < self.x.height && x < self.x.width {
                // SAFETY: the cell is one of the picture.
                *cell = unsafe { self.x.cell(*picture, y, x).add(input).cast() };
            }
        }
        cells
    }

    /// Copies a block of the kernel into panels.
    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        simd: S,
        (input, inputs): (usize, usize),
        place: (usize, usize),
        (column, columns): (usize, usize),
        scratch: &mut Scratch,
    ) {
        let words = steps::<S, N>(inputs);
        for word in 0..inputs.div_ceil(N::Words::<S>::PER_WORD) {
            let input = input + word * N::Words::<S>::PER_WORD;
            let first = self.kernel.number(input, place.0, place.1).wrapping_add(column);
            let second = match input + N::Words::<S>::PER_WORD <= self.kernel.inputs {
                true => first.wrapping_add((N::Words::<S>::PER_WORD - 1) * self.kernel.input_stride()),
                false => scratch.zeros.as_ptr().cast(),
            };
            for index in 0..columns.div_ceil(panel::<S>()) {
                let at = index * panel::<S>();
                let (first, second) = (first.wrapping_add(at), second.wrapping_add(at));
                // SAFETY: both rows have `columns` numbers, or are zeros; the panel has a row for the word.
                unsafe {
                    let width = width::<S>(at, columns);
                    let to = scratch.kernel.as_mut_ptr().add(index * words * panel::<S>() + word * width);
                    if at + panel::<S>() <= columns {
                        N::Words::store(simd, first, second, to);
                        continue;
                    }
                    for lane in (0..width).step_by(S::LANES) {
                        let some = simd.lanes(at + lane, columns);
                        let numbers = N::Words::load(simd, first.wrapping_add(lane), second.wrapping_add(lane), some);
                        simd.store(numbers, to.add(lane).cast());
                    }
                }
            }
        }
        let filled = inputs.div_ceil(N::Words::<S>::PER_WORD);
        for index in 0..columns.div_ceil(panel::<S>()) {
            let width = width::<S>(index * panel::<S>(), columns);
            let further = scratch.kernel.iter_mut().skip(index * words * panel::<S>() + filled * width);
            further.take((words - filled) * width).for_each(|word| *word = 0);
        }
    }

    /// Returns the memory of a part's block of the kernel. After the last block, it is the first one of the part that
    /// this thread probably does next.
    #[inline(always)]
    fn ahead<S: Simd>(&self, part: usize, block: usize, portions: usize) -> Ahead {
        let Self { kernel, .. } = self;
        let depth = DEPTH * N::Words::<S>::PER_WORD;
        let blocks = kernel.inputs.div_ceil(depth);
        let all = blocks * kernel.height * kernel.width;
        let (part, block) = (part + block / all * self.threads, block % all);
        let (place, input) = (block / blocks, block % blocks * depth);
        let column = part % kernel.outputs.div_ceil(COLUMNS) * COLUMNS;
        let columns = COLUMNS.min(kernel.outputs - column);
        let at = kernel.number(input, place / kernel.width, place % kernel.width).wrapping_add(column);
        let bytes = size_of::<N>();
        Ahead::rows(
            at.cast(),
            kernel.input_stride() * bytes,
            columns * bytes,
            depth.min(kernel.inputs - input),
            portions,
        )
    }

    /// Adds the bias to the sums of a row of a tile, and finishes and writes the result.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        simd: S,
        [picture, row, x]: [usize; 3],
        (column, columns): (usize, usize),
        (tile, of_tile): (*const f32, usize),
    ) {
        // SAFETY: the row has a cell, with room for the columns. Sums of the panels lie `ROWS` rows apart.
        unsafe {
            let out = self.out.cell(picture, row, x).add(column);
            for at in (0..columns).step_by(S::LANES) {
                let (panel, lane, lanes) = (panel::<S>(), at % panel::<S>(), simd.lanes(at, columns));
                let sums = tile.add(at / panel * N::Words::<S>::ROWS * panel + of_tile * width::<S>(at, columns));
                let mut y = simd.load(sums.add(lane));
                if let Some(bias) = self.bias {
                    y = simd.add(y, N::load(simd, bias.add(column + at), lanes));
                }
                match self.finish {
                    Finish::Store => {}
                    Finish::Add(cells) => {
                        let with = cells.cell(picture, row, x).add(column + at);
                        y = simd.add(y, O::load(simd, with, lanes));
                    }
                    Finish::Gate => y = simd.mul(O::load(simd, out.add(at), lanes), gelu(simd, y)),
                    Finish::Gelu => y = gelu(simd, y),
                    Finish::GeluTanh => y = gelu_by_tanh(simd, y),
                }
                O::store(simd, y, out.add(at), lanes);
            }
        }
    }
}

/// Returns the steps of a product with a number of inputs, in words.
#[inline(always)]
fn steps<S: Simd, N: Number>(inputs: usize) -> usize {
    inputs.div_ceil(N::Words::<S>::PER_WORD).next_multiple_of(N::Words::<S>::STEPS)
}

impl<N: Number, O: Number> Work for Product<'_, N, O> {
    const KIND: Kind = joint(N::KIND, O::KIND);
    type Scratch = Scratch;

    fn parts<S: Simd>(&self) -> usize {
        let all = self.out.pictures * self.out.height * self.out.width;
        all.div_ceil(self.rows) * self.kernel.outputs.div_ceil(COLUMNS)
    }

    /// Computes one part: some rows, of up to 128 columns.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, scratch: &mut Scratch) {
        let Self { kernel, .. } = self;
        let groups = kernel.outputs.div_ceil(COLUMNS);
        let (first, column) = (index / groups * self.rows, index % groups * COLUMNS);
        let all = self.out.pictures * self.out.height * self.out.width;
        let (rows, columns) = (self.rows.min(all - first), COLUMNS.min(kernel.outputs - column));
        let (tiles, panels) = (rows.div_ceil(N::Words::<S>::ROWS), columns.div_ceil(panel::<S>()));
        scratch.kernel.resize(DEPTH * COLUMNS, 0);
        scratch.sums.resize(tiles * N::Words::<S>::ROWS * COLUMNS, 0.0);
        scratch.zeros.resize(kernel.inputs.max(COLUMNS), 0);
        scratch.places.clear();
        scratch.places.extend((first..first + rows).map(|row| self.place(row)));
        let sums = scratch.sums.as_mut_ptr();
        let depth = DEPTH * N::Words::<S>::PER_WORD;
        let blocks = kernel.inputs.div_ceil(depth);
        // SAFETY: the caller's promise; scratch memory has the sizes that the functions ask for.
        unsafe {
            for block in 0..kernel.height * kernel.width * blocks {
                let (place, input) = (block / blocks, block % blocks * depth);
                let place = (place / kernel.width, place % kernel.width);
                let inputs = depth.min(kernel.inputs - input);
                let words = steps::<S, N>(inputs);
                self.pack(simd, (input, inputs), place, (column, columns), scratch);
                let portions = tiles * panels * words.div_ceil(Ahead::STEPS);
                let mut ahead = self.ahead::<S>(index, block + 1, portions);
                for (at, places) in scratch.places.chunks(N::Words::<S>::ROWS).enumerate() {
                    let cells = self.cells(places, place, input, scratch.zeros.as_ptr());
                    let from = N::Words::rows(simd, cells, inputs, &mut scratch.words);
                    let panels = (scratch.kernel.as_ptr(), words * panel::<S>());
                    let to = sums.add(at * N::Words::<S>::ROWS * COLUMNS);
                    add_tiles::<S, N::Words<S>>(simd, block == 0, from, panels, (words, columns), &mut ahead, to);
                }
            }
            for (row, place) in scratch.places.iter().enumerate() {
                let tile = sums.add(row / N::Words::<S>::ROWS * N::Words::<S>::ROWS * COLUMNS);
                self.finish(simd, *place, (column, columns), (tile, row % N::Words::<S>::ROWS));
            }
        }
    }
}
