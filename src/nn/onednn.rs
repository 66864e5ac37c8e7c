//! oneDNN's convolution with a kernel that is already in oneDNN's layout.
//!
//! libtorch has this operator for `torch.compile`, and `tch` has no function for it. A TorchScript module without
//! weights calls it: `onednn/convolution.pt`, written by `onednn/convolution.py`.

use crate::error::Result;
use std::sync::OnceLock;
use tch::{CModule, IValue, TchError, Tensor};

/// Convolves [b, inputs, h, w] with a packed kernel of stride 1 and adds `bias` → [b, outputs, h', w'], contiguous.
/// Gradients do not flow.
pub(super) fn conv2d(x: &Tensor, kernel: &Tensor, bias: Option<&Tensor>, padding: i64) -> Result<Tensor> {
    let tensor = |tensor: &Tensor| IValue::Tensor(tensor.shallow_clone());
    let bias = bias.map_or(IValue::None, tensor);
    match module()?.forward_is(&[tensor(x), tensor(kernel), bias, IValue::Int(padding)])? {
        IValue::Tensor(y) => Ok(y.f_contiguous()?),
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
