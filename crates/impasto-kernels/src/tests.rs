//! Kernels beside libtorch's operations in double precision, with each instruction set and for both kinds.
//!
//! A test of a set that this processor lacks counts as ignored.

use crate::instruction_set::{Choice, tested};
use crate::*;
use std::ops::Range;
use tch::{Device, Kind, TchError, Tensor};

/// Makes tests of functions that take a kind, for each instruction set and each kind.
macro_rules! test_on_each_set {
    ($($test:ident)*) => {
        test_on!(scalar_f32: Scalar, Float, any(); $($test)*);
        test_on!(scalar_bf16: Scalar, BFloat16, any(); $($test)*);
        test_on!(avx2_f32: Avx2, Float, not(avx2); $($test)*);
        test_on!(avx2_bf16: Avx2, BFloat16, not(avx2); $($test)*);
        test_on!(avx512_f32: Avx512, Float, not(avx512); $($test)*);
        test_on!(avx512_bf16: Avx512, BFloat16, not(avx512_bf16); $($test)*);
        test_on!(amx_model_bf16: AmxModel, BFloat16, not(avx512_bf16); $($test)*);
    };
}

/// Makes a module of tests, which are ignored if the processor lacks the instructions.
macro_rules! test_on {
    ($module:ident: $set:ident, $kind:ident, $lacking:meta; $($test:ident)*) => {
        mod $module {
            $(
                #[test]
                #[cfg_attr($lacking, ignore = "this processor lacks the instructions")]
                fn $test() -> Result<(), tch::TchError> {
                    super::test_with(crate::InstructionSet::$set, tch::Kind::$kind, super::$test)
                }
            )*
        }
    };
}

test_on_each_set! {
    attention_equals_libtorch_in_double
    attention_of_some_rows_equals_that_of_all
    attention_keeps_extreme_scores
    arranged_weights_have_the_same_numbers
    linear_equals_libtorch_in_double
    convolution_equals_libtorch_in_double
    positions_equal_the_upsampled_picture
    norms_equal_libtorch_in_double
    norms_of_other_kinds_are_errors
    epilogues_may_be_f32
    gelu_is_exact_in_both_tails
    layer_norm_equals_libtorch_in_double
    rms_norm_equals_libtorch_in_double
    group_norm_keeps_digits_beside_a_large_mean
    memory_that_is_read_is_not_changed_in_place
    pictures_of_one_channel_are_computed
    tensors_with_gradients_are_refused
    results_are_equal_for_any_number_of_threads
    tensors_whose_memory_differs_are_refused
    tensors_that_do_not_fit_are_errors
}

/// Runs a test of a kind with an instruction set.
fn test_with(set: InstructionSet, kind: Kind, test: impl FnOnce(Kind) -> Result<(), TchError>) -> Result<(), TchError> {
    tested::with(Choice::one(set), || {
        assert!(arranges(kind), "this processor lacks instructions of {} for {kind:?}", set.name());
        test(kind)
    })
}

fn random(shape: &[i64], kind: Kind) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(kind)
}

/// Asserts that the error of `ours` is within the rounding of its kind.
fn close(ours: &Tensor, exact: &Tensor, what: &str) {
    close_beside(ours, exact, exact, what);
}

/// Asserts that the error of `ours` is within the rounding of numbers as large as `scale`. The error of a GELU is
/// relative to its argument, because its left tail is a small difference.
fn close_beside(ours: &Tensor, exact: &Tensor, scale: &Tensor, what: &str) {
    assert_eq!(ours.size(), exact.size(), "{what}");
    let norm = |x: &Tensor| x.to_kind(Kind::Double).norm().double_value(&[]);
    let error = norm(&(ours.to_kind(Kind::Double) - exact)) / norm(scale);
    let most = if ours.kind() == Kind::BFloat16 { 4e-3 } else { 4e-6 };
    assert!(error < most, "{what}: {error}");
}

fn double(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double)
}

fn attention_equals_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    for [n, heads, d, c, queries, tokens] in
        [[2, 8, 40, 40, 64, 77], [1, 2, 16, 16, 33, 300], [1, 1, 7, 49, 5, 1], [2, 3, 64, 160, 16, 96]]
    {
        let rows = |rows, width| random(&[n, rows, heads * width], kind).unflatten(2, [heads, width]).transpose(1, 2);
        let (q, k, v) = (rows(queries, d), rows(tokens, d), rows(tokens, c));
        assert!(attends(&q, &k, &v));
        let bias = random(&[n, 1, queries, tokens], Kind::Float);
        for bias in [None, Some(&bias)] {
            let what = format!("{kind:?}, {queries} queries, {tokens} tokens, bias {}", bias.is_some());
            let exact = double(&q).matmul(&double(&k).transpose(2, 3)) / (d as f64).sqrt();
            let exact = bias.map_or(exact.shallow_clone(), |bias| exact + double(bias)).softmax(-1, Kind::Double);
            let attention = attend(&q, &k, &v, bias, true)?;
            let probabilities = attention.probabilities.expect("they were asked for");
            assert!((double(&probabilities) - &exact).abs().max().double_value(&[]) < 1e-5, "{what}");
            let exact = exact.matmul(&double(&v)).transpose(1, 2).flatten(2, 3);
            close(&attention.output, &exact, &what);
            assert_eq!(attend(&q, &k, &v, bias, false)?.output, attention.output, "{what}, nothing kept");
            let scores = scores(&q, &k)?;
            let scores = bias.map_or(scores.shallow_clone(), |bias| scores + bias);
            assert_eq!(weigh(&scores, &v, false)?.output, attention.output, "{what}, by its scores");
        }
    }
    Ok(())
}

