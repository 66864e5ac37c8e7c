//! [`Prediction`]: the prediction type of a network.

use crate::error::Result;
use crate::step::Process;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The prediction type of a network: the quantity that it was trained to predict from a noised picture. Models convert
/// their outputs to x0, so other code works with x0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Prediction {
    /// The noise (SD 1.x, SDXL).
    #[default]
    #[serde(rename = "epsilon")]
    Epsilon,
    /// The velocity √ᾱ·noise − √(1 − ᾱ)·x0 (SD 2.x at 768 pixels).
    #[serde(rename = "v_prediction")]
    V,
    /// The clean picture x0.
    #[serde(rename = "sample")]
    Sample,
    /// The velocity noise − x0 of a rectified flow (Anima, SD 3.x).
    ///
    /// The flow's own latent is x_t = (1 − t)·x0 + t·noise with t in 0..=1. With σ = t/(1 − t), this is the latent of
    /// sigma space in another scale: x_t = x/(1 + σ).
    #[serde(rename = "flow_prediction")]
    Flow,
}

impl Prediction {
    /// Converts network output `out` at latent `x` and noise level `sigma` to the clean picture x0. All tensors have
    /// the same shape, and `x` is in sigma space.
    ///
    /// ```
    /// use impasto::diffusion::Prediction;
    /// use tch::Tensor;
    ///
    /// let (x0, noise) = (Tensor::from(0.5), Tensor::from(-1.0));
    /// let x = &x0 + 2.0 * &noise;                               // σ = 2
    /// assert_eq!(Prediction::Epsilon.x0(&noise, &x, 2.0)?, x0);
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn x0(self, out: &Tensor, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let total = 1.0 + sigma * sigma;
        Ok(match self {
            Self::Epsilon => x.f_sub(&out.f_mul_scalar(sigma)?)?,
            Self::V => x.f_div_scalar(total)?.f_sub(&out.f_mul_scalar(sigma / total.sqrt())?)?,
            Self::Sample => out.shallow_clone(),
            // In this form no term grows with σ, which is 1e8 at the start of a flow.
            Self::Flow => x.f_div_scalar(1.0 + sigma)?.f_sub(&out.f_mul_scalar(sigma / (1.0 + sigma))?)?,
        })
    }

    /// Converts clean picture `x0` at latent `x` and noise level `sigma` to the network output, the reverse of
    /// [`Prediction::x0`].
    pub fn output(self, x0: &Tensor, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let total = 1.0 + sigma * sigma;
        Ok(match self {
            Self::Epsilon => x.f_sub(x0)?.f_div_scalar(sigma)?,
            Self::V => x.f_div_scalar(total)?.f_sub(x0)?.f_mul_scalar(total.sqrt() / sigma)?,
            Self::Sample => x0.shallow_clone(),
            Self::Flow => x.f_sub(x0)?.f_div_scalar(sigma)?.f_sub(x0)?,
        })
    }

    /// Returns the factor that converts a latent in sigma space to the network's input: 1/√(1 + σ²), and 1/(1 + σ) for
    /// a flow.
    pub fn input_scale(self, sigma: f64) -> f64 {
        self.process().size(sigma).recip()
    }

    /// Returns the noising process of a network with this prediction type.
    pub const fn process(self) -> Process {
        match self {
            Self::Epsilon | Self::V | Self::Sample => Process::Diffusion,
            Self::Flow => Process::Flow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use tch::Kind;

    #[test]
    fn every_prediction_type_gives_the_same_x0() {
        let (x0, noise) =
            (Tensor::randn([2, 4], (Kind::Double, tch::Device::Cpu)), Tensor::from_slice(&[0.3, -1., 2., 0.]));
        for sigma in [0.03, 1.0, 14.6] {
            let x = &x0 + sigma * &noise;
            let abar: f64 = 1.0 / (1.0 + sigma * sigma);
            let v = abar.sqrt() * &noise - (1.0 - abar).sqrt() * &x0;
            let flow = &noise - &x0;
            for (prediction, out) in [
                (Prediction::Epsilon, &noise),
                (Prediction::V, &v),
                (Prediction::Sample, &x0),
                (Prediction::Flow, &flow),
            ] {
                let got = prediction.x0(out, &x, sigma).unwrap();
                assert!(got.allclose(&x0, 1e-12, 1e-12, false), "{prediction:?} {sigma}");
                let back = prediction.output(&x0, &x, sigma).unwrap();
                assert!(back.allclose(out, 1e-10, 1e-10, false), "{prediction:?} {sigma}");
            }
        }
    }

    #[test]
    fn spaces_of_a_flow_match_the_golden() {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/flow.json")).unwrap();
        for row in golden["spaces"].as_array().unwrap() {
            let number = |name: &str| row[name].as_f64().unwrap();
            let tensor = |name: &str| Tensor::from(number(name));
            let sigma = number("sigma");
            let near = |got: f64, name: &str| {
                let want = number(name);
                assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "σ {sigma}, {name}: {got} {want}");
            };
            near(Prediction::Flow.input_scale(sigma), "input_scale");
            near(number("x_sigma") * Prediction::Flow.input_scale(sigma), "x_flow");
            let x = tensor("x_sigma");
            near(Prediction::Flow.x0(&tensor("velocity"), &x, sigma).unwrap().double_value(&[]), "x0_from_velocity");
            near(Prediction::Flow.output(&tensor("x0"), &x, sigma).unwrap().double_value(&[]), "velocity_from_x0");
            let table = crate::diffusion::TrainingSchedule::flow(3.0, 1000.0).unwrap();
            near(table.timestep_of(sigma), "timestep_1000");
        }
    }
}
