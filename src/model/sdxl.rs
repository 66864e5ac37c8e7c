//! The inputs that SDXL's networks read beside the prompt: the pooled text, and numbers for sizes and quality.

use super::rows::rows;
use crate::branch::Branch;
use crate::diffusion::Input;
use crate::error::Result;
use crate::micro_conditioning::MicroConditioning;
use crate::nn::AddedConditions;
use tch::{Device, Tensor};

/// Stacks the pooled texts and the numbers of all inputs. `count` is the count of numbers, 5 or 6, and `cell` is the
/// side of a latent cell in pixels.
pub(super) fn added(inputs: &[Input<'_>], count: i64, cell: i64, device: Device) -> Result<AddedConditions> {
    let pooled = rows(inputs, "Conditioning::pooled", |conditioning| conditioning.pooled.as_ref())?;
    let mut sizes = Vec::with_capacity(inputs.len());
    for Input { branch, x, conditioning } in inputs {
        let (images, _, h, w) = x.size4()?;
        let usual = || {
            let usual = MicroConditioning::default();
            if *branch == Branch::Uncond { usual.negative() } else { usual }
        };
        let [h, w] = [h, w].map(|cells| (cells * cell) as f32);
        let numbers = conditioning.micro.unwrap_or_else(usual).numbers((h, w), count == 5);
        sizes.push(Tensor::f_from_slice(&numbers)?.f_to_device(device)?.f_expand([images, count], false)?);
    }
    let (text_embeds, time_ids) = (Some(pooled), Some(Tensor::f_cat(&sizes, 0)?));
    Ok(AddedConditions { text_embeds, time_ids, ..AddedConditions::default() })
}
