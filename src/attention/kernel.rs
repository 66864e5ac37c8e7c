//! Attention arithmetic, in four ways.
//!
//! - The kernels of `impasto-kernels`, on processors with AVX2 or AVX-512. They leave probabilities for readers at
//!   little cost.
//! - By hand: scores, softmax and weighted values as three operations of libtorch.
//! - By hand in bf16, for the training of a bf16 network on a processor.
//! - libtorch's fused kernel.
//!
//! The tensors alone decide the way, never hooks, so that a hook that only reads changes no bit.
//!
//! Shapes in this module: q [b, heads, queries, d], k [b, heads, tokens, d], v [b, heads, tokens, c].

use crate::error::{Error, Result};
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Maximum number of scores that a lazy view holds at once, which bounds the memory of the scores to 64 MiB.
pub(super) const CHUNK: i64 = 1 << 24;

/// Maximum number of tokens for which attention by hand is as fast on a CPU as the fused kernel. Prompts of one or two
/// chunks (77 or 154 tokens) are below the limit; self-attention usually has more tokens.
const FEW: i64 = 160;

/// Returns true if attention should be computed by hand.
///
/// On a CPU, over few tokens, attention by hand costs the same as the fused kernel and leaves its probabilities for all
/// readers (measured: `benches/attention.rs`). In training, attention by hand is faster for self-attention too, because
/// the fused kernel's gradient is slow on a CPU.
pub(super) fn by_hand(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<bool> {
    let cheap = q.requires_grad() || (q.f_kind()? == Kind::Float && k.size4()?.2 <= FEW);
    Ok(cheap && fit(q, k)? && q.device() == Device::Cpu && !impasto_kernels::attends(q, k, v))
}

/// Returns true if the scores of all queries fit in [`CHUNK`].
pub(super) fn fit(q: &Tensor, k: &Tensor) -> Result<bool> {
    let (n, heads, queries, _) = q.size4()?;
    Ok(n * heads * queries * k.size4()?.2 <= CHUNK)
}

/// Returns true if [`attend`] should keep its probabilities for readers. It should not for the many tokens of
/// self-attention: their readers sum over the heads, and head by head the probabilities stay in the processor's cache.
pub(super) fn keeps(q: &Tensor, k: &Tensor) -> Result<bool> {
    Ok(fit(q, k)? && k.size4()?.2 <= FEW)
}

/// Computes attention without any hook → [b, queries, heads · c].
pub(super) fn plain(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    match by_hand(q, k, v)? {
        true if q.requires_grad() && q.f_kind()? == Kind::BFloat16 => learn(q, k, v),
        true => Ok(weigh(&scores(q, k)?, v)?.0),
        false => Ok(attend(q, k, v, 0..0, None, false)?.0),
    }
}

/// Computes attention for training in bf16 → [b, queries, heads · c].
///
/// Scores and probabilities are bf16 as well. On a CPU, the products and their gradients take less than half the time
/// of f32, and bf16 has the range of f32, so that no score overflows.
fn learn(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    count::kernel();
    let q = q.f_mul_scalar((q.size4()?.3 as f64).powf(-0.5))?;
    let probs = q.f_matmul(&k.f_transpose(2, 3)?)?.f_softmax(-1, None::<Kind>)?;
    merge_heads(&probs.f_matmul(v)?)
}

/// Computes softmax(q·kᵀ/√d + bias)·v by a kernel → [b, queries, heads · c]. The bias covers `rows` of the b rows. With
/// `keep`, the probabilities of these rows are also returned, if the kernel can leave them.
///
/// Scores and softmax are f32 for every kind of q and k. This keeps SD 2.x from overflowing in half precision; its
/// configurations ask for f32 (`upcast_attention`).
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    rows: Range<i64>,
    bias: Option<&Tensor>,
    keep: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    count::kernel();
    if impasto_kernels::attends(q, k, v) && bias.is_none_or(|bias| !bias.requires_grad()) {
        let attention = impasto_kernels::attend_rows(q, k, v, rows, bias, keep)?;
        return Ok((attention.output, attention.probabilities));
    }
    let all = q.size4()?.0;
    let bias = bias.map(|bias| of_all_rows(bias, rows, all)?.f_to_kind(q.kind()).map_err(Error::from)).transpose()?;
    let output = Tensor::f_scaled_dot_product_attention(q, k, v, bias.as_ref(), 0.0, false, None::<f64>, false)?;
    Ok((merge_heads(&output)?, None))
}

