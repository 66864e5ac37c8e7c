//! The tween: moves a prompt's tokens towards a guide's.

use super::concepts::Concepts;
use super::pairing::{self, align, misfit, shift};
use super::params::{Compat, GuidanceParams, Space};
use super::report::{ConceptHit, GuidedPrompt, GuidedToken, ImageGuidanceReport};
use super::weights::{line, shares, weights};
use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// Moves each of a prompt's tokens, [t, d] or [n, t, d] of any kind, towards its partner among the guide's, [a, d] or
/// [1 or n, a, d]. Also returns a report of the pairs and moves. Computes in f32; tokens that nothing moves keep every
/// bit.
///
/// The first token of the prompt is its header, the start token of a text encoder. The prompt is one chunk of a text
/// encoder (77 tokens of CLIP); a run passes the chunks of a longer prompt one by one.
///
/// ```
/// use impasto::methods::image_guidance::{tween, GuidanceParams};
/// use tch::{Device, Kind, Tensor};
///
/// let text = Tensor::f_eye(4, (Kind::Float, Device::Cpu))?;
/// let guide = text.f_flip([0i64])?;
/// let mut half = GuidanceParams::off();
/// (half.linear, half.header_max, half.snap) = ((0.5, 0.5), 0.0, false);
/// let (moved, report) = tween(&text, &guide, &half)?;
/// assert_eq!(moved.get(0), text.get(0)); // the header
/// assert_eq!(report.prompts[0].tokens[1].alternate, Some(2));
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// # Errors
/// [`Error::Parameter`] for a number of `params` out of its range, for tokens without a direction (all zeros or not
/// finite), and for [`Space::Joint`], which needs a projection; [`Error::Shape`] if ranks, widths or numbers of rows do
/// not fit.
pub fn tween(text: &Tensor, alternate: &Tensor, params: &GuidanceParams) -> Result<(Tensor, ImageGuidanceReport)> {
    let tween = Tween { params, chunk: None, projection: None, concepts: None, header: true };
    let rank = text.dim();
    let (moved, report) = tween.rows(&batch("prompt tokens", text)?, &batch("guide tokens", alternate)?)?;
    let flat = rank == 2 && moved.size().first() == Some(&1);
    Ok((if flat { moved.f_squeeze_dim(0)? } else { moved }, report))
}

/// Returns tokens as [n, tokens, width].
pub(super) fn batch(what: &'static str, tokens: &Tensor) -> Result<Tensor> {
    match tokens.size().as_slice() {
        [_, _] => Ok(tokens.f_unsqueeze(0)?),
        [_, _, _] => Ok(tokens.shallow_clone()),
        got => Err(Error::Shape { what, got: got.to_vec(), expected: "[tokens, width] or [n, tokens, width]".into() }),
    }
}

/// Returns the number of rows of a context, [n, tokens, width], up to the last one that is not zeros.
pub(super) fn count_rows(context: &Tensor) -> Result<i64> {
    let rows = context.f_ne(0.0)?.f_any_dims([0i64, 2].as_slice(), false)?.f_nonzero()?;
    let count = rows.size2()?.0;
    if count == 0 { Ok(context.size3()?.1) } else { Ok(rows.f_int64_value(&[count - 1, 0])? + 1) }
}

/// The settings of a tween, without its tokens.
pub(super) struct Tween<'a> {
    pub params: &'a GuidanceParams,
    /// Number of tokens that a text encoder reads at once; `None`: all tokens given.
    pub chunk: Option<i64>,
    /// Projection of the prompt's tokens into the space of the guide's, [joint, d].
    pub projection: Option<&'a Tensor>,
    pub concepts: Option<&'a Concepts>,
    /// True if the first token of each chunk is a header and stands for no word.
    pub header: bool,
}

