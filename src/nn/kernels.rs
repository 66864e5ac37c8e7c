//! Choice of the kernel that computes a layer, by shapes alone.
//!
//! On a CPU with AVX2 or AVX-512, the kernels of `impasto-kernels` compute layers whose weights are arranged for them.
//! They keep pictures in the layout *channels last*, in which cells are rows of channels.
//!
//! Elsewhere, libtorch computes. For f32 on a CPU, libtorch multiplies matrices with MKL, which uses AVX-512 only on
//! Intel's processors. Convolutions go to oneDNN, which uses AVX-512 on other processors too, but rearranges the
//! weights at every call. Therefore:
//!
//! - A linear layer goes to oneDNN once it is large enough to pay for the call.
//! - A convolution with weights much larger than its picture becomes a matrix product over columns (im2col), which
//!   reads the weights as stored, in bf16 too.
//! - A small 1×1 convolution becomes a matrix product of MKL.
//! - Every other layer, and every layer that gradients may flow through, is computed by libtorch's plain operation.
//!
//! `docs/decisions/0015-kernels-by-shape.md` has the measurements behind the thresholds here.

use crate::attention::{add_repeated, repeated};
use crate::error::Result;
use impasto_kernels::{Epilogue, SerialLibtorch};
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Returns the name of the instruction set with which impasto's own kernels compute f32 on the CPU, such as "avx512";
/// `None` if libtorch computes instead.
///
/// ```
/// println!("computed by {}", impasto::model::kernels_in_use().unwrap_or("libtorch"));
/// ```
pub fn kernels_in_use() -> Option<&'static str> {
    impasto_kernels::in_use().ok().flatten().map(impasto_kernels::InstructionSet::name)
}

/// Returns a value for the time in which a network computes with `x`. Until the value is dropped, libtorch's own
/// operations run on the calling thread alone if the kernels compute the network's layers. `None` if libtorch computes
/// the layers, as it does for gradients.
pub(crate) fn among_kernels(x: &Tensor) -> Result<Option<SerialLibtorch>> {
    let suits = x.device() == Device::Cpu && !x.requires_grad() && impasto_kernels::arranges(x.f_kind()?);
    Ok(suits.then(SerialLibtorch::begin))
}

/// Kernel side, stride and padding of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Side of the square kernel.
    pub kernel: i64,
    /// Step from one output to the next.
    pub stride: i64,
    /// Zeros around the input.
    pub padding: i64,
}

impl Conv {
    /// A 3×3 kernel that keeps the size.
    pub const SAME: Self = Self { kernel: 3, stride: 1, padding: 1 };
    /// A 3×3 kernel that halves the size, rounding up.
    pub const HALVE: Self = Self { kernel: 3, stride: 2, padding: 1 };
    /// A 1×1 kernel, which processes each cell by itself.
    pub const CELL: Self = Self { kernel: 1, stride: 1, padding: 0 };
}

/// Products per thread below which a call of oneDNN costs more than it saves. Threads share the saving, but not the
/// cost of the call.
const WORTH_A_CALL: i64 = 5 << 20;
/// Products per thread below which a linear layer does not pay for a call of oneDNN. The limit is higher because a
/// linear layer's plain operation costs less than a convolution's.
const WORTH_A_LINEAR_CALL: i64 = 8 << 20;
/// Rows below which reading the weights dominates the cost of a product.
const FEW_ROWS: i64 = 16;
/// Number of cells below which a doubled convolution takes longer, because its four times as many outputs cost more
/// than the products that it saves.
const FEW_CELLS: i64 = 128;

