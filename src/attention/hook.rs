//! The trait of hooks, and the call that a hook sees.

use super::kernel;
use super::site::AttentionSite;
use super::views::{Probs, Scores};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::reference::Part;
use crate::step::{Grid, Step};
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// The projections of a site. A function of a context to keys and values is one.
pub(crate) trait Projections {
    /// Keys and values, [b, heads, tokens, d] each, of a context, [b, tokens, dim].
    fn keys_values(&self, context: &Tensor) -> Result<(Tensor, Tensor)>;

    /// Queries, keys and values as the site's adapter for a part of the picture makes them. `rows` are the rows of the call whose cells make
    /// the queries. `None`: the site has no such adapter, as by default.
    fn adapted(&self, _part: Part, _rows: Range<i64>, _context: &Tensor) -> Result<Option<[Tensor; 3]>> {
        Ok(None)
    }
}

impl<F: Fn(&Tensor) -> Result<(Tensor, Tensor)>> Projections for F {
    fn keys_values(&self, context: &Tensor) -> Result<(Tensor, Tensor)> {
        self(context)
    }
}

/// The call that a hook sees: its site, step, branch, images and queries.
#[derive(Clone)]
#[non_exhaustive]
pub struct At<'a> {
    /// The site.
    pub site: &'a AttentionSite,
    /// The step and evaluation.
    pub step: &'a Step,
    /// The branch whose rows the hook sees.
    pub branch: Branch,
    /// Which images of the run these rows are; all of them, or one at a time (`Batching::OneByOne`).
    pub images: Range<i64>,
    /// Rows and columns of the queries.
    pub grid: Grid,
    pub(super) q: &'a Tensor,
    pub(super) values: Option<&'a Tensor>,
    /// The rows of the call that are this branch's.
    pub(super) rows: Range<i64>,
    pub(super) project: &'a dyn Projections,
}

impl fmt::Debug for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At")
            .field("site", &self.site.name)
            .field("step", &self.step)
            .field("branch", &self.branch)
            .field("images", &self.images)
            .field("grid", &self.grid)
            .finish_non_exhaustive()
    }
}

impl At<'_> {
    /// The queries of this call, [n, heads, queries, head_dim].
    pub const fn query(&self) -> &Tensor {
        self.q
    }

    /// The values of this call, [n, heads, tokens, head_dim]; `None` in [`CrossAttentionHook::context`], which comes before them.
    pub const fn values(&self) -> Option<&Tensor> {
        self.values
    }

    /// Plain attention of this call's queries over keys and values of your own, [n, heads, tokens, head_dim] each, →
    /// [n, queries, heads · head_dim]; no hooks. Decoupled attention (IP-Adapter) adds it to the output, times a weight.
    ///
    /// ```
    /// # use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
    /// # use impasto::{Branch, Result};
    /// # use tch::Tensor;
    /// /// An image prompt, projected by weights of its own for one site.
    /// struct ImagePrompt { site: usize, key: Tensor, value: Tensor, scale: f64 }
    ///
    /// impl CrossAttentionHook for ImagePrompt {
    ///     fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
    ///         if site.index == self.site && branch == Branch::Cond { Interest::OUTPUT } else { Interest::NONE }
    ///     }
    ///     fn output(&mut self, at: &At, output: &mut Tensor) -> Result<()> {
    ///         let beside = at.attend_with(&self.key, &self.value)?;
    ///         *output = output.f_add(&beside.f_mul_scalar(self.scale)?)?;
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if keys or values do not fit the queries or each other.
    pub fn attend_with(&self, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let (n, heads, _, width) = self.q.size4()?;
        for (what, got) in [("key", key.size()), ("value", value.size())] {
            let fits =
                matches!(got.as_slice(), &[rows, h, tokens, w] if (rows, h, w) == (n, heads, width) && tokens > 0);
            if !fits || key.size().get(2) != value.size().get(2) {
                let expected = format!("[{n}, {heads}, tokens, {width}] of keys and values alike");
                return Err(Error::Shape { what, got, expected });
            }
        }
        let kind = self.q.kind();
        kernel::plain(self.q, &key.f_to_kind(kind)?, &value.f_to_kind(kind)?)
    }

    /// Plain attention of this call's queries over another context ([n, tokens, dim]), projected by the site's own weights,
    /// [n, queries, heads · head_dim]; no hooks.
    pub fn attend(&self, context: &Tensor) -> Result<Tensor> {
        let (k, v) = self.project.keys_values(&context.f_to_kind(self.q.kind())?)?;
        kernel::plain(self.q, &k, &v)
    }

    /// As [`attend`](Self::attend), with queries, keys and values changed by the site's adapter for a part of the picture. `None`: the site
    /// has no such adapter. Models with adapters are ColorizeDiffusion v1.5 and some of v2.
    ///
    /// # Errors
    /// [`Error::Torch`] if the context does not fit the site.
    pub fn attend_adapted(&self, part: Part, context: &Tensor) -> Result<Option<Tensor>> {
        let context = context.f_to_kind(self.q.kind())?;
        let adapted = self.project.adapted(part, self.rows.clone(), &context)?;
        adapted.map(|[q, k, v]| kernel::plain(&q, &k, &v)).transpose()
    }
}

