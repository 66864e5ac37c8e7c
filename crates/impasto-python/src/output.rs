//! [`Output`]: the pictures of a run, its report and its recipe.

use crate::errors::{exception, message};
use crate::tensors::to_python;
use crate::wording::Python as Words;
use impasto::Raster;
use impasto::guidance::Report;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The pictures of a run, with the run's report and recipe as JSON.
#[pyclass(frozen, module = "impasto")]
pub struct Output(Mutex<impasto::Output>);

impl From<impasto::Output> for Output {
    fn from(output: impasto::Output) -> Self {
        Self(Mutex::new(output))
    }
}

impl Output {
    fn inner(&self) -> MutexGuard<'_, impasto::Output> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A picture's width, height and bytes, 3 per pixel (red, green, blue) and row by row.
type Pixels<'py> = (u32, u32, Bound<'py, PyBytes>);

fn pixels<'py>(py: Python<'py>, picture: &Raster) -> Pixels<'py> {
    (picture.size().width, picture.size().height, PyBytes::new(py, picture.bytes()))
}

#[pymethods]
impl Output {
    /// Returns the pictures.
    fn pictures<'py>(&self, py: Python<'py>) -> Vec<Pixels<'py>> {
        self.inner().images.iter().map(|picture| pixels(py, picture)).collect()
    }

    /// Returns the pictures of the reports, each with the name of its report, its caption, image and step.
    #[allow(clippy::type_complexity, reason = "a tuple that Python's side makes into a value")]
    fn maps<'py>(&self, py: Python<'py>) -> PyResult<Vec<(String, String, Option<usize>, Option<usize>, Pixels<'py>)>> {
        let output = self.inner();
        let all = output.reports.iter().flat_map(|report| report.pictures.iter().map(move |map| (report, map)));
        all.map(|(report, map)| {
            let drawn = map.raster().map_err(|error| exception(&error))?;
            Ok((report.name.clone(), map.caption.clone(), map.image, map.step, pixels(py, &drawn)))
        })
        .collect()
    }

    /// Returns the finished latents, [n, c, h, w], without a copy.
    fn latents<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.inner().latents)
    }

    /// Returns the report as JSON.
    fn report(&self) -> PyResult<String> {
        let output = self.inner();
        let seconds = output.timing.total().as_secs_f64();
        let notes: Vec<String> = output.notes.iter().map(|note| note.worded(&Words)).collect();
        let swatches = output.reports.iter().flat_map(|report| &report.swatches);
        let report = json!({
            "seed": output.seed,
            "colors": swatches.collect::<Vec<_>>(),
            "reports": output.reports.iter().map(without_swatches).collect::<PyResult<Vec<_>>>()?,
            "notes": notes,
            "timing": output.timing,
            "seconds": seconds,
        });
        Ok(report.to_string())
    }

    /// Returns the recipe that repeats the run, as JSON.
    fn recipe(&self) -> PyResult<String> {
        serde_json::to_string(self.inner().recipe()).map_err(message)
    }

    /// Saves a picture as PNG, with the recipe of its run.
    fn save(&self, py: Python<'_>, path: PathBuf, index: usize) -> PyResult<()> {
        py.allow_threads(|| self.inner().save(index, path)).map_err(|error| exception(&error))
    }
}

/// Returns a report without the swatches, which stand beside the reports.
fn without_swatches(report: &Report) -> PyResult<Value> {
    let mut report = serde_json::to_value(report).map_err(message)?;
    if let Some(fields) = report.as_object_mut() {
        fields.remove("swatches");
    }
    Ok(report)
}
