//! The state of one run of a force.

use super::feedback::Controlled;
use super::gold::Gold;
use super::protect::Guarded;
use super::redrawing::Redrawing;
use super::repainting::Repainting;
use super::report::Trace;
use super::settings::Settings;
use super::subspace::Subspace;
use crate::error::Result;
use crate::mask::Matte;
use crate::saliency::{Recorded, SaliencyRun, Seen};
use std::fmt;
use tch::{Device, Tensor};

/// A [`ColorForce`](super::ColorForce) in one run, from [`Output::details`](crate::pipeline::Output::details) with the
/// phrase as label.
pub struct ForceRun {
    pub(super) settings: Settings,
    pub(super) saliency: Box<dyn SaliencyRun>,
    pub(super) protected: Vec<Guarded>,
    /// The content that the run of replayed maps held.
    pub(super) replayed: Option<Seen>,
    pub(super) gold: Gold,
    /// The directions of flat colors; `None` unless the force pulls along them alone.
    pub(super) subspace: Option<Subspace>,
    /// The user's mask at latent resolution, [1, 1, h, w].
    pub(super) mask: Option<Tensor>,
    /// True if the step is inside the window, for all evaluations of the step.
    pub(super) active: bool,
    pub(super) source: MapSource,
    /// The last cutoff of each image, [n, 1, 1, 1].
    pub(super) levels: Option<Tensor>,
    pub(super) feedback: Option<Controlled>,
    pub(super) trace: Trace,
    /// The image of the first pass that this run continues; `None` for all images.
    pub(super) candidate: Option<i64>,
    /// The repainting of the first pass's picture; `None` unless only material is forced.
    pub(super) repainting: Option<Repainting>,
    /// The redrawing of objects without a clear material in the first pass's picture.
    pub(super) redrawing: Option<Redrawing>,
}

impl fmt::Debug for ForceRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForceRun").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ForceRun {
    /// Returns the masks of the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`](crate::error::Error::NoMaps) if no step was forced.
    pub fn masks(&self) -> Result<Tensor> {
        self.trace.masks()
    }

    /// Returns the saliency at the forced steps, [steps, n, h, w] f32.
    ///
    /// # Errors
    /// [`Error::NoMaps`](crate::error::Error::NoMaps) if no step was forced.
    pub fn saliency_maps(&self) -> Result<Tensor> {
        self.trace.saliency()
    }

    /// Returns the saliency of the run, which can be saved or given to
    /// [`ColorForce::replay`](super::ColorForce::replay).
    ///
    /// # Errors
    /// [`Error::NoMaps`](crate::error::Error::NoMaps) if no step was forced.
    pub fn recorded(&self) -> Result<Recorded> {
        let trace = &self.trace;
        let mut maps = Recorded::new(trace.timesteps(), trace.saliency()?, self.saliency.range())?;
        maps.seen = self.repainting.as_ref().and_then(Repainting::used).map(|seen| seen.on(Device::Cpu)).transpose()?;
        Ok(maps)
    }

    /// Returns the latent of the color, [1, c, h, w] f32.
    pub const fn gold_latent(&self) -> &Tensor {
        &self.gold.latent
    }
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

/// Clean latents of a first pass, [n, c, h, w].
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
