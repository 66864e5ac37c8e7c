//! Attention of tensors.

use crate::dispatch::run;
use crate::isa::Bf16;
use crate::job::{Job, Part, Rows, Sink, Source};
use crate::number::Number;
use crate::tensors::{check, suit, unfit};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Kind, TchError, Tensor};

/// Results of an attention call.
#[derive(Debug)]
pub struct Attention {
    /// Weighted values with the heads side by side, [n, queries, heads · c], in the kind of the values.
    pub output: Tensor,
    /// Probabilities, [n, heads, queries, tokens] f32, if they were asked for; those of the rows n of [`attend_rows`].
    pub probabilities: Option<Tensor>,
}

/// Returns true if the kernels compute attention of these tensors: queries [n, heads, queries, d], keys
/// [n, heads, tokens, d] and values [n, heads, tokens, c].
#[must_use]
pub fn attends(q: &Tensor, k: &Tensor, v: &Tensor) -> bool {
    suit(&[q, k, v]) && [q, k, v].iter().all(|x| x.dim() == 4)
}

/// Computes softmax(q·kᵀ/√d + bias)·v. Scores and softmax are f32.
///
/// `bias` is f32 and broadcasts to [n, heads, queries, tokens]. `keep` keeps the probabilities.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`attends`] is false.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>, keep: bool) -> Result<Attention, TchError> {
    attend_rows(q, k, v, 0..q.size4()?.0, bias, keep)
}

/// Computes attention as [`attend`] does, with a bias and probabilities for some rows n alone.
///
/// `bias` is f32 and broadcasts to [rows, heads, queries, tokens]. `keep` keeps the probabilities of the rows, in the
/// same shape.
///
/// # Errors
/// The errors of [`attend`]; [`TchError`] if there are no such rows.
pub fn attend_rows(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    rows: Range<i64>,
    bias: Option<&Tensor>,
    keep: bool,
) -> Result<Attention, TchError> {
    check(&[q, k, v])?;
    let (shape, d) = shape(q, k)?;
    let [n, heads, queries, tokens] = shape;
    if rows.start < 0 || rows.start > rows.end || rows.end > n {
        return Err(unfit("the queries' tensor", q, &format!("rows {rows:?}, of which there are {n}")));
    }
    let of_rows = [rows.end - rows.start, heads, queries, tokens];
    let (q, k) = (adjacent(q)?, adjacent(k)?);
    if let Some(bias) = bias.filter(|bias| !suit(&[bias]) || bias.kind() != Kind::Float) {
        return Err(unfit("the bias", bias, "f32 on the CPU, without gradients"));
    }
    let bias = bias.map(|bias| adjacent(&bias.f_expand(of_rows, false)?)).transpose()?;
    let bias = bias.as_ref().map(|bias| Part::of(bias, rows.start)).transpose()?;
    let keep = keep.then_some(rows);
    match v.f_kind()? {
        Kind::BFloat16 => {
            values::<Bf16>(shape, Source::Product { q: Rows::of(&q)?, k: Rows::of(&k)?, d, bias }, v, keep)
        }
        _ => values::<f32>(shape, Source::Product { q: Rows::of(&q)?, k: Rows::of(&k)?, d, bias }, v, keep),
    }
}

/// Computes the scores q·kᵀ/√d, f32 [n, heads, queries, tokens].
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`attends`] is false.
pub fn scores(q: &Tensor, k: &Tensor) -> Result<Tensor, TchError> {
    check(&[q, k])?;
    let (shape, d) = shape(q, k)?;
    let (q, k) = (adjacent(q)?, adjacent(k)?);
    let scores = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    match q.f_kind()? {
        Kind::BFloat16 => product::<Bf16>(shape, (&q, &k, d), &scores)?,
        _ => product::<f32>(shape, (&q, &k, d), &scores)?,
    }
    Ok(scores)
}

/// Computes the largest score of q·kᵀ/√d for each row n.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`attends`] is false.
pub fn largest_scores(q: &Tensor, k: &Tensor) -> Result<Vec<f32>, TchError> {
    check(&[q, k])?;
    let (shape, d) = shape(q, k)?;
    let (q, k) = (adjacent(q)?, adjacent(k)?);
    match q.f_kind()? {
        Kind::BFloat16 => largest::<Bf16>(shape, (&q, &k, d)),
        _ => largest::<f32>(shape, (&q, &k, d)),
    }
}

/// Returns true if the kernels weigh these values, [n, heads, tokens, c], by these scores.
#[must_use]
pub fn weighs(scores: &Tensor, v: &Tensor) -> bool {
    let four = scores.dim() == 4 && v.dim() == 4;
    four && suit(&[v]) && suit(&[scores]) && scores.kind() == Kind::Float
}

