//! [`KernelLayout`]: the layout in memory of a network's kernels.

use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// Layout in memory of the kernels of convolutions, [outputs, inputs, h, w]. Layouts other than
/// [`KernelLayout::Plain`] are for networks on a CPU only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum KernelLayout {
    /// The order of the axes, as in files.
    #[default]
    Plain,
    /// Channels last. Convolutions and norms then keep pictures in that layout too.
    ChannelsLast,
}

impl KernelLayout {
    /// Returns a tensor of a network on `device` in this layout. Tensors that are not kernels stay as they are.
    pub(super) fn of(self, tensor: Tensor, device: Device) -> Result<Tensor> {
        if tensor.dim() != 4 || device != Device::Cpu {
            return Ok(tensor);
        }
        match self {
            Self::ChannelsLast => Ok(tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?),
            Self::Plain => Ok(tensor),
        }
    }
}

/// Returns the matrix or kernel of a layer, [outputs, inputs, ..], in `kind` on `device`, and in the order in which
/// `impasto-kernels` reads it. The result is an ordinary tensor with other strides. The order stays if these kernels do
/// not compute with the weight, or if it requires a gradient.
pub(crate) fn of_layer(weight: &Tensor, kind: Kind, device: Device) -> Result<Tensor> {
    let weight = weight.f_to_device(device)?;
    if device != Device::Cpu || weight.requires_grad() || !impasto_kernels::arranges(kind) {
        return Ok(weight.f_to_kind(kind)?);
    }
    Ok(impasto_kernels::arranged(&weight, kind)?)
}
