//! [`Tap`]: carries the hooks of a run through a network.

mod joint;

pub(crate) use joint::Stream;

use super::hook::Projections;
use super::kernel::repeated;
use super::kv_cache::KvCache;
use super::{At, AttentionSite, CrossAttentionHook, Interest, Probs, Scores, SiteKind, kernel};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::step::{Grid, Step};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use tch::{Kind, Tensor};

/// The phases that the hooks of a run want, by hook, site and branch. Every hook is asked once, before the first step.
#[derive(Debug, Default)]
pub struct HookTable {
    hooks: usize,
    interest: HashMap<(usize, usize, Branch), Interest>,
}

impl HookTable {
    /// Asks every hook about every site and branch.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a site's index is not its position in `sites`, because [`KvCache`] stores keys and
    /// values by that index; or if a hook wants [`Interest::CONTEXT`] at a site of joint attention.
    pub fn new(hooks: &[&mut dyn CrossAttentionHook], sites: &[AttentionSite], branches: &[Branch]) -> Result<Self> {
        if let Some((position, site)) = sites.iter().enumerate().find(|(position, site)| site.index != *position) {
            let value = format!("{} for the site {}", site.index, site.name);
            let expected = format!("{position}, the site's position in the model's list of sites");
            return Err(Error::parameter("AttentionSite::index", value, expected));
        }
        let mut interest = HashMap::new();
        for (i, hook) in hooks.iter().enumerate() {
            let controls = hook.controls();
            let asked = sites.iter().filter(|site| controls || site.control.is_none());
            for (site, &branch) in asked.flat_map(|site| branches.iter().map(move |branch| (site, branch))) {
                let phases = hook.interest(site, branch);
                if site.kind == SiteKind::Joint && phases.contains(Interest::CONTEXT) {
                    let value = format!("CONTEXT at the site {}", site.name);
                    let expected = "other phases at sites of joint attention, where no context is given to the site";
                    return Err(Error::parameter("CrossAttentionHook::interest", value, expected));
                }
                if phases != Interest::NONE {
                    interest.insert((i, site.index, branch), phases);
                }
            }
        }
        Ok(Self { hooks: hooks.len(), interest })
    }

    fn of(&self, hook: usize, site: &AttentionSite, branch: Branch) -> Interest {
        self.interest.get(&(hook, site.index, branch)).copied().unwrap_or_default()
    }

    /// Returns true if a hook wants a phase at a site in any branch.
    fn wants(&self, hook: usize, site: &AttentionSite) -> bool {
        self.interest.keys().any(|&(own, index, _)| (own, index) == (hook, site.index))
    }
}

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

/// Carrier of a run's hooks through a network. The network calls [`Tap::attend`] at each of its attention sites.
pub struct Tap<'a>(Option<Attached<'a>>);

impl fmt::Debug for Tap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("call", &self.0.as_ref().map(|attached| &attached.call)).finish_non_exhaustive()
    }
}

struct Attached<'a> {
    call: Call<'a>,
    hooks: Vec<(usize, &'a mut dyn CrossAttentionHook)>,
    table: &'a HookTable,
    cache: &'a mut KvCache,
    /// Sites to use instead of the network's own sites, in the network's order, with their indexes among all sites of
    /// the run. `None`: the network's own sites are used.
    sites: Option<&'a [AttentionSite]>,
    /// Seed of each image of the run, for draws inside the network; empty outside a run.
    seeds: &'a [u64],
}

/// Data that stays the same during one attention call.
#[derive(Clone, Copy)]
struct CallSite<'a> {
    site: &'a AttentionSite,
    wanted: Interest,
    project: &'a dyn Projections,
    /// Result of the prompt's own tokens in joint attention, once it is computed.
    text_output: Option<&'a Tensor>,
}

/// Parts of a softmax that readers of probabilities share.
struct Softmax<'a> {
    /// Stacked branches that the bias and the probabilities cover: at least all that a hook changes or reads.
    covered: Range<usize>,
    /// Bias of the hooks, [rows of the covered branches, 1 or heads, queries, tokens].
    bias: Option<&'a Tensor>,
    /// Probabilities from which the output was computed, if they exist, for the covered branches.
    whole: Option<&'a Tensor>,
    /// True if hooks have edited the scores.
    edited: bool,
    /// Keys of the picture in joint attention, which take part in the softmax.
    beside: Option<&'a Tensor>,
}

