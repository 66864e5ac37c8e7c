//! [`PerturbedAttention`]: pictures with more structure, by guidance away from a prediction without self-attention.

use super::away::Away;
use super::changed_attention::{self, Sites};
use crate::attention::{At, AttentionSite};
use crate::error::Result;
use crate::guidance::{Guidance, GuidanceRun, Setup};
use crate::recipe::{Function, Recipe};
use crate::window::Window;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::Tensor;

/// Perturbed-attention guidance: x0 + s · (cond − perturbed), where cond is the prompt's prediction. The perturbed
/// prediction is made in the same way, except that the chosen [`sites`](Self::sites) of self-attention use the identity
/// as their attention map, so that every cell sees only itself there.
///
/// The picture gains structure, with or without classifier-free guidance. The method costs one more branch per step.
///
/// ```
/// # fn main() -> impasto::Result<()> {
/// use impasto::Pipeline;
/// use impasto::methods::PerturbedAttention;
/// let pipeline = Pipeline::builder().guide(PerturbedAttention::new(2.0)).build()?;
/// let output = pipeline.request("a red boat, blue sky").seed(7).steps(4).run()?;
/// # Ok(()) }
/// ```
///
/// Source: Ahn et al. (2024), "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance"; diffusers'
/// `PAGMixin` with `pag_applied_layers="mid"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct PerturbedAttention {
    scale: f64,
    window: Window,
    #[serde(default)]
    sites: Option<Sites>,
}

impl PerturbedAttention {
    /// Creates the method with `scale`, the factor s, 0..=30; 3 is usual, and 0 changes nothing.
    pub const fn new(scale: f64) -> Self {
        Self { scale, window: Window::WHOLE, sites: None }
    }

    /// Acts only in this window; outside of the window the perturbed branch is not evaluated. Default: the whole run.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Perturbs the self-attention sites that `select` accepts. Default: the self-attention sites of the middle block,
    /// or in a transformer those of the middle one of the layers that have self-attention.
    pub fn sites(mut self, select: impl Fn(&AttentionSite) -> bool + Send + Sync + 'static) -> Self {
        self.sites = Some(Function(Arc::new(select)));
        self
    }

    const fn away(&self) -> Away {
        Away { scale: self.scale, window: self.window }
    }
}

/// Returns the values of the picture's cells: softmax(q·kᵀ) is the identity, [n, heads, cells, d] →
/// [n, cells, heads, d]. Other tokens stand behind the cells in some networks.
fn read_values(at: &At<'_>) -> Result<Option<Tensor>> {
    let cells = at.query().size4()?.2;
    Ok(at.values().map(|values| values.f_narrow(2, 0, cells)?.f_transpose(1, 2)).transpose()?)
}

impl Guidance for PerturbedAttention {
    fn check(&self) -> Result<()> {
        self.away().check()
    }

    fn begin(&self, setup: &mut Setup<'_>, _: Option<Box<dyn GuidanceRun>>) -> Result<Box<dyn GuidanceRun>> {
        changed_attention::begin(self.away(), self.sites.as_ref(), setup, "perturbed attention", read_values)
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("PerturbedAttention", self)
    }

    fn name(&self) -> &'static str {
        "PerturbedAttention"
    }
}
