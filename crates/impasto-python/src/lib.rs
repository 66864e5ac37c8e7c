//! The native part of the Python package `impasto`: pipelines, results and hooks, on the torch that Python has loaded.
//!
//! Python's side (`python/impasto`) turns fields into the JSON of a [`Job`](impasto::job::Job), and pixels into
//! pictures of Pillow. Everything else is the library's.

#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod attention;
mod errors;
mod failure;
mod hook;
mod output;
mod pipeline;
mod progress;
mod tensors;
mod wording;

use pyo3::prelude::*;

/// The module `impasto._impasto`.
#[pymodule]
fn _impasto(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("ImpastoError", module.py().get_type::<errors::ImpastoError>())?;
    module.add_class::<pipeline::Pipeline>()?;
    module.add_class::<output::Output>()?;
    module.add_class::<attention::At>()?;
    module.add_class::<attention::Site>()?;
    module.add_class::<attention::Step>()?;
    module.add_class::<progress::Progress>()
}
