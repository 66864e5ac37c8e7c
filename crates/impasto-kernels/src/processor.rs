//! Tensors and kinds that the kernels compute.

use crate::parallel;
use std::arch::is_x86_feature_detected as has;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;
use tch::{Device, Kind, TchError, Tensor};

/// Returns true if this processor has the instructions for numbers of a kind.
///
/// The answer for bf16 is false on processors with AMX, which multiply bf16 faster than AVX-512 does. The kernels do
/// not use AMX, but libtorch does.
pub(crate) fn has_kind(kind: Kind) -> bool {
    static KINDS: OnceLock<(bool, bool)> = OnceLock::new();
    let (f32, bf16) = *KINDS.get_or_init(|| {
        let f32 = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq");
        // Bit 24 of edx in leaf 7 stands for AMX.
        let amx = f32 && __cpuid_count(7, 0).edx >> 24 & 1 == 1;
        (f32, f32 && has!("avx512bf16") && !amx)
    });
    match kind {
        Kind::Float => f32,
        Kind::BFloat16 => bf16,
        _ => false,
    }
}

/// Returns true if all tensors have the same kind, one that the kernels compute, and are on the CPU without gradients.
pub(crate) fn suit(tensors: &[&Tensor]) -> bool {
    let kind = |x: &Tensor| x.f_kind().ok();
    if !tensors.iter().all(|x| x.defined()) {
        return false;
    }
    let Some(common) = tensors.first().and_then(|x| kind(x)).filter(|kind| has_kind(*kind)) else { return false };
    let suits = |x: &&Tensor| {
        let plain = x.device() == Device::Cpu && !x.requires_grad() && !x.is_sparse() && !x.is_mkldnn();
        // Tensors of zeros may have no memory, and views may be negative without a change of their numbers.
        plain && x.numel() > 0 && kind(x) == Some(common) && !x.data_ptr().is_null() && !x.f_is_neg().unwrap_or(true)
    };
    tensors.iter().all(suits) && parallel::available()
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
            let expected = "f32 or bf16 on a CPU with AVX-512, without gradients, alike for all tensors";
            Err(unfit("a tensor", first, expected))
        }
        _ => Ok(()),
    }
}
