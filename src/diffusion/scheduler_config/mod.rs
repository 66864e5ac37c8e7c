//! [`SchedulerConfig`]: `scheduler_config.json`, as diffusers writes it.

mod sampling;

use super::prediction::Prediction;
use super::spacing::SchedulerFamily;
use super::training_schedule::TrainingSchedule;
use crate::error::{Error, Result};
use crate::step::Grid;
use crate::wording::Note;
use serde::{Deserialize, Serialize};

/// The number that networks of these classes are told for the time 1 of a flow.
const FLOW_TIMESTEPS: f64 = 1000.0;

/// The file's name in a checkpoint.
const FILE: &str = "scheduler_config.json";

/// The contents of `scheduler_config.json`: the noise that a model was trained with, and the sampling that its authors
/// use.
///
/// Absent fields have the defaults of diffusers' classes, not Stable Diffusion's; unknown fields are ignored. Values
/// are checked when they are used, not when the file is read. A file with an unknown class thus still gives the model's
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
    /// The scheduler class of diffusers. The class decides the solver, the rounding of timesteps, and the defaults of
    /// some fields.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Number of training timesteps.
    pub num_train_timesteps: usize,
    /// Course of β over the timesteps: `linear`, `scaled_linear` or `squaredcos_cap_v2`.
    pub beta_schedule: String,
    /// β of the first timestep.
    pub beta_start: f64,
    /// β of the last timestep.
    pub beta_end: f64,
    /// The β of every timestep, instead of the three fields above.
    pub trained_betas: Option<Vec<f32>>,
    /// True if the last training timestep is pure noise (zero terminal SNR).
    pub rescale_betas_zero_snr: bool,
    /// Prediction type of the network.
    pub prediction_type: Prediction,
    /// `leading`, `linspace` or `trailing`; if absent, the spacing of the class. In a flow, `trailing` gives the times
    /// 1, 1 − 1/n, … 1/n before the shift.
    pub timestep_spacing: Option<String>,
    /// Offset added to leading timesteps.
    pub steps_offset: usize,
    /// Enables Karras levels, between the ends of the timestep spacing (Euler classes) or of the training schedule
    /// (other classes).
    pub use_karras_sigmas: bool,
    /// Noise level at which the last step ends: `zero`, or `sigma_min` for the lowest training level. If absent,
    /// `set_alpha_to_one` and the class decide.
    pub final_sigmas_type: Option<String>,
    /// DDIM and PNDM: if true, the last step ends at 0 (DDIM's default), otherwise at the lowest training level (PNDM's
    /// default).
    pub set_alpha_to_one: Option<bool>,
    /// DDPM: variance of the fresh noise, `fixed_small` (the default) or `fixed_large`.
    pub variance_type: Option<String>,
    /// Enables exponential levels, between the same ends as `use_karras_sigmas`.
    pub use_exponential_sigmas: bool,
    /// Enables levels by a beta distribution, between the same ends as `use_karras_sigmas`.
    pub use_beta_sigmas: bool,
    /// DPM++: enables exponential levels with rounded timesteps.
    pub use_lu_lambdas: bool,
    /// DPM++: `dpmsolver++` (the default) or `sde-dpmsolver++`, which adds fresh noise. DEIS: `deis`.
    /// SA-Solver: `data_prediction`.
    pub algorithm_type: Option<String>,
    /// DPM++, UniPC, DEIS: order of the solver, 1 to 3.
    pub solver_order: usize,
    /// SA-Solver: order of the predictions, 1 to 4.
    pub predictor_order: usize,
    /// SA-Solver: order of the corrections, 1 to 4.
    pub corrector_order: usize,
    /// DPM++: `midpoint` (the default) or `heun`. UniPC: `bh1` or `bh2` (the default). DEIS: `logrho`.
    pub solver_type: Option<String>,
    /// DPM++, UniPC, DEIS, SA-Solver: lowers the order at the end of a run; DPM++ multistep and DEIS do so only for few
    /// steps.
    pub lower_order_final: bool,
    /// DPM++ multistep: makes the last step first order.
    pub euler_at_final: bool,
    /// UniPC: indices of the steps that are not corrected.
    pub disable_corrector: Vec<usize>,
    /// UniPC: true if the solver computes with x0; false is not supported.
    pub predict_x0: bool,
    /// PNDM: true if the run begins without Runge-Kutta steps; false is not supported.
    pub skip_prk_steps: bool,
    /// LCM, TCD: number of timesteps that the model was distilled at.
    pub original_inference_steps: usize,
    /// LCM: factor on the timestep in the weights of the latent and of x0; see [`Lcm::scaling`](super::solver::Lcm).
    pub timestep_scaling: f64,
    /// DPM++: lower limit of λ = −ln σ. A limit is not supported: the file must have null or minus infinity.
    pub lambda_min_clipped: Option<f64>,
    /// DPM++, UniPC, DEIS: true for the noise levels of flow matching.
    pub use_flow_sigmas: bool,
    /// Shift of the levels to high noise with `use_flow_sigmas`.
    pub flow_shift: f64,
    /// Shift of the levels of the flow-matching classes to high noise; 3 for Anima and SD 3.x.
    pub shift: f64,
    /// True if the shift depends on the picture; see [`SchedulerConfig::on`].
    pub use_dynamic_shifting: bool,
    /// Form of the dynamic shift: `exponential` or `linear`.
    pub time_shift_type: String,
    /// μ of the dynamic shift for the smallest number of tokens.
    pub base_shift: f64,
    /// μ of the dynamic shift for the largest number of tokens.
    pub max_shift: f64,
    /// Smallest number of tokens for the dynamic shift.
    pub base_image_seq_len: usize,
    /// Largest number of tokens for the dynamic shift.
    pub max_image_seq_len: usize,
    /// Last time of the schedule, to which its times are stretched.
    pub shift_terminal: Option<f64>,
    /// Reversed times (Mochi); true is not supported.
    pub invert_sigmas: bool,
    /// Flow-matching Euler: true if every step renews all of the noise.
    pub stochastic_sampling: bool,
    /// Shift that [`SchedulerConfig::with_mu`] set.
    #[serde(skip)]
    pub(crate) dynamic_shift: Option<f64>,
    /// Clipping of predictions; true is not supported, because clipping is meant for pixels.
    pub clip_sample: bool,
    /// Dynamic thresholding of predictions; true is not supported, because thresholding is meant for pixels.
    pub thresholding: bool,
    /// Interpolation of levels; only `linear` is supported.
    pub interpolation_type: Option<String>,
    /// Type of timesteps; only `discrete` is supported.
    pub timestep_type: Option<String>,
    /// Lower end of Karras levels; a value is not supported.
    pub sigma_min: Option<f64>,
    /// Upper end of Karras levels; a value is not supported.
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
            predictor_order: 2,
            corrector_order: 2,
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
            flow_shift: 1.0,
            shift: 1.0,
            use_dynamic_shifting: false,
            time_shift_type: "exponential".into(),
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            shift_terminal: None,
            invert_sigmas: false,
            stochastic_sampling: false,
            dynamic_shift: None,
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
    /// Creates the configuration of Stable Diffusion with the given class, for checkpoints without a
    /// `scheduler_config.json`. SD 1.x, 2.x base and SDXL predict ε; SD 2.x at 768 pixels predicts v.
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

    /// Creates the configuration of a rectified flow with the given shift to high noise, for checkpoints without a
    /// `scheduler_config.json`: 3 for Anima and SD 3.x.
    pub fn flow(shift: f64) -> Self {
        Self {
            class_name: "FlowMatchEulerDiscreteScheduler".into(),
            prediction_type: Prediction::Flow,
            shift,
            ..Self::default()
        }
    }

    /// The training noise levels as the classes of a family compute them. Families disagree about the highest level if
    /// the last timestep is pure noise (zero terminal SNR).
    pub(super) fn training_schedule_for(&self, family: SchedulerFamily) -> Result<TrainingSchedule> {
        if !(2..=100_000).contains(&self.num_train_timesteps) {
            return Err(refuse("num_train_timesteps", &self.num_train_timesteps.to_string(), "expected 2 to 100000"));
        }
        if self.is_flow() {
            if self.num_train_timesteps as f64 != FLOW_TIMESTEPS {
                let expected = format!("expected {FLOW_TIMESTEPS} for a flow");
                return Err(refuse("num_train_timesteps", &self.num_train_timesteps.to_string(), expected));
            }
            let shift = match (self.use_flow_sigmas, self.use_dynamic_shifting) {
                (true, _) => self.flow_shift,
                (false, true) => 1.0, // the dynamic shift acts on the schedule alone
                (false, false) => self.shift,
            };
            return TrainingSchedule::flow(shift, FLOW_TIMESTEPS);
        }
        self.beta_table(family)
    }

    /// The training noise levels that the file's β give.
    pub(super) fn beta_table(&self, family: SchedulerFamily) -> Result<TrainingSchedule> {
        let (count, start, end) = (self.num_train_timesteps, self.beta_start, self.beta_end);
        let table = match (&self.trained_betas, self.beta_schedule.as_str()) {
            (Some(betas), _) => TrainingSchedule::new(betas.clone())?,
            (None, "linear") => TrainingSchedule::linear(count, start, end)?,
            (None, "scaled_linear") => TrainingSchedule::scaled_linear(count, start, end)?,
            (None, "squaredcos_cap_v2") => TrainingSchedule::cosine(count)?,
            (None, other) => {
                return Err(refuse("beta_schedule", other, "expected linear, scaled_linear or squaredcos_cap_v2"));
            }
        };
        match (self.rescale_betas_zero_snr, family) {
            (false, _) => Ok(table),
            (true, SchedulerFamily::Ddim | SchedulerFamily::Lcm) => table.zero_terminal_snr(1e-14),
            (true, _) => table.zero_terminal_snr(2f32.powi(-24)),
        }
    }

    /// Returns true for the levels of a rectified flow: those of a flow-matching class, or `use_flow_sigmas`.
    pub fn is_flow(&self) -> bool {
        self.use_flow_sigmas || self.class_name.starts_with("FlowMatch")
    }

    /// Returns the shift of a flow's noise levels. `None` for other models and for a shift that follows the picture.
    pub(crate) fn own_shift(&self) -> Option<f64> {
        let shift = if self.use_flow_sigmas { self.flow_shift } else { self.shift };
        (self.is_flow() && !self.use_dynamic_shifting).then_some(shift)
    }

    /// Returns the configuration with a fixed shift in place of a dynamic one. `mu` is μ, the shift that a picture asks
    /// for (see [`SchedulerConfig::mu`]).
    ///
    /// # Errors
    /// [`Error::Config`] for a `time_shift_type` other than `exponential` and `linear`.
    pub fn with_mu(mut self, mu: f64) -> Result<Self> {
        self.dynamic_shift = Some(match self.time_shift_type.as_str() {
            "exponential" => mu.exp(),
            "linear" => mu,
            other => return Err(refuse("time_shift_type", other, "expected exponential or linear")),
        });
        Ok(self)
    }

    /// Returns the configuration for latents of a grid: a dynamic shift becomes the fixed one of this grid. Other
    /// configurations stay as they are. A token is a patch of 2 × 2 cells.
    ///
    /// # Errors
    /// The errors of [`with_mu`](Self::with_mu).
    pub fn on(&self, grid: Grid) -> Result<Self> {
        if !self.use_dynamic_shifting || self.dynamic_shift.is_some() {
            return Ok(self.clone());
        }
        let tokens = usize::try_from(grid.h / 2 * (grid.w / 2)).unwrap_or_default();
        self.clone().with_mu(self.mu(tokens))
    }

    /// Returns μ of the dynamic shift for a picture of this number of tokens, which are 16×16 pixels each.
    ///
    /// ```
    /// use impasto::diffusion::SchedulerConfig;
    ///
    /// let config = SchedulerConfig::from_json(
    ///     r#"{ "_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true }"#,
    /// )?;
    /// let mu = config.mu(32 * 32); // 512×512 pixels
    /// assert!((mu - 0.63).abs() < 1e-9);
    /// assert!(config.with_mu(mu)?.schedule(20)?.sigma_max() > 1e7);
    /// # Ok::<(), impasto::Error>(())
    /// ```
    pub fn mu(&self, tokens: usize) -> f64 {
        let [tokens, base, max] = [tokens, self.base_image_seq_len, self.max_image_seq_len].map(|count| count as f64);
        self.base_shift + (self.max_shift - self.base_shift) * (tokens - base) / (max - base).max(1.0)
    }

    /// The checked `solver_order`, 1 to 3.
    pub(super) fn order(&self) -> Result<usize> {
        match self.solver_order {
            order @ 1..=3 => Ok(order),
            other => Err(refuse("solver_order", &other.to_string(), "expected 1 to 3")),
        }
    }
}

/// The error for a field value that this crate does not support.
pub(super) fn refuse(field: &str, value: &str, expected: impl Into<Note>) -> Error {
    Error::Config { file: FILE.into(), field: field.into(), value: value.into(), expected: expected.into() }
}

#[cfg(test)]
mod tests;