fn attention_of_some_rows_equals_that_of_all(kind: Kind) -> Result<(), TchError> {
    let rows = |rows| random(&[3, rows, 2 * 16], kind).unflatten(2, [2, 16]).transpose(1, 2);
    let (q, k, v) = (rows(9), rows(77), rows(77));
    let bias = random(&[3, 1, 9, 77], Kind::Float);
    let _ = bias.narrow(0, 0, 1).zero_();
    let whole = attend(&q, &k, &v, Some(&bias), true)?;
    let some = attend_rows(&q, &k, &v, 1..3, Some(&bias.narrow(0, 1, 2)), true)?;
    assert_eq!(some.output, whole.output);
    let probabilities = whole.probabilities.expect("they were asked for");
    assert_eq!(some.probabilities, Some(probabilities.narrow(0, 1, 2)));
    for rows in [-1..1, 2..4, Range { start: 2, end: 1 }] {
        let error = attend_rows(&q, &k, &v, rows, None, true).expect_err("3 rows").to_string();
        assert!(error.contains("of which there are 3"), "{error}");
    }
    let scores = scores(&q, &k)?;
    assert_eq!(largest_scores(&q, &k)?, Vec::<f32>::try_from(scores.amax([1i64, 2, 3], false))?);

    // Subjects of the tokens 5, 6 and 8.
    let weights = Tensor::from_slice(&[0.5f32, 0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]).reshape([3, 3]);
    let mut sums = Tensor::ones([3, 3, 3, 3], (Kind::Float, Device::Cpu));
    accumulate(&probabilities, 5, &weights, &mut sums)?;
    let over_heads = double(&probabilities).narrow(3, 5, 3).sum_dim_intlist(&[1i64][..], false, Kind::Double);
    let exact = over_heads.matmul(&double(&weights).transpose(0, 1)).transpose(1, 2).reshape([3, 3, 3, 3]) + 1.0;
    assert!((double(&sums) - exact).abs().max().double_value(&[]) < 1e-6);
    let error = accumulate(&probabilities, 75, &weights, &mut sums).expect_err("tokens 75 to 77 of 77").to_string();
    assert!(error.contains("tokens from 75 on, of 77"), "{error}");
    Ok(())
}

fn attention_keeps_extreme_scores(kind: Kind) -> Result<(), TchError> {
    let v = random(&[1, 1, 40, 3], kind);
    let scores = Tensor::full([1, 1, 2, 40], f64::NEG_INFINITY, (Kind::Float, Device::Cpu));
    let _ = scores.narrow(3, 39, 1).fill_(1e30);
    let attention = weigh(&scores, &v, true)?;
    assert_eq!(attention.output, v.select(1, 0).narrow(1, 39, 1).expand([1, 2, 3], false));
    let _ = scores.narrow(2, 1, 1).narrow(3, 7, 1).fill_(f64::NAN);
    let output = weigh(&scores, &v, true)?.output;
    assert!(output.select(1, 0).isfinite().all().int64_value(&[]) == 1);
    assert!(output.select(1, 1).isnan().all().int64_value(&[]) == 1, "a NaN is not lost");
    Ok(())
}

fn arranged_weights_have_the_same_numbers(to: Kind) -> Result<(), TchError> {
    for from in [Kind::Half, Kind::BFloat16, Kind::Float] {
        for shape in [&[50, 77][..], &[1, 40], &[33, 1], &[20, 7, 3, 3]] {
            let weight = random(shape, Kind::Float).to_kind(from);
            let ours = arranged(&weight, to)?;
            assert_eq!((ours.kind(), &ours), (to, &weight.to_kind(to)), "{from:?} to {to:?}, {shape:?}");
            assert_eq!(ours.stride().first(), Some(&1), "{from:?} to {to:?}, {shape:?}");
            assert_eq!(arranged(&ours, to)?.data_ptr(), ours.data_ptr(), "arranged once");
        }
        let turned = random(&[9, 5], Kind::Float).to_kind(from).transpose(0, 1);
        assert_eq!(arranged(&turned, to)?, turned.to_kind(to));
    }
    Ok(())
}

