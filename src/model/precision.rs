//! [`Precision`]: the kind of number a model computes in.

use crate::error::{Error, Result};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// The kind of number a model computes in, independent of the kind in its files.
///
/// ```
/// use impasto::{Pipeline, Precision};
///
/// let pipeline = Pipeline::builder().precision(Precision::Fastest).build()?;
/// # Ok::<(), impasto::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Uses f16 on CUDA, f32 elsewhere. A seed gives the same picture on every CPU, except for rounding.
    #[default]
    Reproducible,
    /// Uses the fastest kind of the device: as `Reproducible`, but bf16 on CPUs that compute faster in bf16, which is
    /// measured once per process. Pictures differ a little from those in f32 (`docs/performance.md`), and therefore
    /// from one CPU to another.
    Fastest,
    /// Uses a given kind: `Float`, `BFloat16`, or on GPUs `Half`.
    Kind(Kind),
}

impl From<Kind> for Precision {
    fn from(kind: Kind) -> Self {
        Self::Kind(kind)
    }
}

impl Precision {
    /// Returns the kind to use on `device`. `name` is the option's name, for messages.
    pub(super) fn on(self, device: Device, name: &'static str) -> Result<Kind> {
        match self {
            Self::Reproducible | Self::Fastest if device.is_cuda() => Ok(Kind::Half),
            Self::Fastest if device == Device::Cpu && cpu_is_faster_in_bf16() => Ok(Kind::BFloat16),
            Self::Reproducible | Self::Fastest => Ok(Kind::Float),
            Self::Kind(kind @ (Kind::Float | Kind::BFloat16)) => Ok(kind),
            Self::Kind(Kind::Half) if device.is_cuda() || device == Device::Mps => Ok(Kind::Half),
            Self::Kind(kind) => {
                let kind = match kind {
                    Kind::Half => "f16".into(),
                    other => format!("{other:?}"),
                };
                let (value, expected) = (format!("{kind} on {}", name_of(device)), "f32 or bf16; f16 on a GPU only");
                Err(Error::parameter(name, value, expected))
            }
        }
    }
}

/// Checks that the device is available.
///
/// # Errors
/// [`Error::Parameter`] with the devices that this libtorch has instead. For the CPU, the same error if the environment
/// variable `IMPASTO_KERNELS` names no instruction set of this processor.
pub(super) fn check_device(device: Device) -> Result<()> {
    let missing = |expected: &'static str| Err(Error::parameter("device", name_of(device), expected));
    match device {
        Device::Cpu => match impasto_kernels::in_use() {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::parameter("IMPASTO_KERNELS", error.value, error.expected)),
        },
        Device::Cuda(_) if !tch::utils::has_cuda() => missing(
            "cpu, because this libtorch is built without CUDA or finds no GPU; for a libtorch with CUDA, see Set-up in \
             the README (LIBTORCH_USE_PYTORCH=1, or PyTorch's archive)",
        ),
        Device::Cuda(index) if index as i64 >= tch::Cuda::device_count() => {
            let count = tch::Cuda::device_count();
            let expected = format!("cuda:0 to cuda:{}, the GPUs of this machine", count - 1);
            Err(Error::parameter("device", name_of(device), expected))
        }
        Device::Mps if !tch::utils::has_mps() => missing("cpu, because this libtorch has no MPS (Apple silicon)"),
        Device::Vulkan => missing("cpu, cuda or mps"),
        _ => Ok(()),
    }
}

/// Returns PyTorch's name of a device, such as `cuda:0`.
fn name_of(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Returns true if this machine computes a network faster in bf16 than in f32.
///
/// Instructions for bf16 alone do not make a processor faster in bf16. An Intel processor with AVX-512 BF16, but with
/// its matrix unit (AMX) switched off, takes half as long again in bf16 as in f32. If a processor has such
/// instructions, a convolution is therefore measured in both kinds, once per process, in some hundredths of a second.
pub(super) fn cpu_is_faster_in_bf16() -> bool {
    static FASTER: OnceLock<bool> = OnceLock::new();
    *FASTER.get_or_init(|| has_bf16() && measure_ratio().is_ok_and(|ratio| ratio < WORTHWHILE))
}

/// Ratio of the time in bf16 to the time in f32, below which bf16 is worth its rounding error.
const WORTHWHILE: f64 = 0.9;

/// Returns true if this processor has instructions for bf16. Other processors convert bf16 to f32 and back.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Returns the time of a convolution in bf16, relative to its time in f32. The convolution has the most frequent form
/// in a UNet of SD 1.5.
fn measure_ratio() -> Result<f64> {
    /// Number of measurements in each kind, in turns. The fastest measurement counts, because other work on the machine
    /// disturbs it least.
    const ROUNDS: usize = 5;
    let _no_grad = tch::no_grad_guard();
    let layer = |kind| -> Result<(Tensor, Tensor)> {
        let options = (kind, Device::Cpu);
        Ok((Tensor::f_ones([2, 320, 16, 16], options)?, Tensor::f_ones([320, 320, 3, 3], options)?))
    };
    let time = |(x, weight): &(Tensor, Tensor)| -> Result<Duration> {
        let begun = Instant::now();
        drop(x.f_conv2d(weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1)?);
        Ok(begun.elapsed())
    };
    let (single, half) = (layer(Kind::Float)?, layer(Kind::BFloat16)?);
    let (mut of_single, mut of_half) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        of_single = of_single.min(time(&single)?);
        of_half = of_half.min(time(&half)?);
    }
    Ok(of_half.as_secs_f64() / of_single.as_secs_f64().max(f64::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_chooses_the_kind_for_a_device() {
        let on = |precision: Precision, device| precision.on(device, "precision");
        assert_eq!(on(Precision::Reproducible, Device::Cpu).unwrap(), Kind::Float);
        assert_eq!(on(Precision::Reproducible, Device::Cuda(0)).unwrap(), Kind::Half);
        assert_eq!(on(Precision::Fastest, Device::Cuda(0)).unwrap(), Kind::Half);
        let fast = if cpu_is_faster_in_bf16() { Kind::BFloat16 } else { Kind::Float };
        assert_eq!(on(Precision::Fastest, Device::Cpu).unwrap(), fast);
        assert_eq!(on(Precision::Fastest, Device::Mps).unwrap(), Kind::Float);
        assert_eq!(on(Kind::BFloat16.into(), Device::Cuda(0)).unwrap(), Kind::BFloat16);
        let message = on(Kind::Half.into(), Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("precision is f16 on cpu; expected f32 or bf16"), "{message}");
        assert!(on(Kind::Int64.into(), Device::Cuda(0)).is_err());
    }
}
