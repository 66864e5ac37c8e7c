//! Lazy views of scores and probabilities. A view computes only the requested values, at the first request, once per
//! call.

use super::kernel;
use crate::error::{Error, Result};
use crate::prompt::TokenSpan;
use std::cell::OnceCell;
use tch::{Device, Kind, Tensor};

/// Largest ratio of the head width d to the number of tokens T, as a fraction, for which a standard deviation is
/// computed without scores. Without scores, N queries take N·d² operations. With scores, they take N·T·d operations and
/// three passes over N·T numbers.
const GRAM_SHARE: (i64, i64) = (5, 4);

/// Scaled scores q·kᵀ/√d of one branch, f32. In joint attention, the scores are those of the prompt's tokens for the
/// picture's. Computed statistics are kept for the other hooks of the same call.
#[derive(Debug)]
pub struct Scores<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    whole: Option<Tensor>,
    largest: OnceCell<Vec<f32>>,
    max: OnceCell<Tensor>,
    std: OnceCell<Tensor>,
}

impl<'a> Scores<'a> {
    /// Creates a view. `whole` holds all scores, if the output is computed from them.
    pub(super) fn new(q: &'a Tensor, k: &'a Tensor, whole: Option<Tensor>) -> Self {
        Self { q, k, whole, largest: OnceCell::new(), max: OnceCell::new(), std: OnceCell::new() }
    }

    /// Returns the span of all tokens of the context.
    pub fn tokens(&self) -> TokenSpan {
        TokenSpan { start: 0, end: tokens(self.k) }
    }

    /// Returns all scores, [n, heads, queries, tokens].
    pub fn full(&self) -> Result<Tensor> {
        self.whole.as_ref().map_or_else(|| kernel::scores(self.q, self.k), |whole| Ok(whole.shallow_clone()))
    }

    /// Returns the scores of the tokens in `span`, [n, heads, queries, span].
    pub fn columns(&self, span: TokenSpan) -> Result<Tensor> {
        if let Some(whole) = &self.whole {
            return Ok(whole.f_narrow(3, span.start, span.len())?);
        }
        kernel::scores(self.q, &self.k.f_narrow(2, span.start, span.len())?)
    }

    /// Returns the largest score of each image, [n, 1, 1, 1].
    pub fn max(&self) -> Result<Tensor> {
        kept(&self.max, || match self.largest()? {
            Some(largest) => Ok(Tensor::f_from_slice(largest)?.f_view([-1, 1, 1, 1])?),
            None => {
                let parts = self.by_rows(|scores| Ok(scores.f_amax([1i64, 2, 3], true)?))?;
                Ok(Tensor::f_stack(&parts, 0)?.f_amax([0i64], false)?)
            }
        })
    }

    /// Returns the largest score of each image times a factor, [n, 1, 1, 1]. A negative score counts as 0.
    pub(crate) fn max_times(&self, factor: f64) -> Result<Tensor> {
        match self.largest()? {
            Some(largest) => {
                let scaled: Vec<f32> = largest.iter().map(|score| score.max(0.0) * factor as f32).collect();
                Ok(Tensor::f_from_slice(&scaled)?.f_view([-1, 1, 1, 1])?)
            }
            None => Ok(self.max()?.f_clamp_min(0.0)?.f_mul_scalar(factor)?),
        }
    }

    /// Returns the largest score of each image, if the kernels compute it without the scores.
    fn largest(&self) -> Result<Option<&[f32]>> {
        if self.whole.is_some() {
            return Ok(None);
        }
        if self.largest.get().is_none() {
            let Some(largest) = kernel::largest_scores(self.q, self.k)? else { return Ok(None) };
            return Ok(Some(self.largest.get_or_init(|| largest)));
        }
        Ok(self.largest.get().map(Vec::as_slice))
    }

