//! Norms of tensors.

use crate::avx512::Bf16;
use crate::cells::Cells;
use crate::group_norm::{Channels, GroupNorm};
use crate::layer_norm::LayerNorm;
use crate::processor::{check, suit, suit_mixed, unfit};
use tch::{Device, Kind, TchError, Tensor};

/// Returns true if the kernels compute a norm of the picture `x`, [n, channels, h, w], with this weight and bias. The
/// channels have to be adjacent. `x` is f32, or of the kind of weight and bias.
#[must_use]
pub fn normalizes(x: &Tensor, (weight, bias): (&Tensor, &Tensor)) -> bool {
    suit(&[weight, bias]) && suit_mixed(weight, x) && x.dim() == 4 && x.stride().get(1) == Some(&1)
}

/// Normalises groups of channels over each picture: [n, channels, h, w] with adjacent channels; the shape stays. With
/// `silu`, SiLU of the result is returned. `weight` and `bias` have one number for each channel. The result has their
/// kind.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`normalizes`] is false.
pub fn group_norm(
    x: &Tensor,
    groups: i64,
    (weight, bias): (&Tensor, &Tensor),
    eps: f64,
    silu: bool,
) -> Result<Tensor, TchError> {
    check(&[weight, bias])?;
    if !normalizes(x, (weight, bias)) {
        let expected = format!("[n, channels, h, w] with adjacent channels, {}", of_kind(weight)?);
        return Err(unfit("the picture", x, &expected));
    }
    let (n, channels, h, w) = x.size4()?;
    let out = Tensor::f_empty([n, h, w, channels], (weight.kind(), Device::Cpu))?.f_permute([0, 3, 1, 2])?;
    let numbers = |x: &Tensor| Vec::<f32>::try_from(x.f_to_kind(Kind::Float)?);
    let (weight, bias) = (numbers(weight)?, numbers(bias)?);
    let count = channels as usize;
    if groups < 1 || channels % groups != 0 || weight.len() != count || bias.len() != count {
        return Err(unfit("the picture", x, &format!("{} channels, in groups of equal size", weight.len())));
    }
    let groups = groups as usize;
    let norm = GroupNorm { x: Cells::of(x)?, out: Cells::of(&out)?, channels: count, groups, eps, silu };
    let moments = match x.kind() {
        // SAFETY: `normalizes` has found the instructions for the kinds of both pictures, which are named here.
        Kind::BFloat16 => norm.moments(|index, channels| unsafe { moments_bf16(&norm, index, channels) }),
        // SAFETY: as above.
        _ => norm.moments(|index, channels| unsafe { moments_f32(&norm, index, channels) }),
    };
    let factors = norm.factors(&moments, &weight, &bias);
    match (x.kind(), out.kind()) {
        // SAFETY: as above.
        (Kind::BFloat16, _) => norm.run(|index| unsafe { norm_bf16(&norm, index, &factors) }),
        // SAFETY: as above.
        (_, Kind::BFloat16) => norm.run(|index| unsafe { norm_f32_to_bf16(&norm, index, &factors) }),
        // SAFETY: as above.
        _ => norm.run(|index| unsafe { norm_f32(&norm, index, &factors) }),
    }
    Ok(out)
}

/// Describes the kinds that a tensor beside this weight may have.
fn of_kind(weight: &Tensor) -> Result<String, TchError> {
    Ok(format!("f32 or {:?}, on the CPU without gradients", weight.f_kind()?))
}

/// Returns true if the kernels compute a norm of the rows `x`, [.., width], with this weight and bias. `x` is f32, or
/// of the kind of weight and bias.
#[must_use]
pub fn normalizes_rows(x: &Tensor, (weight, bias): (&Tensor, &Tensor)) -> bool {
    suit(&[weight, bias]) && suit_mixed(weight, x) && x.dim() > 0 && x.is_contiguous()
}

/// Normalises each row: [.., width]; the shape stays. `weight` and `bias` have one number for each column. The result
/// has their kind.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`normalizes_rows`] is false.
pub fn layer_norm(x: &Tensor, (weight, bias): (&Tensor, &Tensor), eps: f64) -> Result<Tensor, TchError> {
    check(&[weight, bias])?;
    let width = x.size().last().copied().unwrap_or_default();
    if !normalizes_rows(x, (weight, bias)) || weight.size() != [width] || bias.size() != [width] {
        let expected = format!("{:?} columns, contiguous, {}", weight.size(), of_kind(weight)?);
        return Err(unfit("the rows", x, &expected));
    }
    let (weight, bias) = (weight.f_contiguous()?, bias.f_contiguous()?);
    let out = Tensor::f_empty(x.size(), (weight.kind(), Device::Cpu))?;
    let norm = LayerNorm {
        x: x.data_ptr(),
        weight: weight.data_ptr(),
        bias: bias.data_ptr(),
        out: out.data_ptr(),
        width: width as usize,
        rows: x.numel() / width as usize,
        eps: eps as f32,
    };
    match (x.kind(), out.kind()) {
        // SAFETY: `normalizes_rows` has found the instructions for the kinds of all tensors, which are named here.
        (Kind::BFloat16, _) => norm.run(|index| unsafe { rows_bf16(&norm, index) }),
        // SAFETY: as above.
        (_, Kind::BFloat16) => norm.run(|index| unsafe { rows_f32_to_bf16(&norm, index) }),
        // SAFETY: as above.
        _ => norm.run(|index| unsafe { rows_f32(&norm, index) }),
    }
    Ok(out)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn moments_f32(norm: &GroupNorm<'_>, index: usize, channels: &mut Channels) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.part::<f32>(index, channels) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn moments_bf16(norm: &GroupNorm<'_>, index: usize, channels: &mut Channels) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.part::<Bf16>(index, channels) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn norm_f32(norm: &GroupNorm<'_>, index: usize, factors: &[Channels]) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.apply::<f32, f32>(index, factors) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn norm_bf16(norm: &GroupNorm<'_>, index: usize, factors: &[Channels]) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.apply::<Bf16, Bf16>(index, factors) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn norm_f32_to_bf16(norm: &GroupNorm<'_>, index: usize, factors: &[Channels]) {
    // SAFETY: the instructions are enabled here; the caller knows the kinds of the tensors.
    unsafe { norm.apply::<f32, Bf16>(index, factors) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn rows_f32(norm: &LayerNorm, index: usize) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.part::<f32, f32>(index) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn rows_bf16(norm: &LayerNorm, index: usize) {
    // SAFETY: the instructions are enabled here; the caller knows the kind of the tensors.
    unsafe { norm.part::<Bf16, Bf16>(index) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")]
unsafe fn rows_f32_to_bf16(norm: &LayerNorm, index: usize) {
    // SAFETY: the instructions are enabled here; the caller knows the kinds of the tensors.
    unsafe { norm.part::<f32, Bf16>(index) }
}
