//! The trait [`CrossAttentionHook`], and the attention call [`At`] that a hook sees.

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

/// The projections of a site. A function from a context to keys and values implements this trait.
pub(crate) trait Projections {
    /// Returns keys and values, [b, heads, tokens, d] each, of a context, [b, tokens, dim].
    fn keys_values(&self, context: &Tensor) -> Result<(Tensor, Tensor)>;

    /// Returns queries, keys and values as changed by the site's adapter for a part of the picture. `rows` are the rows
    /// of the call to compute queries for. Returns `None` if the site has no such adapter, which is the default.
    fn adapted(&self, _part: Part, _rows: Range<i64>, _context: &Tensor) -> Result<Option<[Tensor; 3]>> {
        Ok(None)
    }
}

impl<F: Fn(&Tensor) -> Result<(Tensor, Tensor)>> Projections for F {
    fn keys_values(&self, context: &Tensor) -> Result<(Tensor, Tensor)> {
        self(context)
    }
}

/// The attention call that a hook sees: its site, step, branch, images and queries.
#[derive(Clone)]
#[non_exhaustive]
pub struct At<'a> {
    /// Site of the call.
    pub site: &'a AttentionSite,
    /// Step and evaluation of the call.
    pub step: &'a Step,
    /// The branch whose rows the hook sees.
    pub branch: Branch,
    /// Images of the run that the hook's rows belong to: all images, or one at a time with `Batching::OneByOne`.
    pub images: Range<i64>,
    /// Grid of the cells that the queries belong to.
    pub grid: Grid,
    pub(super) q: &'a Tensor,
    pub(super) keys: Option<&'a Tensor>,
    pub(super) values: Option<&'a Tensor>,
    pub(super) text_output: Option<&'a Tensor>,
    /// Rows of the call that belong to this branch.
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
    /// Returns the queries of this call, [n, heads, queries, head_dim].
    pub const fn query(&self) -> &Tensor {
        self.q
    }

    /// Returns the values of this call, [n, heads, tokens, head_dim]; in joint attention those of the prompt. They are
    /// `None` in [`CrossAttentionHook::context`], which runs before the projection.
    pub const fn values(&self) -> Option<&Tensor> {
        self.values
    }

    /// Returns the result of the prompt's own tokens in joint attention, [n, tokens, heads · head_dim]. It is `None` at
    /// other sites, and in phases other than [`CrossAttentionHook::output`].
    pub const fn text_output(&self) -> Option<&Tensor> {
        self.text_output
    }

    /// Computes plain attention of this call's queries over given keys and values, [n, heads, tokens, head_dim] each →
    /// [n, queries, heads · head_dim]. Hooks are not called. Decoupled attention (IP-Adapter) adds the result to the
    /// output, times a weight.
    ///
    /// ```
    /// # use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
    /// # use impasto::{Branch, Result};
    /// # use tch::Tensor;
    /// /// An image prompt, projected by its own weights for one site.
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
                let expected =
                    format!("[{n}, {heads}, tokens, {width}], with as many tokens in the key as in the value");
                return Err(Error::Shape { what, got, expected });
            }
        }
        let kind = self.q.kind();
        kernel::plain(self.q, &key.f_to_kind(kind)?, &value.f_to_kind(kind)?)
    }

    /// Computes plain attention of other queries over this call's keys and values, [n, heads, queries, head_dim] →
    /// [n, queries, heads · head_dim]. Hooks are not called. Returns `None` in phases before the projection. At a joint
    /// site the keys and values are those of the prompt.
    ///
    /// # Errors
    /// [`Error::Shape`] if the queries have another shape than this call's.
    pub fn attend_from(&self, query: &Tensor) -> Result<Option<Tensor>> {
        if query.size() != self.q.size() {
            let expected = format!("{:?}, the shape of this call's queries", self.q.size());
            return Err(Error::Shape { what: "query", got: query.size(), expected });
        }
        let query = query.f_to_kind(self.q.kind())?;
        self.keys.zip(self.values).map(|(keys, values)| kernel::plain(&query, keys, values)).transpose()
    }

    /// Computes plain attention of this call's queries over another context, [n, tokens, dim] →
    /// [n, queries, heads · head_dim]. The site's own weights project the context. Hooks are not called. `dim` is the
    /// width of the input of the phase `context`: the width of the block at a joint site, where the result is attention
    /// to this context alone, without the picture's keys.
    pub fn attend(&self, context: &Tensor) -> Result<Tensor> {
        let (k, v) = self.project.keys_values(&context.f_to_kind(self.q.kind())?)?;
        kernel::plain(self.q, &k, &v)
    }

    /// Computes attention like [`attend`](Self::attend), but with queries, keys and values changed by the site's
    /// adapter for a part of the picture. Returns `None` if the site has no such adapter. ColorizeDiffusion v1.5 and
    /// some models of v2 have adapters.
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
    /// The phases of an attention call that a hook wants to be called for, such as `Interest::PROBS | Interest::BIAS`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Interest: u8 {
        /// No phase: the hook is not called and costs nothing.
        const NONE = 0;
        /// The phase of [`CrossAttentionHook::context`].
        const CONTEXT = 1;
        /// The phase of [`CrossAttentionHook::bias`].
        const BIAS = 2;
        /// The phase of [`CrossAttentionHook::scores`].
        const SCORES = 4;
        /// The phase of [`CrossAttentionHook::probs`].
        const PROBS = 8;
        /// The phase of [`CrossAttentionHook::output`].
        const OUTPUT = 16;
    }
}

