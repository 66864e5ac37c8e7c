//! The state of one run of a force.

use super::feedback::Controlled;
use super::gold::Gold;
use super::report::Trace;
use tch::Tensor;

/// One run's state.
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

/// Where a run's maps come from.
pub(super) enum MapSource {
    /// The saliency, step by step.
    Live,
    /// The same, in a pass that forces nothing; the last clean latent, [n, 4, h, w].
    FirstPass(Option<Tensor>),
    /// The first pass's last maps.
    Kept(Maps),
}

/// What a first pass found, [n, 1, h, w] each.
pub(super) struct Maps {
    /// Where the color goes: along outlines, if asked for.
    pub own: Tensor,
    /// The same before that, to be held against what is protected, whose maps follow no outlines.
    pub found: Tensor,
    /// Of what is protected.
    pub others: Vec<Option<Tensor>>,
    /// The first pass's picture, [n, 3, H, W] in -1..=1; `None` if masks follow no outlines.
    pub picture: Option<Tensor>,
}