/// Returns a bias of `rows` with zeros for the others of `all` rows.
fn of_all_rows(bias: &Tensor, rows: Range<i64>, all: i64) -> Result<Tensor> {
    let (_, heads, queries, tokens) = bias.size4()?;
    if rows == (0..all) {
        return Ok(bias.shallow_clone());
    }
    let zeros = |count| Tensor::f_zeros([count, heads, queries, tokens], (bias.kind(), bias.device()));
    Ok(Tensor::f_cat(&[&zeros(rows.start)?, bias, &zeros(all - rows.end)?], 0)?)
}

/// Returns the scores with a bias, [rows, 1 or heads, queries, tokens], added to `rows` of the b rows. Hooks may have
/// kept the scores, so these stay as they are.
pub(super) fn add_bias(scores: &Tensor, rows: Range<i64>, bias: &Tensor) -> Result<Tensor> {
    Ok(scores.f_add(&of_all_rows(bias, rows, scores.size4()?.0)?)?)
}

/// Returns the largest score of each row, if the kernels compute it.
pub(super) fn largest_scores(q: &Tensor, k: &Tensor) -> Result<Option<Vec<f32>>> {
    if !impasto_kernels::attends(q, k, k) {
        return Ok(None);
    }
    count::kernel();
    Ok(Some(impasto_kernels::largest_scores(q, k)?))
}

/// Computes softmax(scores)·v of f32 scores → [b, queries, heads · c], and the probabilities.
pub(super) fn weigh(scores: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    if impasto_kernels::weighs(scores, v)
        && let attention = impasto_kernels::weigh(scores, v, true)?
        && let Some(probs) = attention.probabilities
    {
        return Ok((attention.output, probs));
    }
    let probs = probs(scores)?;
    let output = probs.f_matmul(&v.f_to_kind(Kind::Float)?)?.f_to_kind(v.kind())?;
    Ok((merge_heads(&output)?, probs))
}

/// Computes q·kᵀ/√d in f32, [b, heads, queries, tokens].
pub(crate) fn scores(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    count::kernel();
    if impasto_kernels::attends(q, k, k) {
        return Ok(impasto_kernels::scores(q, k)?);
    }
    let ((b, heads, queries, d), tokens) = (q.size4()?, k.size4()?.2);
    let rows = |x: &Tensor, rows| x.f_to_kind(Kind::Float)?.f_reshape([b * heads, rows, d]);
    let nothing = Tensor::f_zeros([1, 1, 1], (Kind::Float, q.device()))?;
    let scores =
        nothing.f_baddbmm(&rows(q, queries)?, &rows(k, tokens)?.f_transpose(1, 2)?, 0.0, (d as f64).powf(-0.5))?;
    Ok(scores.f_reshape([b, heads, queries, tokens])?)
}

/// Computes softmax(scores) in f32.
pub(super) fn probs(scores: &Tensor) -> Result<Tensor> {
    Ok(scores.f_softmax(-1, Kind::Float)?)
}

/// Returns (start, length) of each block of query rows whose scores fit in [`CHUNK`].
pub(crate) fn chunks(q: &Tensor, k: &Tensor) -> Result<impl Iterator<Item = (i64, i64)>> {
    let (n, heads, queries, _) = q.size4()?;
    let rows = (CHUNK / (n * heads * k.size4()?.2).max(1)).clamp(1, queries.max(1));
    Ok((0..queries).step_by(rows as usize).map(move |start| (start, rows.min(queries - start))))
}

/// Repeats the n rows of `x`, [n, ..] → [rows, ..]; `rows` is a multiple of n.
pub(crate) fn repeated(x: &Tensor, rows: i64) -> Result<Tensor> {
    let times = times(x, rows);
    if times == 1 {
        return Ok(x.shallow_clone());
    }
    Ok(Tensor::f_cat(&vec![x; times], 0)?) // takes a third of the time of `repeat`
}

/// Adds `few`, [n, ..], to `x` in place: row i of `x` gets row i mod n of `few`.
pub(crate) fn add_repeated(mut x: Tensor, few: &Tensor) -> Result<Tensor> {
    let times = times(few, x.size().first().copied().unwrap_or_default());
    if times == 1 {
        return Ok(x.f_add_(few)?);
    }
    let _ = x.f_unflatten(0, [times as i64, -1])?.f_add_(few)?;
    Ok(x)
}

/// Returns the number of times that the rows of `x` fit into `rows`, at least 1.
fn times(x: &Tensor, rows: i64) -> usize {
    x.size().first().map_or(1, |&n| (rows / n.max(1)).max(1) as usize)
}

/// Merges the heads, [b, heads, queries, c] → [b, queries, heads·c].
fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (b, heads, queries, c) = x.size4()?;
    Ok(x.f_transpose(1, 2)?.f_reshape([b, queries, heads * c])?)
}