    /// Returns the standard deviation of each image's scores, [n, 1, 1, 1]. The divisor is the number of scores minus
    /// 1. Tokens whose keys are zero do not count: they pad the context of some models, such as Anima.
    pub fn std(&self) -> Result<Tensor> {
        kept(&self.std, || {
            if let Some(used) = without_padding(self.k)? {
                let k = self.k.f_index_select(2, &used)?;
                let whole = self.whole.as_ref().map(|whole| whole.f_index_select(3, &used)).transpose()?;
                return Scores::new(self.q, &k, whole).std();
            }
            let tokens = tokens(self.k);
            let d = self.q.size4()?.3;
            if d * GRAM_SHARE.1 <= tokens * GRAM_SHARE.0 { self.std_by_gram() } else { self.std_by_scores() }
        })
    }

    /// Computes the standard deviation without the scores S = q·kᵀ: per head Σ S² = ⟨qᵀq, kᵀk⟩ and Σ S = (Σ q)·(Σ k).
    /// The difference of these sums is taken in double precision.
    fn std_by_gram(&self) -> Result<Tensor> {
        let (_, heads, queries, d) = self.q.size4()?;
        let count = (heads * queries * tokens(self.k)) as f64;
        let (q, k) = (self.q.f_to_kind(Kind::Float)?, self.k.f_to_kind(Kind::Float)?);
        // Apple's GPUs have no doubles. These tensors are small, so they move to the CPU.
        let exact = |x: Tensor| if x.device() == Device::Mps { x.f_to_device(Device::Cpu) } else { Ok(x) };
        let gram = |x: &Tensor| exact(x.f_transpose(2, 3)?.f_matmul(x)?)?.f_to_kind(Kind::Double);
        let sum =
            |x: &Tensor| exact(x.f_sum_dim_intlist([2i64].as_slice(), true, Kind::Float)?)?.f_to_kind(Kind::Double);
        let over = |product: Tensor| product.f_sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Double);
        let squares = over(gram(&q)?.f_mul(&gram(&k)?)?)?;
        let total = over(sum(&q)?.f_mul(&sum(&k)?)?)?;
        let deviations = squares.f_sub(&total.f_square()?.f_div_scalar(count)?)?.f_clamp_min(0.0)?;
        // The scores are scaled by 1/√d.
        Ok(deviations
            .f_div_scalar((count - 1.0) * d as f64)?
            .f_sqrt()?
            .f_to_kind(Kind::Float)?
            .f_to_device(q.device())?)
    }

    fn std_by_scores(&self) -> Result<Tensor> {
        // Chunks are combined by their means and squared deviations, because large sums would cancel.
        let moments = self.by_rows(|scores| {
            let mean = scores.f_mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float)?;
            let squares = scores.f_sub(&mean)?.f_square()?;
            let count = scores.size().iter().skip(1).product::<i64>() as f64;
            Ok((count, mean, squares.f_sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Float)?))
        })?;
        let total: f64 = moments.iter().map(|(count, ..)| count).sum();
        let mut mean = Tensor::f_zeros([1], (Kind::Float, self.q.device()))?;
        for (count, chunk, _) in &moments {
            mean = mean.f_add(&chunk.f_mul_scalar(count / total)?)?;
        }
        let mut squares = Tensor::f_zeros([1], (Kind::Float, self.q.device()))?;
        for (count, chunk, within) in &moments {
            squares = squares.f_add(within)?.f_add(&chunk.f_sub(&mean)?.f_square()?.f_mul_scalar(*count)?)?;
        }
        Ok(squares.f_div_scalar(total - 1.0)?.f_sqrt()?)
    }

    fn by_rows<T>(&self, f: impl Fn(&Tensor) -> Result<T>) -> Result<Vec<T>> {
        if let Some(whole) = &self.whole {
            return Ok(vec![f(whole)?]);
        }
        kernel::chunks(self.q, self.k)?
            .map(|(start, len)| f(&kernel::scores(&self.q.f_narrow(2, start, len)?, self.k)?))
            .collect()
    }
}