fn linear_equals_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    for [rows, inputs, outputs] in [[1, 320, 1280], [77, 768, 320], [300, 5, 33], [9, 1030, 130], [9, 1, 1]] {
        let x = random(&[1, rows, inputs], kind);
        let weight = random(&[outputs, inputs], kind) / (inputs as f64).sqrt();
        let (plain, weight, bias) = (weight.shallow_clone(), arranged(&weight, kind)?, random(&[outputs], kind));
        assert_eq!(weight, plain);
        assert!(multiplies(&x, &weight));
        let what = format!("{kind:?}, {rows} × {inputs} → {outputs}");
        let exact = double(&x).linear(&double(&plain), None::<Tensor>);
        close(&linear(&x, &weight, None, Epilogue::Store)?, &exact, &what);
        let exact = exact + double(&bias);
        close(&linear(&x, &weight, Some(&bias), Epilogue::Store)?, &exact, &what);
        let onto = random(&[1, rows, outputs], kind);
        let values = onto.copy();
        let gated = linear(&x, &weight, Some(&bias), Epilogue::Gate(values.shallow_clone()))?;
        assert_eq!(gated.data_ptr(), values.data_ptr(), "in place");
        let want = exact.gelu("none") * double(&onto);
        // Only a few numbers can all be in the left tail.
        let scale = if rows * outputs > 9 { want.shallow_clone() } else { &exact * double(&onto) };
        close_beside(&gated, &want, &scale, &format!("{what}, gate"));
        for (gelu, name) in [(Epilogue::Gelu, "none"), (Epilogue::GeluTanh, "tanh")] {
            let want = exact.gelu(name);
            let scale = if rows * outputs > 9 { want.shallow_clone() } else { exact.shallow_clone() };
            let y = linear(&x, &weight, Some(&bias), gelu)?;
            close_beside(&y, &want, &scale, &format!("{what}, GELU, {name}"));
        }
        let unrounded = linear(&x, &weight, Some(&bias), Epilogue::StoreF32)?;
        assert_eq!(
            (unrounded.kind(), unrounded.to_kind(kind)),
            (Kind::Float, linear(&x, &weight, Some(&bias), Epilogue::Store)?)
        );
        close(&unrounded, &exact, &format!("{what}, in f32"));
        let exact = exact + double(&onto);
        let sum = linear(&x, &weight, Some(&bias), Epilogue::AddTo(onto.to_kind(Kind::Float).copy()))?;
        close(&sum, &exact, &format!("{what}, added to f32"));
        let sum = linear(&x, &weight, Some(&bias), Epilogue::Add(&onto))?;
        assert_ne!(sum.data_ptr(), onto.data_ptr());
        close(&sum, &exact, &what);
        let sum = linear(&x, &weight, Some(&bias), Epilogue::AddTo(onto.shallow_clone()))?;
        assert_eq!(sum.data_ptr(), onto.data_ptr(), "in place");
        close(&sum, &exact, &what);
    }
    Ok(())
}

fn convolution_equals_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    // Cases: Winograd's algorithm with whole and cut tiles, products of every kind of step, few channels.
    for [inputs, outputs, h, w, side, stride, padding] in [
        [32, 64, 16, 16, 3, 1, 1],
        [35, 70, 9, 13, 3, 1, 1],
        [520, 40, 4, 4, 3, 1, 1],
        [16, 24, 10, 7, 3, 2, 1],
        [16, 24, 11, 9, 3, 2, 0],
        [3, 20, 12, 12, 4, 4, 0],
        [48, 33, 6, 5, 1, 1, 0],
    ] {
        let x = random(&[2, inputs, h, w], kind);
        let kernel = random(&[outputs, inputs, side, side], kind) / ((inputs * side * side) as f64).sqrt();
        let (kernel, bias) = (arranged(&kernel, kind)?, random(&[outputs], kind));
        assert!(multiplies(&x, &kernel));
        let exact = |x: &Tensor, stride, padding| {
            let (x, kernel, bias) = (double(x), double(&kernel), double(&bias));
            x.conv2d(&kernel, Some(bias), [stride; 2], [padding; 2], [1, 1], 1)
        };
        let what = format!("{kind:?}, {inputs} → {outputs}, {h}×{w}, kernel {side}, stride {stride}");
        let want = exact(&x, stride, padding);
        let y = conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::Store)?;
        close(&y, &want, &what);
        assert_eq!(y.stride().get(1), Some(&1), "channels are adjacent");
        let last = x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
        assert_eq!(
            conv2d(&last, &kernel, Some(&bias), (stride, padding), Epilogue::Store)?,
            y,
            "{what}, channels last"
        );
        let unrounded = conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::StoreF32)?;
        close(&unrounded, &want, &format!("{what}, in f32"));
        assert_eq!((unrounded.kind(), unrounded.to_kind(kind)), (Kind::Float, y.shallow_clone()), "{what}");
        let sum = conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::AddTo(unrounded))?;
        close(&sum, &(&want * 2.0), &format!("{what}, added to f32"));
        let sum = conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::AddTo(y.copy()))?;
        close(&sum, &(double(&y) + &want), &what);
        assert_eq!(conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::Add(&y))?, sum, "{what}, a new sum");
        let gated = conv2d(&x, &kernel, Some(&bias), (stride, padding), Epilogue::Gate(y.copy()))?;
        close(&gated, &(double(&y) * want.gelu("none")), &format!("{what}, gate"));
        if side == 3 && stride == 1 && kind == Kind::Float {
            let repeated = x.upsample_nearest2d([2 * h, 2 * w], None, None);
            close(&conv2d_upsampled(&x, &kernel, Some(&bias))?, &exact(&repeated, 1, 1), &what);
        }
    }
    Ok(())
}

