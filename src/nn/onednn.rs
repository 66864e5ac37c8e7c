//! oneDNN's convolution with a kernel that is already in oneDNN's layout.
//!
//! libtorch has this operator for `torch.compile`, and `tch` has no function for it. A TorchScript module without
//! weights calls it: `onednn/convolution.pt`, written by `onednn/convolution.py`.

use crate::error::Result;
use std::sync::OnceLock;
use tch::{CModule, IValue, TchError, Tensor};

/// Width in cells up to which the pictures of a batch are convolved side by side. oneDNN reads the whole kernel for
/// each picture, which takes longer than the products of such a picture.
const NARROW: i64 = 4;

/// Convolves [b, inputs, h, w] with a packed kernel of stride 1 and adds `bias` → [b, outputs, h', w'], contiguous. The
/// kernel's side is at most 2 · `padding` + 1. Gradients do not flow.
pub(super) fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, padding: i64) -> Result<Tensor> {
    let (b, inputs, h, w) = x.size4()?;
    if b == 1 || w > NARROW {
        return Ok(convolved(x, kernel, bias, padding)?.f_contiguous()?);
    }
    // The zeros between two pictures pad both of them.
    let each = w + padding;
    let beside = x.f_constant_pad_nd([0, padding])?.f_permute([1, 2, 0, 3])?.f_reshape([1, inputs, h, b * each])?;
    let y = convolved(&beside, kernel, bias, padding)?.f_squeeze_dim(0)?;
    let width = w + 2 * padding + 1 - kernel.size4()?.3;
    let y = y.f_narrow(2, 0, b * each)?.f_unflatten(2, [b, each])?.f_narrow(3, 0, width)?; // [outputs, h', b, w']
    Ok(y.f_permute([2, 0, 1, 3])?.f_contiguous()?)
}

/// Convolves by the module. The result has channels last.
fn convolved(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, padding: i64) -> Result<Tensor> {
    let tensor = |tensor: &Tensor| IValue::Tensor(tensor.shallow_clone());
    let bias = bias.map_or(IValue::None, tensor);
    match module()?.forward_is(&[tensor(x), tensor(kernel), bias, IValue::Int(padding)])? {
        IValue::Tensor(y) => Ok(y),
        other => Err(TchError::Kind(format!("oneDNN's convolution returned {other:?}, expected a tensor")).into()),
    }
}

/// Returns the module, which is read once.
fn module() -> Result<&'static CModule> {
    static MODULE: OnceLock<CModule> = OnceLock::new();
    if let Some(module) = MODULE.get() {
        return Ok(module);
    }
    let module = CModule::load_data(&mut include_bytes!("onednn/convolution.pt").as_slice())?;
    Ok(MODULE.get_or_init(|| module))
}
