//! Rows of a batch: the tensors of several inputs, stacked or shared.

use crate::conditioning::Conditioning;
use crate::diffusion::Input;
use crate::error::{Error, Result};
use std::ops::Range;
use tch::Tensor;

/// Returns true if all tensors are the same one in memory.
pub(super) fn one(tensors: &[&Tensor]) -> bool {
    let same = |a: &Tensor, b: &Tensor| (a.data_ptr(), a.size(), a.stride()) == (b.data_ptr(), b.size(), b.stride());
    tensors.windows(2).all(|pair| matches!(pair, [a, b] if same(a, b)))
}

/// Stacks one tensor of every input's conditioning, with a row for each image.
pub(super) fn rows(
    inputs: &[Input<'_>],
    what: &'static str,
    of: impl Fn(&Conditioning) -> Option<&Tensor>,
) -> Result<Tensor> {
    let mut all = Vec::with_capacity(inputs.len());
    for Input { branch, x, conditioning } in inputs {
        let Some(tensor) = of(conditioning) else {
            let expected =
                format!("a tensor for branch {branch:?}, because this checkpoint needs one for every branch");
            return Err(Error::parameter(what, "missing", expected));
        };
        let (images, mut shape) = (x.size4()?.0, tensor.size());
        if let Some(n) = shape.first_mut().filter(|n| **n == 1) {
            *n = images;
        }
        all.push(tensor.f_expand(shape, false)?);
    }
    Ok(Tensor::f_cat(&all, 0)?)
}

/// Returns the rows of `n` images, [n, channels, h, w], from `all`, [1 or more, channels, h, w]. `images` is the range
/// of the images among the run's; `what` names the tensor in errors.
pub(super) fn rows_of(all: &Tensor, n: i64, images: Option<Range<i64>>, what: &'static str) -> Result<Tensor> {
    let rows = all.size4()?.0;
    Ok(match images {
        _ if rows == 1 => all.f_expand([n, -1, -1, -1], false)?,
        _ if rows == n => all.shallow_clone(),
        Some(images) if images.end <= rows => all.f_narrow(0, images.start, n)?,
        _ => {
            let expected = format!("1 row, or one for each of the {n} images");
            return Err(Error::Shape { what, got: vec![rows], expected });
        }
    })
}
