//! Sums of attention over the heads, added to those of earlier calls.

use crate::dispatch::run;
use crate::isa::{Simd, Work};
use crate::job::Rows;
use crate::tensors::{suit, unfit};
use tch::{Kind, TchError, Tensor};

/// Queries of a part of the work.
const QUERIES: usize = 64;

/// Returns true if the kernels add attention from `probabilities`, [n, heads, queries, tokens], to `sums`,
/// [n, subjects, queries] or [n, subjects, h, w] with h·w queries, by `weights`, [subjects, tokens of a subject]. All
/// are f32; the tokens have to be adjacent, and weights and sums contiguous.
#[must_use]
pub fn accumulates(probabilities: &Tensor, weights: &Tensor, sums: &Tensor) -> bool {
    let all = [probabilities, weights, sums];
    let contiguous = weights.is_contiguous() && sums.is_contiguous() && probabilities.stride().last() == Some(&1);
    contiguous && suit(&all) && probabilities.kind() == Kind::Float
}

/// Adds the attention to some subjects to `sums`: for each subject, the sum over the heads and over the tokens from
/// `first` on of probability times weight. [`accumulates`] describes the shapes.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`accumulates`] is false.
pub fn accumulate(probabilities: &Tensor, first: i64, weights: &Tensor, sums: &mut Tensor) -> Result<(), TchError> {
    if !accumulates(probabilities, weights, sums) {
        return Err(unfit("the sums", sums, "contiguous f32 on the CPU, as weights and probabilities are"));
    }
    let ((n, heads, queries, tokens), (subjects, chosen)) = (probabilities.size4()?, weights.size2()?);
    if first < 0 || first + chosen > tokens {
        return Err(unfit("the weights", weights, &format!("columns for tokens from {first} on, of {tokens}")));
    }
    if sums.size().first() != Some(&n)
        || sums.size().get(1) != Some(&subjects)
        || sums.numel() as i64 != n * subjects * queries
    {
        return Err(unfit("the sums", sums, &format!("[{n}, {subjects}, {queries}], for the probabilities")));
    }
    let work = Accumulation {
        probabilities: Rows::of(probabilities)?,
        weights: weights.data_ptr().cast(),
        sums: sums.data_ptr().cast(),
        n: n as usize,
        heads: heads as usize,
        queries: queries as usize,
        subjects: subjects as usize,
        first: first as usize,
        tokens: chosen as usize,
    };
    // SAFETY: the shapes fit together.
    unsafe { run(&work) }
}

/// The sums of a call.
struct Accumulation<'a> {
    probabilities: Rows<'a, f32>,
    /// Weights, [subjects, tokens].
    weights: *const f32,
    /// Sums, [n, subjects, queries].
    sums: *mut f32,
    n: usize,
    heads: usize,
    queries: usize,
    subjects: usize,
    /// The first token, and the number of tokens.
    first: usize,
    tokens: usize,
}

// SAFETY: threads read, or write sums of queries that no other thread reads or writes.
unsafe impl Send for Accumulation<'_> {}
// SAFETY: as above.
unsafe impl Sync for Accumulation<'_> {}

impl Work for Accumulation<'_> {
    const KIND: Kind = Kind::Float;
    /// The sums of a query over the heads.
    type Scratch = Vec<f32>;

    fn parts<S: Simd>(&self) -> usize {
        self.n * self.queries.div_ceil(QUERIES)
    }

    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, index: usize, scratch: &mut Vec<f32>) {
        let (n, block) = (index / self.queries.div_ceil(QUERIES), index % self.queries.div_ceil(QUERIES));
        scratch.resize(self.tokens.next_multiple_of(S::LANES), 0.0);
        for query in block * QUERIES..self.queries.min((block + 1) * QUERIES) {
            // SAFETY: the caller's promise; scratch memory has whole vectors.
            unsafe {
                for at in (0..self.tokens).step_by(S::LANES) {
                    let some = simd.lanes(at, self.tokens);
                    let mut sum = simd.splat(0.0);
                    for head in 0..self.heads {
                        let row = self.probabilities.row((n, head), query).add(self.first + at);
                        sum = simd.add(sum, simd.load_or(simd.splat(0.0), row, some));
                    }
                    simd.store(sum, scratch.as_mut_ptr().add(at));
                }
                for subject in 0..self.subjects {
                    let weights = self.weights.add(subject * self.tokens);
                    let mut sum = simd.splat(0.0);
                    for at in (0..self.tokens).step_by(S::LANES) {
                        let some = simd.lanes(at, self.tokens);
                        let weights = simd.load_or(simd.splat(0.0), weights.add(at), some);
                        sum = simd.mul_add(simd.load(scratch.as_ptr().add(at)), weights, sum);
                    }
                    *self.sums.add((n * self.subjects + subject) * self.queries + query) += simd.reduce_sum(sum);
                }
            }
        }
    }
}