/// Computes x·Wᵀ + b over the last axis.
pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if multiplies(x, weight, bias) {
        return Ok(impasto_kernels::linear(x, weight, bias, Epilogue::Store)?);
    }
    let (outputs, inputs) = weight.size2()?;
    let rows = x.numel() as i64 / inputs.max(1);
    if rows < FEW_ROWS
        || of_a_thread(rows * inputs * outputs) < WORTH_A_LINEAR_CALL
        || suits_onednn(x, weight) != Some(Kind::Float)
    {
        return Ok(x.f_linear(weight, bias)?);
    }
    let mut shape = x.size();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    let y = if inputs * outputs > rows * (inputs + outputs) {
        product(&x.f_reshape([rows, inputs])?, weight, bias)?
    } else {
        // A 1×1 convolution over channels-last cells, which have the layout of rows. The convolution copies neither its
        // input nor its result.
        let cells = x.f_reshape([1, 1, rows, inputs])?.f_permute([0, 3, 1, 2])?;
        let kernel = weight.f_reshape([outputs, inputs, 1, 1])?;
        cells.f_mkldnn_convolution(&kernel, bias, [0, 0], [1, 1], [1, 1], 1)?.f_permute([0, 2, 3, 1])?
    };
    Ok(y.f_reshape(shape)?)
}

/// Computes [`linear`]. If `impasto-kernels` computes it, the result is f32.
pub(super) fn linear_unrounded(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if multiplies(x, weight, bias) {
        return Ok(impasto_kernels::linear(x, weight, bias, Epilogue::StoreF32)?);
    }
    linear(x, weight, bias)
}

/// Adds x·Wᵀ + b to `onto`. If `onto` has fewer rows, they are repeated. If `impasto-kernels` computes the layer, the
/// sum has the kind of `onto`, otherwise that of `x`.
pub(super) fn linear_onto(onto: Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if suits_epilogue(&onto, x)? && multiplies(x, weight, bias) {
        let onto = repeated(&onto, x.size().first().copied().unwrap_or_default())?;
        return Ok(impasto_kernels::linear(x, weight, bias, Epilogue::AddTo(onto))?);
    }
    add_repeated(linear(x, weight, bias)?, &onto)
}

/// Computes x·Wᵀ + b + `with`. If `with` has fewer rows, they are repeated.
pub(super) fn linear_sum(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, with: &Tensor) -> Result<Tensor> {
    if suits_epilogue(with, x)? && multiplies(x, weight, bias) {
        let with = repeated(with, x.size().first().copied().unwrap_or_default())?;
        return Ok(impasto_kernels::linear(x, weight, bias, Epilogue::Add(&with))?);
    }
    add_repeated(linear(x, weight, bias)?, with)
}

/// Multiplies `values` by the GELU of x·Wᵀ + b.
pub(super) fn linear_gate(mut values: Tensor, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if suits_epilogue(&values, x)? && multiplies(x, weight, bias) {
        return Ok(impasto_kernels::linear(x, weight, bias, Epilogue::Gate(values))?);
    }
    Ok(values.f_mul_(&linear(x, weight, bias)?.f_gelu_("none")?)?)
}

/// A form of the function GELU.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gelu {
    /// x·Φ(x), where Φ is the normal distribution.
    Exact,
    /// The approximation by tanh.
    Tanh,
}

impl Gelu {
    /// Returns libtorch's name of the form.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Exact => "none",
            Self::Tanh => "tanh",
        }
    }

    const fn epilogue(self) -> Epilogue<'static> {
        match self {
            Self::Exact => Epilogue::Gelu,
            Self::Tanh => Epilogue::GeluTanh,
        }
    }
}

/// Computes the GELU of x·Wᵀ + b.
pub(super) fn linear_gelu(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gelu: Gelu) -> Result<Tensor> {
    if multiplies(x, weight, bias) {
        return Ok(impasto_kernels::linear(x, weight, bias, gelu.epilogue())?);
    }
    Ok(linear(x, weight, bias)?.f_gelu(gelu.name())?)
}

/// Returns true if `y` can take part in an epilogue of `impasto-kernels`, once its rows are as many as those of `x`.
fn suits_epilogue(y: &Tensor, x: &Tensor) -> Result<bool> {
    let kind = y.f_kind()?;
    Ok(y.is_contiguous() && !y.requires_grad() && (kind == Kind::Float || kind == x.f_kind()?))
}