/// Counter of kernel calls, for tests that check their number. Other builds count nothing.
pub(super) mod count {
    #[cfg(test)]
    thread_local!(static CALLS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

    /// Counts one kernel call.
    #[inline]
    pub(in crate::attention) fn kernel() {
        #[cfg(test)]
        CALLS.with(|calls| calls.set(calls.get() + 1));
    }

    /// Runs `f`. Returns the number of kernel calls that this thread made in the meantime, and the result of `f`.
    #[cfg(test)]
    pub(in crate::attention) fn during<T>(f: impl FnOnce() -> T) -> (usize, T) {
        let before = CALLS.with(std::cell::Cell::get);
        let value = f();
        (CALLS.with(std::cell::Cell::get) - before, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns queries or keys of `kind` with values so large that scores reach several hundred.
    fn steep(shape: &[i64], phase: f64, kind: Kind) -> Tensor {
        let count = shape.iter().product::<i64>();
        let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * 0.7391 + phase).sin() * 12.0;
        wave.reshape(shape).to_kind(kind)
    }

    #[test]
    fn repeated_rows_cycle() -> Result<()> {
        let few = Tensor::from_slice(&[1f32, 2.0]).reshape([2, 1]);
        let read = |x: Tensor| Vec::<f32>::try_from(x.flatten(0, -1)).unwrap();
        assert_eq!(read(repeated(&few, 6)?), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert_eq!(repeated(&few, 2)?.data_ptr(), few.data_ptr(), "nothing to copy");
        let x = Tensor::from_slice(&[10f32, 20.0, 30.0, 40.0, 50.0, 60.0]).reshape([6, 1]);
        assert_eq!(read(add_repeated(x.copy(), &few)?), [11.0, 22.0, 31.0, 42.0, 51.0, 62.0]);
        assert_eq!(read(add_repeated(x.copy(), &x)?), [20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        Ok(())
    }

    #[test]
    fn gradients_flow_to_what_hooks_return() -> Result<()> {
        let x = Tensor::randn([1, 2, 9, 8], (Kind::Float, Device::Cpu));
        let learns = || Tensor::zeros([1, 2, 9, 9], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (bias, added) = (learns(), learns());
        attend(&x, &x, &x, 0..1, Some(&bias), false)?.0.square().sum(Kind::Float).backward();
        weigh(&(scores(&x, &x)? + &added), &x)?.0.square().sum(Kind::Float).backward();
        assert!(bias.grad().abs().max().double_value(&[]) > 1e-3);
        assert!((bias.grad() - added.grad()).abs().max().double_value(&[]) < 1e-5);
        Ok(())
    }

    #[test]
    fn training_in_bf16_has_the_gradients_of_f32() -> Result<()> {
        let gradients = |kind| -> Result<Vec<Tensor>> {
            let x = [0.0, 1.0, 2.0].map(|phase| steep(&[2, 3, 40, 16], phase, Kind::BFloat16) / 12.0);
            let x = x.map(|x| x.to_kind(kind).set_requires_grad(true));
            let y = plain(&x[0], &x[1], &x[2])?;
            assert_eq!((y.kind(), y.size()), (kind, vec![2, 40, 48]));
            y.to_kind(Kind::Float).square().sum(Kind::Float).backward();
            Ok(x.iter().map(|x| x.grad().to_kind(Kind::Float)).collect())
        };
        for (half, full) in gradients(Kind::BFloat16)?.iter().zip(gradients(Kind::Float)?) {
            let apart = ((half - &full).norm() / full.norm()).double_value(&[]);
            assert!(apart < 0.02, "{apart}");
        }
        Ok(())
    }

    #[test]
    fn scores_are_f32_in_a_bf16_network() -> Result<()> {
        // 77 tokens of a prompt are computed by hand, 400 tokens by the fused kernel.
        for tokens in [77, 400] {
            let [q, k] = [(64, 0.0), (tokens, 1.0)].map(|(n, phase)| steep(&[1, 2, n, 64], phase, Kind::BFloat16));
            let v = steep(&[1, 2, tokens, 64], 2.0, Kind::BFloat16) / 12.0;
            let out = |scores: &Tensor| -> Result<Tensor> { Ok(weigh(scores, &v)?.0) };
            let exact = scores(&q, &k)?;
            assert!(exact.abs().max().double_value(&[]) > 256.0, "bf16 rounds scores above 256 to even numbers");
            let apart = |a: &Tensor, b: &Tensor| (a - b).to_kind(Kind::Float).abs().max().double_value(&[]);
            let want = out(&exact)?;
            let rounded = apart(&out(&exact.to_kind(Kind::BFloat16).to_kind(Kind::Float))?, &want);
            let ours = apart(&plain(&q, &k, &v)?, &want);
            assert!(ours < 0.01 && rounded > 5.0 * ours, "{tokens} tokens: {ours}, and with rounded scores {rounded}");
        }
        Ok(())
    }
}
