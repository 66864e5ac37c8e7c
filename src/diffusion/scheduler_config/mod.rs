//! [`SchedulerConfig`]: `scheduler_config.json`, as diffusers writes it.

mod sampling;

use super::prediction::Prediction;
use super::spacing::SchedulerFamily;
use super::training_schedule::TrainingSchedule;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The file's name in a checkpoint.
const FILE: &str = "scheduler_config.json";

/// The contents of `scheduler_config.json`: a model's training noise, and the sampling that its authors use.
///
/// Absent fields have the defaults of diffusers' classes, not Stable Diffusion's; unknown fields are ignored. Values
/// are checked when they are used, not when the file is read. A model of an unknown class thus still gives its
/// [`TrainingSchedule`] and [`Prediction`].
///
/// ```
/// use impasto::diffusion::{Prediction, SchedulerConfig};
///
/// let config = SchedulerConfig::from_json(
///     r#"{ "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
///          "prediction_type": "v_prediction", "set_alpha_to_one": false, "steps_offset": 1 }"#,
/// )?;
/// assert_eq!((config.solver()?.name(), config.prediction_type), ("Ddim", Prediction::V));
/// assert_eq!(config.schedule(20)?.steps().len(), 20);
/// # Ok::<(), impasto::Error>(())
/// ```
///
/// Source: diffusers 0.42 `schedulers/*`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// The diffusers class that samples. The class decides the solver, the rounding of timesteps, and the defaults of
    /// some fields.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Number of training timesteps.
    pub num_train_timesteps: usize,
    /// `linear`, `scaled_linear` or `squaredcos_cap_v2`.
    pub beta_schedule: String,
    /// β of the first timestep.
    pub beta_start: f64,
    /// β of the last timestep.
    pub beta_end: f64,
    /// Every β, instead of the three fields above.
    pub trained_betas: Option<Vec<f32>>,
    /// Set if training ends at pure noise (zero terminal SNR).
    pub rescale_betas_zero_snr: bool,
    /// Prediction type of the network.
    pub prediction_type: Prediction,
    /// `leading`, `linspace` or `trailing`; if absent, the spacing of the class.
    pub timestep_spacing: Option<String>,
    /// Offset added to leading timesteps.
    pub steps_offset: usize,
    /// Enables Karras levels, between the ends of the timestep spacing (Euler classes) or of the table (other classes).
    pub use_karras_sigmas: bool,
    /// End of the last step: `zero` or `sigma_min`.
    pub final_sigmas_type: Option<String>,
    /// DDIM and PNDM: if true, the last step ends at 0 (DDIM's default), otherwise at the lowest level (PNDM's).
    pub set_alpha_to_one: Option<bool>,
    /// DDPM: `fixed_small` (the default) or `fixed_large`.
    pub variance_type: Option<String>,
    /// Enables exponential levels, between the same ends as `use_karras_sigmas`.
    pub use_exponential_sigmas: bool,
    /// Enables levels by a beta distribution, between the same ends as `use_karras_sigmas`.
    pub use_beta_sigmas: bool,
    /// DPM++: enables exponential levels with rounded timesteps.
    pub use_lu_lambdas: bool,
    /// DPM++: `dpmsolver++` (the default) or `sde-dpmsolver++`, which adds fresh noise. DEIS: `deis`.
    pub algorithm_type: Option<String>,
    /// DPM++, UniPC, DEIS: order of the solver, 1 to 3.
    pub solver_order: usize,
    /// DPM++: `midpoint` (the default) or `heun`. UniPC: `bh1` or `bh2` (the default). DEIS: `logrho`.
    pub solver_type: Option<String>,
    /// DPM++, UniPC, DEIS: lowers the order at the end of a run; DPM++ multistep and DEIS do so only for few steps.
    pub lower_order_final: bool,
    /// DPM++ multistep: makes the last step first order.
    pub euler_at_final: bool,
    /// UniPC: indices of the steps that are not corrected.
    pub disable_corrector: Vec<usize>,
    /// UniPC: prediction of x0; not supported if false.
    pub predict_x0: bool,
    /// PNDM: not supported if false, which asks for Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// LCM, TCD: number of timesteps the model was distilled at.
    pub original_inference_steps: usize,
    /// LCM: rate at which the share of the latent falls with the timestep.
    pub timestep_scaling: f64,
    /// DPM++: lower limit of λ; only no limit is supported (in the file, minus infinity).
    pub lambda_min_clipped: Option<f64>,
    /// Flow matching levels; not supported if true.
    pub use_flow_sigmas: bool,
    /// Clipping of predictions; not supported if true, as clipping is meant for pixels.
    pub clip_sample: bool,
    /// Dynamic thresholding; not supported if true, as thresholding is meant for pixels.
    pub thresholding: bool,
    /// Interpolation of levels; only `linear` is supported.
    pub interpolation_type: Option<String>,
    /// Type of timesteps; only `discrete` is supported.
    pub timestep_type: Option<String>,
    /// Lower end of Karras levels; not supported.
    pub sigma_min: Option<f64>,
    /// Upper end of Karras levels; not supported.
    pub sigma_max: Option<f64>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class_name: String::new(),
            num_train_timesteps: 1000,
            beta_schedule: "linear".into(),
            beta_start: 1e-4,
            beta_end: 0.02,
            trained_betas: None,
            rescale_betas_zero_snr: false,
            prediction_type: Prediction::Epsilon,
            timestep_spacing: None,
            steps_offset: 0,
            use_karras_sigmas: false,
            final_sigmas_type: None,
            set_alpha_to_one: None,
            variance_type: None,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_lu_lambdas: false,
            algorithm_type: None,
            solver_order: 2,
            solver_type: None,
            lower_order_final: true,
            euler_at_final: false,
            disable_corrector: Vec::new(),
            predict_x0: true,
            skip_prk_steps: true,
            original_inference_steps: 50,
            timestep_scaling: 10.0,
            lambda_min_clipped: None,
            use_flow_sigmas: false,
            clip_sample: false,
            thresholding: false,
            interpolation_type: None,
            timestep_type: None,
            sigma_min: None,
            sigma_max: None,
        }
    }
}