bitflags::bitflags! {
    /// The phases of an attention call that a hook wants to be called for: `Interest::PROBS | Interest::BIAS`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Interest: u8 {
        /// No call, no cost.
        const NONE = 0;
        /// [`CrossAttentionHook::context`].
        const CONTEXT = 1;
        /// [`CrossAttentionHook::bias`].
        const BIAS = 2;
        /// [`CrossAttentionHook::scores`].
        const SCORES = 4;
        /// [`CrossAttentionHook::probs`].
        const PROBS = 8;
        /// [`CrossAttentionHook::output`].
        const OUTPUT = 16;
    }
}

/// Watches or changes attention. One required method: where you want to be called, and for what.
///
/// Hooks are called per branch with that branch's rows (`n` of them, see [`At::images`]), phase by phase, in attach
/// order within a phase. The module's example is a whole one.
#[allow(unused_variables)]
pub trait CrossAttentionHook: Send {
    /// Asked once per site and branch per run. Only the phases named here are called.
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest;

    /// Whether the hook is also asked about the sites of ControlNets ([`AttentionSite::control`]). Asked once per run; by default
    /// a hook takes part in the UNet alone.
    fn controls(&self) -> bool {
        false
    }

    /// Asked once per evaluation; `false` costs as little as no hook.
    fn active(&self, step: &Step) -> bool {
        true
    }

    /// Changes what keys and values are made of, [n, tokens, dim]; tokens may be added behind those that are there. Whatever kind is left
    /// there is cast to the network's. Splits the call by branch and forgoes the keys and values kept for the run.
    fn context(&mut self, at: &At<'_>, context: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Adds to the scaled scores: broadcastable to [n, heads, queries, tokens]. Keeps the kernel. Biases of
    /// several hooks add up, so their order does not matter.
    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Edits the scaled, biased scores, f32 [n, heads, queries, tokens]. Costs the explicit kernel.
    fn scores(&mut self, at: &At<'_>, scores: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Reads probabilities, as much as it asks for. How the output is computed does not depend on it: reading never changes
    /// a bit.
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        Ok(())
    }

    /// Changes the result before the output projection, [n, queries, heads · head_dim]; it is cast to the network's
    /// kind.
    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        Ok(())
    }
}

/// Lending: `&mut hook` is a hook. Every phase is forwarded.
impl<H: CrossAttentionHook + ?Sized> CrossAttentionHook for &mut H {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        (**self).interest(site, branch)
    }
    fn controls(&self) -> bool {
        (**self).controls()
    }
    fn active(&self, step: &Step) -> bool {
        (**self).active(step)
    }
    fn context(&mut self, at: &At<'_>, context: &mut Tensor) -> Result<()> {
        (**self).context(at, context)
    }
    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        (**self).bias(at, scores)
    }
    fn scores(&mut self, at: &At<'_>, scores: &mut Tensor) -> Result<()> {
        (**self).scores(at, scores)
    }
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        (**self).probs(at, probs)
    }
    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        (**self).output(at, output)
    }
}
