//! The state of one run of a force.

use super::feedback::Controlled;
use super::gold::Gold;
use super::report::Trace;
use tch::Tensor;

/// The state of one run of a force.
pub(super) struct Forcing {
    pub gold: Gold,
    /// The user's mask at latent resolution, [1, 1, h, w].
    pub mask: Option<Tensor>,
    /// Is the step inside the window? A step is, or is not, with all its evaluations.
    pub active: bool,
    pub source: MapSource,
    /// The images' last cutoffs, [n, 1, 1, 1].
    pub levels: Option<Tensor>,
    pub feedback: Option<Controlled>,
    pub trace: Trace,
    /// The image of the first pass that this run goes on with; `None`: of all of them.
    pub candidate: Option<i64>,
}

/// The source of a run's saliency maps.
pub(super) enum MapSource {
    /// The saliency, step by step.
    Live,
    /// The saliency of a first pass, which forces nothing; holds the last clean latent, [n, 4, h, w].
    FirstPass(Option<Tensor>),
    /// The first pass's last maps.
    Kept(Maps),
}

/// The maps that a first pass found, [n, 1, h, w] each.
pub(super) struct Maps {
    /// The region to color, along outlines if the settings ask for that.
    pub own: Tensor,
    /// The region before it follows outlines, for comparison with the protected things, whose maps follow none.
    pub found: Tensor,
    /// The maps of the protected things.
    pub others: Vec<Option<Tensor>>,
    /// The first pass's picture, [n, 3, H, W] in -1..=1; `None` if masks follow no outlines.
    pub picture: Option<Tensor>,
}
