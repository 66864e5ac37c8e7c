//! The work of one attention call, in parts that threads share.

use crate::functions::{add_row, exponentials, largest, scale_row};
use crate::isa::{MOST_ROWS, Simd, TALLEST, Words, WordsOf, Work};
use crate::number::{Number, numbers};
use crate::serial::threads;
use crate::tile::{Ahead, load, store, tile, zeros};

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};
use tch::{Kind, TchError, Tensor};

/// Tokens whose weighted values are summed in one go. A sum of more summands would lose bits.
const SUMMANDS: usize = 256;

/// The rows of a tensor [n, heads, rows, columns] with adjacent columns, which threads read or write.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, N> {
    data: *mut N,
    strides: [usize; 3],
    tensor: PhantomData<&'a Tensor>,
}

// SAFETY: a thread reads rows, or writes rows that no other thread reads or writes.
unsafe impl<N: Number> Send for Rows<'_, N> {}
// SAFETY: as above.
unsafe impl<N: Number> Sync for Rows<'_, N> {}

impl<'a, N: Number> Rows<'a, N> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self, TchError> {
        let strides = tensor.stride();
        let strides: Vec<usize> = strides.iter().filter_map(|stride| usize::try_from(*stride).ok()).collect();
        match strides.as_slice() {
            &[n, head, row, _] => Ok(Self { data: numbers(tensor)?, strides: [n, head, row], tensor: PhantomData }),
            _ => Err(TchError::Kind(format!("the shape is {:?}; expected [n, heads, rows, columns]", tensor.size()))),
        }
    }

    /// Returns the first number of a row.
    pub(crate) unsafe fn row(&self, (n, head): (usize, usize), row: usize) -> *mut N {
        let [n_stride, head_stride, row_stride] = self.strides;
        // SAFETY: the caller asks for a row of the tensor.
        unsafe { self.data.add(n * n_stride + head * head_stride + row * row_stride) }
    }
}

/// The rows of a tensor that covers some rows n of an attention call.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    rows: Rows<'a, f32>,
    first: usize,
    count: usize,
}

impl<'a> Part<'a> {
    /// Makes the rows of a tensor that begins with the row n `first`.
    pub(crate) fn of(tensor: &'a Tensor, first: i64) -> Result<Self, TchError> {
        Ok(Self { rows: Rows::of(tensor)?, first: first as usize, count: tensor.size4()?.0 as usize })
    }

    /// Returns the first number of a row; `None` if the tensor does not cover the row n.
    unsafe fn row(&self, (n, head): (usize, usize), row: usize) -> Option<*mut f32> {
        let own = n.checked_sub(self.first).filter(|own| *own < self.count)?;
        // SAFETY: the tensor covers the row n; the rest is the caller's promise.
        Some(unsafe { self.rows.row((own, head), row) })
    }
}

