//! [`Tap`]: carries the hooks of a run through a network.

mod attached;
mod joint;
mod table;

pub use attached::Call;
pub(crate) use joint::Stream;
pub use table::HookTable;

use super::hook::Projections;
use super::kv_cache::KvCache;
use super::{AttentionSite, CrossAttentionHook, Interest, kernel};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::step::Step;
use attached::{Attached, CallSite, keys_values, misshapen};
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Carrier of a run's hooks through a network. The network calls [`Tap::attend`] at each of its attention sites.
pub struct Tap<'a>(Option<Attached<'a>>);

impl fmt::Debug for Tap<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("call", &self.0.as_ref().map(|attached| &attached.call)).finish_non_exhaustive()
    }
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

    /// Returns the branches that are stacked in this evaluation, in order; none for [`Tap::none`].
    pub(crate) fn branches(&self) -> &[Branch] {
        self.0.as_ref().map_or(&[], |live| live.call.branches)
    }

    /// Returns the prompt's tokens as the blocks of a network with joint attention read them. `embed` computes them of
    /// the prompt alone. It is called once per run for each group of stacked images and branches.
    ///
    /// # Errors
    /// The errors of `embed`.
    pub(crate) fn prompt_tokens(&mut self, embed: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        // Another network of the evaluation has layers of its own.
        let Some(live) = self.0.as_mut().filter(|live| live.sites.is_none()) else { return embed() };
        let batch = live.batch();
        if let Some(kept) = live.cache.tokens(&batch) {
            return Ok(kept);
        }
        let tokens = embed()?;
        live.cache.insert_tokens(batch, &tokens);
        Ok(tokens)
    }

    /// Returns true if a hook that is active in this evaluation can ask for the prompt's rows at a site of joint
    /// attention: their probabilities, or their results.
    pub(crate) fn reads_prompt(&self, site: &AttentionSite) -> bool {
        self.0.as_ref().is_some_and(|live| {
            let site = live.sites.and_then(|sites| sites.get(site.index)).unwrap_or(site);
            let wanted = live.wanted(site, live.call.branches);
            wanted.contains(Interest::OUTPUT) || wanted.contains(Interest::PROBS)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{At, Place, Probs, Scores, SiteKind};
    use crate::step::Grid;

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
    fn prompt_is_embedded_once_for_each_stack() -> Result<()> {
        let (step, mut cache, table) = (Step::new(0, 1, 1.0, 0.0, 0.0), KvCache::default(), HookTable::default());
        let mut count = 0;
        let mut embed = |tap: &mut Tap<'_>| -> Result<f64> {
            let tokens = tap.prompt_tokens(|| {
                count += 1;
                Ok(Tensor::from(f64::from(count)))
            })?;
            Ok(tokens.double_value(&[]))
        };
        let call = |branches| Call { step: &step, branches, images: 0..1, grid: Grid::new(2, 3) };
        for _ in 0..2 {
            let mut tap = Tap::new(call(&BRANCHES), Vec::new(), &table, &mut cache)?;
            assert_eq!(embed(&mut tap)?, 1.0);
        }
        let mut tap = Tap::new(call(&BRANCHES[1..]), Vec::new(), &table, &mut cache)?;
        assert_eq!((embed(&mut tap)?, embed(&mut tap)?), (2.0, 2.0));
        let mut other = tap.within(&[], &BRANCHES);
        assert_eq!((embed(&mut other)?, embed(&mut other)?), (3.0, 4.0), "another network has other layers");
        assert_eq!((embed(&mut Tap::none())?, embed(&mut Tap::none())?), (5.0, 6.0));
        cache.clear();
        let mut tap = Tap::new(call(&BRANCHES), Vec::new(), &table, &mut cache)?;
        assert_eq!(embed(&mut tap)?, 7.0, "the prompt has changed");
        Ok(())
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

    #[test]
    fn readers_of_outputs_change_no_bit_in_training() -> Result<()> {
        let site = AttentionSite::new("attn2", SiteKind::Cross, Place::Up, 0, 2);
        let [q, k, v] = [6, 5, 5].map(|rows| wave(&[2, 2, rows, 4], rows as f64).to_kind(tch::Kind::BFloat16));
        let q = q.set_requires_grad(true);
        let project = |_: &Tensor| Ok((k.shallow_clone(), v.shallow_clone()));
        let step = Step::new(0, 1, 1.0, 0.0, 0.0);
        let call = Call { step: &step, branches: &[Branch::Cond], images: 0..2, grid: Grid::new(2, 3) };
        let (mut hook, mut cache) = (Wants(Interest::OUTPUT), KvCache::default());
        let table = HookTable::new(&[&mut hook], std::slice::from_ref(&site), call.branches)?;
        let output = Tap::new(call, vec![&mut hook], &table, &mut cache)?.attend(&site, &q, &k, project)?;
        assert_eq!(output, Tap::none().attend(&site, &q, &k, project)?);
        Ok(())
    }
}
