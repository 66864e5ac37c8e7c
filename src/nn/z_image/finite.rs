//! Bounds of intermediate values in f16.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Largest number of f16.
const LARGEST: f64 = 65504.0;

/// Returns `x` without infinities if it is f16, whose range published weights exceed. A norm follows each of these
/// results, so a bounded value keeps its direction. Other kinds stay as they are.
pub(super) fn finite(x: Tensor) -> Result<Tensor> {
    match x.f_kind()? {
        Kind::Half => Ok(x.f_nan_to_num(0.0, LARGEST, -LARGEST)?),
        _ => Ok(x),
    }
}
