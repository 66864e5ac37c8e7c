//! Pairing of a guide's tokens with a prompt's by similarity.

use super::params::Mapping;
use crate::error::{Error, Result};
use ndarray::Array2;
use tch::{Kind, Tensor};

/// The partner of one token of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pair {
    /// Row of the guide; `None` if no partner is left.
    pub alternate: Option<usize>,
    /// Similarity of the two tokens, 0..=1.
    pub similarity: f64,
}

/// Returns the similarity of each guide token, [a, d], to each prompt token, [t, d]: [a, t] f32. The similarity is the
/// softmax over the prompt's tokens of `temperature` times the cosine.
///
/// # Errors
/// [`Error::Shape`] if ranks or widths do not fit, [`Error::Parameter`] for a token without a direction (all zeros, or
/// not finite).
pub(super) fn similarity(alternate: &Tensor, text: &Tensor, temperature: f64) -> Result<Tensor> {
    let logits = directions(("guide tokens", "guide token"), alternate)?
        .f_matmul(&directions(("prompt tokens", "prompt token"), text)?.f_tr()?);
    let logits = match (alternate.size().as_slice(), text.size().as_slice()) {
        ([_, width], [_, d]) if width != d => return Err(misfit(alternate, *d)),
        _ => logits?,
    };
    Ok(logits.f_mul_scalar(temperature)?.f_softmax(1, Kind::Float)?)
}

/// Returns the error for a guide whose width differs from the prompt's.
pub(super) fn misfit(alternate: &Tensor, width: i64) -> Error {
    let expected = format!("a width of {width}, like the prompt's tokens");
    Error::Shape { what: "guide tokens", got: alternate.size(), expected }
}

/// Returns tokens, [tokens, width], each divided by its length. `what` and `one` are the names of all tokens and of one
/// token in messages.
fn directions((what, one): (&'static str, &'static str), tokens: &Tensor) -> Result<Tensor> {
    if tokens.dim() != 2 || tokens.numel() == 0 {
        return Err(Error::Shape { what, got: tokens.size(), expected: "[tokens, width]".into() });
    }
    let tokens = tokens.f_to_kind(Kind::Float)?;
    let lengths = tokens.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)?;
    let good = lengths.f_gt(0.0)?.f_logical_and(&lengths.f_isfinite()?)?;
    if good.f_all()?.f_int64_value(&[])? == 0 {
        let index = good.f_to_kind(Kind::Int)?.f_argmin(None, false)?.f_int64_value(&[])?;
        let length = lengths.f_reshape([-1])?.f_double_value(&[index])?;
        let expected = "a finite vector that is not all zeros";
        return Err(Error::parameter(one, format!("a vector of length {length} at position {index}"), expected));
    }
    Ok(tokens.f_div(&lengths)?)
}

/// Copies a matrix of [`similarity`], [a, t], to the CPU.
pub(super) fn read(similarity: &Tensor) -> Result<Array2<f32>> {
    let (a, t) = similarity.size2()?;
    let values = Vec::<f32>::try_from(&similarity.f_to_kind(Kind::Float)?.f_contiguous()?.f_reshape([-1])?)?;
    let misfit = |_| Error::Shape { what: "similarity", got: similarity.size(), expected: "[a, t]".into() };
    Array2::from_shape_vec((a as usize, t as usize), values).map_err(misfit)
}

/// Returns a partner for each token of a prompt from the [`similarity`], [a, t]. If the first token is the prompt's
/// `header`, it is paired with the guide's first token at similarity 0. Except with [`Mapping::Direct`], a token whose
/// similarity is 0 has no partner.
pub(super) fn align(s: &Array2<f32>, mapping: Mapping, header: bool) -> Vec<Pair> {
    let (a, t) = s.dim();
    let mut pairs = match mapping {
        Mapping::Direct => (0..t).map(|at| direct(s, at, at, a)).collect(),
        _ => assign(s, mapping, &words_of(t, header)),
    };
    if mapping != Mapping::Direct {
        pairs.iter_mut().filter(|pair| pair.similarity <= 0.0).for_each(|pair| pair.alternate = None);
    }
    if let Some(first) = pairs.first_mut().filter(|_| header) {
        *first = Pair { alternate: Some(0), similarity: 0.0 };
    }
    pairs
}

/// Returns the pairs as FlexDiffuse computes them: each position gets the partner of the next token, and the last
/// position gets the guide's first token.
pub(super) fn shift(s: &Array2<f32>, mapping: Mapping) -> Vec<Pair> {
    let (a, t) = s.dim();
    let first = Pair { alternate: Some(0), similarity: 0.0 };
    let pairs: Vec<Pair> = match mapping {
        Mapping::Direct => (1..t).map(|at| direct(s, at - 1, at, a)).collect(),
        _ => assign(s, mapping, &words_of(t, true)).split_off(t.min(1)),
    };
    pairs.into_iter().map(|pair| pair.alternate.map_or(first, |_| pair)).chain([first]).take(t).collect()
}

fn direct(s: &Array2<f32>, row: usize, at: usize, a: usize) -> Pair {
    let similarity = s.get((row, at)).copied().unwrap_or_default().into();
    Pair { alternate: (row < a).then_some(row), similarity }
}

/// Returns a flag for each of `t` tokens: true for all but the first one, if that is a `header`.
fn words_of(t: usize, header: bool) -> Vec<bool> {
    (0..t).map(|at| at > 0 || !header).collect()
}

/// Assigns partners by similarity to the tokens that are `wanted`. The others get no partner.
pub(super) fn assign(s: &Array2<f32>, mapping: Mapping, wanted: &[bool]) -> Vec<Pair> {
    let (a, t) = s.dim();
    let reuse = matches!(mapping, Mapping::BestFit { reuse: true } | Mapping::TextOrder { reuse: true });
    let mut free = vec![true; a];
    let mut pairs = vec![Pair::default(); t];
    let mut left: Vec<usize> = (0..t).filter(|at| wanted.get(*at) == Some(&true)).collect();
    // A tie goes to the lowest row, then to the lowest token.
    let best = |at: usize, free: &[bool]| {
        let candidates = s.column(at).into_iter().zip(free).enumerate().filter(|(_, (_, free))| **free);
        candidates.map(|(row, (value, _))| (row, *value)).reduce(|a, b| if b.1 > a.1 { b } else { a })
    };
    while !left.is_empty() {
        let next = match mapping {
            Mapping::BestFit { reuse: false } => {
                let candidates = left.iter().enumerate().filter_map(|(at, token)| Some((at, best(*token, &free)?)));
                candidates.reduce(|a, b| if b.1.1 > a.1.1 { b } else { a })
            }
            _ => left.first().and_then(|token| Some((0, best(*token, &free)?))),
        };
        let Some((at, (row, value))) = next else { break };
        let token = left.remove(at);
        if let Some(pair) = pairs.get_mut(token) {
            *pair = Pair { alternate: Some(row), similarity: value.into() };
        }
        if let Some(free) = free.get_mut(row).filter(|_| !reuse) {
            *free = false;
        }
    }
    pairs
}
