//! [`At`]: an attention call as a hook in Python sees it, with its [`Site`] and [`Step`].

use crate::tensors::to_python;
use impasto::Branch;
use impasto::attention::{AttentionSite, Place};
use pyo3::prelude::*;

/// A place in the network where attention happens.
#[pyclass(frozen, get_all, module = "impasto")]
#[derive(Clone)]
pub struct Site {
    /// Position in the list of the model's sites.
    index: usize,
    /// Path in the checkpoint.
    name: String,
    /// True at cross-attention sites, whose context is the prompt.
    is_cross: bool,
    /// Part of the network: "down", "mid", "up" or "layer".
    place: &'static str,
    /// Number of halvings of the latent grid before this site.
    halvings: u32,
    /// Number of attention heads.
    heads: i64,
    /// ControlNet that the site is in, counted from 0; None in the UNet.
    control: Option<usize>,
}

impl From<&AttentionSite> for Site {
    fn from(site: &AttentionSite) -> Self {
        Self {
            index: site.index,
            name: site.name.clone(),
            is_cross: site.is_cross(),
            place: match site.place {
                Place::Down => "down",
                Place::Mid => "mid",
                Place::Up => "up",
                _ => "layer",
            },
            halvings: site.halvings,
            heads: site.heads,
            control: site.control,
        }
    }
}

#[pymethods]
impl Site {
    fn __repr__(&self) -> String {
        format!("Site({}, {:?})", self.index, self.name)
    }
}

/// One step of a run and, within it, one evaluation of the network.
#[pyclass(frozen, get_all, module = "impasto")]
#[derive(Clone)]
pub struct Step {
    /// Index of the step, from 0.
    index: usize,
    /// Number of steps in the run.
    count: usize,
    /// Index of this evaluation within the step, from 0.
    eval: usize,
    /// Noise level of this evaluation.
    sigma: f64,
    /// Noise level that the step ends at; 0 for the last.
    next_sigma: f64,
    /// Training timestep of this evaluation.
    timestep: f64,
    /// Timestep of Stable Diffusion with the noise level of this evaluation, for a model with flow matching; otherwise
    /// `timestep`. Equal numbers mean equal noise levels in models of both kinds.
    sd_timestep: f64,
}

impl From<&impasto::Step> for Step {
    fn from(step: &impasto::Step) -> Self {
        let impasto::Step { index, count, eval, sigma, to, timestep, sd_timestep, .. } = *step;
        Self { index, count, eval, sigma, next_sigma: to, timestep, sd_timestep }
    }
}

#[pymethods]
impl Step {
    fn __repr__(&self) -> String {
        format!("Step({} of {}, sigma={})", self.index, self.count, self.sigma)
    }
}

/// The attention call that a hook sees.
#[pyclass(frozen, get_all, module = "impasto")]
pub struct At {
    /// Site of the call.
    site: Py<Site>,
    /// Step and evaluation of the call.
    step: Py<Step>,
    /// Branch whose rows the hook sees: "cond", "uncond", "extra0" and so on.
    branch: String,
    /// First image of the run that the rows belong to, and the image after the last.
    images: (i64, i64),
    /// Rows and columns of the cells that the queries belong to.
    grid: (i64, i64),
    /// Queries, [n, heads, queries, head_dim].
    query: PyObject,
    /// Values, [n, heads, tokens, head_dim]; None in the phase `context`.
    values: Option<PyObject>,
}

impl At {
    /// Describes a call. The tensors share the memory of the library's tensors.
    pub fn new(py: Python<'_>, at: &impasto::attention::At<'_>) -> PyResult<Self> {
        let share = |tensor| PyResult::Ok(to_python(py, tensor)?.unbind());
        Ok(Self {
            site: Py::new(py, Site::from(at.site))?,
            step: Py::new(py, Step::from(at.step))?,
            branch: name(at.branch),
            images: (at.images.start, at.images.end),
            grid: (at.grid.h, at.grid.w),
            query: share(at.query())?,
            values: at.values().map(share).transpose()?,
        })
    }
}

/// Returns the name of a branch.
pub fn name(branch: Branch) -> String {
    match branch {
        Branch::Cond => "cond".into(),
        Branch::Uncond => "uncond".into(),
        Branch::Extra(number) => format!("extra{number}"),
        other => format!("{other:?}"),
    }
}
