//! Stand-ins where no kernel is compiled. They compute nothing, and say so.

use crate::epilogue::Epilogue;
use tch::{Kind, TchError, Tensor};

fn missing<T>() -> Result<T, TchError> {
    Err(TchError::Kind("this build has no kernels; `attends` and `multiplies` return false".into()))
}

/// Results of an attention call.
#[derive(Debug)]
pub struct Attention {
    /// Weighted values with the heads side by side, [n, queries, heads · c], in the kind of the values.
    pub output: Tensor,
    /// Probabilities, [n, heads, queries, tokens] f32, if they were asked for.
    pub probabilities: Option<Tensor>,
}

/// Returns false.
#[must_use]
pub fn attends(_: &Tensor, _: &Tensor, _: &Tensor) -> bool {
    false
}

/// Returns an error.
pub fn attend(_: &Tensor, _: &Tensor, _: &Tensor, _: Option<&Tensor>, _: bool) -> Result<Attention, TchError> {
    missing()
}

/// Returns an error.
pub fn scores(_: &Tensor, _: &Tensor) -> Result<Tensor, TchError> {
    missing()
}

/// Returns false.
#[must_use]
pub fn weighs(_: &Tensor, _: &Tensor) -> bool {
    false
}

/// Returns an error.
pub fn weigh(_: &Tensor, _: &Tensor, _: bool) -> Result<Attention, TchError> {
    missing()
}

/// Returns false.
#[must_use]
pub fn arranges(_: Kind) -> bool {
    false
}

/// Returns the weight in `kind`, in its own order.
pub fn arranged(weight: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    weight.f_to_kind(kind)
}

/// Returns false.
#[must_use]
pub fn adds_to(_: &Tensor, _: &Tensor) -> bool {
    false
}

/// Returns false.
#[must_use]
pub fn multiplies(_: &Tensor, _: &Tensor) -> bool {
    false
}

/// Returns an error.
pub fn linear(_: &Tensor, _: &Tensor, _: Option<&Tensor>, _: Epilogue<'_>) -> Result<Tensor, TchError> {
    missing()
}

/// Returns an error.
pub fn conv2d(_: &Tensor, _: &Tensor, _: Option<&Tensor>, _: (i64, i64), _: Epilogue<'_>) -> Result<Tensor, TchError> {
    missing()
}

/// Returns an error.
pub fn conv2d_upsampled(_: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Tensor, TchError> {
    missing()
}

/// Returns an error.
pub fn conv2d_positions(_: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Tensor, TchError> {
    missing()
}

/// Returns false.
#[must_use]
pub fn normalizes(_: &Tensor, _: (&Tensor, &Tensor)) -> bool {
    false
}

/// Returns an error.
pub fn group_norm(_: &Tensor, _: i64, _: (&Tensor, &Tensor), _: f64, _: bool) -> Result<Tensor, TchError> {
    missing()
}

/// Returns false.
#[must_use]
pub fn normalizes_rows(_: &Tensor, _: (&Tensor, &Tensor)) -> bool {
    false
}

/// Returns an error.
pub fn layer_norm(_: &Tensor, _: (&Tensor, &Tensor), _: f64) -> Result<Tensor, TchError> {
    missing()
}
