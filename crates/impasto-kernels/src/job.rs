//! The work of one attention call, in parts that threads share.

// See the head of avx512.rs.
#![allow(clippy::needless_range_loop)]

use crate::avx512::{Ahead, LANES, Number, ROWS, WIDEST, exponentials, load, store, tile, zeros};
use crate::parallel;
use std::arch::x86_64::{_mm512_add_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps};
use std::ffi::c_void;
use std::marker::PhantomData;
use tch::{TchError, Tensor};

/// Tokens whose weighted values are summed in one go. A sum of more summands would lose bits.
const SUMMANDS: usize = 256;

/// The rows of a tensor [n, heads, rows, columns] with adjacent columns, which threads read or write.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    data: *mut c_void,
    strides: [usize; 3],
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: a thread reads rows, or writes rows that no other thread reads or writes.
unsafe impl Send for Rows<'_> {}
// SAFETY: as above.
unsafe impl Sync for Rows<'_> {}

impl<'a> Rows<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        let strides = tensor.stride();
        let strides: Vec<usize> = strides.iter().filter_map(|stride| usize::try_from(*stride).ok()).collect();
        match strides.as_slice() {
            &[n, head, row, _] => Ok(Self { data: tensor.data_ptr(), strides: [n, head, row], tensor: PhantomData }),
            _ => Err(TchError::Kind(format!("the shape is {:?}; expected [n, heads, rows, columns]", tensor.size()))),
        }
    }

    /// Returns the first number of a row.
    unsafe fn row<T>(&self, (n, head): (usize, usize), row: usize) -> *mut T {
        let [n_stride, head_stride, row_stride] = self.strides;
        // SAFETY: the caller asks for a row of the tensor, whose numbers have the type T.
        unsafe { self.data.cast::<T>().add(n * n_stride + head * head_stride + row * row_stride) }
    }
}

/// The origin of the scores.
pub(crate) enum Source<'a> {
    /// Queries times keys of width `d`, divided by √d, plus a bias.
    Product { q: Rows<'a>, k: Rows<'a>, d: usize, bias: Option<Rows<'a>> },
    /// Scores that are given.
    Scores(Rows<'a>),
}

/// The results of a job.
pub(crate) enum Sink<'a> {
    /// The scores.
    Scores(Rows<'a>),
    /// Values of width `c`, weighted by the softmax of the scores, and its probabilities.
    Values { v: Rows<'a>, c: usize, output: Rows<'a>, probabilities: Option<Rows<'a>> },
}

/// One attention call. Its parts are done in any order, by any threads.
pub(crate) struct Job<'a> {
    heads: usize,
    queries: usize,
    tokens: usize,
    source: Source<'a>,
    sink: Sink<'a>,
    /// Number of heads of all rows n.
    pairs: usize,
    /// Number of parts of a head.
    shares: usize,
}

/// Memory of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Keys in panels of up to 48 tokens, [words of d, tokens] each.
    keys: Vec<u32>,
    /// Values in panels of up to 48 columns, [words of tokens, columns] each.
    values: Vec<u32>,
    /// Queries of a tile, [8, words of d].
    queries: Vec<u32>,
    /// Scores of a tile, [8, stride], later their exponentials.
    scores: Vec<f32>,
    /// Weighted values of a tile, [8, 48].
    sums: Vec<f32>,
}

impl<'a> Job<'a> {
    /// Makes a job of shape [n, heads, queries, tokens]. If there are enough queries, each of libtorch's threads has
    /// two parts or more.
    pub(crate) fn new(shape: [i64; 4], source: Source<'a>, sink: Sink<'a>) -> Self {
        let [n, heads, queries, tokens] = shape.map(|length| length as usize);
        let pairs = n * heads;
        let shares = (2 * parallel::threads()).div_ceil(pairs).clamp(1, queries.div_ceil(ROWS));
        Self { heads, queries, tokens, source, sink, pairs, shares }
    }

    /// Runs all parts on libtorch's threads. `part` calls [`part`](Self::part) with the instructions enabled.
    pub(crate) fn run(&self, part: impl Fn(usize, &mut Scratch) + Sync) {
        parallel::each_with(self.pairs * self.shares, part);
    }