impl Tween<'_> {
    /// Moves all rows: text [n, chunks · chunk, d] and guide [1 or n, a, d], or one row of text and n rows of the
    /// guide.
    pub(super) fn rows(&self, text: &Tensor, alternate: &Tensor) -> Result<(Tensor, ImageGuidanceReport)> {
        self.params.check()?;
        let ((n, tokens, d), (m, _, width)) = (text.size3()?, alternate.size3()?);
        if width != d {
            return Err(misfit(alternate, d));
        }
        if n != m && n != 1 && m != 1 {
            let expected = format!("1 row for all images, or {n} rows, one for each image");
            return Err(Error::Shape { what: "guide tokens", got: alternate.size(), expected });
        }
        let chunk = self.chunk.unwrap_or(tokens);
        if chunk < 1 || tokens < 1 || tokens % chunk != 0 {
            let expected = format!("[n, tokens, {d}] with a multiple of {chunk} tokens");
            return Err(Error::Shape { what: "prompt tokens", got: text.size(), expected });
        }
        let (mut rows, mut prompts) = (Vec::new(), Vec::new());
        for row in 0..n.max(m) {
            let [own, guide] = [(text, n), (alternate, m)].map(|(all, rows)| all.f_select(0, row.min(rows - 1)));
            let (moved, prompt) = self.row(&own?, &guide?, chunk)?;
            rows.push(moved);
            prompts.push(prompt);
        }
        let moved =
            if prompts.iter().all(GuidedPrompt::is_still) { text.shallow_clone() } else { Tensor::f_stack(&rows, 0)? };
        Ok((moved, ImageGuidanceReport::of(prompts)))
    }

    /// Moves one row: text [chunks · chunk, d], guide [a, d].
    fn row(&self, text: &Tensor, alternate: &Tensor, chunk: i64) -> Result<(Tensor, GuidedPrompt)> {
        let chunks = text.size2()?.0 / chunk;
        let (mut parts, mut prompt) = (Vec::new(), GuidedPrompt::default());
        for number in 0..chunks {
            let start = number * chunk;
            // The linear weights span all chunks without their headers.
            let each = (chunk - 1) as usize;
            let numbers = number as usize * each..(number + 1) as usize * each + 1;
            let linear = line(self.params.linear, numbers, chunks as usize * each + 1);
            parts.push(self.part(&text.f_narrow(0, start, chunk)?, alternate, linear, start, &mut prompt)?);
        }
        Ok((Tensor::f_cat(&parts, 0)?, prompt.sum_up()))
    }

    /// Moves one chunk, [chunk, d], which begins with the prompt's `start`th token. `linear` has the linear weights of
    /// the chunk's tokens. The pairs and moves are added to the report `prompt`.
    fn part(
        &self,
        text: &Tensor,
        alternate: &Tensor,
        linear: Vec<f64>,
        start: i64,
        prompt: &mut GuidedPrompt,
    ) -> Result<Tensor> {
        let params = self.params;
        let here = text.f_to_kind(Kind::Float)?;
        let guide = alternate.f_to_kind(Kind::Float)?.f_to_device(text.device())?;
        let (likeness, guide) = match (params.space, self.projection) {
            (Space::Hidden, _) => (pairing::similarity(&guide, &here, params.temperature)?, guide),
            (Space::Joint, Some(projection)) => {
                let projection = projection.f_to_device(text.device())?;
                let projected = here.f_matmul(&projection.f_tr()?)?;
                let likeness = pairing::similarity(&guide, &projected, params.temperature)?;
                (likeness, back(&guide, &here, &projection)?)
            }
            (Space::Joint, None) => {
                let expected = "Hidden, because Joint needs the text encoder's projection, which is missing";
                return Err(Error::parameter("space", "Joint", expected));
            }
        };
        let s = pairing::read(&likeness)?;
        let pairs = match params.compat {
            Compat::Aligned => align(&s, params.mapping, self.header),
            Compat::Upstream => shift(&s, params.mapping),
        };
        let weights = weights(&pairs, params, linear, self.header);
        let shares = shares(&pairs, &weights, params);
        for (((at, pair), weight), share) in (start..).zip(&pairs).zip(&weights).zip(&shares) {
            prompt.tokens.push(GuidedToken {
                position: at,
                alternate: pair.alternate.map(|row| row as i64),
                similarity: pair.similarity,
                weight: *weight,
                share: *share,
            });
        }
        let mut moved = here.shallow_clone();
        if shares.iter().any(|share| *share != 0.0) {
            let rows: Vec<i64> = pairs.iter().map(|pair| pair.alternate.unwrap_or_default() as i64).collect();
            let partners = guide.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to_device(text.device())?)?;
            let share =
                Tensor::f_from_slice(&shares)?.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_to_device(text.device())?;
            // `lerp` is exact at 0 and 1.
            moved = here.f_lerp_tensor(&partners, &share)?;
        }
        if let Some(concepts) = self.concepts {
            let hits = concepts.hits(&here, &guide, start, params.temperature)?;
            moved = put(&moved, &guide, &hits, start)?;
            prompt.concepts.extend(hits);
        }
        Ok(moved.f_to_kind(text.kind())?)
    }
}

