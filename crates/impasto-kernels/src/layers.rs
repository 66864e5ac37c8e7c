//! Linear layers and convolutions of tensors.

use crate::cells::{Cells, Kernel};
use crate::dispatch::run;
use crate::epilogue::Epilogue;
use crate::isa::Bf16;
use crate::number::{Number, numbers};
use crate::product::{Finish, Product, Steps};
use crate::tensors::{check, suit, suit_mixed, unfit};
use crate::winograd::Winograd;
use tch::{Device, Kind, TchError, Tensor};

/// Fewest tiles of 2×2 cells for which Winograd's algorithm pays. With fewer, reading the kernel takes the time.
const FEW_TILES: i64 = 16;
/// Largest stride and padding.
const MOST: i64 = 1 << 20;
/// Fewest input channels for which Winograd's algorithm pays.
const FEW_CHANNELS: i64 = 16;

/// Returns true if the kernels can add layers of `x` to the picture `onto`, [n, outputs, h, w], in place. `onto` is
/// f32, or of the kind of `x`.
#[must_use]
pub fn adds_to(onto: &Tensor, x: &Tensor) -> bool {
    let last = |onto: &Tensor| Ok::<_, TchError>(onto.f_permute([0, 2, 3, 1])?.is_contiguous());
    suit_mixed(x, onto) && onto.dim() == 4 && last(onto).unwrap_or(false)
}

/// Returns true if the kernels compute a layer of this input and weight. The weight has to be
/// [`arranged`](crate::arranged).
#[must_use]
pub fn multiplies(x: &Tensor, weight: &Tensor) -> bool {
    suit(&[x, weight]) && weight.stride().first() == Some(&1)
}

/// Computes x·Wᵀ + bias over the last axis: [.., inputs] → [.., outputs].
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`multiplies`] is false.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epilogue: Epilogue<'_>) -> Result<Tensor, TchError> {
    let (outputs, inputs) = weight.size2()?;
    let mut shape = x.size();
    match shape.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => return Err(unfit("the input of a linear layer", x, &format!("[.., {inputs}]"))),
    }
    let cells = |x: &Tensor, width: i64| x.f_reshape([1, -1, 1, width])?.f_permute([0, 3, 1, 2]);
    let own = |y: &Tensor| match y.size() == shape && y.is_contiguous() {
        true => cells(y, outputs),
        false => Err(unfit("the tensor of the epilogue", y, &format!("{shape:?}, contiguous"))),
    };
    let other;
    let epilogue = match epilogue {
        Epilogue::Store => Epilogue::Store,
        Epilogue::StoreF32 => Epilogue::StoreF32,
        Epilogue::Add(with) => {
            other = own(with)?;
            Epilogue::Add(&other)
        }
        Epilogue::AddTo(onto) => Epilogue::AddTo(own(&onto)?),
        Epilogue::Gate(values) => Epilogue::Gate(own(&values)?),
        Epilogue::Gelu => Epilogue::Gelu,
        Epilogue::GeluTanh => Epilogue::GeluTanh,
    };
    let kernel = weight.f_unsqueeze(-1)?.f_unsqueeze(-1)?;
    let steps = Steps { stride: 1, top: 0, left: 0 };
    let y = product((&cells(x, inputs)?, &kernel, bias), steps, epilogue, |rows| rows)?;
    y.f_permute([0, 2, 3, 1])?.f_reshape(shape)
}

/// Computes a convolution: [n, inputs, h, w] → [n, outputs, h', w'], with adjacent channels. `padding` zeros surround
/// the picture.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`multiplies`] is false.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    (stride, padding): (i64, i64),
    epilogue: Epilogue<'_>,
) -> Result<Tensor, TchError> {
    let ((n, inputs, h, w), (outputs, _, kh, kw)) = (x.size4()?, weight.size4()?);
    let suits = (kh, kw, stride, padding) == (3, 3, 1, 1) && inputs >= FEW_CHANNELS && weight.kind() == Kind::Float;
    let activates = matches!(epilogue, Epilogue::Gate(_) | Epilogue::Gelu | Epilogue::GeluTanh);
    if suits && !activates && n * ((h + 1) / 2) * ((w + 1) / 2) >= FEW_TILES {
        return winograd((x, weight, bias), false, epilogue, [n, outputs, h, w]);
    }
    if !(1..=MOST).contains(&stride) || !(0..=MOST).contains(&padding) {
        let got = format!("stride {stride}, padding {padding}");
        return Err(TchError::Kind(format!("{got}; expected a stride of 1 to {MOST} and a padding of 0 to {MOST}")));
    }
    let (step, margin) = (stride as usize, padding as usize);
    let side = |length: i64, kernel: i64| (length + 2 * padding - kernel).div_euclid(stride) + 1;
    let steps = Steps { stride: step, top: margin, left: margin };
    product((x, weight, bias), steps, epilogue, |[n, _, h, w]| [n, outputs, side(h, kh), side(w, kw)])
}