    /// Runs one part.
    ///
    /// # Safety
    /// The caller has the instructions of AVX-512 and of `N` enabled, and the numbers of the rows are of type `N`,
    /// except scores, probabilities and biases, which are f32.
    #[inline(always)]
    pub(crate) unsafe fn part<N: Number>(&self, index: usize, scratch: &mut Scratch) {
        let (pair, share) = (index / self.shares, index % self.shares);
        let head = (pair / self.heads, pair % self.heads);
        let length = self.queries.div_ceil(self.shares).next_multiple_of(ROWS);
        // Rows of scores end with room for whole vectors. Their distance is no power of two, whose multiples share few
        // places in a cache.
        let padded = self.tokens.next_multiple_of(2 * LANES);
        let stride = padded + LANES;
        scratch.scores.resize(ROWS * stride, 0.0);
        scratch.sums.resize(ROWS * WIDEST * LANES, 0.0);
        // SAFETY: the caller's promise; scratch memory has the sizes that the functions ask for.
        unsafe {
            if let Source::Product { k, d, .. } = &self.source {
                pack_keys::<N>(k, head, (self.tokens, *d), &mut scratch.keys);
            }
            if let Sink::Values { v, c, .. } = &self.sink {
                pack_values::<N>(v, head, (self.tokens, *c), &mut scratch.values);
            }
            let last = ((share + 1) * length).min(self.queries);
            for first in (share * length..last).step_by(ROWS) {
                let count = ROWS.min(last - first);
                self.scores::<N>(head, (first, count), scratch, stride);
                match &self.sink {
                    Sink::Scores(to) => {
                        for row in 0..count {
                            let from = scratch.scores.as_ptr().add(row * stride);
                            to.row::<f32>(head, first + row).copy_from_nonoverlapping(from, self.tokens);
                        }
                    }
                    Sink::Values { c, output, probabilities, .. } => {
                        let mut inverse = [0.0; ROWS];
                        for (row, inverse) in inverse.iter_mut().enumerate() {
                            let here = scratch.scores.as_mut_ptr().add(row * stride);
                            *inverse = exponentials(here, self.tokens).recip();
                            if let Some(to) = probabilities.filter(|_| row < count) {
                                let to = to.row::<f32>(head, first + row);
                                (0..self.tokens).for_each(|token| *to.add(token) = *here.add(token) * *inverse);
                            }
                            N::round_all(here, padded);
                        }
                        for (at, vectors) in panels(*c) {
                            let words = padded / N::PER_WORD;
                            let weights = scratch.scores.as_ptr().cast();
                            let panel = scratch.values.as_ptr().add(at * words);
                            let sums = scratch.sums.as_mut_ptr();
                            match vectors {
                                1 => weighted::<N, 1>(weights, stride, panel, words, sums),
                                2 => weighted::<N, 2>(weights, stride, panel, words, sums),
                                _ => weighted::<N, WIDEST>(weights, stride, panel, words, sums),
                            }
                            for (row, inverse) in inverse.iter().enumerate().take(count) {
                                let to = output.row::<N>(head, first + row).add(at);
                                let sums = scratch.sums.as_ptr().add(row * vectors * LANES);
                                let columns = (vectors * LANES).min(c - at);
                                (0..columns).for_each(|i| *to.add(i) = N::round(*sums.add(i) * inverse));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Fills scratch memory with the scores of `count` queries from `first` on. Further rows of the tile repeat the
    /// last query.
    #[inline(always)]
    unsafe fn scores<N: Number>(
        &self,
        head: (usize, usize),
        (first, count): (usize, usize),
        scratch: &mut Scratch,
        stride: usize,
    ) {
        // SAFETY: the promise of the caller of `part`.
        unsafe {
            let row_of = |row: usize| first + row.min(count - 1);
            match &self.source {
                Source::Scores(from) => {
                    for row in 0..ROWS {
                        let to = scratch.scores.as_mut_ptr().add(row * stride);
                        to.copy_from_nonoverlapping(from.row::<f32>(head, row_of(row)), self.tokens);
                    }
                }
                Source::Product { q, d, bias, .. } => {
                    let words = d.div_ceil(N::PER_WORD);
                    scratch.queries.resize(ROWS * words, 0);
                    for (row, to) in scratch.queries.chunks_exact_mut(words).enumerate() {
                        pack_row::<N>(q.row(head, row_of(row)), *d, to.as_mut_ptr(), 1);
                    }
                    let scale = (*d as f32).sqrt().recip();
                    for (at, vectors) in panels(self.tokens) {
                        let (queries, panel) = (scratch.queries.as_ptr(), scratch.keys.as_ptr().add(at * words));
                        let to = scratch.scores.as_mut_ptr().add(at);
                        match vectors {
                            1 => product::<N, 1>(queries, panel, words, scale, to, stride),
                            2 => product::<N, 2>(queries, panel, words, scale, to, stride),
                            _ => product::<N, WIDEST>(queries, panel, words, scale, to, stride),
                        }
                    }
                    for (row, bias) in bias.iter().flat_map(|bias| (0..count).map(move |row| (row, bias))) {
                        let bias = bias.row::<f32>(head, first + row);
                        let here = scratch.scores.as_mut_ptr().add(row * stride);
                        (0..self.tokens).for_each(|token| *here.add(token) += *bias.add(token));
                    }
                }
            }
        }
    }
}

/// Divides columns into panels: first column and number of vectors of each.
fn panels(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..columns).step_by(WIDEST * LANES).map(move |at| (at, (columns - at).div_ceil(LANES).min(WIDEST)))
}

/// Writes `len` adjacent numbers as words that lie `stride` words apart. The last word ends with zero if it has room.
#[inline(always)]
unsafe fn pack_row<N: Number>(from: *const N, len: usize, to: *mut u32, stride: usize) {
    // SAFETY: the caller has `len` numbers, and memory for their words.
    unsafe {
        for word in 0..len / N::PER_WORD {
            let from = from.add(word * N::PER_WORD);
            *to.add(word * stride) = N::word(*from, *from.add(N::PER_WORD - 1));
        }
        if !len.is_multiple_of(N::PER_WORD) {
            *to.add(len / N::PER_WORD * stride) = N::word(*from.add(len - 1), N::ZERO);
        }
    }
}

/// Packs the keys of a head, [tokens, d], into panels. Columns beyond the last token are zero.
#[inline(always)]
unsafe fn pack_keys<N: Number>(k: &Rows<'_>, head: (usize, usize), (tokens, d): (usize, usize), to: &mut Vec<u32>) {
    let words = d.div_ceil(N::PER_WORD);
    to.clear();
    to.resize(tokens.next_multiple_of(LANES) * words, 0);
    for (at, vectors) in panels(tokens) {
        let width = vectors * LANES;
        for lane in 0..width.min(tokens - at) {
            // SAFETY: the token exists, and its panel has a column for it.
            unsafe { pack_row::<N>(k.row(head, at + lane), d, to.as_mut_ptr().add(at * words + lane), width) };
        }
    }
}

/// Packs the values of a head, [tokens, c], into panels. Words beyond the last token, up to a multiple of 32 tokens,
/// and columns beyond the last one are zero.
#[inline(always)]
unsafe fn pack_values<N: Number>(v: &Rows<'_>, head: (usize, usize), (tokens, c): (usize, usize), to: &mut Vec<u32>) {
    let words = tokens.next_multiple_of(2 * LANES) / N::PER_WORD;
    to.clear();
    to.resize(c.next_multiple_of(LANES) * words, 0);
    for (at, vectors) in panels(c) {
        let (width, columns) = (vectors * LANES, (vectors * LANES).min(c - at));
        for word in 0..tokens.div_ceil(N::PER_WORD) {
            let token = word * N::PER_WORD;
            // SAFETY: both tokens exist, and the panel has a row for their word.
            unsafe {
                let first = v.row::<N>(head, token).add(at);
                let second = (token + N::PER_WORD <= tokens).then(|| v.row::<N>(head, token + N::PER_WORD - 1).add(at));
                let to = to.as_mut_ptr().add(at * words + word * width);
                match second {
                    Some(second) => (0..columns).for_each(|i| *to.add(i) = N::word(*first.add(i), *second.add(i))),
                    None => (0..columns).for_each(|i| *to.add(i) = N::word(*first.add(i), N::ZERO)),
                }
            }
        }
    }
}

/// Computes `scale` · queries · keys for a tile of 8 queries and a panel of keys.
#[inline(always)]
unsafe fn product<N: Number, const V: usize>(
    queries: *const u32,
    panel: *const u32,
    words: usize,
    scale: f32,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the promise of the caller of `part`.
    unsafe {
        let mut rows = [queries; ROWS];
        for (row, start) in rows.iter_mut().enumerate() {
            *start = queries.add(row * words);
        }
        let sums = tile::<N, V>(zeros(), rows, panel, words, &mut Ahead::nothing());
        for row in 0..ROWS {
            for v in 0..V {
                _mm512_storeu_ps(to.add(row * stride + v * LANES), _mm512_mul_ps(sums[row][v], _mm512_set1_ps(scale)));
            }
        }
    }
}

/// Computes weights · values for a tile of 8 rows of weights and a panel of values → `to`, [8, V · 16].
#[inline(always)]
unsafe fn weighted<N: Number, const V: usize>(
    weights: *const u32,
    stride: usize,
    panel: *const u32,
    words: usize,
    to: *mut f32,
) {
    let most = SUMMANDS / N::PER_WORD;
    // SAFETY: the promise of the caller of `part`.
    unsafe {
        for word in (0..words).step_by(most) {
            let mut rows = [weights; ROWS];
            for (row, start) in rows.iter_mut().enumerate() {
                *start = weights.add(row * stride + word);
            }
            let (panel, some) = (panel.add(word * V * LANES), most.min(words - word));
            let mut sums = tile::<N, V>(zeros(), rows, panel, some, &mut Ahead::nothing());
            if word > 0 {
                let before = load::<V>(to);
                for row in 0..ROWS {
                    for v in 0..V {
                        sums[row][v] = _mm512_add_ps(sums[row][v], before[row][v]);
                    }
                }
            }
            store(sums, to);
        }
    }
}
