//! [`Guess`]: the weights of a ControlNet's residuals in guess mode.

use serde::{Deserialize, Serialize};

/// Weights of residuals in guess mode, in which a ControlNet guesses the content of its hint and the prompt says little
/// or nothing. The branch `Branch::Uncond` and its variations then run without control, so that classifier-free
/// guidance strengthens the effect of the hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Guess {
    /// Uses diffusers' weights, from 0.1 at the largest grid to 1 in the middle block: 10^(i/n − 1) for residual i of
    /// 0..=n.
    Diffusers,
    /// Uses the weights of ControlNet's first release: 0.825^(n − i) for residual i of 0..=n. (The application of that
    /// release also evaluates the ControlNet on an empty hint for `Uncond`.)
    Original,
    /// Uses full weight for all residuals. The hint then acts like the prompt, against a branch without control.
    /// Corresponds to ComfyUI's control of the positive prompt alone.
    Even,
}

impl Guess {
    /// Returns the weight of residual `i` of n + 1; the middle block's residual comes last.
    pub(crate) fn weight(self, i: usize, n: usize) -> f64 {
        let (i, n) = (i as f64, n.max(1) as f64);
        match self {
            Self::Diffusers => 10f64.powf(i / n - 1.0),
            Self::Original => 0.825f64.powf(n - i),
            Self::Even => 1.0,
        }
    }
}