/// A hook that reads or changes attention. The one required method, [`interest`](Self::interest), names the phases in
/// which the hook is called.
///
/// Hooks are called per branch with that branch's rows (`n` of them, see [`At::images`]), phase by phase. Within a
/// phase hooks are called in attach order.
///
/// ```
/// use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest};
/// use impasto::{Branch, Pipeline, Result};
/// use tch::Tensor;
///
/// /// Sharpens the attention to the prompt, so that every cell attends to fewer words.
/// struct Sharpen(f64);
///
/// impl CrossAttentionHook for Sharpen {
///     fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
///         if site.is_cross() && branch == Branch::Cond { Interest::SCORES } else { Interest::NONE }
///     }
///     fn scores(&mut self, _: &At, scores: &mut Tensor) -> Result<()> {
///         *scores = scores.f_mul_scalar(self.0)?;
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// Pipeline::builder().build()?.request("a red boat").seed(7).steps(2).hook(Sharpen(1.2)).run()?;
/// # Ok(()) }
/// ```
#[allow(unused_variables)]
pub trait CrossAttentionHook: Send {
    /// Returns the phases in which the hook is called at `site` in `branch`. Called once per site and branch in a run.
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest;

    /// Returns true if the hook also takes part in the sites of ControlNets ([`AttentionSite::control`]). Called once
    /// per run. By default a hook takes part in the UNet alone.
    fn controls(&self) -> bool {
        false
    }

    /// Returns true if the hook takes part in an evaluation. Called once per evaluation; `false` costs no more than
    /// having no hook.
    fn active(&self, step: &Step) -> bool {
        true
    }

    /// Changes the context, [n, tokens, dim], before keys and values are projected from it. The hook may append tokens
    /// to the existing ones. The changed context is cast to the network's kind. This phase splits the call by branch
    /// and bypasses the key/value cache of the run. Joint attention has no such phase, and a hook that wants the phase
    /// there is an error.
    fn context(&mut self, at: &At<'_>, context: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Returns a bias that is added to the scaled scores, broadcastable to [n, heads, queries, tokens]. The attention
    /// kernel stays the same. Biases of several hooks add up, so their order does not matter.
    fn bias(&mut self, at: &At<'_>, scores: &Scores<'_>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Edits the scaled, biased scores, f32 [n, heads, queries, tokens]. This phase replaces the fused kernel with an
    /// explicit one, which costs time and memory.
    fn scores(&mut self, at: &At<'_>, scores: &mut Tensor) -> Result<()> {
        Ok(())
    }

    /// Reads attention probabilities through a lazy view. The computation of the output does not depend on this phase,
    /// so a hook that only reads never changes a bit of the picture.
    fn probs(&mut self, at: &At<'_>, probs: &Probs<'_>) -> Result<()> {
        Ok(())
    }

    /// Changes the result of attention before the output projection, [n, queries, heads · head_dim]. The result is cast
    /// to the network's kind.
    fn output(&mut self, at: &At<'_>, output: &mut Tensor) -> Result<()> {
        Ok(())
    }
}

/// Forwards every phase, so that a reference to a hook (`&mut hook`) is a hook too.
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
