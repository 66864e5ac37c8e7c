//! [`SchedulerConfig`]: `scheduler_config.json`, as diffusers writes it.

use super::prediction::Prediction;
use super::schedule::Schedule;
use super::solver::{
    Correction, Ddim, Ddpm, Deis, Dpm2, DpmppSde, Euler, EulerAncestral, Heun, Lcm, Lms, Multistep, Pndm, Singlestep,
    Solver, Tcd, UniPc, Variance,
};
use super::spacing::{Ends, InitScale, SchedulerFamily, Spacing, SpacingOptions, Target, Terminal, TimestepRule};
use super::training_schedule::TrainingSchedule;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The file's name in a checkpoint.
const FILE: &str = "scheduler_config.json";

/// `scheduler_config.json`: the noise a model was trained with, and how its authors sample it.
///
/// Absent fields have the defaults of diffusers' classes, not Stable Diffusion's; unknown ones are ignored. Nothing is
/// judged when the file is read, so a model of an unknown class still gives its [`TrainingSchedule`] and [`Prediction`].
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
    /// Which class of diffusers samples: its solver, its rounding of timesteps, and the defaults of some fields.
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
    /// Does training end at pure noise?
    pub rescale_betas_zero_snr: bool,
    /// What the network predicts.
    pub prediction_type: Prediction,
    /// `leading`, `linspace` or `trailing`; absent: the class's.
    pub timestep_spacing: Option<String>,
    /// Added to leading timesteps.
    pub steps_offset: usize,
    /// Karras levels between the ends of the spacing.
    pub use_karras_sigmas: bool,
    /// `zero` or `sigma_min`: where the last step ends.
    pub final_sigmas_type: Option<String>,
    /// DDIM and PNDM: the last step ends at 0 (DDIM's default) or at the lowest level (PNDM's).
    pub set_alpha_to_one: Option<bool>,
    /// DDPM: `fixed_small` (the default) or `fixed_large`.
    pub variance_type: Option<String>,
    /// Exponential levels, likewise.
    pub use_exponential_sigmas: bool,
    /// Levels by a beta distribution, likewise.
    pub use_beta_sigmas: bool,
    /// DPM++: exponential levels with rounded timesteps.
    pub use_lu_lambdas: bool,
    /// DPM++: `dpmsolver++` (the default) or `sde-dpmsolver++`, with fresh noise. DEIS: `deis`.
    pub algorithm_type: Option<String>,
    /// DPM++, UniPC, DEIS: 1 to 3.
    pub solver_order: usize,
    /// DPM++: `midpoint` (the default) or `heun`. UniPC: `bh1` or `bh2` (the default). DEIS: `logrho`.
    pub solver_type: Option<String>,
    /// DPM++, UniPC, DEIS: lower orders at the end of few steps?
    pub lower_order_final: bool,
    /// DPM++: the last step of first order?
    pub euler_at_final: bool,
    /// UniPC: steps, by index, that are not corrected.
    pub disable_corrector: Vec<usize>,
    /// UniPC: not supported if false.
    pub predict_x0: bool,
    /// PNDM: not supported if false, which asks for steps of Runge and Kutta.
    pub skip_prk_steps: bool,
    /// LCM, TCD: number of timesteps the model was distilled at.
    pub original_inference_steps: usize,
    /// LCM: how fast the share of the latent falls with the timestep.
    pub timestep_scaling: f64,
    /// DPM++: not supported but for none (in the file, minus infinity).
    pub lambda_min_clipped: Option<f64>,
    /// Not supported: levels of flow matching.
    pub use_flow_sigmas: bool,
    /// Not supported if true, as it is meant for pixels.
    pub clip_sample: bool,
    /// Not supported if true, as it is meant for pixels.
    pub thresholding: bool,
    /// Not supported but for `linear`.
    pub interpolation_type: Option<String>,
    /// Not supported but for `discrete`.
    pub timestep_type: Option<String>,
    /// Not supported: other ends of Karras levels.
    pub sigma_min: Option<f64>,
    /// Not supported: other ends of Karras levels.
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
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is not JSON or a field has the wrong type.
    pub fn from_json(text: &str) -> Result<Self> {
        let malformed = |source: serde_json::Error| Error::Malformed { file: FILE.into(), problem: source.to_string() };
        // Python writes infinity, of `lambda_min_clipped`, as JSON does not know it.
        let text = text.replace("-Infinity", "null");
        let mut fields: Map<String, Value> = serde_json::from_str(&text).map_err(malformed)?;
        let class = fields.get("_class_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let stable = [("beta_start", 0.00085), ("beta_end", 0.012)];
        let mut absent = |field: &str, default: Value| _ = fields.entry(field).or_insert(default);
        match class.as_str() {
            "HeunDiscreteScheduler"
            | "KDPM2DiscreteScheduler"
            | "KDPM2AncestralDiscreteScheduler"
            | "DPMSolverSDEScheduler" => stable.iter().for_each(|(field, beta)| absent(field, (*beta).into())),
            "LCMScheduler" | "TCDScheduler" => {
                stable.iter().for_each(|(field, beta)| absent(field, (*beta).into()));
                absent("beta_schedule", "scaled_linear".into());
            }
            "DPMSolverSinglestepScheduler" => absent("lower_order_final", false.into()),
            _ => {}
        }
        serde_json::from_value(fields.into()).map_err(malformed)
    }

    /// Stable Diffusion's noise with another class: for checkpoints that come without the file. SD 1.x, 2.x base and
    /// SDXL predict ε, SD 2.x at 768 pixels v.
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

    /// The noise levels of training.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown `beta_schedule`, [`Error::Parameter`] for β that add no noise.
    pub fn table(&self) -> Result<TrainingSchedule> {
        self.table_for(self.family())
    }

    /// The table as another solver's class would make it: without signal at the end, they disagree about how little is left.
    fn table_for(&self, family: SchedulerFamily) -> Result<TrainingSchedule> {
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

    /// The solver of the class.
    ///
    /// # Errors
    /// [`Error::Config`] if this crate has no such solver, or for an option of it that is not supported.
    pub fn solver(&self) -> Result<Box<dyn Solver>> {
        self.supported()?;
        let variance = match self.variance_type.as_deref() {
            None | Some("fixed_small") => Variance::Small,
            Some("fixed_large") => Variance::Large,
            Some(other) => return Err(refused("variance_type", other, "expected fixed_small or fixed_large")),
        };
        Ok(match self.class_name.as_str() {
            "EulerDiscreteScheduler" => Box::new(Euler),
            "EulerAncestralDiscreteScheduler" => Box::new(EulerAncestral::default()),
            "HeunDiscreteScheduler" => Box::new(Heun),
            "LMSDiscreteScheduler" => Box::new(Lms::default()),
            "KDPM2DiscreteScheduler" => Box::new(Dpm2::default()),
            "KDPM2AncestralDiscreteScheduler" => Box::new(Dpm2::ancestral()),
            "DPMSolverMultistepScheduler" => self.multistep()?,
            "DPMSolverSinglestepScheduler" => self.singlestep()?,
            "DPMSolverSDEScheduler" => Box::new(DpmppSde::default()),
            "UniPCMultistepScheduler" => self.unipc()?,
            "DEISMultistepScheduler" => self.deis()?,
            "DDIMScheduler" => Box::new(Ddim::default()),
            "DDPMScheduler" => Box::new(Ddpm { variance }),
            "PNDMScheduler" => Box::new(Pndm::default()),
            "LCMScheduler" => Box::new(Lcm { scaling: self.timestep_scaling }),
            "TCDScheduler" => Box::new(Tcd::new(self.table()?)),
            other => {
                let expected = "choose a solver, for instance Euler or EulerAncestral::default()";
                return Err(refused("_class_name", other, expected));
            }
        })
    }

    /// `solver_order`, 1 to 3.
    fn order(&self) -> Result<usize> {
        match self.solver_order {
            order @ 1..=3 => Ok(order),
            other => Err(refused("solver_order", &other.to_string(), "expected 1 to 3")),
        }
    }

    /// `solver_type` of DPM++.
    fn correction(&self) -> Result<Correction> {
        match self.solver_type.as_deref() {
            None | Some("midpoint" | "logrho" | "bh1" | "bh2") => Ok(Correction::Midpoint), // for diffusers too
            Some("heun") => Ok(Correction::Heun),
            Some(other) => Err(refused("solver_type", other, "expected midpoint or heun")),
        }
    }

    /// DPM++ multistep. Its first order is Euler's method.
    fn multistep(&self) -> Result<Box<dyn Solver>> {
        let eta = match self.algorithm_type.as_deref() {
            None | Some("dpmsolver++") => 0.0,
            Some("sde-dpmsolver++") => 1.0,
            Some(other) => return Err(refused("algorithm_type", other, "expected dpmsolver++ or sde-dpmsolver++")),
        };
        match self.order()? {
            1 if eta == 0.0 => Ok(Box::new(Euler)),
            1 => Ok(Box::new(EulerAncestral::with_eta(eta))),
            order => {
                let solver = Multistep::dpmpp_2m().order(order).eta(eta).correction(self.correction()?);
                Ok(Box::new(solver.lower_order_final(self.lower_order_final).euler_at_final(self.euler_at_final)))
            }
        }
    }

    /// DPM++ singlestep, which diffusers ends with a lower order wherever the last step ends at 0.
    fn singlestep(&self) -> Result<Box<dyn Solver>> {
        if let Some(other) = self.algorithm_type.as_deref().filter(|algorithm| *algorithm != "dpmsolver++") {
            return Err(refused("algorithm_type", other, "expected dpmsolver++"));
        }
        let solver = Singlestep::dpmpp_2s().order(self.order()?).correction(self.correction()?);
        Ok(Box::new(solver.lower_order_final(self.lower_order_final)))
    }

    fn unipc(&self) -> Result<Box<dyn Solver>> {
        if !self.predict_x0 {
            return Err(refused("predict_x0", "false", "expected true"));
        }
        let solver = match self.solver_type.as_deref() {
            Some("bh1") => UniPc::bh1(),
            None | Some("bh2" | "midpoint" | "heun" | "logrho") => UniPc::bh2(), // for diffusers too
            Some(other) => return Err(refused("solver_type", other, "expected bh1 or bh2")),
        };
        let solver = solver.order(self.order()?).lower_order_final(self.lower_order_final);
        Ok(Box::new(solver.uncorrected(self.disable_corrector.iter().copied())))
    }

    fn deis(&self) -> Result<Box<dyn Solver>> {
        match (self.algorithm_type.as_deref(), self.solver_type.as_deref()) {
            (Some(other), _) if !["deis", "dpmsolver", "dpmsolver++"].contains(&other) => {
                Err(refused("algorithm_type", other, "expected deis"))
            }
            (_, Some(other)) if !["logrho", "midpoint", "heun", "bh1", "bh2"].contains(&other) => {
                Err(refused("solver_type", other, "expected logrho"))
            }
            _ => Ok(Box::new(Deis::order(self.order()?).lower_order_final(self.lower_order_final))),
        }
    }

    /// The spacing: that of the `use_…` field that is set, else `timestep_spacing`.
    ///
    /// # Errors
    /// [`Error::Config`] for a spacing that is not supported, or more than one.
    pub fn spacing(&self) -> Result<Spacing> {
        let fields = [
            ("use_karras_sigmas", self.use_karras_sigmas, Spacing::Karras),
            ("use_exponential_sigmas", self.use_exponential_sigmas, Spacing::Exponential),
            ("use_beta_sigmas", self.use_beta_sigmas, Spacing::Beta),
            ("use_lu_lambdas", self.use_lu_lambdas, Spacing::Exponential),
        ];
        let mut set = fields.into_iter().filter(|(_, set, _)| *set);
        match (set.next(), set.next()) {
            (None, _) => self.timestep_spacing(),
            (Some((.., spacing)), None) => Ok(spacing),
            (Some((first, ..)), Some((second, ..))) => Err(refused(second, "true", &format!("{first} is set too"))),
        }
    }

    /// The fine print of the spacing, as the class has it.
    ///
    /// # Errors
    /// As [`SchedulerConfig::spacing`], and [`Error::Config`] for an unknown `final_sigmas_type`.
    pub fn spacing_options(&self) -> Result<SpacingOptions> {
        let (family, spacing) = (self.family(), self.timestep_spacing()?);
        let class = self.class_name.as_str();
        let strides = matches!(class, "DDIMScheduler" | "PNDMScheduler");
        let lowest = match self.final_sigmas_type.as_deref() {
            _ if matches!(class, "TCDScheduler" | "DEISMultistepScheduler") => true, // these never reach 0
            None | Some("zero") => strides && !self.set_alpha_to_one.unwrap_or(class == "DDIMScheduler"),
            Some("sigma_min") => true,
            Some(other) => return Err(refused("final_sigmas_type", other, "expected zero or sigma_min")),
        };
        let scaled = family == SchedulerFamily::Euler && spacing != Spacing::Leading;
        let rounded = self.use_karras_sigmas || self.use_lu_lambdas;
        let timesteps = match family {
            SchedulerFamily::Multistep if rounded && self.beta_schedule != "squaredcos_cap_v2" => TimestepRule::Rounded,
            SchedulerFamily::Multistep => TimestepRule::Truncated,
            _ if self.use_karras_sigmas && class.starts_with("KDPM2") => TimestepRule::Rounded,
            _ => TimestepRule::Interpolated,
        };
        Ok(SpacingOptions {
            family,
            offset: self.steps_offset,
            ends: if family == SchedulerFamily::Euler { Ends::Spaced(spacing) } else { Ends::TrainingSchedule },
            timesteps,
            terminal: if lowest { Terminal::Lowest } else { Terminal::Zero },
            target: if strides { Target::Stride } else { Target::Next },
            initial: if scaled { InitScale::Sigma } else { InitScale::WithSignal },
            original: self.original_inference_steps,
            ..SpacingOptions::default()
        })
    }

    /// The schedule of the class with this many steps.
    ///
    /// # Errors
    /// Those of [`SchedulerConfig::table`] and [`SchedulerConfig::spacing`]; [`Error::Config`] for options that are not
    /// supported, and for a network that predicts noise where there is nothing else; [`Error::Parameter`] for `steps`.
    pub fn schedule(&self, steps: usize) -> Result<Schedule> {
        self.supported()?;
        self.sighted(Schedule::with_options(&self.table()?, steps, self.spacing()?, &self.spacing_options()?)?)
    }

    /// The schedule, unless its first step would ask a network that predicts noise about pure noise.
    fn sighted(&self, schedule: Schedule) -> Result<Schedule> {
        let blind = self.rescale_betas_zero_snr && self.prediction_type == Prediction::Epsilon;
        if blind && schedule.sigma_max() >= self.table()?.sigma_max() {
            let expected =
                "a network that predicts noise learns nothing from pure noise: use v-prediction or leading spacing";
            return Err(refused("rescale_betas_zero_snr", "true with epsilon", expected));
        }
        Ok(schedule)
    }

    /// The levels of the file's table for another solver than the file's: `spacing`, or the file's, laid out for the
    /// solver's `family`, without the fine print of the file's class.
    ///
    /// # Errors
    /// Those of [`SchedulerConfig::table`] and, without `spacing`, of [`SchedulerConfig::spacing`];
    /// [`Error::Parameter`] for `steps`.
    pub fn schedule_for_another(
        &self,
        family: SchedulerFamily,
        steps: usize,
        spacing: Option<Spacing>,
    ) -> Result<Schedule> {
        let spacing = spacing.map_or_else(|| self.spacing(), Ok)?;
        let (offset, original) = (self.steps_offset, self.original_inference_steps);
        let options = SpacingOptions { family, offset, original, ..SpacingOptions::default() };
        self.sighted(Schedule::with_options(&self.table_for(family)?, steps, spacing, &options)?)
    }

    /// Options of diffusers that would change the picture and are not there.
    fn supported(&self) -> Result<()> {
        let text = |value: &Option<String>, only: &str| value.clone().filter(|value| value != only);
        let number = |value: Option<f64>| value.map(|value| value.to_string());
        let flag = |value: bool| value.then(|| "true".to_owned());
        let plms = self.class_name == "PNDMScheduler";
        let refusals = [
            ("clip_sample", flag(self.clip_sample), "only false makes sense for latents"),
            ("thresholding", flag(self.thresholding), "only false makes sense for latents"),
            ("use_flow_sigmas", flag(self.use_flow_sigmas), "expected false"),
            ("interpolation_type", text(&self.interpolation_type, "linear"), "expected linear"),
            ("timestep_type", text(&self.timestep_type, "discrete"), "expected discrete"),
            ("skip_prk_steps", (plms && !self.skip_prk_steps).then(|| "false".to_owned()), "expected true"),
            (
                "timestep_spacing",
                self.timestep_spacing.clone().filter(|spacing| plms && spacing == "linspace"),
                "PNDM would miss its own levels; expected leading or trailing",
            ),
            ("lambda_min_clipped", number(self.lambda_min_clipped), "expected null or -Infinity"),
            ("sigma_min", number(self.sigma_min), "expected null"),
            ("sigma_max", number(self.sigma_max), "expected null"),
        ];
        match refusals.into_iter().find_map(|(field, value, expected)| Some((field, value?, expected))) {
            Some((field, value, expected)) => Err(refused(field, &value, expected)),
            None => Ok(()),
        }
    }

    fn timestep_spacing(&self) -> Result<Spacing> {
        match self.timestep_spacing.as_deref() {
            _ if self.class_name == "DPMSolverSinglestepScheduler" => Ok(Spacing::Linspace), // it has no such field
            Some("leading") => Ok(Spacing::Leading),
            Some("linspace") => Ok(Spacing::Linspace),
            Some("trailing") => Ok(Spacing::Trailing),
            Some(other) => Err(refused("timestep_spacing", other, "expected leading, linspace or trailing")),
            None if matches!(self.family(), SchedulerFamily::Ddim | SchedulerFamily::Lcm) => Ok(Spacing::Leading),
            None => Ok(Spacing::Linspace),
        }
    }

    /// How the class rounds timesteps.
    fn family(&self) -> SchedulerFamily {
        match self.class_name.as_str() {
            "DDIMScheduler" | "DDPMScheduler" | "PNDMScheduler" => SchedulerFamily::Ddim,
            "LCMScheduler" | "TCDScheduler" => SchedulerFamily::Lcm,
            "DPMSolverSDEScheduler" => SchedulerFamily::Euler,
            class if class.starts_with("DPMSolver") || class.starts_with("UniPC") || class.starts_with("DEIS") => {
                SchedulerFamily::Multistep
            }
            _ => SchedulerFamily::Euler,
        }
    }
}

fn refused(field: &str, value: &str, expected: &str) -> Error {
    Error::Config { file: FILE.into(), field: field.into(), value: value.into(), expected: expected.into() }
}

#[cfg(test)]
mod tests;