fn positions_equal_the_upsampled_picture(kind: Kind) -> Result<(), TchError> {
    {
        let x = random(&[2, 12, 5, 7], kind);
        // A kernel of one number in the middle places each cell on its four positions.
        let sums = Tensor::zeros([4 * 12, 12, 2, 2], (kind, Device::Cpu));
        for (position, (row, column)) in (0..).zip([(1, 1), (1, 0), (0, 1), (0, 0)]) {
            for channel in 0..12 {
                let at = sums.select(0, position * 12 + channel).select(0, channel).select(0, row).select(0, column);
                let _ = at.shallow_clone().fill_(1.0);
            }
        }
        let sums = arranged(&sums, kind)?;
        let want = x.upsample_nearest2d([10, 14], None, None);
        assert_eq!(conv2d_positions(&x, &sums, None)?, want);
    }
    Ok(())
}

fn norms_equal_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    for [channels, groups, h, w] in [[64, 32, 16, 16], [30, 5, 9, 13], [4, 1, 1, 3]] {
        // A mean far from 0 loses bits of the squares.
        let x = (random(&[2, h, w, channels], Kind::Float) * 0.5 + 3.0).to_kind(kind).permute([0, 3, 1, 2]);
        let (weight, bias) = (random(&[channels], kind), random(&[channels], kind));
        assert!(normalizes(&x, (&weight, &bias)));
        let exact = double(&x).group_norm(groups, Some(double(&weight)), Some(double(&bias)), 1e-5, false);
        let norm = |silu| group_norm(&x, groups, (&weight, &bias), 1e-5, silu);
        close(&norm(false)?, &exact, &format!("{kind:?}, {channels} channels"));
        close(&norm(true)?, &exact.silu(), &format!("{kind:?}, {channels} channels, SiLU"));
        // Rounded to bf16, these numbers would be off by far more than the result's rounding: their mean is 8 times
        // their deviation.
        let x = (random(&[2, h, w, channels], Kind::Float) + 8.0).permute([0, 3, 1, 2]);
        let exact = double(&x).group_norm(groups, Some(double(&weight)), Some(double(&bias)), 1e-5, false);
        let y = group_norm(&x, groups, (&weight, &bias), 1e-5, false)?;
        assert_eq!(y.kind(), kind);
        close(&y, &exact, &format!("{kind:?}, {channels} channels, of f32"));
        let apart = !normalizes(&x.contiguous(), (&weight, &bias));
        assert!(apart || channels == 1 || h * w == 1, "channels are not adjacent");
    }
    Ok(())
}

fn norms_of_other_kinds_are_errors(_: Kind) -> Result<(), TchError> {
    let (f32, bf16) = (random(&[8], Kind::Float), random(&[8], Kind::BFloat16));
    let x = random(&[2, 3, 4, 8], Kind::Float);
    let learns = f32.copy().set_requires_grad(true);
    // A bias of another kind, a picture that would lose digits, and gradients.
    for (x, weight, bias) in [
        (&x, &f32, &bf16),
        (&x, &bf16, &f32),
        (&x.to_kind(Kind::BFloat16), &f32, &f32),
        (&x, &f32, &learns),
        (&x.copy().set_requires_grad(true), &f32, &f32),
    ] {
        assert!(!normalizes_rows(x, (weight, bias)) && layer_norm(x, (weight, bias), 1e-5).is_err());
        let picture = x.permute([0, 3, 1, 2]);
        assert!(!normalizes(&picture, (weight, bias)) && group_norm(&picture, 2, (weight, bias), 1e-5, false).is_err());
    }
    Ok(())
}