/// Computes a convolution: [b, inputs, h, w] → [b, outputs, h', w'].
pub(super) fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    let Conv { kernel, stride, padding } = conv;
    if multiplies(x, weight, bias) {
        return Ok(impasto_kernels::conv2d(x, weight, bias, (stride, padding), Epilogue::Store)?);
    }
    let (outputs, inputs, ..) = weight.size4()?;
    let (b, _, h, w) = x.size4()?;
    let side = |length: i64| (length + 2 * padding - kernel) / stride + 1;
    let (rows, depth) = (b * side(h) * side(w), inputs * kernel * kernel);
    let plain = || Ok(x.f_conv2d(weight, bias, [stride, stride], [padding, padding], [1, 1], 1)?);
    if let Some((weight, cells)) = factors(x, weight, conv)? {
        let y = match bias {
            Some(bias) => bias.f_reshape([outputs, 1])?.f_baddbmm(&weight, &cells, 1.0, 1.0)?,
            None => weight.f_bmm(&cells)?,
        };
        return Ok(y.f_reshape([b, outputs, h, w])?);
    }
    let Some(kind) = suits_onednn(x, weight).filter(|_| of_a_thread(rows * depth * outputs) >= WORTH_A_CALL) else {
        return plain();
    };
    if conv == Conv::CELL && !x.is_contiguous() {
        // Cells of a channels-last picture are rows already. The calls below would copy them to another layout.
        let rows = linear(&x.f_permute([0, 2, 3, 1])?, &weight.f_reshape([outputs, inputs])?, bias)?;
        return Ok(rows.f_permute([0, 3, 1, 2])?);
    }
    if kernel == 1 {
        return match kind {
            Kind::Float => Ok(x.f_mkldnn_convolution(weight, bias, [padding, padding], [stride, stride], [1, 1], 1)?),
            _ => plain(),
        };
    }
    if rows < FEW_ROWS || depth * outputs < 4 * rows * (depth + outputs) {
        return plain();
    }
    let columns = x.f_im2col([kernel, kernel], [1, 1], [padding, padding], [stride, stride])?; // [b, depth, h'·w']
    let columns = columns.f_transpose(1, 2)?.f_reshape([rows, depth])?;
    let y = product(&columns, &weight.f_reshape([outputs, depth])?, bias)?;
    let picture = y.f_reshape([b, -1, outputs])?.f_transpose(1, 2)?.f_contiguous()?;
    Ok(picture.f_reshape([b, outputs, side(h), side(w)])?)
}

/// Computes [`conv2d`]. If `impasto-kernels` computes it, the result is f32.
pub(super) fn conv2d_unrounded(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: Conv) -> Result<Tensor> {
    if multiplies(x, weight, bias) {
        return Ok(impasto_kernels::conv2d(x, weight, bias, (conv.stride, conv.padding), Epilogue::StoreF32)?);
    }
    conv2d(x, weight, bias, conv)
}

/// Adds a convolution of `x` to `onto`, [b, outputs, h', w'], in place.
pub(super) fn conv2d_onto(
    mut onto: Tensor,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv,
) -> Result<Tensor> {
    if multiplies(x, weight, bias) && impasto_kernels::adds_to(&onto, x) {
        return Ok(impasto_kernels::conv2d(x, weight, bias, (conv.stride, conv.padding), Epilogue::AddTo(onto))?);
    }
    let Some((weight, cells)) = factors(x, weight, conv)?.filter(|_| onto.is_contiguous()) else {
        return Ok(onto.f_add_(&conv2d(x, weight, bias, conv)?)?);
    };
    let _ = onto.f_flatten(2, 3)?.f_baddbmm_(&weight, &cells)?;
    match bias {
        Some(bias) => Ok(onto.f_add_(&bias.f_reshape([-1, 1, 1])?)?),
        None => Ok(onto),
    }
}