/// Attention probabilities of one branch, f32.
///
/// In joint attention, the probabilities are those of the prompt's tokens for the picture's. A row then adds up to less
/// than 1, because the rest is attention of the picture to itself ([`own_over_heads`](Self::own_over_heads)). The
/// prompt's tokens attend to both as well ([`of_prompt`](Self::of_prompt)).
///
/// If the output is computed from the probabilities, the view reads these. Otherwise the first reader computes the
/// matrix of probabilities, and the other readers of the call share the matrix. A matrix of more than 64 MiB is not
/// kept. The view then keeps only the softmax denominators, and each read recomputes the requested columns.
#[derive(Debug)]
pub struct Probs<'a> {
    logits: Logits<'a>,
    /// Queries of the prompt's tokens in joint attention.
    prompt: Option<&'a Tensor>,
    /// Probabilities before any hook's bias or edit; `None` if no hook changed the scores.
    before: Option<Box<Probs<'a>>>,
    whole: OnceCell<Tensor>,
    denominator: OnceCell<Tensor>,
    over_heads: OnceCell<Tensor>,
}

/// Input of the softmax: scaled scores plus bias.
#[derive(Clone, Copy, Debug)]
struct Logits<'a> {
    q: &'a Tensor,
    k: &'a Tensor,
    /// Keys that take part in the softmax and are not among the tokens: those of the picture in joint attention.
    beside: Option<&'a Tensor>,
    /// Bias that is added to the scores, [n, 1 or heads, queries, tokens].
    bias: Option<&'a Tensor>,
}

impl Logits<'_> {
    /// Computes the logits of `rows` (start, length) of the queries and `span` of the tokens, f32.
    fn part(&self, rows: (i64, i64), span: TokenSpan) -> Result<Tensor> {
        let k = self.k.f_narrow(2, span.start, span.len())?;
        let scores = kernel::scores(&self.q.f_narrow(2, rows.0, rows.1)?, &k)?;
        Ok(match self.bias {
            Some(bias) => scores.f_add(&bias.f_narrow(2, rows.0, rows.1)?.f_narrow(3, span.start, span.len())?)?,
            None => scores,
        })
    }

    /// Calls `f` with the logits of one head alone.
    fn head<T>(&self, head: i64, f: impl FnOnce(Logits<'_>) -> Result<T>) -> Result<T> {
        let one = |x: &Tensor| x.f_narrow(1, if x.size4()?.1 == 1 { 0 } else { head }, 1);
        let (q, k, bias) = (one(self.q)?, one(self.k)?, self.bias.map(one).transpose()?);
        let beside = self.beside.map(one).transpose()?;
        f(Logits { q: &q, k: &k, beside: beside.as_ref(), bias: bias.as_ref() })
    }

    /// Computes ln Σ exp(logits) of `rows` of the queries over all tokens, [n, heads, rows, 1].
    fn denominator(&self, rows: (i64, i64)) -> Result<Tensor> {
        let over = |logits: Tensor| logits.f_logsumexp([-1i64], true);
        let own = over(self.part(rows, TokenSpan { start: 0, end: tokens(self.k) })?)?;
        Ok(match self.beside {
            Some(beside) => own.f_logaddexp(&over(kernel::scores(&self.q.f_narrow(2, rows.0, rows.1)?, beside)?)?)?,
            None => own,
        })
    }

    /// Computes the probabilities of the keys beside the tokens in `rows` of the queries. `shares`, [n, heads, queries,
    /// 1], is the share of these keys in each row's softmax, if it is known.
    fn own(&self, rows: (i64, i64), shares: Option<&Tensor>) -> Result<Tensor> {
        let own = kernel::scores(&self.q.f_narrow(2, rows.0, rows.1)?, self.beside.unwrap_or(self.k))?;
        match shares {
            Some(shares) => Ok(kernel::probs(&own)?.f_mul(&shares.f_narrow(2, rows.0, rows.1)?)?),
            None => Ok(own.f_sub(&self.denominator(rows)?)?.f_exp()?),
        }
    }

    /// Computes the probabilities of all tokens in `rows` of the queries.
    fn probs(&self, rows: (i64, i64)) -> Result<Tensor> {
        let logits = self.part(rows, TokenSpan { start: 0, end: tokens(self.k) })?;
        match self.beside {
            Some(_) => Ok(logits.f_sub(&self.denominator(rows)?)?.f_exp()?),
            None => kernel::probs(&logits),
        }
    }

    /// Applies `f` to each block of query rows (start, length), and joins the results along the queries.
    fn by_rows(&self, f: impl Fn((i64, i64)) -> Result<Tensor>) -> Result<Tensor> {
        let most = self.beside.filter(|beside| tokens(beside) > tokens(self.k)).unwrap_or(self.k);
        let parts: Vec<Tensor> = kernel::chunks(self.q, most)?.map(f).collect::<Result<_>>()?;
        match parts.as_slice() {
            [all] => Ok(all.shallow_clone()),
            parts => Ok(Tensor::f_cat(parts, 2)?),
        }
    }
}

