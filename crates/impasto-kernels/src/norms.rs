//! Norms of tensors.

use crate::cells::Cells;
use crate::dispatch::run;
use crate::group_norm::GroupNorm;
use crate::isa::Bf16;
use crate::layer_norm::LayerNorm;
use crate::number::{Number, numbers};
use crate::rms_norm::RmsNorm;
use crate::tensors::{check, suit, suit_mixed, unfit};
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
    let settings = (count, groups, eps, silu);
    match (x.kind(), out.kind()) {
        (Kind::BFloat16, _) => normalize::<Bf16, Bf16>((x, &out), settings, (&weight, &bias))?,
        (_, Kind::BFloat16) => normalize::<f32, Bf16>((x, &out), settings, (&weight, &bias))?,
        _ => normalize::<f32, f32>((x, &out), settings, (&weight, &bias))?,
    }
    Ok(out)
}

/// Normalises groups of channels of `x` into `out`, which has the same shape.
fn normalize<N: Number, O: Number>(
    (x, out): (&Tensor, &Tensor),
    (channels, groups, eps, silu): (usize, usize, f64, bool),
    (weight, bias): (&[f32], &[f32]),
) -> Result<(), TchError> {
    let norm = GroupNorm::<N, O> { x: Cells::of(x)?, out: Cells::of(out)?, channels, groups, eps, silu };
    // SAFETY: both pictures have the same shape, with these channels in whole groups.
    unsafe { norm.run(weight, bias) }
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

/// Normalises each row: [.., width]; the shape stays. `weight` and `bias` have one number for each column, [width].
/// They may also be [n, width], if the first axis of `x` is n long: then each of its n parts has its own. The result
/// has their kind.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`normalizes_rows`] is false.
pub fn layer_norm(x: &Tensor, (weight, bias): (&Tensor, &Tensor), eps: f64) -> Result<Tensor, TchError> {
    check(&[weight, bias])?;
    let width = x.size().last().copied().unwrap_or_default();
    let parts = match weight.size().as_slice() {
        [_] => 1,
        [1, _] => 1,
        [n, _] if x.dim() > 1 && x.size().first() == Some(n) => *n,
        _ => 0,
    };
    let fits = parts * width > 0 && weight.numel() as i64 == parts * width && weight.size() == bias.size();
    if !normalizes_rows(x, (weight, bias)) || !fits {
        let expected = format!("rows for weights {:?}, contiguous, {}", weight.size(), of_kind(weight)?);
        return Err(unfit("the rows", x, &expected));
    }
    let (weight, bias) = (weight.f_contiguous()?, bias.f_contiguous()?);
    let out = Tensor::f_empty(x.size(), (weight.kind(), Device::Cpu))?;
    let tensors = (x, &weight, &bias, &out);
    match (x.kind(), out.kind()) {
        (Kind::BFloat16, _) => normalize_rows::<Bf16, Bf16>(tensors, eps)?,
        (_, Kind::BFloat16) => normalize_rows::<f32, Bf16>(tensors, eps)?,
        _ => normalize_rows::<f32, f32>(tensors, eps)?,
    }
    Ok(out)
}

/// Normalises the rows of `x` into `out`, which has the same shape. All tensors are contiguous.
fn normalize_rows<N: Number, O: Number>(
    (x, weight, bias, out): (&Tensor, &Tensor, &Tensor, &Tensor),
    eps: f64,
) -> Result<(), TchError> {
    let width = x.size().last().map_or(1, |&width| width as usize);
    let rows = x.numel() / width;
    let norm = LayerNorm::<N, O> {
        x: numbers(x)?,
        weight: numbers(weight)?,
        bias: numbers(bias)?,
        out: numbers(out)?,
        width,
        rows,
        shared: rows * width / weight.numel(),
        eps: eps as f32,
    };
    // SAFETY: `layer_norm` has found that the tensors fit together.
    unsafe { run(&norm) }
}

/// Returns true if the kernels divide the rows `x`, [.., width], by their root mean square, with this weight. `x` is
/// f32, or of the kind of the weight.
#[must_use]
pub fn scales_rows(x: &Tensor, weight: &Tensor) -> bool {
    suit(&[weight]) && suit_mixed(weight, x) && x.dim() > 0 && x.is_contiguous()
}

/// Divides each row by its root mean square, w·x/√(mean(x²) + ε): [.., width]; the shape stays. `weight` is [width].
/// The result has its kind.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`scales_rows`] is false.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor, TchError> {
    check(&[weight])?;
    let width = x.size().last().copied().unwrap_or_default();
    if !scales_rows(x, weight) || weight.size() != [width] || width == 0 {
        let expected = format!("{:?} columns, contiguous, {}", weight.size(), of_kind(weight)?);
        return Err(unfit("the rows", x, &expected));
    }
    let weight = weight.f_contiguous()?;
    let out = Tensor::f_empty(x.size(), (weight.kind(), Device::Cpu))?;
    let tensors = (x, &weight, &out);
    match (x.kind(), out.kind()) {
        (Kind::BFloat16, _) => scale_rows::<Bf16, Bf16>(tensors, eps)?,
        (_, Kind::BFloat16) => scale_rows::<f32, Bf16>(tensors, eps)?,
        _ => scale_rows::<f32, f32>(tensors, eps)?,
    }
    Ok(out)
}

/// Divides the rows of `x` by their root mean square into `out`, which has the same shape. All tensors are contiguous.
fn scale_rows<N: Number, O: Number>((x, weight, out): (&Tensor, &Tensor, &Tensor), eps: f64) -> Result<(), TchError> {
    let width = weight.numel();
    let norm = RmsNorm::<N, O> {
        x: numbers(x)?,
        weight: numbers(weight)?,
        out: numbers(out)?,
        width,
        rows: x.numel() / width,
        eps: eps as f32,
    };
    // SAFETY: `rms_norm` has found that the tensors fit together.
    unsafe { run(&norm) }
}