/// Computes a convolution of `x` plus `with`, [b, outputs, h', w'].
pub(super) fn conv2d_sum(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: Conv,
    with: &Tensor,
) -> Result<Tensor> {
    if multiplies(x, weight, bias) && impasto_kernels::adds_to(with, x) {
        return Ok(impasto_kernels::conv2d(x, weight, bias, (conv.stride, conv.padding), Epilogue::Add(with))?);
    }
    Ok(conv2d(x, weight, bias, conv)?.f_add_(with)?)
}

/// Returns a small 1×1 convolution as the factors of a matrix product, [b, outputs, inputs] and [b, inputs, h·w];
/// `None` for other convolutions. MKL takes less time for such products than a convolution takes to start.
fn factors(x: &Tensor, weight: &Tensor, conv: Conv) -> Result<Option<(Tensor, Tensor)>> {
    let ((outputs, inputs, ..), (b, _, h, w)) = (weight.size4()?, x.size4()?);
    let few = of_a_thread(b * h * w * inputs * outputs) < 4 * WORTH_A_CALL;
    if conv != Conv::CELL || !few || !x.is_contiguous() || suits_onednn(x, weight) != Some(Kind::Float) {
        return Ok(None);
    }
    let weight = weight.f_reshape([1, outputs, inputs])?.f_expand([b, outputs, inputs], false)?;
    Ok(Some((weight, x.f_flatten(2, 3)?)))
}

/// Sums of a kernel's weights for [`upsample_conv2d`], made by the first call that needs them. Clones share the sums,
/// also between threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums(Arc<Mutex<Option<Tensor>>>);

impl Sums {
    fn get_or_make(&self, make: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sums {
            Some(sums) => Ok(sums.shallow_clone()),
            None => Ok(sums.insert(make()?).shallow_clone()),
        }
    }

    /// Returns true if both are clones of the same sums.
    #[cfg(test)]
    pub(super) fn are_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Computes a 3×3 convolution after nearest-neighbor upsampling by two: [b, inputs, h, w] → [b, outputs, 2h, 2w].
///
/// The nine upsampled cells under the kernel are copies of only four different cells. Each of the four positions in a
/// 2×2 block of results is therefore a 2×2 convolution of the original cells, with sums of the kernel's weights. This
/// takes 4/9 of the products. `sums` keeps the sums from their first use on.
pub(super) fn upsample_conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, sums: &Sums) -> Result<Tensor> {
    let ((b, inputs, h, w), outputs) = (x.size4()?, weight.size4()?.0);
    if multiplies(x, weight, bias) {
        let kind = weight.f_kind()?;
        if kind == Kind::Float {
            return Ok(impasto_kernels::conv2d_upsampled(x, weight, bias)?);
        }
        let sums = sums.get_or_make(|| Ok(impasto_kernels::arranged(&positions(weight)?, kind)?))?;
        return Ok(impasto_kernels::conv2d_positions(x, &sums, bias)?);
    }
    let pays = b * h * w >= FEW_CELLS && of_a_thread(b * h * w * 16 * inputs * outputs) >= WORTH_A_CALL;
    let Some(kind) = suits_onednn(x, weight).filter(|_| pays) else {
        let repeated = x.f_upsample_nearest2d([2 * h, 2 * w], None::<f64>, None::<f64>)?;
        return conv2d(&repeated, weight, bias, Conv::SAME);
    };
    let kernels = sums.get_or_make(|| positions(weight))?;
    let bias = bias.map(|bias| Tensor::f_cat(&[bias; 4], 0)).transpose()?;
    let cells = x.f_conv2d(&kernels, bias.as_ref(), [1, 1], [1, 1], [1, 1], 1)?; // [b, 4·outputs, h + 1, w + 1]
    let cells = cells.f_unflatten(1, [2, 2, outputs])?;
    // The result has the layout of the weights, so the destination gets the same layout.
    let picture = if weight.is_contiguous() {
        Tensor::f_empty([b, outputs, 2 * h, 2 * w], (kind, x.device()))?
    } else {
        Tensor::f_empty([b, 2 * h, 2 * w, outputs], (kind, x.device()))?.f_permute([0, 3, 1, 2])?
    };
    let pairs = picture.f_unflatten(3, [w, 2])?.f_unflatten(2, [h, 2])?;
    for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let position = cells.f_select(1, row)?.f_select(1, column)?.f_narrow(2, row, h)?.f_narrow(3, column, w)?;
        pairs.f_select(3, row)?.f_select(4, column)?.f_copy_(&position)?;
    }
    Ok(picture)
}