/// The origin of the scores.
pub(crate) enum Source<'a, N> {
    /// Queries times keys of width `d`, divided by √d, plus a bias.
    Product { q: Rows<'a, N>, k: Rows<'a, N>, d: usize, bias: Option<Part<'a>> },
    /// Scores that are given.
    Scores(Rows<'a, f32>),
}

/// The results of a job.
pub(crate) enum Sink<'a, N> {
    /// The scores.
    Scores(Rows<'a, f32>),
    /// Values of width `c`, weighted by the softmax of the scores, and its probabilities.
    Values { v: Rows<'a, N>, c: usize, output: Rows<'a, N>, probabilities: Option<Part<'a>> },
    /// The largest score of each row n.
    Largest(&'a Mutex<Vec<f32>>),
}

/// One attention call. Its parts are done in any order, by any threads.
pub(crate) struct Job<'a, N> {
    heads: usize,
    queries: usize,
    tokens: usize,
    source: Source<'a, N>,
    sink: Sink<'a, N>,
    /// Number of heads of all rows n.
    pairs: usize,
    /// Number of parts of a head.
    shares: usize,
}

/// Memory of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Keys in panels of up to `S::WIDEST` vectors of tokens, [words of d, tokens] each.
    keys: Vec<u32>,
    /// Values in panels of up to `S::WIDEST` vectors of columns, [words of tokens, columns] each.
    values: Vec<u32>,
    /// Queries of a tile, [`S::ROWS`, words of d].
    queries: Vec<u32>,
    /// Scores of a tile, [`S::ROWS`, stride], later their exponentials.
    scores: Vec<f32>,
    /// Weighted values of a tile, [`S::ROWS`, columns of a panel].
    sums: Vec<f32>,
}

impl<'a, N: Number> Job<'a, N> {
    /// Makes a job of shape [n, heads, queries, tokens]. If there are enough queries, each thread has two
    /// parts or more.
    pub(crate) fn new(shape: [i64; 4], source: Source<'a, N>, sink: Sink<'a, N>) -> Self {
        let [n, heads, queries, tokens] = shape.map(|length| length as usize);
        let pairs = n * heads;
        let shares = (2 * threads()).div_ceil(pairs).clamp(1, queries.div_ceil(TALLEST));
        Self { heads, queries, tokens, source, sink, pairs, shares }
    }

    /// Fills scratch memory with the scores of `count` queries from `first` on. Further rows of the tile repeat the
    /// last query.
    #[inline(always)]
    unsafe fn scores<S: Simd>(
        &self,
        simd: S,
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
                    for row in 0..S::ROWS {
                        let to = scratch.scores.as_mut_ptr().add(row * stride);
                        to.copy_from_nonoverlapping(from.row(head, row_of(row)), self.tokens);
                    }
                }
                Source::Product { q, d, bias, .. } => {
                    let words = d.div_ceil(N::Words::<S>::PER_WORD);
                    scratch.queries.resize(S::ROWS * words, 0);
                    for (row, to) in scratch.queries.chunks_exact_mut(words).enumerate() {
                        pack_row::<S, N>(q.row(head, row_of(row)), *d, to.as_mut_ptr(), 1);
                    }
                    let scale = (*d as f32).sqrt().recip();
                    for (at, vectors) in panels::<S>(self.tokens) {
                        let (queries, panel) = (scratch.queries.as_ptr(), scratch.keys.as_ptr().add(at * words));
                        let to = scratch.scores.as_mut_ptr().add(at);
                        match vectors {
                            1 => product::<S, N, 1>(simd, queries, panel, words, scale, to, stride),
                            2 => product::<S, N, 2>(simd, queries, panel, words, scale, to, stride),
                            _ => product::<S, N, 3>(simd, queries, panel, words, scale, to, stride),
                        }
                    }
                    for (row, bias) in bias.iter().flat_map(|bias| (0..count).map(move |row| (row, bias))) {
                        let Some(bias) = bias.row(head, first + row) else { break };
                        let here = scratch.scores.as_mut_ptr().add(row * stride);
                        add_row(simd, bias, here, self.tokens);
                    }
                }
            }
        }
    }
}

