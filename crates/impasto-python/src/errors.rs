//! [`ImpastoError`]: the library's errors as an exception of Python.

use crate::wording::Python;
use pyo3::PyErr;
use pyo3::exceptions::PyRuntimeError;

mod exception {
    pyo3::create_exception!(
        impasto,
        ImpastoError,
        super::PyRuntimeError,
        "A picture that cannot be painted, or a model that cannot be loaded. The message says what is wrong, what was \
         expected, and what to do."
    );
}
pub use exception::ImpastoError;

/// Returns the exception for an error of the library, in the words of Python.
pub fn exception(error: &impasto::Error) -> PyErr {
    ImpastoError::new_err(error.worded(&Python))
}

/// Returns the exception with a message.
pub fn message(text: impl std::fmt::Display) -> PyErr {
    ImpastoError::new_err(text.to_string())
}
