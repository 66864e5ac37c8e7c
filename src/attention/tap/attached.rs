//! [`Attached`]: the hooks of a run at one attention call.

use super::table::HookTable;
use crate::attention::hook::Projections;
use crate::attention::kernel::{self, repeated};
use crate::attention::kv_cache::{Batch, KvCache};
use crate::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs, Scores};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::step::{Grid, Step};
use std::ops::Range;
use tch::{Kind, Tensor};

/// One evaluation of a model: the step, and the branches and images that are stacked in the batch.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Step of the run, and evaluation within the step.
    pub step: &'a Step,
    /// The stacked branches, in order; the batch is branches × images.
    pub branches: &'a [Branch],
    /// Images of the run in this call, the same for every branch.
    pub images: Range<i64>,
    /// Grid of the latent.
    pub grid: Grid,
}

pub(super) struct Attached<'a> {
    pub(super) call: Call<'a>,
    pub(super) hooks: Vec<(usize, &'a mut dyn CrossAttentionHook)>,
    pub(super) table: &'a HookTable,
    pub(super) cache: &'a mut KvCache,
    /// Sites to use instead of the network's own sites, in the network's order, with their indexes among all sites of
    /// the run. `None`: the network's own sites are used.
    pub(super) sites: Option<&'a [AttentionSite]>,
    /// Seed of each image of the run, for draws inside the network; empty outside a run.
    pub(super) seeds: &'a [u64],
}

/// Data that stays the same during one attention call.
#[derive(Clone, Copy)]
pub(super) struct CallSite<'a> {
    pub(super) site: &'a AttentionSite,
    pub(super) wanted: Interest,
    pub(super) project: &'a dyn Projections,
    /// Result of the prompt's own tokens in joint attention, once it is computed.
    pub(super) text_output: Option<&'a Tensor>,
}

/// Parts of a softmax that readers of probabilities share.
pub(super) struct Softmax<'a> {
    /// Stacked branches that the bias and the probabilities cover: at least all that a hook changes or reads.
    pub(super) covered: Range<usize>,
    /// Bias of the hooks, [rows of the covered branches, 1 or heads, queries, tokens].
    pub(super) bias: Option<&'a Tensor>,
    /// Probabilities from which the output was computed, if they exist, for the covered branches.
    pub(super) whole: Option<&'a Tensor>,
    /// True if hooks have edited the scores.
    pub(super) edited: bool,
    /// Keys of the picture in joint attention, which take part in the softmax, and queries of the prompt.
    pub(super) beside: Option<[&'a Tensor; 2]>,
}