impl<'a> Tap<'a> {
    /// Returns a tap without hooks and without key/value cache: attention is plain.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Returns a tap for one evaluation. `hooks` are the hooks that `table` was made from; hooks that are not active at
    /// this step are left out. `cache` is the key/value cache of the run.
    ///
    /// # Errors
    /// [`Error::HooksChanged`] if `table` was made from another number of hooks.
    pub fn new(
        call: Call<'a>,
        hooks: Vec<&'a mut dyn CrossAttentionHook>,
        table: &'a HookTable,
        cache: &'a mut KvCache,
    ) -> Result<Self> {
        if hooks.len() != table.hooks {
            return Err(Error::HooksChanged { before: table.hooks, now: hooks.len() });
        }
        let hooks = hooks.into_iter().enumerate().filter(|(_, hook)| hook.active(call.step)).collect();
        Ok(Self(Some(Attached { call, hooks, table, cache, sites: None, seeds: &[] })))
    }

    /// Sets the seed of each image of the run, for draws inside the network.
    pub(crate) fn seeds(mut self, seeds: &'a [u64]) -> Self {
        if let Some(live) = &mut self.0 {
            live.seeds = seeds;
        }
        self
    }

    /// Returns a tap with the same hooks for another network of the evaluation, such as a ControlNet. `sites` are that
    /// network's sites in its own order, with their indexes among all sites of the run. `branches` are the branches
    /// stacked in that network.
    pub(crate) fn within<'b>(&'b mut self, sites: &'b [AttentionSite], branches: &'b [Branch]) -> Tap<'b> {
        Tap(self.0.as_mut().map(|live| Attached {
            call: Call { branches, ..live.call.clone() },
            hooks: live.hooks.iter_mut().map(|(i, hook)| (*i, &mut **hook as &mut dyn CrossAttentionHook)).collect(),
            table: live.table,
            cache: &mut *live.cache,
            sites: Some(sites),
            seeds: live.seeds,
        }))
    }

    /// Returns a tap with the same hooks for a call of the same network with only some of the branches.
    pub(crate) fn of<'b>(&'b mut self, branches: &'b [Branch]) -> Tap<'b> {
        let sites = self.0.as_ref().and_then(|live| live.sites);
        let mut tap = self.within(&[], branches);
        if let Some(live) = &mut tap.0 {
            live.sites = sites;
        }
        tap
    }

    /// Returns true if a hook that is active in this evaluation takes part at one of the sites.
    pub(crate) fn reads<'s>(&self, mut sites: impl Iterator<Item = &'s AttentionSite>) -> bool {
        let Some(live) = &self.0 else { return false };
        sites.any(|site| live.wanted(site, live.call.branches) != Interest::NONE)
    }

    /// Returns true if a hook that is active in this evaluation takes part at the site, in any branch of the run.
    /// Unlike [`reads`](Self::reads), this is the same for every batching of the branches.
    pub(crate) fn takes_part(&self, site: &AttentionSite) -> bool {
        self.0.as_ref().is_some_and(|live| live.hooks.iter().any(|(hook, _)| live.table.wants(*hook, site)))
    }

    /// Returns the step, and the seed of each image of this evaluation; `None` outside a run.
    pub(crate) fn draws(&self) -> Option<(&Step, &[u64])> {
        let Attached { call: Call { step, images, .. }, seeds, .. } = self.0.as_ref()?;
        let own = usize::try_from(images.start).ok()?..usize::try_from(images.end).ok()?;
        Some((step, seeds.get(own)?))
    }

    /// Returns the range of the run's images in this evaluation; `None` for [`Tap::none`].
    pub(crate) fn images(&self) -> Option<Range<i64>> {
        self.0.as_ref().map(|live| live.call.images.clone())
    }

    /// Runs one attention call with all its phases → [b, queries, heads · head_dim].
    ///
    /// `q` is [b, heads, queries, d]; `project` makes k and v ([b, heads, tokens, d]) of a context.
    ///
    /// Before the network's first cross-attention all branches are equal, so `q` and `context` may have the rows of one
    /// branch alone. The result then has the rows of one branch too, unless a hook takes part in a phase that can
    /// change attention. A caller that adds a tensor to the result repeats that tensor's rows to match.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows of `q` or `context` do not fit the branches; [`Error::Hook`] if a hook fails.
    pub fn attend(
        &mut self,
        site: &AttentionSite,
        q: &Tensor,
        context: &Tensor,
        project: impl Fn(&Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        self.attend_projected(site, q, context, &project)
    }

    /// Runs an attention call like [`attend`](Self::attend), with projections that may have low-rank adapters for a
    /// part of the picture ([`Projections::adapted`]). Hooks can use these adapters.
    pub(crate) fn attend_projected(
        &mut self,
        site: &AttentionSite,
        q: &Tensor,
        context: &Tensor,
        project: &dyn Projections,
    ) -> Result<Tensor> {
        let Some(live) = &mut self.0 else {
            let (k, v) = keys_values(site, context, project)?;
            return kernel::plain(q, &k, &v);
        };
        let branches = live.call.branches;
        let site = live.sites.and_then(|sites| sites.get(site.index)).unwrap_or(site);
        let (q, context) =
            (&live.stack(site, q, "the query tensor of a site")?, &live.stack(site, context, "the context of a site")?);
        let spot = CallSite { site, wanted: live.wanted(site, branches), project, text_output: None };
        if !spot.wanted.contains(Interest::CONTEXT) {
            let (k, v) = live.keys_values(site, context, project)?;
            return live.hooked(&spot, branches, q, &k, &v);
        }
        // Hooks may give branches contexts with different numbers of tokens, so each branch is computed alone.
        let mut parts = Vec::with_capacity(branches.len());
        for (row, &branch) in branches.iter().enumerate() {
            // Hooks may edit the context in place, and later sites read the same context, so hooks get a copy.
            let (mut context, q) = (live.rows(context, row)?.f_alias_copy()?, live.rows(q, row)?);
            let (n, _, dim) = context.size3()?;
            live.each(&spot, branch, (&q, None), Interest::CONTEXT, "context", |hook, at| {
                hook.context(at, &mut context)?;
                match context.size().as_slice() {
                    [images, _, width] if (*images, *width) == (n, dim) => Ok(()),
                    got => Err(misshapen(
                        "context",
                        got,
                        format!("[{n}, tokens, {dim}]; a hook may change only the number of tokens"),
                    )),
                }
            })?;
            let (k, v) = keys_values(site, &context.f_to_kind(q.kind())?, project)?;
            let wanted = live.wanted(site, &[branch]);
            parts.push(live.hooked(&CallSite { wanted, ..spot }, &[branch], &q, &k, &v)?);
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

impl Attached<'_> {
    /// Returns the number of images of a branch.
    fn images(&self) -> i64 {
        self.call.images.end - self.call.images.start
    }

    /// Returns `x` with the rows of all branches. In self-attention, rows of one branch alone are returned as they are.
    fn stack(&self, site: &AttentionSite, x: &Tensor, what: &'static str) -> Result<Tensor> {
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
    fn rows(&self, stacked: &Tensor, row: usize) -> Result<Tensor> {
        let n = self.images();
        let all = stacked.size().first().copied().unwrap_or_default();
        if all == n {
            return Ok(stacked.shallow_clone());
        }
        Ok(stacked.f_narrow(0, (row as i64 * n) % all.max(1), n)?)
    }

    /// Returns the stacked branches from the first to the last in which an active hook wants one of some phases here.
    fn range_of(&self, site: &AttentionSite, branches: &[Branch], phases: Interest) -> Range<usize> {
        let wants = |branch: &Branch| self.wanted(site, &[*branch]).intersects(phases);
        let first = branches.iter().position(wants).unwrap_or_default();
        first..branches.iter().rposition(wants).map_or(first, |last| last + 1)
    }

    /// Returns the union of the phases that active hooks want at this site.
    fn wanted(&self, site: &AttentionSite, branches: &[Branch]) -> Interest {
        let all = self.hooks.iter().flat_map(|(i, _)| branches.iter().map(|&branch| self.table.of(*i, site, branch)));
        all.fold(Interest::NONE, |a, b| a | b)
    }

    /// Calls `f` with every active hook that wants `phase` here. `q` holds the branch's queries; `keys_values`
    /// holds the branch's keys and values, or is `None` before they are computed.
    fn each(
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
    fn keys_values(
        &mut self,
        site: &AttentionSite,
        context: &Tensor,
        project: &dyn Projections,
    ) -> Result<(Tensor, Tensor)> {
        if !site.is_cross() {
            return keys_values(site, context, project);
        }
        let key = (site.index, self.call.images.clone(), self.call.branches.to_vec());
        if let Some(kept) = self.cache.get(&key) {
            return Ok(kept);
        }
        let (k, v) = keys_values(site, context, project)?;
        self.cache.insert(key, (&k, &v));
        Ok((k, v))
    }

    /// Runs every phase after the context's, for `branches` stacked in q, k and v.
    fn hooked(
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
    fn read(
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
            let beside = softmax.beside.map(|x| self.rows(x, row)).transpose()?;
            let probs = Probs::new((&q, &k, beside.as_ref()), bias.as_ref(), whole, softmax.edited);
            self.each(spot, branch, (&q, Some((&k, &v))), Interest::PROBS, "probs", |hook, at| hook.probs(at, &probs))?;
        }
        Ok(())
    }

    /// Returns the output of the stacked branches after the hooks' changes.
    fn change_output(
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
    fn bias(
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
    fn edit(
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
fn keys_values(site: &AttentionSite, context: &Tensor, project: &dyn Projections) -> Result<(Tensor, Tensor)> {
    let (k, v) = project.keys_values(context)?;
    Ok(if site.is_cross() { (k.f_contiguous()?, v.f_contiguous()?) } else { (k, v) })
}

/// Returns the error for a tensor of an unexpected shape.
fn misshapen(what: &'static str, got: &[i64], expected: String) -> Error {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Place;

    const BRANCHES: [Branch; 2] = [Branch::Uncond, Branch::Cond];

    /// A hook that wants one phase of `Cond`. In `probs` the hook reads two columns; in other phases it does nothing.
    struct Wants(Interest);

    impl CrossAttentionHook for Wants {
        fn interest(&self, _: &AttentionSite, branch: Branch) -> Interest {
            if branch == Branch::Cond { self.0 } else { Interest::NONE }
        }
        fn probs(&mut self, _: &At<'_>, probs: &Probs<'_>) -> Result<()> {
            let _ = probs.columns(crate::prompt::TokenSpan { start: 1, end: 3 })?;
            Ok(())
        }
    }

    /// Returns pseudo-random numbers from a sine that Rust computes. If another test starts in parallel, libtorch's
    /// first sine in a process may differ in its last bit from later ones.
    fn wave(shape: &[i64], phase: f64) -> Tensor {
        let cells: Vec<f32> =
            (0..shape.iter().product()).map(|i: i64| (i as f64 * 0.37 + phase).sin() as f32).collect();
        Tensor::from_slice(&cells).reshape(shape)
    }

    /// Evaluates one site twice with `hooks`. Returns the kernel calls, the calls of `project`, and the second output.
    fn evaluate(mut hooks: Vec<Wants>) -> (usize, usize, Tensor) {
        let site = AttentionSite::new("attn2", SiteKind::Cross, Place::Up, 0, 2);
        let (q, context) = (wave(&[2, 2, 6, 4], 0.0), wave(&[2, 5, 8], 1.0));
        let projected = std::cell::Cell::new(0);
        let project = |context: &Tensor| {
            projected.set(projected.get() + 1);
            let (b, tokens, _) = context.size3()?;
            let k = context.f_reshape([b, tokens, 2, 4])?.f_transpose(1, 2)?;
            Ok((k.f_mul_scalar(0.7)?, k))
        };
        let step = Step::new(0, 1, 1.0, 0.0, 0.0);
        let call = Call { step: &step, branches: &BRANCHES, images: 0..1, grid: Grid::new(2, 3) };
        let table = {
            let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
            HookTable::new(&lent, std::slice::from_ref(&site), &BRANCHES).unwrap()
        };
        let mut cache = KvCache::default();
        let (calls, output) = kernel::count::during(|| {
            let mut last = None;
            for _ in 0..2 {
                let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
                let mut tap = Tap::new(call.clone(), lent, &table, &mut cache).unwrap();
                last = Some(tap.attend(&site, &q, &context, project).unwrap());
            }
            last.unwrap()
        });
        (calls, projected.get(), output)
    }

    #[test]
    fn idle_hooks_add_no_kernel_call() {
        let (calls, projected, bare) = evaluate(Vec::new());
        assert_eq!((calls, projected), (2, 1), "one kernel call per evaluation; keys and values once per run");
        let (calls, projected, idle) = evaluate(vec![Wants(Interest::NONE), Wants(Interest::NONE)]);
        assert_eq!((calls, projected), (2, 1));
        assert_eq!(bare, idle);
    }

    #[test]
    fn readers_of_few_tokens_add_no_kernel_call() {
        let bare = evaluate(Vec::new()).2;
        for readers in [1, 10] {
            let hooks = (0..readers).map(|_| Wants(Interest::PROBS)).collect();
            let (calls, _, output) = evaluate(hooks);
            assert_eq!(calls, 2, "{readers} readers share the probabilities of the output");
            assert_eq!(output, bare);
        }
    }

    #[test]
    fn readers_of_many_tokens_share_one_kernel_call() {
        let site = AttentionSite::new("attn1", SiteKind::SelfAttention, Place::Up, 0, 2);
        let (q, k) = (wave(&[2, 2, 300, 4], 0.0), wave(&[2, 2, 300, 4], 1.0));
        let project = |_: &Tensor| Ok((k.shallow_clone(), k.f_mul_scalar(0.5)?));
        let step = Step::new(0, 1, 1.0, 0.0, 0.0);
        let attend = |readers: usize| {
            let mut hooks: Vec<Wants> = (0..readers).map(|_| Wants(Interest::PROBS)).collect();
            let lend = |hooks: &mut [Wants]| -> HookTable {
                let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
                HookTable::new(&lent, std::slice::from_ref(&site), &BRANCHES).unwrap()
            };
            let (table, mut cache) = (lend(&mut hooks), KvCache::default());
            let lent: Vec<&mut dyn CrossAttentionHook> = hooks.iter_mut().map(|hook| hook as _).collect();
            let call = Call { step: &step, branches: &BRANCHES, images: 0..1, grid: Grid::new(30, 10) };
            let mut tap = Tap::new(call, lent, &table, &mut cache).unwrap();
            kernel::count::during(|| tap.attend(&site, &q, &q, project).unwrap())
        };
        let (calls, bare) = attend(0);
        assert_eq!(calls, 1);
        for readers in [1, 10] {
            assert_eq!(attend(readers), (2, bare.shallow_clone()), "one call for the output, one for all readers");
        }
    }

    /// A hook that adds a bias in the first of three branches and reads the last one.
    #[derive(Default)]
    struct FirstAndLast(Vec<Tensor>);

    const THREE: [Branch; 3] = [Branch::Uncond, Branch::Cond, Branch::Extra(0)];

    impl CrossAttentionHook for FirstAndLast {
        fn interest(&self, _: &AttentionSite, branch: Branch) -> Interest {
            match branch {
                Branch::Uncond => Interest::BIAS,
                Branch::Cond => Interest::NONE,
                _ => Interest::PROBS,
            }
        }
        fn bias(&mut self, at: &At<'_>, _: &Scores<'_>) -> Result<Option<Tensor>> {
            assert_eq!(at.branch, Branch::Uncond);
            Ok(Some(wave(&[1, 1, 6, 5], 2.0) * 3.0))
        }
        fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
            assert_eq!(at.branch, Branch::Extra(0));
            self.0.push(probs.columns(probs.tokens())?);
            Ok(())
        }
    }

    #[test]
    fn bias_and_readers_touch_their_own_branches() -> Result<()> {
        let site = AttentionSite::new("attn2", SiteKind::Cross, Place::Up, 0, 2);
        let (q, k, v) = (wave(&[3, 2, 6, 4], 0.0), wave(&[3, 2, 5, 4], 1.0), wave(&[3, 2, 5, 4], 2.0));
        let project = |_: &Tensor| Ok((k.shallow_clone(), v.shallow_clone()));
        let step = Step::new(0, 1, 1.0, 0.0, 0.0);
        let call = Call { step: &step, branches: &THREE, images: 0..1, grid: Grid::new(2, 3) };
        let mut hook = FirstAndLast::default();
        let table = HookTable::new(&[&mut hook], std::slice::from_ref(&site), &THREE)?;
        let mut cache = KvCache::default();
        let output = Tap::new(call, vec![&mut hook], &table, &mut cache)?.attend(&site, &q, &k, project)?;
        let bare = kernel::plain(&q, &k, &v)?;
        assert_eq!(output.narrow(0, 1, 2), bare.narrow(0, 1, 2));
        let probs = kernel::probs(&kernel::scores(&q, &k)?)?;
        assert!((&hook.0[0] - probs.narrow(0, 2, 1)).abs().max().double_value(&[]) < 1e-6);
        let biased = kernel::probs(&(kernel::scores(&q, &k)?.narrow(0, 0, 1) + wave(&[1, 1, 6, 5], 2.0) * 3.0))?;
        let want = biased.matmul(&v.narrow(0, 0, 1)).transpose(1, 2).flatten(2, 3);
        assert!((output.narrow(0, 0, 1) - want).abs().max().double_value(&[]) < 1e-5);
        Ok(())
    }

    #[test]
    fn absent_bias_keeps_the_unmasked_kernel() {
        let (calls, _, output) = evaluate(vec![Wants(Interest::BIAS)]);
        let bare = evaluate(Vec::new()).2;
        assert_eq!(calls, 2);
        assert_eq!(output, bare, "the outputs differ by {}", (&output - &bare).abs().max());
    }
}