fn epilogues_may_be_f32(kind: Kind) -> Result<(), TchError> {
    let x = random(&[2, 8, 6, 6], kind);
    let kernel = arranged(&(random(&[4, 8, 3, 3], kind) / 8), kind)?;
    let rows = x.permute([0, 2, 3, 1]).contiguous();
    let weight = arranged(&(random(&[4, 8], kind) / 3), kind)?;
    let other = random(&[2, 6, 6, 4], Kind::Float);
    let picture = || other.copy().permute([0, 3, 1, 2]);
    let convolved = double(&x).conv2d(&double(&kernel), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
    let product = double(&rows).linear(&double(&weight), None::<Tensor>);
    for (got, want, what) in [
        (conv2d(&x, &kernel, None, (1, 1), Epilogue::Add(&picture()))?, double(&picture()) + &convolved, "add"),
        (
            conv2d(&x, &kernel, None, (1, 1), Epilogue::Gate(picture()))?,
            double(&picture()) * convolved.gelu("none"),
            "gate",
        ),
        (linear(&rows, &weight, None, Epilogue::Add(&other))?, double(&other) + &product, "add rows"),
        (linear(&rows, &weight, None, Epilogue::AddTo(other.copy()))?, double(&other) + &product, "add to rows"),
        (
            linear(&rows, &weight, None, Epilogue::Gate(other.copy()))?,
            double(&other) * product.gelu("none"),
            "gate rows",
        ),
    ] {
        assert_eq!(got.kind(), Kind::Float, "{what}");
        let apart = (double(&got) - want).abs().max().double_value(&[]);
        assert!(apart < 1e-5, "{what}: {apart}; bf16 would round by .004");
    }
    Ok(())
}

fn gelu_is_exact_in_both_tails(kind: Kind) -> Result<(), TchError> {
    let x = Tensor::arange_start_step(-12.0, 12.0, 1.0 / 64.0, (kind, Device::Cpu)).unsqueeze(1);
    let (one, ones) = (arranged(&Tensor::ones([1, 1], (kind, Device::Cpu)), kind)?, x.ones_like().to_kind(Kind::Float));
    let gelu = linear(&x, &one, None, Epilogue::Gate(ones))?;
    let apart = (double(&gelu) - double(&x).gelu("none")) / double(&x).abs().clamp_min(1.0);
    assert!(apart.abs().max().double_value(&[]) < 2.5e-7);
    for (gelu, name) in [(Epilogue::Gelu, "none"), (Epilogue::GeluTanh, "tanh")] {
        let apart = double(&linear(&x, &one, None, gelu)?) - double(&x).gelu(name);
        let rounding = if kind == Kind::BFloat16 { double(&x).abs() / 256.0 } else { double(&x).abs() * 3e-7 };
        assert!((apart.abs() - rounding).max().double_value(&[]) < 5e-7, "{name}");
    }
    Ok(())
}

fn layer_norm_equals_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    for width in [320, 33, 1] {
        let x = random(&[3, 11, width], kind) + 3;
        let (weight, bias) = (random(&[width], kind), random(&[width], kind));
        assert!(normalizes_rows(&x, (&weight, &bias)));
        let exact = double(&x).layer_norm([width], Some(double(&weight)), Some(double(&bias)), 1e-5, false);
        close(&layer_norm(&x, (&weight, &bias), 1e-5)?, &exact, &format!("{kind:?}, {width} columns"));
        // Rounded to bf16, these numbers would be off by far more than the result's rounding.
        let fine = random(&[3, 11, width], Kind::Float) + 8.0;
        let exact = double(&fine).layer_norm([width], Some(double(&weight)), Some(double(&bias)), 1e-5, false);
        let y = layer_norm(&fine, (&weight, &bias), 1e-5)?;
        assert_eq!(y.kind(), kind);
        close(&y, &exact, &format!("{kind:?}, {width} columns of f32"));
        assert!(layer_norm(&x, (&weight, &bias.narrow(0, 0, 0)), 1e-5).is_err());
        let (weights, biases) = (random(&[3, width], kind), random(&[3, width], kind));
        let normed = double(&x).layer_norm([width], None::<Tensor>, None::<Tensor>, 1e-5, false);
        let exact = normed * double(&weights).unsqueeze(1) + double(&biases).unsqueeze(1);
        close(&layer_norm(&x, (&weights, &biases), 1e-5)?, &exact, &format!("{kind:?}, {width} columns, 3 weights"));
        assert!(layer_norm(&x.narrow(0, 0, 2), (&weights, &biases), 1e-5).is_err(), "3 weights for 2 parts");
        assert!(width == 1 || layer_norm(&x.transpose(0, 2), (&weight, &bias), 1e-5).is_err(), "not contiguous");
    }
    Ok(())
}