/// Computes a 3×3 convolution after upsampling by two, which repeats cells: [n, inputs, h, w] → [n, outputs, 2h, 2w],
/// f32 with adjacent channels.
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, if [`multiplies`] is false, or if they are not f32.
pub fn conv2d_upsampled(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    let ((n, _, h, w), outputs) = (x.size4()?, weight.size4()?.0);
    winograd((x, weight, bias), true, Epilogue::Store, [n, outputs, 2 * h, 2 * w])
}

/// Computes a 3×3 convolution after upsampling by two, from the sums of the kernel's weights that fall on the same
/// cell: for each of the 2×2 positions, row by row, a kernel of 2×2 in `sums`, [4 · outputs, inputs, 2, 2].
///
/// # Errors
/// [`TchError`] if the tensors do not fit together, or if [`multiplies`] is false.
pub fn conv2d_positions(x: &Tensor, sums: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TchError> {
    check(&[x, sums])?;
    if sums.size4()?.0 % 4 != 0 || sums.size().get(2..) != Some(&[2, 2]) {
        return Err(unfit("the sums of a kernel", sums, "[4 · outputs, inputs, 2, 2]"));
    }
    let ((n, _, h, w), outputs) = (x.size4()?, sums.size4()?.0 / 4);
    let out = Tensor::f_empty([n, 2 * h, 2 * w, outputs], (x.kind(), Device::Cpu))?.f_permute([0, 3, 1, 2])?;
    let pairs = out.f_unflatten(3, [w, 2])?.f_unflatten(2, [h, 2])?; // [n, outputs, h, 2, w, 2]
    for (position, (row, column)) in (0..).zip([(0, 0), (0, 1), (1, 0), (1, 1)]) {
        let kernel = sums.f_narrow(0, position * outputs, outputs)?;
        let to = pairs.f_select(3, row)?.f_select(4, column)?;
        fit(x, &kernel, bias)?;
        let steps = Steps { stride: 1, top: 1 - row as usize, left: 1 - column as usize };
        into((x, &kernel, bias), steps, &to, Finish::Store)?;
    }
    Ok(out)
}

/// Returns `x`, or a copy, with adjacent channels. A last word of one bf16 gets a zero beside it.
fn adjacent(x: &Tensor) -> Result<Tensor, TchError> {
    let odd = x.kind() == Kind::BFloat16 && x.size4()?.1 % 2 == 1;
    match x.stride().get(1) {
        Some(1) if !odd => return Ok(x.shallow_clone()),
        _ => {}
    }
    let cells = x.f_permute([0, 2, 3, 1])?;
    let cells = if odd { cells.f_constant_pad_nd([0, 1])?.f_contiguous()? } else { cells.f_contiguous()? };
    cells.f_permute([0, 3, 1, 2])
}

/// Checks weight and bias against the input.
fn fit(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<(), TchError> {
    check(&[x, weight])?;
    let (outputs, inputs, ..) = weight.size4()?;
    if weight.stride().first() != Some(&1) {
        return Err(unfit("the weight", weight, "one that is arranged"));
    }
    if x.size4()?.1 != inputs {
        return Err(unfit("the input of a layer", x, &format!("{inputs} channels")));
    }
    match bias {
        Some(bias) if !suit(&[x, bias]) || bias.size() != [outputs] || !bias.is_contiguous() => {
            Err(unfit("the bias", bias, &format!("[{outputs}], contiguous, of the kind of the input")))
        }
        _ => Ok(()),
    }
}

/// Returns the tensor for a result of the given shape, and what happens to the sums.
fn destination<'a>(
    (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    epilogue: &'a Epilogue<'a>,
    shape: [i64; 4],
) -> Result<(Tensor, Finish<&'a Tensor>), TchError> {
    let [n, outputs, h, w] = shape;
    let new = |kind| Tensor::f_empty([n, h, w, outputs], (kind, Device::Cpu))?.f_permute([0, 3, 1, 2]);
    let checked = |y: &'a Tensor| match y.size() == shape && adds_to(y, x) {
        true => Ok(y),
        false => {
            let expected =
                format!("{shape:?} in the layout channels last, f32 or {:?}, without gradients", x.f_kind()?);
            Err(unfit("the tensor of the epilogue", y, &expected))
        }
    };
    let changed = |y: &'a Tensor| {
        checked(y)?;
        if [Some(x), Some(weight), bias].into_iter().flatten().any(|read| overlap(read, y)) {
            return Err(unfit("the tensor of the epilogue", y, "memory of its own, because it is changed in place"));
        }
        let _ = y.f_narrow(0, 0, 0)?.f_zero_()?; // tells libtorch that the tensor changes, for its gradients
        Ok(y.shallow_clone())
    };
    Ok(match epilogue {
        Epilogue::Store => (new(x.kind())?, Finish::Store),
        Epilogue::StoreF32 => (new(Kind::Float)?, Finish::Store),
        Epilogue::Add(with) => (new(checked(with)?.f_kind()?)?, Finish::Add(*with)),
        Epilogue::AddTo(onto) => (changed(onto)?, Finish::Add(onto)),
        Epilogue::Gate(values) => (changed(values)?, Finish::Gate),
        Epilogue::Gelu => (new(x.kind())?, Finish::Gelu),
        Epilogue::GeluTanh => (new(x.kind())?, Finish::GeluTanh),
    })
}

