//! [`KernelLayout`]: the layout in memory of a network's kernels.

use crate::error::Result;
use std::sync::LazyLock;
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
    /// Large kernels of stride 1 are [`packed`], if oneDNN reads them in one layout for all pictures.
    Packed,
}

/// Number of weights from which a kernel is packed. For smaller kernels, oneDNN's rearrangement at every call takes a
/// few percent of the convolution (measured: `docs/decisions/0015-kernels-by-shape.md`).
const WORTH_PACKING: usize = 640 * 640 * 9;

/// True if oneDNN reads a kernel in the same layout for every size of the picture, as it does with AVX-512. By AVX-512
/// oneDNN means four of its extensions.
///
/// With AVX2, the layout depends on the picture's size. oneDNN converts a kernel that is packed for another size at
/// every call, one number after the other, which takes up to 30 times as long as the convolution. The variable
/// `ONEDNN_MAX_CPU_ISA`, formerly `DNNL_MAX_CPU_ISA`, makes oneDNN treat any processor as an older one.
static HAS_ONE_LAYOUT: LazyLock<bool> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    let has_avx512 = {
        use std::arch::is_x86_feature_detected as has;
        has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq")
    };
    #[cfg(not(target_arch = "x86_64"))]
    let has_avx512 = false;
    let older =
        |isa: String| ["SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2"].contains(&isa.to_uppercase().as_str());
    let variable = ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"].into_iter().find_map(|name| std::env::var(name).ok());
    has_avx512 && !variable.is_some_and(older)
});

impl KernelLayout {
    /// Returns a tensor of a network on `device` in this layout. Tensors that are not kernels stay as they are.
    pub(super) fn of(self, tensor: Tensor, device: Device) -> Result<Tensor> {
        if tensor.dim() != 4 || device != Device::Cpu {
            return Ok(tensor);
        }
        match self {
            Self::ChannelsLast => Ok(tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?),
            Self::Packed if *HAS_ONE_LAYOUT && tensor.size().ends_with(&[3, 3]) && tensor.numel() >= WORTH_PACKING => {
                packed(tensor, 1)
            }
            Self::Plain | Self::Packed => Ok(tensor),
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

/// Returns the kernel of a convolution of stride 1 in the layout in which oneDNN reads it, with the same numbers.
/// Otherwise oneDNN rearranges the kernel at every call, which takes up to half of a convolution's time. The layout is
/// that for large pictures. With AVX-512 it suits every size; see [`HAS_ONE_LAYOUT`].
///
/// A kernel is returned as it is if it requires a gradient, or if oneDNN has no such layout for it on this processor.
pub(crate) fn packed(kernel: Tensor, padding: i64) -> Result<Tensor> {
    let kind = kernel.f_kind()?;
    let suits = [Kind::Float, Kind::BFloat16].contains(&kind) && tch::utils::has_mkldnn();
    if !suits || kernel.requires_grad() || is_packed(&kernel) || kernel.device() != Device::Cpu {
        return Ok(kernel);
    }
    let one = [1, 1];
    let arranged = kernel
        .f_to_mkldnn(kind)
        .and_then(|kernel| kernel.f_mkldnn_reorder_conv2d_weight([padding, padding], one, one, 1, None::<&[i64]>));
    Ok(arranged.unwrap_or(kernel))
}

/// Returns true for kernels that [`packed`] has arranged. Most of libtorch's operations refuse such tensors.
pub(crate) fn is_packed(tensor: &Tensor) -> bool {
    tensor.is_mkldnn()
}

/// Returns a tensor in the order of its axes: a copy of the numbers of a packed kernel, a shallow clone of any other
/// tensor.
pub(crate) fn dense(tensor: &Tensor) -> Result<Tensor> {
    if is_packed(tensor) { Ok(tensor.f_to_dense(None, false)?) } else { Ok(tensor.shallow_clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_kernels_hold_the_same_numbers() -> Result<()> {
        for (kind, side) in [(Kind::Float, 3), (Kind::BFloat16, 3), (Kind::Float, 2)] {
            let kernel = Tensor::randn([640, 96, side, side], (Kind::Float, Device::Cpu)).to_kind(kind);
            let packed = packed(kernel.shallow_clone(), 1)?;
            assert_eq!((packed.size(), packed.kind()), (kernel.size(), kind));
            assert_eq!(dense(&packed)?, kernel);
        }
        Ok(())
    }

    #[test]
    fn only_large_kernels_of_networks_on_a_cpu_are_packed() -> Result<()> {
        let kernel = |kind, sizes: [i64; 4]| Tensor::ones(sizes, (kind, Device::Cpu));
        let large = || kernel(Kind::Float, [640, 640, 3, 3]);
        let is = |tensor: Tensor| KernelLayout::Packed.of(tensor, Device::Cpu).map(|tensor| is_packed(&tensor));
        assert_eq!(is(large())?, tch::utils::has_mkldnn() && *HAS_ONE_LAYOUT);
        for other in [
            kernel(Kind::Float, [640, 639, 3, 3]),
            kernel(Kind::Float, [2560, 2560, 1, 1]),
            kernel(Kind::Half, [640, 640, 3, 3]),
            large().set_requires_grad(true),
            Tensor::ones([640 * 640 * 9], (Kind::Float, Device::Cpu)),
        ] {
            assert!(!is(other)?);
        }
        assert!(!is_packed(&KernelLayout::Packed.of(large(), Device::Cuda(0))?));
        Ok(())
    }
}