impl SchedulerConfig {
    /// Creates Stable Diffusion's noise with the given class, for checkpoints without the file. SD 1.x, 2.x base and
    /// SDXL predict ε; SD 2.x at 768 pixels predicts v.
    pub fn stable_diffusion(class_name: &str, prediction_type: Prediction) -> Self {
        Self {
            class_name: class_name.into(),
            beta_schedule: "scaled_linear".into(),
            beta_start: 0.00085,
            beta_end: 0.012,
            prediction_type,
            timestep_spacing: Some("leading".into()),
            steps_offset: 1,
            set_alpha_to_one: Some(false),
            ..Self::default()
        }
    }

    /// The training noise levels as the classes of a family compute them. Families disagree about the last level if
    /// training ends at pure noise.
    pub(super) fn training_schedule_for(&self, family: SchedulerFamily) -> Result<TrainingSchedule> {
        if !(2..=100_000).contains(&self.num_train_timesteps) {
            return Err(refused("num_train_timesteps", &self.num_train_timesteps.to_string(), "expected 2 to 100000"));
        }
        let (count, start, end) = (self.num_train_timesteps, self.beta_start, self.beta_end);
        let table = match (&self.trained_betas, self.beta_schedule.as_str()) {
            (Some(betas), _) => TrainingSchedule::new(betas.clone())?,
            (None, "linear") => TrainingSchedule::linear(count, start, end)?,
            (None, "scaled_linear") => TrainingSchedule::scaled_linear(count, start, end)?,
            (None, "squaredcos_cap_v2") => TrainingSchedule::cosine(count)?,
            (None, other) => {
                return Err(refused("beta_schedule", other, "expected linear, scaled_linear or squaredcos_cap_v2"));
            }
        };
        match (self.rescale_betas_zero_snr, family) {
            (false, _) => Ok(table),
            (true, SchedulerFamily::Ddim | SchedulerFamily::Lcm) => table.zero_terminal_snr(1e-14),
            (true, _) => table.zero_terminal_snr(2f32.powi(-24)),
        }
    }

    /// The checked `solver_order`, 1 to 3.
    pub(super) fn order(&self) -> Result<usize> {
        match self.solver_order {
            order @ 1..=3 => Ok(order),
            other => Err(refused("solver_order", &other.to_string(), "expected 1 to 3")),
        }
    }
}

/// The error for a field value that this crate does not support.
pub(super) fn refused(field: &str, value: &str, expected: &str) -> Error {
    Error::Config { file: FILE.into(), field: field.into(), value: value.into(), expected: expected.into() }
}

#[cfg(test)]
mod tests;
