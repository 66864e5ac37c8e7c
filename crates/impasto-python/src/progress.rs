//! [`Progress`]: the steps of a run, as `on_step` sees them.

use crate::failure::Failure;
use pyo3::prelude::*;
use std::ops::ControlFlow;

/// Progress of a run after a step.
#[pyclass(frozen, get_all, module = "impasto")]
pub struct Progress {
    /// Steps taken so far, including those of a first pass.
    done: usize,
    /// Steps of all passes together.
    total: usize,
    /// Index of the pass, from 0. Only the last pass makes the picture.
    pass_index: usize,
    /// Number of passes, 1 or 2.
    passes: usize,
    /// Index of the run, from 0: a request with a second run at a larger size, or with details, has several.
    stage: usize,
    /// Noise level that the step ended at.
    sigma: f64,
    /// Seconds that the step took.
    seconds: f64,
}

impl From<&impasto::sampler::Progress> for Progress {
    fn from(progress: &impasto::sampler::Progress) -> Self {
        Self {
            done: progress.done,
            total: progress.total,
            pass_index: progress.pass,
            passes: progress.passes,
            stage: progress.stage,
            sigma: progress.step.to,
            seconds: progress.took.as_secs_f64(),
        }
    }
}

#[pymethods]
impl Progress {
    fn __repr__(&self) -> String {
        format!("Progress({} of {})", self.done, self.total)
    }
}

/// Calls `on_step`, if there is one, and lets Python handle signals such as Ctrl-C. An exception ends the run.
pub fn tell(on_step: Option<&PyObject>, progress: &impasto::sampler::Progress, failure: &Failure) -> ControlFlow<()> {
    let told = Python::with_gil(|py| {
        py.check_signals()?;
        on_step.map(|callback| callback.call1(py, (Progress::from(progress),))).transpose()
    });
    match told {
        Ok(_) => ControlFlow::Continue(()),
        Err(exception) => {
            failure.keep(exception);
            ControlFlow::Break(())
        }
    }
}