/// Projects a guide's tokens, [a, joint], back into the space of the prompt's states, [t, d], by the pseudo-inverse of
/// the projection. The results are scaled to the mean length of the prompt's states.
fn back(guide: &Tensor, text: &Tensor, projection: &Tensor) -> Result<Tensor> {
    let states = guide.f_matmul(&projection.f_pinverse(1e-3)?.f_tr()?)?;
    let length = |of: &Tensor| of.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    let usual = length(text)?.f_mean(Kind::Float)?;
    Ok(states.f_mul(&usual)?.f_div(&length(&states)?.f_clamp_min(f64::MIN_POSITIVE)?)?)
}

/// Replaces the tokens in `hits` by the guide's tokens. The first row of `tokens` is the prompt's token `start`.
pub(super) fn put(tokens: &Tensor, guide: &Tensor, hits: &[ConceptHit], start: i64) -> Result<Tensor> {
    if hits.is_empty() {
        return Ok(tokens.shallow_clone());
    }
    let index = |of: fn(&ConceptHit) -> i64, less: i64| -> Result<Tensor> {
        let rows: Vec<i64> = hits.iter().map(|hit| of(hit) - less).collect();
        Ok(Tensor::f_from_slice(&rows)?.f_to_device(tokens.device())?)
    };
    let partners = guide.f_index_select(0, &index(|hit| hit.alternate, 0)?)?;
    Ok(tokens.f_index_copy(0, &index(|hit| hit.position, start)?, &partners)?)
}

/// Replaces a prompt's tokens, text [n, chunks · chunk, d], by the first tokens of a guide, [1 or n, a, d], in every
/// chunk. Each chunk's header keeps a share of `pull`, 0..=1. Prompt tokens without a counterpart in the guide stay
/// unchanged.
pub(super) fn directly(text: &Tensor, alternate: &Tensor, chunk: i64, pull: f64) -> Result<Tensor> {
    let ((n, tokens, d), (m, a, width)) = (text.size3()?, alternate.size3()?);
    if width != d {
        return Err(misfit(alternate, d));
    }
    let images = n.max(m);
    let here = text.f_to_kind(Kind::Float)?.f_expand([images, tokens, d], false)?;
    let guide = alternate.f_to_kind(Kind::Float)?.f_to_device(text.device())?.f_expand([images, a, d], false)?;
    let mut parts = Vec::new();
    for start in (0..tokens).step_by(chunk.max(1) as usize) {
        let (chunk, used) = (chunk.min(tokens - start), a.min(chunk));
        let header = here.f_narrow(1, start, 1)?;
        parts.push(guide.f_narrow(1, 0, 1)?.f_lerp(&header, pull)?);
        parts.push(guide.f_narrow(1, 1, used - 1)?);
        parts.push(here.f_narrow(1, start + used, chunk - used)?);
    }
    Ok(Tensor::f_cat(&parts, 1)?.f_to_kind(text.kind())?)
}
