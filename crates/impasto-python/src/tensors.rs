//! Tensors that Python and the library share. Both sides count the references to one `TensorImpl`, so nothing is
//! copied.

use pyo3::prelude::*;
use pyo3_tch::PyTensor;
use tch::Tensor;

/// Returns Python's `torch.Tensor` of the same memory.
///
/// # Errors
/// The error of `pyo3-tch`, and `RuntimeError` if torch refuses to wrap the tensor.
pub fn to_python<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyAny>> {
    let shared = PyTensor(tensor.shallow_clone()).into_pyobject(py)?;
    // `pyo3-tch` gives None in place of the error.
    if shared.is_none() {
        return Err(crate::errors::message("torch refused to give a tensor to Python; please report this fault"));
    }
    Ok(shared)
}

/// Returns the tensor that a method of Python returned; `None` for Python's None.
///
/// # Errors
/// `TypeError` for another type.
pub fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    let tensor: Option<PyTensor> = value.extract()?;
    Ok(tensor.map(|shared| shared.0))
}