impl<N: Number> Work for Job<'_, N> {
    const KIND: Kind = N::KIND;
    type Scratch = Scratch;

    fn parts<S: Simd>(&self) -> usize {
        self.pairs * self.shares
    }

    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, scratch: &mut Scratch) {
        let (pair, share) = (index / self.shares, index % self.shares);
        let head = (pair / self.heads, pair % self.heads);
        let length = self.queries.div_ceil(self.shares).next_multiple_of(S::ROWS);
        // Rows of scores end with room for whole vectors. Their distance is no power of two, whose multiples share few
        // places in a cache.
        let padded = self.tokens.next_multiple_of(2 * S::LANES);
        let stride = padded + S::LANES;
        scratch.scores.resize(S::ROWS * stride, 0.0);
        scratch.sums.resize(S::ROWS * S::WIDEST * S::LANES, 0.0);
        // SAFETY: the caller's promise; scratch memory has the sizes that the functions ask for.
        unsafe {
            if let Source::Product { k, d, .. } = &self.source {
                pack_keys::<S, N>(k, head, (self.tokens, *d), &mut scratch.keys);
            }
            if let Sink::Values { v, c, .. } = &self.sink {
                pack_values::<S, N>(v, head, (self.tokens, *c), &mut scratch.values);
            }
            let mut most = f32::NEG_INFINITY;
            let last = ((share + 1) * length).min(self.queries);
            for first in (share * length..last).step_by(S::ROWS) {
                let count = S::ROWS.min(last - first);
                self.scores(simd, head, (first, count), scratch, stride);
                match &self.sink {
                    Sink::Largest(_) => {
                        for row in 0..count {
                            most = most.max(largest(simd, scratch.scores.as_ptr().add(row * stride), self.tokens));
                        }
                    }
                    Sink::Scores(to) => {
                        for row in 0..count {
                            let from = scratch.scores.as_ptr().add(row * stride);
                            to.row(head, first + row).copy_from_nonoverlapping(from, self.tokens);
                        }
                    }
                    Sink::Values { c, output, probabilities, .. } => {
                        let mut inverse = [0.0; TALLEST];
                        for (row, inverse) in inverse.iter_mut().enumerate().take(S::ROWS) {
                            let here = scratch.scores.as_mut_ptr().add(row * stride);
                            *inverse = exponentials(simd, here, self.tokens).recip();
                            let kept = probabilities.filter(|_| row < count);
                            if let Some(to) = kept.and_then(|kept| kept.row(head, first + row)) {
                                scale_row(simd, here, *inverse, to, self.tokens);
                            }
                            N::Words::of_floats(simd, here, padded);
                        }
                        for (at, vectors) in panels::<S>(*c) {
                            let words = padded / N::Words::<S>::PER_WORD;
                            let weights = scratch.scores.as_ptr().cast();
                            let panel = scratch.values.as_ptr().add(at * words);
                            let sums = scratch.sums.as_mut_ptr();
                            match vectors {
                                1 => weighted::<S, N, 1>(simd, weights, stride, panel, words, sums),
                                2 => weighted::<S, N, 2>(simd, weights, stride, panel, words, sums),
                                _ => weighted::<S, N, 3>(simd, weights, stride, panel, words, sums),
                            }
                            for (row, inverse) in inverse.iter().enumerate().take(count) {
                                let to = output.row(head, first + row).add(at);
                                let sums = scratch.sums.as_ptr().add(row * vectors * S::LANES);
                                let columns = (vectors * S::LANES).min(c - at);
                                scale_row(simd, sums, *inverse, to, columns);
                            }
                        }
                    }
                }
            }
            if let Sink::Largest(all) = &self.sink {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(known) = all.get_mut(head.0) {
                    *known = known.max(most);
                }
            }
        }
    }
}

/// Divides columns into panels: first column and number of vectors of each.
fn panels<S: Simd>(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    const { assert!(matches!(S::WIDEST, 2 | 3), "products are written for panels of 1 to 3 vectors") };
    (0..columns).step_by(S::WIDEST * S::LANES).map(move |at| (at, (columns - at).div_ceil(S::LANES).min(S::WIDEST)))
}

/// Writes `len` adjacent numbers as words that lie `stride` words apart. The last word ends with zero if it has room.
#[inline(always)]
unsafe fn pack_row<S: Simd, N: Number>(from: *const N, len: usize, to: *mut u32, stride: usize) {
    // SAFETY: the caller has `len` numbers, and memory for their words.
    unsafe {
        for word in 0..len / N::Words::<S>::PER_WORD {
            let from = from.add(word * N::Words::<S>::PER_WORD);
            *to.add(word * stride) = N::Words::<S>::word(*from, *from.add(N::Words::<S>::PER_WORD - 1));
        }
        if !len.is_multiple_of(N::Words::<S>::PER_WORD) {
            *to.add(len / N::Words::<S>::PER_WORD * stride) = N::Words::<S>::word(*from.add(len - 1), N::ZERO);
        }
    }
}

