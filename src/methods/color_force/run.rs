//! The state of one run of a force.

use super::feedback::Controlled;
use super::gold::Gold;
use super::redrawing::Redrawing;
use super::repainting::Repainting;
use super::report::Trace;
use crate::mask::Matte;
use tch::Tensor;

/// The state of one run of a force.
pub(super) struct Forcing {
    pub gold: Gold,
    /// The user's mask at latent resolution, [1, 1, h, w].
    pub mask: Option<Tensor>,
    /// True if the step is inside the window, for all evaluations of the step.
    pub active: bool,
    pub source: MapSource,
    /// The last cutoff of each image, [n, 1, 1, 1].
    pub levels: Option<Tensor>,
    pub feedback: Option<Controlled>,
    pub trace: Trace,
    /// The image of the first pass that this run continues; `None` for all images.
    pub candidate: Option<i64>,
    /// The repainting of the first pass's picture; `None` unless only material is forced.
    pub repainting: Option<Repainting>,
    /// The redrawing of objects without a clear material in the first pass's picture.
    pub redrawing: Option<Redrawing>,
}

/// The source of a run's saliency maps.
pub(super) enum MapSource {
    /// The saliency's map at each step.
    Live,
    /// The saliency of a first pass, which forces nothing.
    FirstPass(FirstPass),
    /// The first pass's last maps.
    Kept(Maps),
}

/// Clean latents of a first pass, [n, 4, h, w].
#[derive(Default)]
pub(super) struct FirstPass {
    /// The latent at the first step of the force's window.
    pub first: Option<Tensor>,
    /// The latent at the first step at which an object without a clear material is redrawn, if that step is earlier.
    pub early: Option<Tensor>,
    /// The latent at the last step.
    pub last: Option<Tensor>,
}

/// The maps that a first pass found, [n, 1, h, w] each.
pub(super) struct Maps {
    /// The map of the region to color, which follows outlines if the settings ask for that.
    pub own: Tensor,
    /// The map before it is brought to outlines. This map is compared with the maps of the protected objects, which do
    /// not follow outlines.
    pub found: Tensor,
    /// The maps of the protected objects.
    pub others: Vec<Option<Tensor>>,
    /// The first pass's picture, [n, 3, H, W] in -1..=1; `None` unless masks follow outlines or colors.
    pub picture: Option<Tensor>,
    /// The object's material in the picture; `None` unless only material is forced.
    pub material: Option<Material>,
}

/// An object's material, and the protected cells in which the object has none.
pub(super) struct Material {
    pub matte: Matte,
    /// The protected cells, [n, 1, h, w] of 0 and 1.
    pub spared: Tensor,
}

impl Material {
    /// Returns true if the material is not clear in some image.
    pub(super) fn is_unclear(&self) -> bool {
        self.matte.unclear.contains(&true)
    }
}