impl<'a> Probs<'a> {
    /// Creates a view of queries, keys, and the keys beside them that take part in the softmax. `whole` holds all
    /// probabilities, if the output was computed from them; it is required if hooks have `edited` the scores.
    pub(super) fn new(
        (q, k, beside): (&'a Tensor, &'a Tensor, Option<&'a Tensor>),
        bias: Option<&'a Tensor>,
        whole: Option<Tensor>,
        edited: bool,
    ) -> Self {
        let of = |bias, whole: Option<Tensor>, before| Self {
            logits: Logits { q, k, beside, bias },
            prompt: None,
            before,
            whole: whole.map(OnceCell::from).unwrap_or_default(),
            denominator: OnceCell::new(),
            over_heads: OnceCell::new(),
        };
        let touched = bias.is_some() || edited;
        of(bias, whole, touched.then(|| Box::new(of(None, None, None))))
    }

    /// Returns the view with the queries of the prompt's tokens, [n, heads, tokens, head width].
    pub(super) fn with_prompt(mut self, queries: Option<&'a Tensor>) -> Self {
        self.prompt = queries;
        self
    }

    /// Returns the span of all tokens of the context.
    pub fn tokens(&self) -> TokenSpan {
        TokenSpan { start: 0, end: tokens(self.logits.k) }
    }

    /// Returns the probabilities before any hook's bias or edit.
    pub fn untouched(&self) -> &Self {
        self.before.as_deref().unwrap_or(self)
    }

    /// Returns the probabilities of the tokens in `span`, [n, heads, queries, span]. Do not write into the tensor:
    /// other hooks read it too.
    pub fn columns(&self, span: TokenSpan) -> Result<Tensor> {
        if self.fits()? {
            return Ok(self.whole()?.f_narrow(3, span.start, span.len())?);
        }
        let denominator = self.denominator()?;
        self.logits.by_rows(|rows| {
            let logits = self.logits.part(rows, span)?;
            Ok(logits.f_sub(&denominator.f_narrow(2, rows.0, rows.1)?)?.f_exp()?)
        })
    }

    /// Returns all probabilities, summed over the heads, [n, queries, tokens]. If the matrix of probabilities does not
    /// exist yet, heads are computed one at a time. The working memory is then that of one head, which stays in the
    /// processor's cache.
    pub fn over_heads(&self) -> Result<Tensor> {
        kept(&self.over_heads, || {
            if let Some(whole) = self.whole.get() {
                return Ok(whole.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?);
            }
            let (n, heads, queries, _) = self.logits.q.size4()?;
            let device = (Kind::Float, self.logits.q.device());
            let mut sum = Tensor::f_zeros([n, queries, self.tokens().end], device)?;
            for head in 0..heads {
                let probs = self.logits.head(head, |logits| logits.by_rows(|rows| logits.probs(rows)))?;
                let _ = sum.f_add_(&probs.f_squeeze_dim(1)?)?;
            }
            Ok(sum)
        })
    }

    /// Returns the attention of the picture to itself in joint attention, summed over the heads, [n, queries, tokens of
    /// the picture]; `None` at other sites. With the probabilities of the prompt's tokens, a row adds up to the number
    /// of heads. The working memory is that of one head.
    pub fn own_over_heads(&self) -> Result<Option<Tensor>> {
        let Some(beside) = self.logits.beside else { return Ok(None) };
        let (n, heads, queries, _) = self.logits.q.size4()?;
        let mut sum = Tensor::f_zeros([n, queries, tokens(beside)], (Kind::Float, self.logits.q.device()))?;
        for head in 0..heads {
            let shares = self.whole.get().map(|whole| {
                let of_prompt = whole.f_narrow(1, head, 1)?.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?;
                Ok::<_, Error>(of_prompt.f_neg()?.f_add_scalar(1.0)?)
            });
            let shares = shares.transpose()?;
            let own = self.logits.head(head, |logits| logits.by_rows(|rows| logits.own(rows, shares.as_ref())))?;
            let _ = sum.f_add_(&own.f_squeeze_dim(1)?)?;
        }
        Ok(Some(sum))
    }

    /// Returns the attention of the prompt's tokens in joint attention: to the picture, [n, heads, tokens, tokens of
    /// the picture], and to the prompt, [n, heads, tokens, tokens]; `None` at other sites. A row of both adds up to 1.
    /// No bias acts on these rows. Both are computed at each call.
    pub fn of_prompt(&self) -> Result<Option<[Tensor; 2]>> {
        let (Some(queries), Some(picture)) = (self.prompt, self.logits.beside) else { return Ok(None) };
        let keys = Tensor::f_cat(&[picture, self.logits.k], 2)?;
        let probs = kernel::probs(&kernel::scores(queries, &keys)?)?;
        let (own, prompt) = (tokens(picture), tokens(self.logits.k));
        Ok(Some([probs.f_narrow(3, 0, own)?, probs.f_narrow(3, own, prompt)?]))
    }

    /// Adds the attention to some subjects to `sums`, [n, subjects, h, w] with a cell for each query: for each subject,
    /// the sum over the heads and over the tokens in `span` of probability times weight. `weights` is [subjects, span].
    pub(crate) fn add_to(&self, sums: &mut Tensor, span: TokenSpan, weights: &Tensor) -> Result<()> {
        if self.fits()? {
            let whole = self.whole()?;
            if impasto_kernels::accumulates(&whole, weights, sums) {
                return Ok(impasto_kernels::accumulate(&whole, span.start, weights, sums)?);
            }
        }
        let over_heads = self.columns(span)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        let heat = weights.f_matmul(&over_heads.f_transpose(1, 2)?)?; // [n, subjects, queries]
        let _ = sums.f_add_(&heat.f_reshape(sums.size())?)?;
        Ok(())
    }

    /// Computes the attention-weighted mean of `values` ([tokens, c] or [n, heads, tokens, c]) →
    /// [n, heads, queries, c].
    pub fn attend(&self, values: &Tensor) -> Result<Tensor> {
        if self.fits()? {
            return Ok(self.whole()?.f_matmul(values)?);
        }
        self.logits.by_rows(|rows| Ok(self.logits.probs(rows)?.f_matmul(values)?))
    }

    /// Returns true if the matrix of probabilities is computed already, or is small enough to keep.
    fn fits(&self) -> Result<bool> {
        if self.whole.get().is_some() {
            return Ok(true);
        }
        kernel::fit(self.logits.q, self.logits.k)
    }

    fn whole(&self) -> Result<Tensor> {
        kept(&self.whole, || self.logits.by_rows(|rows| self.logits.probs(rows)))
    }

    /// Computes ln Σ exp(logits) over the tokens, [n, heads, queries, 1].
    fn denominator(&self) -> Result<Tensor> {
        kept(&self.denominator, || self.logits.by_rows(|rows| self.logits.denominator(rows)))
    }
}

/// Returns the number of tokens of keys or values.
fn tokens(k: &Tensor) -> i64 {
    k.size().get(2).copied().unwrap_or_default()
}

/// Returns the indexes of the tokens whose keys are not zero; `None` if all tokens count, because no keys or all keys
/// are zero.
fn without_padding(k: &Tensor) -> Result<Option<Tensor>> {
    let used = k.f_abs()?.f_amax([0i64, 1, 3], false)?.f_nonzero()?.f_flatten(0, 1)?;
    let count = used.size1()?;
    Ok(Some(used).filter(|_| count > 0 && count < tokens(k)))
}

/// Returns the value in `cell`; the first call computes it with `make`.
fn kept(cell: &OnceCell<Tensor>, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    if let Some(value) = cell.get() {
        return Ok(value.shallow_clone());
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value).shallow_clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn randn(shape: &[i64], seed: i64) -> Tensor {
        let cells: i64 = shape.iter().product();
        let t = Tensor::arange(cells, (Kind::Double, Device::Cpu)) * 1.7 + seed as f64;
        ((t.sin() * 91.7).frac() * 2.0).to_kind(Kind::Float).reshape(shape)
    }

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn statistics_in_chunks_match_the_full_scores() -> Result<()> {
        // 2·8·2048·1024 scores are two chunks.
        for (queries, tokens) in [(6, 5), (2048, 1024)] {
            let (q, k) = (randn(&[2, 8, queries, 4], 1), randn(&[2, 8, tokens, 4], 2));
            let scores = Scores::new(&q, &k, None);
            let full = scores.full()?;
            assert!(apart(&scores.max()?, &full.amax([1i64, 2, 3], true)) < 1e-6);
            let std = full.std_dim([1i64, 2, 3].as_slice(), true, true);
            for got in [scores.std()?, scores.std_by_gram()?, scores.std_by_scores()?] {
                assert_eq!(got.size(), [2, 1, 1, 1]);
                assert!(apart(&got, &std) < 1e-5);
            }
            let there = Scores::new(&q, &k, Some(full.shallow_clone()));
            assert!(apart(&there.max()?, &scores.max()?) == 0.0 && apart(&there.std_by_scores()?, &std) < 1e-5);
            let span = TokenSpan { start: 1, end: 4 };
            assert!(apart(&there.columns(span)?, &scores.columns(span)?) < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn std_leaves_out_tokens_of_padding() -> Result<()> {
        let (q, k) = (randn(&[2, 3, 20, 4], 1), randn(&[2, 3, 5, 4], 2));
        let padded = k.constant_pad_nd([0, 0, 0, 30]);
        let (own, scores) = (Scores::new(&q, &k, None), Scores::new(&q, &padded, None));
        assert!(apart(&scores.std()?, &own.std()?) < 1e-6);
        let there = Scores::new(&q, &padded, Some(scores.full()?));
        assert!(apart(&there.std()?, &own.std()?) < 1e-6);
        // The texts of a prompt that changes leave columns empty for each other's words.
        let apart_words = Tensor::cat(&[k.narrow(2, 0, 3), padded.narrow(2, 5, 20), k.narrow(2, 3, 2)], 2);
        assert!(apart(&Scores::new(&q, &apart_words, None).std()?, &own.std()?) < 1e-6);
        let nothing = padded.zeros_like();
        assert_eq!(Scores::new(&q, &nothing, None).std()?.abs().max().double_value(&[]), 0.0);
        Ok(())
    }

    #[test]
    fn std_beside_a_large_mean_stays_accurate() -> Result<()> {
        // Scores are 900 ± 3, so the sum of squares is 10⁵ times the sum of squared deviations.
        let (q, k) = (randn(&[1, 2, 64, 16], 1) * 0.1 + 15.0, randn(&[1, 2, 77, 16], 2) * 0.1 + 15.0);
        let scores = Scores::new(&q, &k, None);
        let want = scores.full()?.to_kind(Kind::Double).std(true).double_value(&[]);
        for got in [scores.std_by_gram()?, scores.std_by_scores()?] {
            assert!((got.double_value(&[0, 0, 0, 0]) / want - 1.0).abs() < 1e-2, "{got} is not {want}");
        }
        // Equal scores have no deviation.
        let same = Tensor::full([1, 2, 64, 16], 3.0, (Kind::Float, Device::Cpu));
        assert!(Scores::new(&same, &same.narrow(2, 0, 7), None).std_by_gram()?.double_value(&[0, 0, 0, 0]) < 1e-2);
        Ok(())
    }

    #[test]
    fn columns_of_an_unkept_matrix_equal_the_softmax() -> Result<()> {
        for (queries, tokens) in [(6, 5), (2048, 1024)] {
            let (q, k) = (randn(&[2, 8, queries, 4], 1), randn(&[2, 8, tokens, 4], 2));
            let probs = Probs::new((&q, &k, None), None, None, false);
            assert_eq!(probs.fits()?, queries == 6);
            let full = kernel::scores(&q, &k)?.softmax(-1, Kind::Float);
            let span = TokenSpan { start: 1, end: 4 };
            assert!(apart(&probs.columns(span)?, &full.narrow(3, 1, 3)) < 1e-6);
            let values = randn(&[tokens, 3], 3);
            assert!(apart(&probs.attend(&values)?, &full.matmul(&values)) < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn joint_columns_are_part_of_the_whole_softmax() -> Result<()> {
        // 2·8·2048 queries and 1024 tokens are two chunks.
        for (queries, tokens) in [(6, 5), (2048, 1024)] {
            let (q, k) = (randn(&[2, 8, queries, 4], 1), randn(&[2, 8, tokens, 4], 2));
            let (beside, bias) = (randn(&[2, 8, 7, 4], 3), randn(&[2, 1, queries, tokens], 4));
            let text = kernel::scores(&q, &k)? + &bias;
            let all = Tensor::cat(&[kernel::scores(&q, &beside)?, text], 3).softmax(-1, Kind::Float);
            let (want, span) = (all.narrow(3, 7, tokens), TokenSpan { start: 1, end: 4 });
            let view = || Probs::new((&q, &k, Some(&beside)), Some(&bias), None, false);
            assert!(apart(&view().columns(span)?, &want.narrow(3, 1, 3)) < 1e-6);
            let sum = want.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            assert!(apart(&view().over_heads()?, &sum) < 1e-5);
            let values = randn(&[tokens, 3], 5);
            assert!(apart(&view().attend(&values)?, &want.matmul(&values)) < 1e-5);
            let own = all.narrow(3, 0, 7).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            assert!(apart(&view().own_over_heads()?.unwrap(), &own) < 1e-5);
            let known = Probs::new((&q, &k, Some(&beside)), None, Some(want), true);
            assert!(apart(&known.own_over_heads()?.unwrap(), &own) < 1e-5);
            assert!(Probs::new((&q, &k, None), None, None, false).own_over_heads()?.is_none());
            let words = randn(&[2, 8, tokens, 4], 6);
            let rows = Tensor::cat(&[kernel::scores(&words, &beside)?, kernel::scores(&words, &k)?], 3);
            let rows = rows.softmax(-1, Kind::Float);
            let [to_picture, to_prompt] = view().with_prompt(Some(&words)).of_prompt()?.unwrap();
            assert!(apart(&to_picture, &rows.narrow(3, 0, 7)) < 1e-6);
            assert!(apart(&to_prompt, &rows.narrow(3, 7, tokens)) < 1e-6 && view().of_prompt()?.is_none());
            let unbiased = Tensor::cat(&[kernel::scores(&q, &beside)?, kernel::scores(&q, &k)?], 3);
            let unbiased = unbiased.softmax(-1, Kind::Float).narrow(3, 8, 3);
            assert!(apart(&view().untouched().columns(span)?, &unbiased) < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn sum_over_heads_equals_the_sum_of_columns() -> Result<()> {
        let (q, k) = (randn(&[2, 3, 6, 4], 1), randn(&[2, 3, 5, 4], 2));
        for bias in [None, Some(randn(&[2, 1, 6, 5], 3)), Some(randn(&[2, 3, 6, 5], 4))] {
            let probs = || Probs::new((&q, &k, None), bias.as_ref(), None, false);
            let (alone, kept) = (probs(), probs());
            let want = kept.columns(kept.tokens())?.sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            assert!(apart(&alone.over_heads()?, &want) < 1e-6);
            assert_eq!(kept.over_heads()?, want);
            let (calls, again) = kernel::count::during(|| alone.over_heads());
            assert_eq!((calls, again?.size()), (0, vec![2, 6, 5]));
        }
        Ok(())
    }

    #[test]
    fn ten_readers_of_one_call_compute_the_scores_once() -> Result<()> {
        let (q, k) = (randn(&[1, 2, 6, 4], 1), randn(&[1, 2, 5, 4], 2));
        let probs = Probs::new((&q, &k, None), None, None, false);
        let (calls, read) = kernel::count::during(|| -> Result<()> {
            for start in [0, 1, 2, 0, 1, 2, 0, 1, 2, 3] {
                let _ = probs.columns(TokenSpan { start, end: start + 2 })?;
            }
            Ok(())
        });
        read?;
        assert_eq!(calls, 1);
        Ok(())
    }
}
