//! Weights of layers in the order in which the kernels read them.

use crate::dispatch::run;
use crate::instruction_set::set_for;
use crate::isa::{Bf16, LONGEST, Simd, Work};
use crate::number::{F16, Floats, Number, numbers};
use crate::pages;
use tch::{Device, Kind, TchError, Tensor};

/// Columns of a part of the work.
const COLUMNS: usize = 64;

/// Returns true if layers with weights of this kind are computed here, on this processor. Their weights should be
/// [`arranged`] then.
#[must_use]
pub fn arranges(kind: Kind) -> bool {
    set_for(kind).is_some()
}

/// Returns the weights of a layer, [outputs, inputs] or [outputs, inputs, kh, kw], in `kind`, and in the order in which
/// the kernels read them: [inputs, kh, kw, outputs]. The shape stays; the result is an ordinary tensor with other
/// strides.
///
/// # Errors
/// [`TchError`], such as out of memory.
pub fn arranged(weight: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    if weight.is_sparse() || weight.is_mkldnn() || matches!(weight.stride().first(), Some(1) | None) {
        return weight.f_to_kind(kind);
    }
    let mut shape = weight.size();
    shape.rotate_left(1);
    let plain = weight.device() == Device::Cpu && weight.is_contiguous() && !weight.requires_grad();
    let from = weight.f_kind()?;
    let suits = plain && arranges(kind) && weight.numel() > 0;
    if !suits || ![Kind::Float, Kind::BFloat16, Kind::Half].contains(&from) {
        // A transposition of a matrix, for which libtorch has a fast copy.
        let rows = weight.f_to_kind(kind)?.f_flatten(1, -1)?.f_transpose(0, 1)?.f_contiguous()?;
        return rows.f_reshape(shape)?.f_movedim_int(-1, 0);
    }
    let out = Tensor::f_empty(&shape, (kind, Device::Cpu))?;
    pages::enlarge(&out);
    match (from, kind) {
        (Kind::Float, Kind::BFloat16) => transpose::<f32, Bf16>(weight, &out)?,
        (Kind::BFloat16, Kind::BFloat16) => transpose::<Bf16, Bf16>(weight, &out)?,
        (_, Kind::BFloat16) => transpose::<F16, Bf16>(weight, &out)?,
        (Kind::Float, _) => transpose::<f32, f32>(weight, &out)?,
        (Kind::BFloat16, _) => transpose::<Bf16, f32>(weight, &out)?,
        _ => transpose::<F16, f32>(weight, &out)?,
    }
    out.f_movedim_int(-1, 0)
}

/// Writes the rows of a contiguous tensor as the columns of `out`.
fn transpose<F: Floats, N: Number>(weight: &Tensor, out: &Tensor) -> Result<(), TchError> {
    let rows = weight.size().first().map_or(0, |&rows| rows as usize);
    let columns = weight.numel() / rows.max(1);
    let transposition = Transposition::<F, N> { from: numbers(weight)?, to: numbers(out)?, rows, columns };
    // SAFETY: both tensors are contiguous, and have the same number of elements.
    unsafe { run(&transposition) }
}

/// The transposition of a matrix of `rows` rows.
struct Transposition<F, N> {
    from: *const F,
    to: *mut N,
    rows: usize,
    columns: usize,
}

// SAFETY: threads read, or write columns that no other thread reads or writes.
unsafe impl<F: Floats, N: Number> Send for Transposition<F, N> {}
// SAFETY: as above.
unsafe impl<F: Floats, N: Number> Sync for Transposition<F, N> {}

impl<F: Floats, N: Number> Work for Transposition<F, N> {
    const KIND: Kind = N::KIND;
    type Scratch = ();

    fn parts<S: Simd>(&self) -> usize {
        self.columns.div_ceil(COLUMNS)
    }

    /// Turns a part: up to 64 columns of all rows.
    #[inline(always)]
    unsafe fn part<S: Simd>(&self, simd: S, part: usize, (): &mut ()) {
        let first = part * COLUMNS;
        for row in (0..self.rows).step_by(S::LANES) {
            for column in (first..self.columns.min(first + COLUMNS)).step_by(S::LANES) {
                let mut block = [simd.splat(0.0); LONGEST];
                for lane in 0..S::LANES.min(self.rows - row) {
                    // SAFETY: the caller's promise; lanes beyond the matrix are not read.
                    unsafe {
                        let from = self.from.add((row + lane) * self.columns + column);
                        block[lane] = F::load(simd, from, simd.lanes(column, self.columns));
                    }
                }
                simd.transpose(&mut block);
                for lane in 0..S::LANES.min(self.columns - column) {
                    // SAFETY: the caller's promise; lanes beyond the matrix are not written.
                    unsafe {
                        let to = self.to.add((column + lane) * self.rows + row);
                        N::store(simd, block[lane], to, simd.lanes(row, self.rows));
                    }
                }
            }
        }
    }
}
