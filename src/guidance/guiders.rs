//! Combinations beside the guiders of diffusers, in tests.

use super::Combine;
use crate::branch::Branch;
use crate::conditioning::Conditioning;
use crate::diffusion::{Input, Prediction, Predictions};
use crate::error::Result;
use crate::json;
use crate::step::Step;
use serde_json::Value;
use tch::Tensor;

fn tensors(value: &Value, shape: [i64; 4]) -> Vec<Tensor> {
    let numbers = |value: &Value| -> Vec<f64> {
        let mut left = vec![value];
        let mut numbers = Vec::new();
        while let Some(value) = left.pop() {
            match value {
                Value::Array(values) => left.extend(values.iter().rev()),
                number => numbers.push(number.as_f64().unwrap()),
            }
        }
        numbers
    };
    value.as_array().unwrap().iter().map(|step| Tensor::from_slice(&numbers(step)).reshape(shape)).collect()
}

/// Combines the outputs of all steps of a reference case; returns the guided outputs and those of the reference.
pub(super) fn run(case: &str, combine: &mut impl Combine) -> Result<Vec<(Tensor, Tensor)>> {
    let golden: Value = json::parse(include_str!("../../tests/golden/specs/guiders.json")).unwrap();
    let case = &golden["cases"][case];
    let (inputs, shape) =
        if case["is_wide"] == true { (&golden["wide"], [1, 4, 8, 8]) } else { (&golden, [2, 4, 3, 3]) };
    let (uncond, cond) = (tensors(&inputs["uncond"], shape), tensors(&inputs["cond"], shape));
    let wanted = tensors(&case["outputs"], shape);
    // The clean guidance of APG is the reference's guidance of a network that predicts clean pictures.
    let prediction = if case["is_clean"] == true { Prediction::Sample } else { Prediction::Epsilon };
    combine.begin(&[])?;
    let x = &uncond[0] * 3.0 + 1.0;
    let conditioning = Conditioning::new(Tensor::from(0.0));
    let inputs = [Branch::Uncond, Branch::Cond].map(|branch| Input::new(branch, &x, &conditioning));
    let mut found = Vec::new();
    for (index, wanted) in wanted.into_iter().enumerate() {
        let step = Step::new(index, 3, 2.0, 1.0, 500.0);
        let x0 = [&uncond[index], &cond[index]].map(|output| prediction.x0(output, &x, 2.0).unwrap());
        let predictions = Predictions::new(&step, &inputs, x0).of(prediction);
        let x0 = combine.combine(&step, &predictions)?;
        found.push((prediction.output(&x0, &x, 2.0)?, wanted));
    }
    Ok(found)
}

/// Asserts that the guided outputs are those of a reference case.
pub(super) fn compare(case: &str, mut combine: impl Combine) -> Result<()> {
    for (step, (got, wanted)) in run(case, &mut combine)?.into_iter().enumerate() {
        assert!(got.allclose(&wanted, 1e-5, 1e-5, false), "{case}, step {step}: {got} instead of {wanted}");
    }
    Ok(())
}
