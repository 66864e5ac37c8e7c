//! [`MaskedContent`]: the content under a mask at the beginning of a run.

use crate::error::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The content under a mask at the beginning of a run, before the noise of its first step is added. It makes a
/// difference only with a part of the noise schedule: a run of the whole schedule begins with noise alone.
///
/// Source: "Masked content" of the AUTOMATIC1111 web UI 1.10 (`modules/processing.py`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MaskedContent {
    /// The picture.
    #[default]
    Picture,
    /// Noise in place of the picture's latent, so that nothing of the picture shows through.
    Noise,
    /// A latent of zeros in place of the picture's: an even gray or brown, the mean of all pictures.
    Nothing,
}

impl MaskedContent {
    /// Returns the latent of a picture, [1 or n, c, h, w], with this content in the cells of a mask, [1 or n, 1, h, w]
    /// in 0..=1. `noise` is the run's first noise, [n, c, h, w].
    pub(super) fn put(self, latent: &Tensor, mask: &Tensor, noise: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Picture => latent.shallow_clone(),
            Self::Noise => latent.f_lerp_tensor(noise, &mask.f_expand(noise.size(), false)?)?,
            Self::Nothing => latent.f_mul(&mask.f_neg()?.f_add_scalar(1.0)?)?,
        })
    }
}