fn rms_norm_equals_libtorch_in_double(kind: Kind) -> Result<(), TchError> {
    for width in [128, 33, 1] {
        let (x, weight) = (random(&[2, 300, width], kind) * 3, random(&[width], kind));
        assert!(scales_rows(&x, &weight));
        let exact = |x: &Tensor| {
            let x = double(x);
            let mean = x.square().mean_dim([-1i64].as_slice(), true, Kind::Double);
            x * (mean + 1e-6).rsqrt() * double(&weight)
        };
        close(&rms_norm(&x, &weight, 1e-6)?, &exact(&x), &format!("{kind:?}, {width} columns"));
        let fine = random(&[2, 3, width], Kind::Float);
        let y = rms_norm(&fine, &weight, 1e-6)?;
        assert_eq!(y.kind(), kind);
        close(&y, &exact(&fine), &format!("{kind:?}, {width} columns of f32"));
        assert!(rms_norm(&x, &weight.narrow(0, 0, 0), 1e-6).is_err());
        assert!(width == 1 || rms_norm(&x.transpose(0, 2), &weight, 1e-6).is_err(), "not contiguous");
    }
    Ok(())
}

fn group_norm_keeps_digits_beside_a_large_mean(kind: Kind) -> Result<(), TchError> {
    let x = random(&[1, 20, 20, 32], Kind::Float).permute([0, 3, 1, 2]) + 1000;
    let (weight, bias) = (random(&[32], kind), random(&[32], kind));
    let exact = double(&x).group_norm(8, Some(double(&weight)), Some(double(&bias)), 1e-5, false);
    let ours = group_norm(&x, 8, (&weight, &bias), 1e-5, false)?;
    // The numbers themselves have an error of 6e-8 · 1000; a result in bf16 is rounded.
    let rounding = if kind == Kind::BFloat16 { exact.abs() / 256.0 } else { exact.zeros_like() };
    assert!(((double(&ours) - exact).abs() - rounding).max().double_value(&[]) < 1e-3);
    Ok(())
}

fn memory_that_is_read_is_not_changed_in_place(kind: Kind) -> Result<(), TchError> {
    let x = random(&[600, 32], kind);
    let weight = arranged(&random(&[32, 32], kind), kind)?;
    for epilogue in [Epilogue::AddTo(x.shallow_clone()), Epilogue::Gate(x.shallow_clone())] {
        assert!(linear(&x, &weight, None, epilogue).is_err());
    }
    let rows = random(&[1200, 32], kind);
    let (first, second) = (rows.narrow(0, 0, 600), rows.narrow(0, 600, 600));
    let _ = linear(&first, &weight, None, Epilogue::AddTo(second.shallow_clone()))?;
    // A tensor that a gradient needs is known to have changed.
    let factor = random(&[600, 32], kind).set_requires_grad(true);
    let product = &second * &factor;
    let _ = linear(&first, &weight, None, Epilogue::AddTo(second))?;
    assert!(product.sum(Kind::Float).f_backward().is_err(), "the product's factor was changed");
    Ok(())
}

fn pictures_of_one_channel_are_computed(kind: Kind) -> Result<(), TchError> {
    let x = random(&[1, 1, 9, 7], kind);
    let kernel = arranged(&random(&[4, 1, 3, 3], kind), kind)?;
    let exact = double(&x).conv2d(&double(&kernel), None::<Tensor>, [1, 1], [1, 1], [1, 1], 1);
    close(&conv2d(&x, &kernel, None, (1, 1), Epilogue::Store)?, &exact, "one channel");
    for (stride, padding) in [(0, 1), (1, -1), (1, i64::MAX)] {
        assert!(conv2d(&x, &kernel, None, (stride, padding), Epilogue::Store).is_err());
    }
    assert!(conv2d_positions(&x, &kernel, None).is_err(), "a kernel, not sums");
    let (rows, weight) = (random(&[1, 5], kind).transpose(0, 1), arranged(&random(&[3, 1], kind), kind)?);
    let exact = double(&rows).linear(&double(&weight), None::<Tensor>);
    close(&linear(&rows, &weight, None, Epilogue::Store)?, &exact, "one column");
    Ok(())
}

fn tensors_with_gradients_are_refused(kind: Kind) -> Result<(), TchError> {
    let x = random(&[1, 2, 8, 16], kind);
    let learns = x.copy().set_requires_grad(true);
    assert!(!attends(&learns, &x, &x) && !weighs(&learns, &x) && !weighs(&x, &learns));
    assert!(attend(&x, &x, &x, Some(&random(&[8, 8], Kind::Float).set_requires_grad(true)), false).is_err());
    assert!(weigh(&random(&[1, 2, 8, 8], Kind::Float).set_requires_grad(true), &x, false).is_err());
    let weight = arranged(&random(&[16, 16], kind), kind)?;
    assert!(!multiplies(&learns, &weight) && linear(&learns, &weight, None, Epilogue::Store).is_err());
    assert!(linear(&x, &weight, None, Epilogue::AddTo(learns)).is_err());
    assert!(conv2d(&x, &random(&[4, 2, 3, 3], kind).set_requires_grad(true), None, (1, 1), Epilogue::Store).is_err());
    Ok(())
}

