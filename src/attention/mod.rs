//! Attention that hooks can read and change.
//!
//! An attention call computes context → q·k → sum of biases → scores → softmax → probs → ·v → output. A
//! [`CrossAttentionHook`] names the phases of the call in which it takes part, per site and branch. The hook reads
//! scores and probabilities through the views [`Scores`] and [`Probs`]. A [`Tap`] carries the hooks of a run through a
//! network.
//!
//! ```
//! use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
//! use impasto::{Branch, Result};
//! use tch::{Kind, Tensor};
//!
//! /// Mean attention of the picture to each token.
//! #[derive(Default)]
//! struct TokenWeight { sum: Option<Tensor> }
//!
//! impl CrossAttentionHook for TokenWeight {
//!     fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
//!         if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
//!     }
//!     fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
//!         let here = probs.columns(probs.tokens())?.f_mean_dim([0i64, 1, 2].as_slice(), false, Kind::Float)?;
//!         self.sum = Some(match self.sum.take() { Some(sum) => sum.f_add(&here)?, None => here });
//!         Ok(())
//!     }
//! }
//! ```

mod hook;
mod kernel;
mod kv_cache;
mod site;
mod tap;
mod views;

pub(crate) use hook::Projections;
pub use hook::{At, CrossAttentionHook, Interest};
pub(crate) use kernel::{add_repeated, chunks, repeated, scores};
pub use kv_cache::KvCache;
pub use site::{AttentionSite, Place, SiteKind};
pub(crate) use tap::Stream;
pub use tap::{Call, HookTable, Tap};
pub use views::{Probs, Scores};
