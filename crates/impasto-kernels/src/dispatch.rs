//! Dispatch: the parts of a work run on all threads, with the instructions of a set.

use crate::instruction_set::{InstructionSet, set_for};
#[cfg(target_arch = "x86_64")]
use crate::isa::{Work, scalar::Scalar};
#[cfg(target_arch = "x86_64")]
use crate::isa::{amx, avx2, avx512};
use crate::parallel;
use tch::TchError;

/// Runs all parts of a work.
///
/// # Safety
/// The tensors of the work fit together.
///
/// # Errors
/// [`TchError`] if no instruction set computes the work's kind.
pub(crate) unsafe fn run<W: Work>(work: &W) -> Result<(), TchError> {
    match set_for(W::KIND) {
        #[cfg(target_arch = "x86_64")]
        Some(InstructionSet::Avx2) => parallel::each_with(work.parts::<avx2::Avx2>(), |index, scratch| {
            // SAFETY: the caller's promise; `set_for` has found the instructions.
            unsafe { avx2::part(work, index, scratch) }
        }),
        #[cfg(target_arch = "x86_64")]
        Some(InstructionSet::Avx512) => {
            parallel::each_with(work.parts::<avx512::Avx512<avx512::Vectors>>(), |index, scratch| {
                // SAFETY: the caller's promise; `set_for` has found the instructions.
                unsafe { avx512::part::<W, avx512::Vectors>(work, index, scratch) }
            });
        }
        #[cfg(target_arch = "x86_64")]
        Some(InstructionSet::Amx) => {
            parallel::each_with(work.parts::<avx512::Avx512<amx::Tiles<amx::Hardware>>>(), |index, scratch| {
                // SAFETY: the caller's promise; `set_for` has found the instructions.
                unsafe { amx::part(work, index, scratch) }
            });
        }
        #[cfg(all(test, target_arch = "x86_64"))]
        Some(InstructionSet::AmxModel) => {
            type Model = amx::Tiles<amx::model::Model>;
            parallel::each_with(work.parts::<avx512::Avx512<Model>>(), |index, scratch| {
                // SAFETY: the caller's promise; `set_for` has found the instructions.
                unsafe { avx512::part::<W, Model>(work, index, scratch) }
            });
        }
        Some(InstructionSet::Scalar) => parallel::each_with(work.parts::<Scalar>(), |index, scratch| {
            // SAFETY: the caller's promise; the set has no instructions of its own.
            unsafe { work.part(Scalar, index, scratch) }
        }),
        _ => return Err(TchError::Kind(format!("no kernels compute {:?} here; expected a call of libtorch", W::KIND))),
    }
    Ok(())
}
