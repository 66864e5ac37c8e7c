//! LoRAs that act in a place of the picture, in attention to the prompt.

use super::layers::Linear;
use super::loras;
use crate::attention::{AttentionSite, Tap};
use crate::error::Result;
use tch::Tensor;

/// Attention to the prompt at a site: the queries, [b, heads, cells, d], the context, and the layers of the context's
/// keys and values.
#[derive(Clone, Copy)]
pub(super) struct PromptAttention<'a> {
    pub site: &'a AttentionSite,
    pub q: &'a Tensor,
    pub context: &'a Tensor,
    pub to_k: &'a Linear,
    pub to_v: &'a Linear,
}

impl PromptAttention<'_> {
    /// Adds the LoRAs that act in a place and change keys or values to `attended`: in their cells, attention to the
    /// changed keys and values takes the place of attention to the others. Hooks see the others alone. `split` makes
    /// the heads' keys and values of the layers' results.
    pub(super) fn with_placed_loras(
        self,
        mut attended: Tensor,
        split: impl Fn(&Tensor, &Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let Self { site, q, context, to_k, to_v } = self;
        let placed = loras::find_placed([to_k.weight(), to_v.weight()], q.size4()?.2)?;
        if placed.is_empty() {
            return Ok(attended);
        }
        let attention = |k: &Tensor, v: &Tensor| Tap::none().attend(site, q, context, |_| split(k, v));
        let (k, v) = (to_k.forward_prompt(context)?, to_v.forward_prompt(context)?);
        let plain = attention(&k, &v)?;
        for lora in &placed {
            let k = lora.onto_prompt(k.f_alias_copy()?, context, to_k.weight())?;
            let v = lora.onto_prompt(v.f_alias_copy()?, context, to_v.weight())?;
            attended = attended.f_add(&loras::times(attention(&k, &v)?.f_sub(&plain)?, &lora.shares)?)?;
        }
        Ok(attended)
    }
}