/// Packs the keys of a head, [tokens, d], into panels. Columns beyond the last token are zero.
#[inline(always)]
unsafe fn pack_keys<S: Simd, N: Number>(
    k: &Rows<'_, N>,
    head: (usize, usize),
    (tokens, d): (usize, usize),
    to: &mut Vec<u32>,
) {
    let words = d.div_ceil(N::Words::<S>::PER_WORD);
    to.clear();
    to.resize(tokens.next_multiple_of(S::LANES) * words, 0);
    for (at, vectors) in panels::<S>(tokens) {
        let width = vectors * S::LANES;
        for lane in 0..width.min(tokens - at) {
            // SAFETY: the token exists, and its panel has a column for it.
            unsafe { pack_row::<S, N>(k.row(head, at + lane), d, to.as_mut_ptr().add(at * words + lane), width) };
        }
    }
}

/// Packs the values of a head, [tokens, c], into panels. Words beyond the last token, up to a multiple of
/// 2 · `S::LANES` tokens, and columns beyond the last one are zero.
#[inline(always)]
unsafe fn pack_values<S: Simd, N: Number>(
    v: &Rows<'_, N>,
    head: (usize, usize),
    (tokens, c): (usize, usize),
    to: &mut Vec<u32>,
) {
    let words = tokens.next_multiple_of(2 * S::LANES) / N::Words::<S>::PER_WORD;
    to.clear();
    to.resize(c.next_multiple_of(S::LANES) * words, 0);
    for (at, vectors) in panels::<S>(c) {
        let (width, columns) = (vectors * S::LANES, (vectors * S::LANES).min(c - at));
        for word in 0..tokens.div_ceil(N::Words::<S>::PER_WORD) {
            let token = word * N::Words::<S>::PER_WORD;
            // SAFETY: both tokens exist, and the panel has a row for their word.
            unsafe {
                let first = v.row(head, token).add(at);
                let second = (token + N::Words::<S>::PER_WORD <= tokens)
                    .then(|| v.row(head, token + N::Words::<S>::PER_WORD - 1).add(at));
                let to = to.as_mut_ptr().add(at * words + word * width);
                match second {
                    Some(second) => {
                        (0..columns).for_each(|i| *to.add(i) = N::Words::<S>::word(*first.add(i), *second.add(i)))
                    }
                    None => (0..columns).for_each(|i| *to.add(i) = N::Words::<S>::word(*first.add(i), N::ZERO)),
                }
            }
        }
    }
}

/// Computes `scale` · queries · keys for a tile of queries and a panel of keys.
#[inline(always)]
unsafe fn product<S: Simd, N: Number, const V: usize>(
    simd: S,
    queries: *const u32,
    panel: *const u32,
    words: usize,
    scale: f32,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the promise of the caller of `part`.
    unsafe {
        let mut rows = [queries; MOST_ROWS];
        for (row, start) in rows.iter_mut().enumerate().take(S::ROWS) {
            *start = queries.add(row * words);
        }
        let sums = tile::<S, N::Words<S>, V>(simd, zeros(simd), rows, panel, words, &mut Ahead::nothing());
        for row in 0..S::ROWS {
            for v in 0..V {
                simd.store(simd.mul(sums[row][v], simd.splat(scale)), to.add(row * stride + v * S::LANES));
            }
        }
    }
}

/// Computes weights · values for a tile of weights and a panel of values → `to`, [`S::ROWS`, V · `S::LANES`].
#[inline(always)]
unsafe fn weighted<S: Simd, N: Number, const V: usize>(
    simd: S,
    weights: *const u32,
    stride: usize,
    panel: *const u32,
    words: usize,
    to: *mut f32,
) {
    let most = SUMMANDS / N::Words::<S>::PER_WORD;
    // SAFETY: the promise of the caller of `part`.
    unsafe {
        for word in (0..words).step_by(most) {
            let mut rows = [weights; MOST_ROWS];
            for (row, start) in rows.iter_mut().enumerate().take(S::ROWS) {
                *start = weights.add(row * stride + word);
            }
            let (panel, some) = (panel.add(word * V * S::LANES), most.min(words - word));
            let mut sums = tile::<S, N::Words<S>, V>(simd, zeros(simd), rows, panel, some, &mut Ahead::nothing());
            if word > 0 {
                let before = load::<S, V>(simd, to);
                for row in 0..S::ROWS {
                    for v in 0..V {
                        sums[row][v] = simd.add(sums[row][v], before[row][v]);
                    }
                }
            }
            store(simd, sums, to);
        }
    }
}