/// Returns the 2×2 kernels of the four positions, concatenated to [4·outputs, inputs, 2, 2], in the layout of `weight`.
fn positions(weight: &Tensor) -> Result<Tensor> {
    let ((outputs, inputs, ..), on) = (weight.size4()?, (weight.f_kind()?, weight.device()));
    let kernels = if weight.stride().first() == Some(&1) {
        Tensor::f_empty([inputs, 2, 2, 4 * outputs], on)?.f_permute([3, 0, 1, 2])?
    } else if weight.is_contiguous() {
        Tensor::f_empty([4 * outputs, inputs, 2, 2], on)?
    } else {
        Tensor::f_empty([4 * outputs, 2, 2, inputs], on)?.f_permute([0, 3, 1, 2])?
    };
    // The rows of a 3×3 kernel that fall on each of two cells, for the first position and for the second. Columns fall
    // in the same way. Sums are f32, so that they are rounded once.
    let falls = |x: &Tensor| -> Result<[Tensor; 4]> {
        let [a, b, c] = [x.f_select(2, 0)?, x.f_select(2, 1)?, x.f_select(2, 2)?];
        Ok([a.shallow_clone(), b.f_add(&c)?, a.f_add(&b)?, c])
    };
    // Few inputs at a time, so that the sums stay in the processor's cache.
    for first in (0..inputs).step_by(32) {
        let count = 32.min(inputs - first);
        let some = weight.f_narrow(1, first, count)?.f_to_kind(Kind::Float)?;
        for (row, rows) in (0..).zip(falls(&some)?) {
            for (column, sums) in (0..).zip(falls(&rows)?) {
                let position = 2 * (row / 2) + column / 2;
                let kernel = kernels.f_narrow(0, position * outputs, outputs)?.f_narrow(1, first, count)?;
                kernel.f_select(2, row % 2)?.f_select(2, column % 2)?.f_copy_(&sums)?;
            }
        }
    }
    Ok(kernels)
}

/// Multiplies [rows, inputs] → [rows, outputs] with oneDNN, which reads `weight` without rearranging it. For bf16,
/// libtorch's own operation already works in this way.
fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if x.f_kind()? == Kind::BFloat16 {
        return Ok(x.f_linear(weight, bias)?);
    }
    Ok(x.f_to_mkldnn(Kind::Float)?.f_mkldnn_linear(weight, bias)?.f_to_dense(Kind::Float, false)?)
}

