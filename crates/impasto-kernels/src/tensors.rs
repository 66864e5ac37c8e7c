//! Tensors that the kernels compute.

use crate::instruction_set::set_for;
use tch::{Device, Kind, TchError, Tensor};

/// Returns true if all tensors have the same kind, one that the kernels compute, and are on the CPU without gradients.
pub(crate) fn suit(tensors: &[&Tensor]) -> bool {
    let kind = |x: &Tensor| x.f_kind().ok();
    if !tensors.iter().all(|x| x.defined()) {
        return false;
    }
    let Some(common) = tensors.first().and_then(|x| kind(x)).filter(|kind| set_for(*kind).is_some()) else {
        return false;
    };
    let suits = |x: &&Tensor| {
        let plain = x.device() == Device::Cpu && !x.requires_grad() && !x.is_sparse() && !x.is_mkldnn();
        // Tensors of zeros may have no memory, and views may be negative without a change of their numbers.
        plain && x.numel() > 0 && kind(x) == Some(common) && !x.data_ptr().is_null() && !x.f_is_neg().unwrap_or(true)
    };
    tensors.iter().all(suits)
}

/// Returns true if both tensors [`suit`] by themselves, and `other` is f32 or of the kind of `tensor`.
pub(crate) fn suit_mixed(tensor: &Tensor, other: &Tensor) -> bool {
    suit(&[tensor]) && suit(&[other]) && (other.kind() == tensor.kind() || other.kind() == Kind::Float)
}

/// Returns an error that says what was wrong and what was expected.
pub(crate) fn unfit(what: &str, got: &Tensor, expected: &str) -> TchError {
    TchError::Kind(format!("{what} is {:?} {:?}; expected {expected}", got.f_kind(), got.size()))
}

/// Checks that the tensors [`suit`].
pub(crate) fn check(tensors: &[&Tensor]) -> Result<(), TchError> {
    match (suit(tensors), tensors.first()) {
        (false, Some(first)) => {
            let expected = "f32 or bf16 on a CPU with kernels for this kind, without gradients, alike for all tensors";
            Err(unfit("a tensor", first, expected))
        }
        _ => Ok(()),
    }
}
