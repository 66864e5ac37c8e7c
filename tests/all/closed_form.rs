//! Weights and inputs that follow from an index, and short summaries of the reference networks' outputs.
//!
//! `tests/golden/specs/gen_controlnet.py` has the formulas.

use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Uniform numbers in 0..1, the `n`th stream of SplitMix64.
pub fn unit(n: u64, count: i64) -> Vec<f64> {
    let mix = |k: u64| {
        let z = ((n << 32) + k).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count as u64).map(mix).collect()
}

pub fn shape(value: &Value) -> Vec<i64> {
    value.as_array().expect("a shape").iter().map(|side| side.as_i64().expect("a side")).collect()
}

/// Tensors of sorted names and shapes; `is_norm` is true for the weights of norms.
pub fn tensors(keys: &Value, is_norm: impl Fn(&Value) -> bool) -> BTreeMap<String, Tensor> {
    let keys = keys.as_array().expect("names and shapes").iter().zip(1..);
    let tensor = |(key, n): (&Value, u64)| {
        let (name, shape) = (key[0].as_str().expect("a name").to_owned(), shape(&key[1]));
        let (count, inputs) = (shape.iter().product::<i64>(), shape[1..].iter().product::<i64>());
        let gain = if shape.len() > 1 { (3.0 / inputs as f64).sqrt() } else { 0.1 };
        let shift = if shape.len() == 1 && is_norm(key) { 1.0 } else { 0.0 };
        let values: Vec<f32> = unit(n, count).iter().map(|u| ((2.0 * u - 1.0) * gain + shift) as f32).collect();
        (name, Tensor::from_slice(&values).reshape(shape))
    };
    keys.map(tensor).collect()
}

/// Returns the input of a stream: uniform in `range`, or uniform with mean 0 and variance 1.
pub fn wave(shape: &[i64], stream: u64, range: Option<(f64, f64)>) -> Tensor {
    let u = unit(1_000_000 + stream, shape.iter().product());
    let u = Tensor::from_slice(&u).reshape(shape);
    let wave = match range {
        Some((low, high)) => u * (high - low) + low,
        None => (u * 2.0 - 1.0) * 3f64.sqrt(),
    };
    wave.to_kind(Kind::Float)
}

/// Compares a tensor's shape, its first and last eight numbers, and the sum of its absolute values.
#[track_caller]
pub fn summed(got: &Tensor, want: &Value) {
    assert_eq!(got.size(), shape(&want["shape"]));
    let got = got.to_kind(Kind::Double).reshape([-1]);
    let ends = |name: &str| {
        Tensor::from_slice(&want[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>())
    };
    assert!(got.narrow(0, 0, 8).allclose(&ends("first"), 1e-5, 5e-5, false));
    assert!(got.narrow(0, got.numel() as i64 - 8, 8).allclose(&ends("last"), 1e-5, 5e-5, false));
    let total = got.abs().sum(Kind::Double).double_value(&[]);
    let wanted = want["abs_sum"].as_f64().unwrap();
    assert!((total - wanted).abs() <= 1e-4 * wanted, "{total}, expected {wanted}");
}
