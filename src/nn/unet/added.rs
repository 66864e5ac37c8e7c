//! Conditions of a UNet besides timestep and prompt.

use super::residuals::Residuals;
use crate::conditioning::FreeUFactors;
use crate::nn::control_type::ControlType;
use crate::reference::ReferenceFeatures;
use tch::Tensor;

/// The conditions of a UNet besides timestep and prompt.
#[derive(Debug, Default)]
pub struct AddedConditions {
    /// Pooled text of the second encoder (SDXL), [b, width].
    pub text_embeds: Option<Tensor>,
    /// SDXL's size numbers, [b, 6] (original, crop offset, target); the refiner's are [b, 5].
    pub time_ids: Option<Tensor>,
    /// An embedded guidance scale (LCM), [b, `time_cond_proj_dim`].
    pub timestep_cond: Option<Tensor>,
    /// Residuals of ControlNets for the UNet; ControlNets themselves ignore this field.
    pub residuals: Option<Residuals>,
    /// Features of a sketch for the contracting half: one is added after the first layer, [1 or b, channels, h, w], and
    /// one after each level. Skip connections include them. Empty for most models.
    pub features: Vec<Tensor>,
    /// Types of the hints of a ControlNet union; other networks ignore this field.
    pub control_types: Vec<ControlType>,
    /// Features of T2I adapters for the contracting half, [1 or n, channels, h, w] with n dividing the rows of the
    /// sample; ControlNets ignore this field. Level i takes feature i: after its last transformer, or at its end if it
    /// has none. A feature that is left over goes to the middle block. Empty without adapters.
    pub adapter: Vec<Tensor>,
    /// Factors of FreeU for the expanding half.
    pub free_u: Option<FreeUFactors>,
    /// Features of a reference for the expanding half (ColorizeDiffusion v2).
    pub reference: Option<ReferenceFeatures>,
}
