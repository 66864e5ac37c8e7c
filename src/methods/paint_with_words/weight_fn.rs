//! Laws that turn a weight into an attention bias, by the noise level and the scores of a site.

use crate::attention::Scores;
use crate::error::{Error, Result};
use crate::guidance::LARGEST_LEVEL;
use crate::recipe::Function;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Bias added to the scaled scores s = q·kᵀ/√d for a weight w at noise level σ.
///
/// The statistic of the scores (maximum or deviation) is taken per image, over heads, cells and all tokens. Scaling by
/// the statistic makes a gain equally strong at sites with small and with large scores. A negative statistic counts as
/// 0, because its sign would invert the paint. σ is clamped to 14.6146, the usual maximum of Stable Diffusion.
///
/// Source: paint-with-words-sd, whose laws apply to q·kᵀ before scaling. Maximum and deviation are proportional to the
/// scores, so the laws are the same on scaled scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WeightFn {
    /// Adds gain · w · ln(1 + σ) · max(s). The gain is 0..=10. The default is .1; the package's examples use .4.
    LogMax(f64),
    /// Adds gain · w · ln(1 + σ) · std(s), with n − 1 in the deviation.
    LogStd(f64),
    /// Adds gain · w · ln(1 + σ²) · std(s), with n − 1 in the deviation. This law decreases earlier in a run than
    /// [`LogStd`](Self::LogStd). The package's example uses .4.
    LogSqStd(f64),
    /// Adds gain · w at every noise level, without reading the scores.
    Flat(f64),
    /// Adds the bias of a function of your own; [`custom`](Self::custom) makes this law.
    #[serde(skip)]
    Custom(Function<Law>),
}

impl Default for WeightFn {
    fn default() -> Self {
        Self::LogMax(0.1)
    }
}

/// Function of a [`WeightFn::Custom`]: (w, σ, scores) → bias.
type Law = dyn Fn(&Tensor, f64, &Scores<'_>) -> Result<Tensor> + Send + Sync;

/// The bias of one call.
pub(super) struct Bias {
    /// Bias, broadcastable to [n, heads, cells, tokens].
    pub bias: Tensor,
    /// Bias of a weight of 1, [n or 1, 1, 1, 1]; `None` for a custom law.
    pub per_weight: Option<Tensor>,
}

impl WeightFn {
    /// Returns the law of the paper, w · ln(1 + σ) · max(s).
    ///
    /// Source: Balaji et al., eDiff-I (arXiv 2211.01324).
    pub const fn paper() -> Self {
        Self::LogMax(1.0)
    }

    /// Returns the law that adds the bias of a function to the scaled scores, broadcastable to [n, heads, cells,
    /// tokens]. The function gets the weights ([1 or n, 1, cells, tokens] f32), the noise level and the scores.
    pub fn custom(law: impl Fn(&Tensor, f64, &Scores<'_>) -> Result<Tensor> + Send + Sync + 'static) -> Self {
        Self::Custom(Function(Arc::new(law)))
    }

    /// Returns true if the law can add a bias.
    pub(super) fn acts(&self) -> bool {
        self.gain() != Some(0.0)
    }

    fn gain(&self) -> Option<f64> {
        match self {
            Self::LogMax(gain) | Self::LogStd(gain) | Self::LogSqStd(gain) | Self::Flat(gain) => Some(*gain),
            Self::Custom(_) => None,
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.gain() {
            Some(gain) if !(0.0..=10.0).contains(&gain) => {
                Err(Error::parameter("gain", gain, "0..=10; .1 to 1 is usual, 0 switches the paint off"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the bias of `w`, [1 or n, 1, cells, tokens], at noise level `sigma`.
    pub(super) fn bias(&self, w: &Tensor, sigma: f64, scores: &Scores<'_>) -> Result<Bias> {
        if !sigma.is_finite() {
            return Err(Error::parameter("sigma", sigma, "a finite noise level"));
        }
        let sigma = sigma.min(LARGEST_LEVEL);
        let scaled = |statistic: Tensor, factor: f64| statistic.f_clamp_min(0.0)?.f_mul_scalar(factor);
        let per_weight = match self {
            Self::LogMax(gain) => scores.max_times(gain * sigma.ln_1p())?,
            Self::LogStd(gain) => scaled(scores.std()?, gain * sigma.ln_1p())?,
            Self::LogSqStd(gain) => scaled(scores.std()?, gain * (sigma * sigma).ln_1p())?,
            Self::Flat(gain) => Tensor::f_full([1, 1, 1, 1], *gain, (Kind::Float, w.device()))?,
            Self::Custom(law) => return Ok(Bias { bias: law(w, sigma, scores)?, per_weight: None }),
        };
        Ok(Bias { bias: w.f_mul(&per_weight)?, per_weight: Some(per_weight) })
    }
}