/// Returns true if two tensors may share memory.
fn overlap(a: &Tensor, b: &Tensor) -> bool {
    let range = |x: &Tensor| {
        let last: i64 = x.size().iter().zip(x.stride()).map(|(&size, stride)| (size - 1).max(0) * stride).sum();
        let start = x.data_ptr() as usize;
        start..start + (last as usize + 1) * x.kind().elt_size_in_bytes()
    };
    let (a, b) = (range(a), range(b));
    a.start < b.end && b.start < a.end
}

/// Computes a convolution by products; `shape` makes the shape of the result from the input's.
fn product(
    (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    steps: Steps,
    epilogue: Epilogue<'_>,
    shape: impl Fn([i64; 4]) -> [i64; 4],
) -> Result<Tensor, TchError> {
    let (n, inputs, h, w) = x.size4()?;
    let [n, _, h, w] = shape([n, inputs, h, w]);
    if h < 1 || w < 1 {
        return Err(unfit("the picture", x, "one that is as large as the kernel"));
    }
    fit(x, weight, bias)?;
    let (out, finish) = destination((x, weight, bias), &epilogue, [n, weight.size4()?.0, h, w])?;
    into((x, weight, bias), steps, &out, finish)?;
    Ok(out)
}

/// Computes a convolution by products into `out`, which has adjacent channels. The tensors [`fit`]; `out` and the
/// tensor of `finish` are f32, or of the kind of `x`.
fn into(
    (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    steps: Steps,
    out: &Tensor,
    finish: Finish<&Tensor>,
) -> Result<(), TchError> {
    let x = adjacent(x)?;
    match (x.f_kind()?, out.f_kind()?) {
        (Kind::BFloat16, Kind::BFloat16) => multiply::<Bf16, Bf16>((&x, weight, bias), steps, out, finish),
        (Kind::BFloat16, _) => multiply::<Bf16, f32>((&x, weight, bias), steps, out, finish),
        _ => multiply::<f32, f32>((&x, weight, bias), steps, out, finish),
    }
}

/// Computes a convolution of numbers `N` by products into `out`, of numbers `O`.
fn multiply<N: Number, O: Number>(
    (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    steps: Steps,
    out: &Tensor,
    finish: Finish<&Tensor>,
) -> Result<(), TchError> {
    let finish = match finish {
        Finish::Store => Finish::Store,
        Finish::Add(with) => Finish::Add(Cells::of(with)?),
        Finish::Gate => Finish::Gate,
        Finish::Gelu => Finish::Gelu,
        Finish::GeluTanh => Finish::GeluTanh,
    };
    let bias = bias.map(numbers::<N>).transpose()?.map(<*mut N>::cast_const);
    let tensors = (Cells::<N>::of(x)?, Kernel::of(weight)?, bias);
    let product = Product::<N, O>::new(tensors, steps, Cells::of(out)?, finish);
    // SAFETY: `fit` has found that input, weight and bias fit together, and `destination` has made the result to fit.
    unsafe { run(&product) }
}

/// Computes a 3×3 convolution by Winograd's algorithm, of the picture or of the upsampled picture.
fn winograd(
    (x, weight, bias): (&Tensor, &Tensor, Option<&Tensor>),
    upsampled: bool,
    epilogue: Epilogue<'_>,
    shape: [i64; 4],
) -> Result<Tensor, TchError> {
    fit(x, weight, bias)?;
    if weight.kind() != Kind::Float || weight.size().get(2..) != Some(&[3, 3]) {
        return Err(unfit("the kernel", weight, "3×3, f32"));
    }
    let x = adjacent(x)?;
    let (out, finish) = destination((&x, weight, bias), &epilogue, shape)?;
    let with = match finish {
        Finish::Store => None,
        Finish::Add(with) => Some(Cells::of(with)?),
        Finish::Gate | Finish::Gelu | Finish::GeluTanh => {
            return Err(unfit("the epilogue of a kernel", weight, "one without a GELU"));
        }
    };
    let bias = bias.map(numbers::<f32>).transpose()?.map(<*mut f32>::cast_const);
    let tensors = (Cells::of(&x)?, Kernel::of(weight)?, bias);
    // SAFETY: `fit` has found that input, weight and bias fit together, and `destination` has made the result to fit.
    unsafe { run(&Winograd::new(tensors, upsampled, Cells::of(&out)?, with))? };
    Ok(out)
}
