//! Conditions beside the prompt.

use super::residuals::Residuals;
use crate::reference::ReferenceFeatures;
use tch::Tensor;

/// The conditions of a U-Net beside timestep and prompt.
#[derive(Debug, Default)]
pub struct AddedConditions {
    /// Pooled text of the second encoder (SDXL), [b, width].
    pub text_embeds: Option<Tensor>,
    /// SDXL's size numbers, [b, 6] (original, crop offset, target); the refiner's are [b, 5].
    pub time_ids: Option<Tensor>,
    /// An embedded guidance scale (LCM), [b, `time_cond_proj_dim`].
    pub timestep_cond: Option<Tensor>,
    /// What ControlNets add to the UNet; they themselves do not read it.
    pub residuals: Option<Residuals>,
    /// Features of a sketch, added to the hidden states on the way down before they are kept for the way up: after the first layer,
    /// [1 or b, channels, h, w], and after each level. Empty for most models.
    pub features: Vec<Tensor>,
    /// Features of a reference for the way up (ColorizeDiffusion v2).
    pub reference: Option<ReferenceFeatures>,
}