fn results_are_equal_for_any_number_of_threads(kind: Kind) -> Result<(), TchError> {
    let before = tch::get_num_threads();
    let (x, kernel) = (random(&[2, 40, 24, 24], kind), arranged(&random(&[72, 40, 3, 3], kind), kind)?);
    let (q, weight) = (random(&[3, 2, 200, 20], kind), arranged(&random(&[300, 20], kind), kind)?);
    let compute = |threads| -> Result<_, TchError> {
        tch::set_num_threads(threads);
        let convolved = conv2d(&x, &kernel, None, (1, 1), Epilogue::Store)?;
        Ok((convolved, attend(&q, &q, &q, None, false)?.output, linear(&q, &weight, None, Epilogue::Store)?))
    };
    let one = compute(1)?;
    let several = compute(3)?;
    tch::set_num_threads(before);
    assert_eq!(one, several);
    Ok(())
}

fn tensors_whose_memory_differs_are_refused(kind: Kind) -> Result<(), TchError> {
    let (x, weight) = (random(&[9, 16], kind), arranged(&random(&[4, 16], kind), kind)?);
    let negative = x.f_internal_neg_view()?;
    let zeros = Tensor::f_internal_efficientzerotensor([9, 16], (kind, Device::Cpu))?;
    for other in [negative, zeros, x.narrow(0, 0, 0)] {
        assert!(!multiplies(&other, &weight) && linear(&other, &weight, None, Epilogue::Store).is_err());
    }
    Ok(())
}

fn tensors_that_do_not_fit_are_errors(kind: Kind) -> Result<(), TchError> {
    let (x, weight) = (random(&[2, 8, 6, 6], kind), arranged(&random(&[4, 8, 3, 3], kind), kind)?);
    assert!(!multiplies(&x.to_kind(Kind::Half), &weight), "f16");
    assert!(!multiplies(&x.set_requires_grad(true), &weight), "gradients flow through libtorch alone");
    assert!(!multiplies(&x, &weight.contiguous()), "a weight in the order of its axes");
    let x = x.detach();
    let message = |result: Result<Tensor, TchError>| result.expect_err("it does not fit").to_string();
    let convolve = |x: &Tensor, bias: Option<&Tensor>, padding, epilogue: Epilogue<'_>| {
        message(conv2d(x, &weight, bias, (1, padding), epilogue))
    };
    assert!(convolve(&x.narrow(1, 0, 7), None, 1, Epilogue::Store).contains("expected 8 channels"));
    assert!(convolve(&x, Some(&random(&[5], kind)), 1, Epilogue::Store).contains("the bias"));
    assert!(convolve(&x.narrow(2, 0, 2), None, 0, Epilogue::Store).contains("as large as the kernel"));
    let narrow = random(&[2, 4, 6, 5], Kind::Float);
    assert!(convolve(&x, None, 1, Epilogue::AddTo(narrow)).contains("the tensor of the epilogue"));
    assert!(convolve(&x, None, 1, Epilogue::Add(&Tensor::new())).contains("the tensor of the epilogue"));
    let f16 = random(&[2, 6, 6, 4], Kind::Half).permute([0, 3, 1, 2]);
    let expected = format!("channels last, f32 or {kind:?}");
    assert!(convolve(&x, None, 1, Epilogue::Add(&f16)).contains(&expected));
    let (keys, values) = (random(&[1, 2, 9, 4], kind), random(&[1, 2, 8, 4], kind));
    let error = attend(&keys, &keys, &values, None, false).expect_err("8 values for 9 keys").to_string();
    assert!(error.contains("[1, 2, 9, c]"), "{error}");
    Ok(())
}

#[test]
fn kernels_that_are_off_compute_nothing() -> Result<(), TchError> {
    let x = random(&[2, 8, 6, 6], Kind::Float);
    let weight = random(&[4, 8, 3, 3], Kind::Float);
    let (square, number) = (random(&[1, 2, 6, 6], Kind::Float), random(&[8], Kind::Float));
    tested::with(Choice::OFF, || {
        let weight = arranged(&weight, Kind::Float)?;
        assert!(!arranges(Kind::Float) && !multiplies(&x, &weight) && !adds_to(&x, &x));
        assert!(!attends(&square, &square, &square) && !weighs(&square, &square));
        assert!(!normalizes(&x, (&number, &number)) && !normalizes_rows(&x, (&number, &number)));
        assert!(!scales_rows(&x, &number) && rms_norm(&x, &number, 1e-5).is_err());
        assert!(conv2d(&x, &weight, None, (1, 1), Epilogue::Store).is_err());
        assert!(linear(&x, &weight, None, Epilogue::Store).is_err());
        let error = attend(&square, &square, &square, None, false).expect_err("no kernels").to_string();
        assert!(error.contains("expected f32 or bf16 on a CPU with kernels"), "{error}");
        assert!(group_norm(&x, 2, (&number, &number), 1e-5, false).is_err());
        Ok(())
    })
}