impl Attached<'_> {
    /// Returns the images and branches that are stacked in the call.
    pub(super) fn batch(&self) -> Batch {
        (self.call.images.clone(), self.call.branches.to_vec())
    }

    /// Returns the number of images of a branch.
    pub(super) fn images(&self) -> i64 {
        self.call.images.end - self.call.images.start
    }

    /// Returns `x` with the rows of all branches. In self-attention, rows of one branch alone are returned as they are.
    pub(super) fn stack(&self, site: &AttentionSite, x: &Tensor, what: &'static str) -> Result<Tensor> {
        let (n, all) = (self.images(), self.images() * self.call.branches.len() as i64);
        match x.size().first() {
            Some(&rows) if rows == all || (rows == n && !site.is_cross()) => Ok(x.shallow_clone()),
            Some(&rows) if rows > 0 && all % rows == 0 => repeated(x, all),
            _ => Err(misshapen(
                what,
                &x.size(),
                format!("{all} rows: {n} images for each of {} branches", self.call.branches.len()),
            )),
        }
    }

    /// Returns the rows of the stacked branch with index `row`. If the tensor has too few rows for all branches,
    /// branches share rows.
    pub(super) fn rows(&self, stacked: &Tensor, row: usize) -> Result<Tensor> {
        let n = self.images();
        let all = stacked.size().first().copied().unwrap_or_default();
        if all == n {
            return Ok(stacked.shallow_clone());
        }
        Ok(stacked.f_narrow(0, (row as i64 * n) % all.max(1), n)?)
    }

    /// Returns the stacked branches from the first to the last in which an active hook wants one of some phases here.
    pub(super) fn range_of(&self, site: &AttentionSite, branches: &[Branch], phases: Interest) -> Range<usize> {
        let wants = |branch: &Branch| self.wanted(site, &[*branch]).intersects(phases);
        let first = branches.iter().position(wants).unwrap_or_default();
        first..branches.iter().rposition(wants).map_or(first, |last| last + 1)
    }

    /// Returns the union of the phases that active hooks want at this site.
    pub(super) fn wanted(&self, site: &AttentionSite, branches: &[Branch]) -> Interest {
        let all = self.hooks.iter().flat_map(|(i, _)| branches.iter().map(|&branch| self.table.of(*i, site, branch)));
        all.fold(Interest::NONE, |a, b| a | b)
    }

    /// Calls `f` with every active hook that wants `phase` here. `q` holds the branch's queries; `keys_values`
    /// holds the branch's keys and values, or is `None` before they are computed.
    pub(super) fn each(
        &mut self,
        spot: &CallSite<'_>,
        branch: Branch,
        (q, keys_values): (&Tensor, Option<(&Tensor, &Tensor)>),
        phase: Interest,
        name: &'static str,
        mut f: impl FnMut(&mut dyn CrossAttentionHook, &At<'_>) -> Result<()>,
    ) -> Result<()> {
        let (site, step, images) = (spot.site, self.call.step, self.call.images.clone());
        let row = self.call.branches.iter().position(|own| *own == branch).unwrap_or_default() as i64 * self.images();
        let at = At {
            site,
            step,
            branch,
            images,
            grid: self.call.grid.halved(site.halvings),
            q,
            keys: keys_values.map(|(keys, _)| keys),
            values: keys_values.map(|(_, values)| values),
            text_output: spot.text_output,
            rows: row..row + self.images(),
            project: spot.project,
        };
        for (i, hook) in &mut self.hooks {
            if self.table.of(*i, site, branch).contains(phase) {
                f(&mut **hook, &at).map_err(|source| Error::Hook {
                    site: site.name.clone(),
                    phase: name,
                    step: step.index,
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    }

    /// Returns keys and values. At cross-attention sites they are computed once per run for each group of stacked
    /// images and branches.
    pub(super) fn keys_values(
        &mut self,
        site: &AttentionSite,
        context: &Tensor,
        project: &dyn Projections,
    ) -> Result<(Tensor, Tensor)> {
        if !site.is_cross() {
            return keys_values(site, context, project);
        }
        let key = (site.index, self.batch());
        if let Some(kept) = self.cache.get(&key) {
            return Ok(kept);
        }
        let (k, v) = keys_values(site, context, project)?;
        self.cache.insert(key, (&k, &v));
        Ok((k, v))
    }

    /// Runs every phase after the context's, for `branches` stacked in q, k and v.
    pub(super) fn hooked(
        &mut self,
        spot: &CallSite<'_>,
        branches: &[Branch],
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<Tensor> {
        let wants = |phase| spot.wanted.contains(phase);
        // If a hook can change attention, every branch needs its own rows. If hooks only read, branches may share rows.
        let reads = [Interest::NONE, Interest::PROBS].contains(&spot.wanted);
        let rows = if reads { q.size4()?.0 } else { self.images() * branches.len() as i64 };
        let (q, k, v) = (&repeated(q, rows)?, &repeated(k, rows)?, &repeated(v, rows)?);
        if !spot.wanted.intersects(Interest::BIAS | Interest::SCORES | Interest::PROBS) {
            return self.change_output(spot, branches, (q, k, v), kernel::plain(q, k, v)?);
        }
        // Attention by hand computes scores and probabilities anyway, so hooks read these tensors.
        let scores = match wants(Interest::SCORES) || kernel::by_hand(q, k, v)? {
            true => Some(kernel::scores(q, k)?),
            false => None,
        };
        let covered = self.range_of(spot.site, branches, Interest::BIAS | Interest::PROBS);
        // Branches that share rows are covered by the same rows.
        let rows = match self.images() {
            n if q.size4()?.0 == n => 0..n,
            n => covered.start as i64 * n..covered.end as i64 * n,
        };
        let seen_by = (branches, covered.clone());
        let bias = if wants(Interest::BIAS) { self.bias(spot, seen_by, (q, k, v), scores.as_ref())? } else { None };
        let scores = match (scores, &bias) {
            (Some(scores), Some(bias)) => Some(kernel::add_bias(&scores, rows.clone(), bias)?),
            (scores, _) => scores,
        };
        let edited = wants(Interest::SCORES);
        let (output, whole) = match scores {
            Some(scores) => {
                let scores = if edited { self.edit(spot, branches, (q, k, v), &scores)? } else { scores };
                let (output, probs) = kernel::weigh(&scores, v)?;
                (output, Some(probs.f_narrow(0, rows.start, rows.end - rows.start)?))
            }
            None => {
                let keep = wants(Interest::PROBS) && kernel::keeps(q, k)?;
                kernel::attend(q, k, v, rows, bias.as_ref(), keep)?
            }
        };
        if wants(Interest::PROBS) {
            let softmax = Softmax { covered, bias: bias.as_ref(), whole: whole.as_ref(), edited, beside: None };
            self.read(spot, branches, (q, k, v), &softmax)?;
        }
        self.change_output(spot, branches, (q, k, v), output)
    }

    /// Lets the hooks read the probabilities of the stacked branches.
    pub(super) fn read(
        &mut self,
        spot: &CallSite<'_>,
        branches: &[Branch],
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        softmax: &Softmax<'_>,
    ) -> Result<()> {
        for (row, &branch) in branches.iter().enumerate() {
            if !self.wanted(spot.site, &[branch]).contains(Interest::PROBS) {
                continue;
            }
            let (q, k, v) = (self.rows(q, row)?, self.rows(k, row)?, self.rows(v, row)?);
            let own = |x: Option<&Tensor>| x.map(|x| self.rows(x, row - softmax.covered.start)).transpose();
            let (bias, whole) = (own(softmax.bias)?, own(softmax.whole)?);
            let beside =
                softmax.beside.map(|[keys, queries]| Ok::<_, Error>((self.rows(keys, row)?, self.rows(queries, row)?)));
            let (beside, prompt) = beside.transpose()?.unzip();
            let probs = Probs::new((&q, &k, beside.as_ref()), bias.as_ref(), whole, softmax.edited);
            let probs = probs.with_prompt(prompt.as_ref());
            self.each(spot, branch, (&q, Some((&k, &v))), Interest::PROBS, "probs", |hook, at| hook.probs(at, &probs))?;
        }
        Ok(())
    }

    /// Returns the output of the stacked branches after the hooks' changes.
    pub(super) fn change_output(
        &mut self,
        spot: &CallSite<'_>,
        branches: &[Branch],
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        output: Tensor,
    ) -> Result<Tensor> {
        if !spot.wanted.contains(Interest::OUTPUT) {
            return Ok(output);
        }
        let mut parts = Vec::with_capacity(branches.len());
        for (row, &branch) in branches.iter().enumerate() {
            let (mut part, q) = (self.rows(&output, row)?, self.rows(q, row)?);
            let (k, v) = (self.rows(k, row)?, self.rows(v, row)?);
            self.each(spot, branch, (&q, Some((&k, &v))), Interest::OUTPUT, "output", |hook, at| {
                let shape = part.size();
                hook.output(at, &mut part)?;
                same_shape("output", &part, &shape)
            })?;
            parts.push(part.f_to_kind(output.kind())?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Returns the sum of the hooks' biases for the `covered` ones of the stacked branches, f32 [rows of these
    /// branches, 1 or heads, queries, tokens]. Covered branches without a bias get zeros; `None` if no hook returns a
    /// bias. `scores` are the scores of all branches, if already computed.
    pub(super) fn bias(
        &mut self,
        spot: &CallSite<'_>,
        (branches, covered): (&[Branch], Range<usize>),
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        scores: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let n = self.images();
        let ((_, heads, queries, _), tokens) = (q.size4()?, k.size4()?.2);
        let full = [n, heads, queries, tokens];
        let mut sums: Vec<Option<Tensor>> = Vec::with_capacity(covered.len());
        for (row, &branch) in branches.iter().enumerate().take(covered.end).skip(covered.start) {
            let mut sum: Option<Tensor> = None;
            if self.wanted(spot.site, &[branch]).contains(Interest::BIAS) {
                let (q, k, v) = (self.rows(q, row)?, self.rows(k, row)?, self.rows(v, row)?);
                let scores = Scores::new(&q, &k, scores.map(|scores| self.rows(scores, row)).transpose()?);
                self.each(spot, branch, (&q, Some((&k, &v))), Interest::BIAS, "bias", |hook, at| {
                    if let Some(bias) = hook.bias(at, &scores)? {
                        broadcasts("bias", &bias, &full)?;
                        sum = Some(match sum.take() {
                            Some(sum) => sum.f_add(&bias)?,
                            None => bias,
                        });
                    }
                    Ok(())
                })?;
            }
            sums.push(sum);
        }
        if sums.iter().all(Option::is_none) {
            return Ok(None);
        }
        let per_head = sums.iter().flatten().any(|bias| bias.size().iter().rev().nth(2).is_some_and(|&h| h != 1));
        let shape = [n, if per_head { heads } else { 1 }, queries, tokens];
        let mut parts: Vec<Tensor> = Vec::with_capacity(sums.len());
        for bias in sums {
            parts.push(match bias {
                Some(bias) if bias.kind() == Kind::Float && bias.size() == shape => bias,
                Some(bias) => bias.f_to_kind(Kind::Float)?.f_expand(shape, false)?,
                None => Tensor::f_zeros(shape, (Kind::Float, q.device()))?,
            });
        }
        match parts.as_slice() {
            [one] => Ok(Some(one.shallow_clone())),
            parts => Ok(Some(Tensor::f_cat(parts, 0)?)),
        }
    }

    /// Returns the scores after the hooks' edits, f32 [b, heads, queries, tokens].
    pub(super) fn edit(
        &mut self,
        spot: &CallSite<'_>,
        branches: &[Branch],
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        scores: &Tensor,
    ) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(branches.len());
        for (row, &branch) in branches.iter().enumerate() {
            let (mut part, q) = (self.rows(scores, row)?, self.rows(q, row)?);
            let (k, v) = (self.rows(k, row)?, self.rows(v, row)?);
            self.each(spot, branch, (&q, Some((&k, &v))), Interest::SCORES, "scores", |hook, at| {
                let shape = part.size();
                hook.scores(at, &mut part)?;
                same_shape("scores", &part, &shape)
            })?;
            parts.push(part);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

/// Projects a context to keys and values. At cross-attention sites both are made contiguous by head, so that later
/// steps need no copy.
pub(super) fn keys_values(
    site: &AttentionSite,
    context: &Tensor,
    project: &dyn Projections,
) -> Result<(Tensor, Tensor)> {
    let (k, v) = project.keys_values(context)?;
    Ok(if site.is_cross() { (k.f_contiguous()?, v.f_contiguous()?) } else { (k, v) })
}

/// Returns the error for a tensor of an unexpected shape.
pub(super) fn misshapen(what: &'static str, got: &[i64], expected: String) -> Error {
    Error::Shape { what, got: got.to_vec(), expected }
}

/// Checks that a tensor of at most four dimensions broadcasts to a shape.
fn broadcasts(what: &'static str, got: &Tensor, shape: &[i64; 4]) -> Result<()> {
    let size = got.size();
    let fits = size.len() <= shape.len()
        && size.iter().rev().zip(shape.iter().rev()).all(|(own, full)| *own == 1 || own == full);
    if fits { Ok(()) } else { Err(misshapen(what, &size, format!("a shape that broadcasts to {shape:?}"))) }
}

fn same_shape(what: &'static str, got: &Tensor, shape: &[i64]) -> Result<()> {
    if got.size() == shape {
        Ok(())
    } else {
        Err(misshapen(what, &got.size(), format!("{shape:?}, the shape before the hook")))
    }
}
