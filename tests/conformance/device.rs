//! The device and the kind that cases are computed with: `IMPASTO_DEVICE`, `IMPASTO_KIND`.

use super::Result;
use std::sync::OnceLock;
use tch::{Cuda, Device, Kind, utils};

static CHOSEN: OnceLock<Device> = OnceLock::new();
static KIND: OnceLock<Kind> = OnceLock::new();

/// Returns the device that [`choose`] was given; the default is the CPU.
pub fn device() -> Device {
    *CHOSEN.get().unwrap_or(&Device::Cpu)
}

/// Returns the kind that [`choose_kind`] was given; the default is f32.
pub fn kind() -> Kind {
    *KIND.get().unwrap_or(&Kind::Float)
}

/// Sets the kind of networks by name: `f32`, `bf16`, `f16`.
pub fn choose_kind(name: &str) -> Result<()> {
    let kinds = [("f32", Kind::Float), ("bf16", Kind::BFloat16), ("f16", Kind::Half)];
    let found = kinds.into_iter().find(|(known, _)| *known == name);
    let (_, kind) = found.ok_or_else(|| format!("IMPASTO_KIND is {name:?}; expected f32, bf16 or f16"))?;
    Ok(_ = KIND.set(kind))
}

/// Sets the device of cases by name: `cpu`, `cuda`, `cuda:1`, `mps`.
pub fn choose(name: &str) -> Result<()> {
    let device = parse(name)?;
    let there = match device {
        Device::Cuda(index) => (index as i64) < Cuda::device_count(),
        Device::Mps => utils::has_mps(),
        _ => true,
    };
    match there {
        true => Ok(_ = CHOSEN.set(device)),
        false => {
            let found =
                format!("{} CUDA devices, {}", Cuda::device_count(), if utils::has_mps() { "MPS" } else { "no MPS" });
            Err(format!("IMPASTO_DEVICE is {name}; expected cpu or a device that libtorch finds ({found})").into())
        }
    }
}

fn parse(name: &str) -> Result<Device> {
    let index = |index: &str| index.parse().ok().map(Device::Cuda);
    let device = match name {
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Cuda(0)),
        "mps" => Some(Device::Mps),
        _ => name.strip_prefix("cuda:").and_then(index),
    };
    device.ok_or_else(|| format!("IMPASTO_DEVICE is {name:?}; expected cpu, cuda, cuda:1 or mps").into())
}