#[test]
fn tests_are_ignored_only_without_instructions() {
    // A build of another machine would ignore tests that this processor can run.
    let runs = |set, kind| tested::with(Choice::one(set), || arranges(kind));
    let (avx2, avx512) = (InstructionSet::Avx2, InstructionSet::Avx512);
    let found = [runs(avx2, Kind::Float), runs(avx512, Kind::Float), runs(avx512, Kind::BFloat16)];
    assert_eq!(found, [cfg!(avx2), cfg!(avx512), cfg!(avx512_bf16)], "build the tests here");
}

#[test]
fn intrinsics_stand_in_files_of_instruction_sets() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in std::fs::read_dir(source).expect("the crate has sources") {
        let path = file.expect("a file").path();
        let text = if path.is_file() { std::fs::read_to_string(&path).expect("a text") } else { String::new() };
        for word in
            [concat!("std::", "arch"), concat!("core::", "arch"), concat!("target", "_feature"), concat!("_", "mm")]
        {
            assert!(!text.contains(word), "{} has {word}, which belongs to a file of isa/", path.display());
        }
    }
}

#[test]
fn sets_agree_on_many_shapes() -> Result<(), TchError> {
    tch::manual_seed(5);
    let number = |most: i64| Tensor::randint(most, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]) + 1;
    for round in 0..60 {
        let (inputs, outputs, kernel, stride) = (number(80), number(80), 2 * number(2) - 1, number(2));
        let (n, h, w) = (number(3), number(12), number(12));
        let (heads, d, c, tokens) = (number(3), number(50), number(50), number(100));
        let what = format!(
            "round {round}: {n}×{h}×{w} cells, {inputs} to {outputs} channels, kernel {kernel}, stride {stride}, \
             {heads} heads, {tokens} tokens of {d} and {c}"
        );
        let new = |shape: &[i64]| random(shape, Kind::Float);
        let (x, weight) = (new(&[n, h, w, inputs]), new(&[outputs, inputs, kernel, kernel]));
        let (bias, scale, picture) = (new(&[outputs]), new(&[inputs]), x.permute([0, 3, 1, 2]));
        let (q, k, v) = (new(&[n, heads, h * w, d]), new(&[n, heads, tokens, d]), new(&[n, heads, tokens, c]));
        let results = |set| {
            tested::with(Choice::one(set), || {
                let weight = arranged(&weight, Kind::Float)?;
                let steps = (stride, kernel / 2);
                let mut results = vec![
                    conv2d(&picture, &weight, Some(&bias), steps, Epilogue::Store)?,
                    attend(&q, &k, &v, None, false)?.output,
                    group_norm(&picture, 1, (&scale, &scale), 1e-5, true)?,
                    layer_norm(&x, (&scale, &scale), 1e-5)?,
                ];
                if kernel == 3 {
                    results.push(conv2d_upsampled(&picture, &weight, Some(&bias))?);
                }
                Ok::<_, TchError>(results)
            })
        };
        let exact = results(InstructionSet::Scalar)?;
        for set in InstructionSet::ALL.iter().filter(|set| tested::with(Choice::one(**set), || arranges(Kind::Float))) {
            for (result, exact) in results(*set)?.iter().zip(&exact) {
                close(result, &double(exact), &format!("{}, {what}", set.name()));
            }
        }
    }
    Ok(())
}

#[test]
fn products_by_amx_equal_those_of_its_model() -> Result<(), TchError> {
    let runs = |set| tested::with(Choice::one(set), || arranges(Kind::BFloat16));
    if !(runs(InstructionSet::Amx) && runs(InstructionSet::AmxModel)) {
        println!("this processor lacks AMX, so that only the model of its tiles was tested");
        return Ok(());
    }
    tch::manual_seed(5);
    for [inputs, outputs, kernel, side] in [[320, 320, 1, 16], [64, 48, 3, 9], [33, 7, 3, 5], [640, 130, 1, 7]] {
        let (x, weight) = (
            random(&[2, side, side, inputs], Kind::BFloat16).permute([0, 3, 1, 2]),
            random(&[outputs, inputs, kernel, kernel], Kind::BFloat16),
        );
        let result = |set| {
            tested::with(Choice::one(set), || {
                let weight = arranged(&weight, Kind::BFloat16)?;
                conv2d(&x, &weight, None, (1, kernel / 2), Epilogue::StoreF32)
            })
        };
        let what = format!("{inputs} to {outputs} channels, kernel {kernel}");
        assert_eq!(result(InstructionSet::Amx)?, result(InstructionSet::AmxModel)?, "{what}");
    }
    Ok(())
}