/// Computes softmax(scores)·v of f32 `scores`, [n, heads, queries, tokens]. `keep` keeps the probabilities.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`weighs`] is false.
pub fn weigh(scores: &Tensor, v: &Tensor, keep: bool) -> Result<Attention, TchError> {
    check(&[v])?;
    check(&[scores])?;
    let (n, heads, queries, tokens) = scores.size4()?;
    if scores.f_kind()? != Kind::Float {
        return Err(unfit("the scores", scores, "f32"));
    }
    let scores = adjacent(scores)?;
    let shape = [n, heads, queries, tokens];
    let keep = keep.then_some(0..n);
    match v.f_kind()? {
        Kind::BFloat16 => values::<Bf16>(shape, Source::Scores(Rows::of(&scores)?), v, keep),
        _ => values::<f32>(shape, Source::Scores(Rows::of(&scores)?), v, keep),
    }
}

/// Returns [n, heads, queries, tokens], and the width of queries and keys.
fn shape(q: &Tensor, k: &Tensor) -> Result<([i64; 4], usize), TchError> {
    let ((n, heads, queries, d), (.., tokens, _)) = (q.size4()?, k.size4()?);
    if k.size() != [n, heads, tokens, d] {
        return Err(unfit("the keys", k, &format!("[{n}, {heads}, tokens, {d}], as the queries have")));
    }
    if tokens > i64::from(i32::MAX) {
        return Err(unfit("the keys", k, "at most 2³¹ − 1 tokens"));
    }
    Ok(([n, heads, queries, tokens], d as usize))
}

/// Returns `x`, or a copy, with adjacent columns.
fn adjacent(x: &Tensor) -> Result<Tensor, TchError> {
    if x.stride().last() == Some(&1) { Ok(x.shallow_clone()) } else { x.f_contiguous() }
}

/// Computes scores of queries and keys of width d.
fn product<N: Number>(shape: [i64; 4], (q, k, d): (&Tensor, &Tensor, usize), scores: &Tensor) -> Result<(), TchError> {
    let source = Source::Product { q: Rows::<N>::of(q)?, k: Rows::of(k)?, d, bias: None };
    // SAFETY: `shape` has found that queries and keys fit together; the scores have the shape.
    unsafe { run(&Job::new(shape, source, Sink::Scores(Rows::of(scores)?))) }
}

/// Computes the largest score of each row n, of queries and keys of width d.
fn largest<N: Number>(shape: [i64; 4], (q, k, d): (&Tensor, &Tensor, usize)) -> Result<Vec<f32>, TchError> {
    let source = Source::Product { q: Rows::<N>::of(q)?, k: Rows::of(k)?, d, bias: None };
    let most = Mutex::new(vec![f32::NEG_INFINITY; shape[0] as usize]);
    // SAFETY: `shape` has found that queries and keys fit together; there is a number for each row.
    unsafe { run(&Job::new(shape, source, Sink::Largest(&most)))? };
    Ok(most.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Computes the softmax of scores, and the values weighted by it. The source has the shape. The probabilities of the
/// rows of `keep` are kept.
fn values<N: Number>(
    shape: [i64; 4],
    source: Source<'_, N>,
    v: &Tensor,
    keep: Option<Range<i64>>,
) -> Result<Attention, TchError> {
    let ([n, heads, queries, tokens], (.., c)) = (shape, v.size4()?);
    if v.size() != [n, heads, tokens, c] {
        return Err(unfit("the values", v, &format!("[{n}, {heads}, {tokens}, c], as the keys have")));
    }
    let v = adjacent(v)?;
    let output = Tensor::f_empty([n, queries, heads, c], (N::KIND, Device::Cpu))?;
    let by_head = output.f_transpose(1, 2)?;
    let kept = |rows: &Range<i64>| {
        let probabilities =
            Tensor::f_empty([rows.end - rows.start, heads, queries, tokens], (Kind::Float, Device::Cpu))?;
        Ok::<_, TchError>((probabilities, rows.start))
    };
    let kept = keep.as_ref().map(kept).transpose()?;
    let sink = Sink::Values {
        v: Rows::of(&v)?,
        c: c as usize,
        output: Rows::of(&by_head)?,
        probabilities: kept.as_ref().map(|(probabilities, first)| Part::of(probabilities, *first)).transpose()?,
    };
    // SAFETY: the values have the tokens of the shape, which the source has, too.
    unsafe { run(&Job::new(shape, source, sink))? };
    Ok(Attention { output: output.f_flatten(2, 3)?, probabilities: kept.map(|(probabilities, _)| probabilities) })
}