/// Returns true if `impasto-kernels` computes a layer.
fn multiplies(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> bool {
    impasto_kernels::multiplies(x, weight) && bias.is_none_or(|bias| impasto_kernels::multiplies(x, bias))
}

/// Returns the number of products for each thread.
fn of_a_thread(products: i64) -> i64 {
    products / i64::from(tch::get_num_threads()).max(1)
}

/// Returns the common kind of two tensors that may go to oneDNN: f32 or bf16, on the CPU, without gradients; `None` for
/// other tensors.
fn suits_onednn(x: &Tensor, weight: &Tensor) -> Option<Kind> {
    let suits = |x: &Tensor| x.device() == Device::Cpu && !x.requires_grad();
    let kind = x.f_kind().ok().filter(|kind| [Kind::Float, Kind::BFloat16].contains(kind))?;
    let alike = weight.f_kind().is_ok_and(|other| other == kind);
    (alike && suits(x) && suits(weight) && tch::utils::has_mkldnn()).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn double(x: &Tensor) -> Tensor {
        x.to_kind(Kind::Double)
    }

    /// Checks an f32 result, whose numbers are sums of `terms` random numbers, against the exact one in f64.
    ///
    /// Each addition rounds its sum by up to 2⁻²⁴ of it. Added one after the other, `terms` numbers are off by about
    /// 2⁻²⁴·√(terms / 6) of the result's norm. Other orders round less. The bound 2⁻²⁴·√terms is 2.4 times as much.
    fn close(ours: &Tensor, exact: &Tensor, terms: i64) {
        assert_eq!((ours.kind(), ours.size(), exact.kind()), (Kind::Float, exact.size(), Kind::Double));
        let apart = ((double(ours) - exact).norm() / exact.norm()).double_value(&[]);
        let most = 0.5 * f64::from(f32::EPSILON) * (terms as f64).sqrt();
        assert!(apart < most, "{:?}: {apart}, expected below {most}", exact.size());
    }

    /// Checks a bf16 result against the exact one for the same bf16 inputs. The tolerance covers two roundings, of the
    /// weights and of the result.
    fn rounded(ours: &Tensor, exact: &Tensor) {
        assert_eq!((ours.kind(), ours.size()), (Kind::BFloat16, exact.size()));
        let norm = |x: &Tensor| x.norm().double_value(&[]);
        let apart = norm(&(double(ours) - exact)) / norm(exact);
        assert!(apart < 0.003, "{:?}: {apart}", exact.size());
    }

    #[test]
    fn linear_kernels_equal_the_plain_operation() -> Result<()> {
        // Cases: the plain operation, a convolution over cells, a product with the weights as stored.
        for (rows, inputs, outputs) in [([2, 9], 8, 8), ([2, 300], 64, 256), ([2, 64], 640, 512)] {
            let x = Tensor::randn([rows[0], rows[1], inputs], CPU);
            let weight = Tensor::randn([outputs, inputs], CPU) / (inputs as f64).sqrt();
            let bias = Tensor::randn([outputs], CPU);
            for bias in [None, Some(&bias)] {
                let exact = double(&x).linear(&double(&weight), bias.map(double));
                close(&linear(&x, &weight, bias)?, &exact, inputs + 1);
                let turned = x.transpose(0, 1); // rows that are not contiguous
                close(&linear(&turned, &weight, bias)?, &exact.transpose(0, 1), inputs + 1);
            }
        }
        Ok(())
    }

    #[test]
    fn convolution_kernels_equal_the_plain_operation() -> Result<()> {
        for (conv, inputs, outputs, h, w) in [
            (Conv::SAME, 8, 8, 16, 16),
            (Conv::CELL, 256, 128, 16, 12),
            (Conv::SAME, 256, 512, 5, 3),
            (Conv::HALVE, 512, 512, 9, 7),
            (Conv { kernel: 3, stride: 2, padding: 0 }, 512, 512, 9, 8),
        ] {
            let x = Tensor::randn([2, inputs, h, w], CPU);
            let depth = inputs * conv.kernel * conv.kernel;
            let weight = Tensor::randn([outputs, inputs, conv.kernel, conv.kernel], CPU) / (depth as f64).sqrt();
            let bias = Tensor::randn([outputs], CPU);
            let exact = |x: &Tensor, weight: &Tensor, bias: &Tensor| {
                let (x, weight, bias) = (double(x), double(weight), double(bias));
                x.conv2d(&weight, Some(bias), [conv.stride; 2], [conv.padding; 2], [1, 1], 1)
            };
            let ours = conv2d(&x, &weight, Some(&bias), conv)?;
            assert!(ours.is_contiguous());
            close(&ours, &exact(&x, &weight, &bias), depth + 1);

            let half = [&x, &weight, &bias].map(|x| x.to_kind(Kind::BFloat16));
            let ours = conv2d(&half[0], &half[1], Some(&half[2]), conv)?;
            assert!(ours.is_contiguous());
            rounded(&ours, &exact(&half[0], &half[1], &half[2]));
        }
        Ok(())
    }

    /// Repeats each cell two by two, in f64.
    fn upsampled(x: &Tensor) -> Tensor {
        let (.., h, w) = x.size4().unwrap();
        double(x).upsample_nearest2d([2 * h, 2 * w], None, None)
    }

    #[test]
    fn doubled_equals_upsampling_then_convolution() -> Result<()> {
        // The last two cases have too few cells and too few products.
        for (b, inputs, outputs, h, w) in
            [(2, 256, 192, 23, 12), (1, 128, 320, 17, 31), (2, 256, 96, 5, 3), (2, 4, 4, 16, 16)]
        {
            let x = Tensor::randn([b, inputs, h, w], CPU);
            let weight = Tensor::randn([outputs, inputs, 3, 3], CPU) / (9.0 * inputs as f64).sqrt();
            let bias = Tensor::randn([outputs], CPU);
            for bias in [None, Some(&bias)] {
                let exact = upsampled(&x).conv2d(&double(&weight), bias.map(double), 1, 1, 1, 1);
                close(&upsample_conv2d(&x, &weight, bias, &Sums::default())?, &exact, 9 * inputs + 1);
            }

            let half = [&x, &weight, &bias].map(|x| x.to_kind(Kind::BFloat16));
            let ours = upsample_conv2d(&half[0], &half[1], Some(&half[2]), &Sums::default())?;
            rounded(&ours, &upsampled(&half[0]).conv2d(&double(&half[1]), Some(double(&half[2])), 1, 1, 1, 1));
        }
        Ok(())
    }

    #[test]
    fn doubled_equals_upsampling_for_arranged_weights() -> Result<()> {
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = Tensor::randn([2, 40, 9, 7], CPU).to_kind(kind);
            let weight = (Tensor::randn([24, 40, 3, 3], CPU) / 19.0).to_kind(kind);
            let arranged = impasto_kernels::arranged(&weight, kind)?;
            let exact = upsampled(&x).conv2d(&double(&weight), None::<Tensor>, 1, 1, 1, 1);
            let ours = upsample_conv2d(&x, &arranged, None, &Sums::default())?;
            if kind == Kind::Float { close(&ours, &exact, 9 * 40) } else { rounded(&ours, &exact) }
        }
        Ok(())
    }

    #[test]
    fn sums_in_bf16_networks_stay_f32_on_the_kernels() -> Result<()> {
        let bf16 = |shape: &[i64]| Tensor::randn(shape, CPU).to_kind(Kind::BFloat16);
        let (x, weight, bias) = (bf16(&[4, 6, 32]), bf16(&[16, 32]) / 6.0, bf16(&[16]));
        let arranged = impasto_kernels::arranged(&weight, Kind::BFloat16)?;
        if !multiplies(&x, &arranged, Some(&bias)) {
            let named = std::env::var("IMPASTO_KERNELS").unwrap_or_default();
            assert_ne!(named, "scalar", "the scalar kernels compute bf16 on every processor");
            return Ok(()); // libtorch computes bf16 here
        }
        let exact = double(&x).linear(&double(&weight), Some(double(&bias)));
        close(&linear_unrounded(&x, &arranged, Some(&bias))?, &exact, 33);
        for rows in [4, 2] {
            let onto = Tensor::randn([rows, 6, 16], CPU);
            let sum = double(&repeated(&onto, 4)?) + &exact;
            close(&linear_sum(&x, &arranged, Some(&bias), &onto)?, &sum, 34);
            close(&linear_onto(onto, &x, &arranged, Some(&bias))?, &sum, 34);
        }
        // A sum with fewer rows is rounded as if the rows were repeated before.
        let few = bf16(&[2, 6, 16]);
        let whole = linear_sum(&x, &arranged, Some(&bias), &few.repeat([2, 1, 1]))?;
        assert_eq!(linear_sum(&x, &arranged, Some(&bias), &few)?, whole);
        let (picture, kernel) = (bf16(&[2, 32, 5, 7]), bf16(&[16, 32, 3, 3]) / 17.0);
        let exact = double(&picture).conv2d(&double(&kernel), Some(double(&bias)), [1, 1], [1, 1], [1, 1], 1);
        let kernel = impasto_kernels::arranged(&kernel, Kind::BFloat16)?;
        close(&conv2d_unrounded(&picture, &kernel, Some(&bias), Conv::SAME)?, &exact, 9 * 32 + 1);
        Ok(())
    }

    #[test]
    fn sums_are_cached_and_channels_stay_last() -> Result<()> {
        let last = |x: Tensor| x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        let weight = Tensor::randn([256, 256, 3, 3], CPU) / 48.0; // large enough for any number of threads
        let sums = Sums::default();
        for batch in [1, 2] {
            let x = Tensor::randn([batch, 256, 32, 24], CPU);
            let exact = upsampled(&x).conv2d(&double(&weight), None::<Tensor>, 1, 1, 1, 1);
            close(&upsample_conv2d(&x, &weight, None, &sums)?, &exact, 9 * 256);
            let wide = upsample_conv2d(&last(x), &last(weight.shallow_clone()), None, &Sums::default())?;
            close(&wide, &exact, 9 * 256);
            // Later layers recognise channels last only by strides that include the batch's.
            assert_eq!(wide.stride(), [256 * 64 * 48, 1, 256 * 48, 256]);
        }
        assert_eq!(sums.get_or_make(|| panic!("kept"))?.size(), [4 * 256, 256, 2, 2]);
        Ok(())
    }

    #[test]
    fn cell_convolution_is_a_product_added_in_place() -> Result<()> {
        let last = |x: &Tensor| x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        // A few cells, then many.
        for (inputs, outputs, side) in [(24, 40, 6), (640, 512, 16)] {
            let x = Tensor::randn([2, inputs, side, side], CPU);
            let weight = Tensor::randn([outputs, inputs, 1, 1], CPU) / (inputs as f64).sqrt();
            let (bias, onto) = (Tensor::randn([outputs], CPU), Tensor::randn([2, outputs, side, side], CPU));
            for bias in [None, Some(&bias)] {
                let exact = double(&x).conv2d(&double(&weight), bias.map(double), 1, 0, 1, 1);
                close(&conv2d(&x, &weight, bias, Conv::CELL)?, &exact, inputs + 1);
                close(&conv2d(&last(&x), &last(&weight), bias, Conv::CELL)?, &exact, inputs + 1);
                let sum = double(&onto) + exact;
                for x in [&x, &last(&x)] {
                    close(&conv2d_onto(onto.copy(), x, &weight, bias, Conv::CELL)?, &sum, inputs + 2);
                    close(&conv2d_onto(last(&onto), x, &weight, bias, Conv::CELL)?, &sum, inputs + 2);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn forward_doubled_refuses_other_convolutions() -> Result<()> {
        let conv = crate::weights::Weights::random(1, Kind::Float, Device::Cpu).conv2d(4, 4, Conv::HALVE)?;
        let error = conv.forward_doubled(&Tensor::zeros([1, 4, 32, 32], CPU)).unwrap_err().to_string();
        assert!(error.contains("expected Conv::SAME"), "{error}");
        Ok(())
    }

    #[test]
    fn gradients_flow() -> Result<()> {
        let x = Tensor::ones([600, 64], CPU);
        let weight = Tensor::randn([256, 64], CPU).set_requires_grad(true);
        linear(&x, &weight, None)?.sum(Kind::Float).backward();
        assert_eq!(weight.grad(), Tensor::full([256, 64], 600.0, CPU));
        let cells = Tensor::ones([1, 64, 32, 32], CPU);
        let weight = Tensor::randn([64, 64, 3, 3], CPU).set_requires_grad(true);
        upsample_conv2d(&cells, &weight, None, &Sums::default())?.sum(Kind::Float).backward();
        let middle = weight.grad().select(2, 1).select(2, 1);
        assert_eq!(middle, Tensor::full([64, 64], 4096.0, CPU), "every one of 64 × 64 cells");
        Ok(())
    }
}
