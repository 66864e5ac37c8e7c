//! Attention of tensors.

use crate::avx512::Bf16;
use crate::job::{Job, Rows, Scratch, Sink, Source};
use crate::processor::{check, suit, unfit};
use tch::{Device, Kind, TchError, Tensor};

/// Results of an attention call.
#[derive(Debug)]
pub struct Attention {
    /// Weighted values with the heads side by side, [n, queries, heads · c], in the kind of the values.
    pub output: Tensor,
    /// Probabilities, [n, heads, queries, tokens] f32, if they were asked for.
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
    check(&[q, k, v])?;
    let (shape, d) = shape(q, k)?;
    let (q, k) = (adjacent(q)?, adjacent(k)?);
    if let Some(bias) = bias.filter(|bias| !suit(&[bias]) || bias.kind() != Kind::Float) {
        return Err(unfit("the bias", bias, "f32 on the CPU, without gradients"));
    }
    let bias = bias.map(|bias| adjacent(&bias.f_expand(shape, false)?)).transpose()?;
    let bias = bias.as_ref().map(Rows::of).transpose()?;
    values(shape, Source::Product { q: Rows::of(&q)?, k: Rows::of(&k)?, d, bias }, v, keep)
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
    let source = Source::Product { q: Rows::of(&q)?, k: Rows::of(&k)?, d, bias: None };
    run(q.f_kind()?, &Job::new(shape, source, Sink::Scores(Rows::of(&scores)?)));
    Ok(scores)
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
    values([n, heads, queries, tokens], Source::Scores(Rows::of(&scores)?), v, keep)
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

/// Computes the softmax of scores, and the values weighted by it.
fn values(shape: [i64; 4], source: Source<'_>, v: &Tensor, keep: bool) -> Result<Attention, TchError> {
    let ([n, heads, queries, tokens], (.., c)) = (shape, v.size4()?);
    if v.size() != [n, heads, tokens, c] {
        return Err(unfit("the values", v, &format!("[{n}, {heads}, {tokens}, c], as the keys have")));
    }
    let (v, kind) = (adjacent(v)?, v.f_kind()?);
    let output = Tensor::f_empty([n, queries, heads, c], (kind, Device::Cpu))?;
    let by_head = output.f_transpose(1, 2)?;
    let probabilities = keep.then(|| Tensor::f_empty(shape, (Kind::Float, Device::Cpu))).transpose()?;
    let sink = Sink::Values {
        v: Rows::of(&v)?,
        c: c as usize,
        output: Rows::of(&by_head)?,
        probabilities: probabilities.as_ref().map(Rows::of).transpose()?,
    };
    run(kind, &Job::new(shape, source, sink));
    Ok(Attention { output: output.f_flatten(2, 3)?, probabilities })
}

/// Runs a job whose factors have the given kind.
fn run(kind: Kind, job: &Job<'_>) {
    match kind {
        // SAFETY: `check` has found the instructions for the kind, which is that of the rows.
        Kind::BFloat16 => job.run(|index, scratch| unsafe { bf16(job, index, scratch) }),
        // SAFETY: as above.
        _ => job.run(|index, scratch| unsafe { f32(job, index, scratch) }),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn f32(job: &Job<'_>, index: usize, scratch: &mut Scratch) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the rows.
    unsafe { job.part::<f32>(index, scratch) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn bf16(job: &Job<'_>, index: usize, scratch: &mut Scratch) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the rows.
    unsafe { job.part::<Bf16>(index, scratch) }
}
