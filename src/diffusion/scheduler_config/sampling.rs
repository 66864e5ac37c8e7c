//! The sampling that `scheduler_config.json` describes: solver, spacing and schedule of the class that the file names.

use super::{FILE, SchedulerConfig, refuse};
use crate::diffusion::prediction::Prediction;
use crate::diffusion::schedule::Schedule;
use crate::diffusion::solver::{Class, Solver, class};
use crate::diffusion::spacing::{
    Ends, FlowStart, InitScale, SchedulerFamily, Spacing, SpacingOptions, Target, Terminal, TimestepRule,
};
use crate::diffusion::training_schedule::{Flow, TrainingSchedule};
use crate::error::{Error, Result};
use crate::json;
use crate::wording::Remedy;
use serde_json::{Map, Value};

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if `text` is not JSON or a field has the wrong type.
    pub fn from_json(text: &str) -> Result<Self> {
        let malformed = |source: serde_json::Error| Error::Malformed { file: FILE.into(), problem: source.to_string() };
        // Python writes -Infinity for `lambda_min_clipped`, which is not JSON.
        let text = text.replace("-Infinity", "null");
        let mut fields: Map<String, Value> = json::parse(&text).map_err(malformed)?;
        let name = fields.get("_class_name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(class) = class(&name) {
            let defaults: Map<String, Value> = json::parse(class.defaults).map_err(malformed)?;
            defaults.into_iter().for_each(|(field, default)| _ = fields.entry(field).or_insert(default));
        }
        serde_json::from_value(fields.into()).map_err(malformed)
    }

    /// The noise levels that the model was trained at.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown `beta_schedule`, [`Error::Parameter`] for β that add no noise.
    pub fn training_schedule(&self) -> Result<TrainingSchedule> {
        self.training_schedule_for(self.family())
    }

    /// The solver of the file's class.
    ///
    /// # Errors
    /// [`Error::Config`] if this crate has no solver for the class, or if an option of the solver is not supported.
    pub fn solver(&self) -> Result<Box<dyn Solver>> {
        self.supported()?;
        let expected = Remedy::Solver.after("expected the class of a known solver");
        let class = self.class().ok_or_else(|| refuse("_class_name", &self.class_name, expected))?;
        (class.solver)(self)
    }

    fn class(&self) -> Option<&'static Class> {
        class(&self.class_name)
    }

    /// The spacing of the `use_…` field that is true. If no such field is true, the spacing of `timestep_spacing`.
    ///
    /// # Errors
    /// [`Error::Config`] for an unsupported spacing, or if more than one `use_…` field is true.
    pub(crate) fn spacing(&self) -> Result<Spacing> {
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
            (Some((first, ..)), Some((second, ..))) => Err(refuse(
                second,
                "true",
                format!("expected false, because {first} is true too; set only one of them"),
            )),
        }
    }

    /// The options of the spacing, as the file and its class set them.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown `timestep_spacing` or `final_sigmas_type`.
    pub fn spacing_options(&self) -> Result<SpacingOptions> {
        let (family, spacing) = (self.family(), self.timestep_spacing()?);
        let is = |what: fn(&Class) -> bool| self.class().is_some_and(what);
        let strides = is(|class| class.strides);
        let lowest = match self.final_sigmas_type.as_deref() {
            _ if is(|class| class.lowest) => true,
            None | Some("zero") => strides && !self.set_alpha_to_one.unwrap_or(is(|class| class.to_zero)),
            Some("sigma_min") => true,
            Some(other) => return Err(refuse("final_sigmas_type", other, "expected zero or sigma_min")),
        };
        let scaled = family == SchedulerFamily::Euler && spacing != Spacing::Leading && !self.is_flow();
        let rounded = self.use_karras_sigmas || self.use_lu_lambdas;
        let timesteps = match family {
            SchedulerFamily::Multistep if rounded && self.beta_schedule != "squaredcos_cap_v2" => TimestepRule::Rounded,
            SchedulerFamily::Multistep => TimestepRule::Truncated,
            _ if self.use_karras_sigmas && is(|class| class.rounds) => TimestepRule::Rounded,
            _ => TimestepRule::Interpolated,
        };
        Ok(SpacingOptions {
            family,
            offset: self.steps_offset,
            ends: if family == SchedulerFamily::Euler { Ends::Spaced(spacing) } else { Ends::TrainingSchedule },
            timesteps,
            terminal: match lowest {
                // diffusers' DPM++ takes the lowest level of β for a time of the flow.
                true if self.use_flow_sigmas && is(|class| class.ends_by_betas) => {
                    Terminal::Level(Flow::sigma(self.beta_table(family)?.sigma_min()))
                }
                true => Terminal::Lowest,
                false => Terminal::Zero,
            },
            start: self.class().map_or(FlowStart::Below, |class| class.flow_start),
            target: if strides { Target::Stride } else { Target::Next },
            initial: if scaled { InitScale::Sigma } else { InitScale::WithSignal },
            original: self.original_inference_steps,
            shift: self.dynamic_shift,
            shift_terminal: self.shift_terminal,
            ..SpacingOptions::default()
        })
    }

    /// The noise schedule of the file's class with the given times of a flow, from 1 or less down.
    ///
    /// # Errors
    /// The errors of [`SchedulerConfig::schedule`] and of [`Schedule::from_times`].
    pub fn schedule_of_times(&self, times: &[f64]) -> Result<Schedule> {
        self.supported()?;
        self.check_shift()?;
        Schedule::from_times(&self.training_schedule()?, times, self.spacing()?, &self.spacing_options()?)
    }

    /// The noise schedule of the file's class with `steps` steps.
    ///
    /// # Errors
    /// The errors of [`SchedulerConfig::training_schedule`], and
    /// - [`Error::Config`] for options that are not supported, or if more than one `use_…` field is true;
    /// - [`Error::Config`] for a network that predicts noise, if the first level is pure noise;
    /// - [`Error::Parameter`] for `steps` out of range.
    pub fn schedule(&self, steps: usize) -> Result<Schedule> {
        self.supported()?;
        self.check_shift()?;
        self.sighted(Schedule::with_options(
            &self.training_schedule()?,
            steps,
            self.spacing()?,
            &self.spacing_options()?,
        )?)
    }

    /// Returns the schedule, or an error if its first step gives pure noise to a network that predicts noise.
    fn sighted(&self, schedule: Schedule) -> Result<Schedule> {
        let blind = self.rescale_betas_zero_snr && self.prediction_type == Prediction::Epsilon;
        if blind && schedule.sigma_max() >= self.training_schedule()?.sigma_max() {
            let expected =
                "expected false, because at pure noise epsilon gives no picture; use v-prediction or leading spacing";
            return Err(refuse("rescale_betas_zero_snr", "true with epsilon", expected));
        }
        Ok(schedule)
    }

    /// The noise schedule for a solver other than the file's, over the file's training noise levels.
    ///
    /// `None` as `spacing` means the file's spacing. The schedule follows the rules of the solver's `family`. Among the
    /// file's spacing options, only `steps_offset` and `original_inference_steps` apply.
    ///
    /// # Errors
    /// The errors of [`SchedulerConfig::training_schedule`] and, without `spacing`, of [`SchedulerConfig::spacing`];
    /// [`Error::Config`] for a first level of pure noise, as in [`SchedulerConfig::schedule`]; [`Error::Parameter`] for
    /// `steps` out of range.
    pub(crate) fn schedule_for_another(
        &self,
        family: SchedulerFamily,
        steps: usize,
        spacing: Option<Spacing>,
    ) -> Result<Schedule> {
        self.check_shift()?;
        let spacing = spacing.map_or_else(|| self.spacing(), Ok)?;
        let (offset, original) = (self.steps_offset, self.original_inference_steps);
        let (shift, shift_terminal) = (self.dynamic_shift, self.shift_terminal);
        let options = SpacingOptions { family, offset, original, shift, shift_terminal, ..SpacingOptions::default() };
        self.sighted(Schedule::with_options(&self.training_schedule_for(family)?, steps, spacing, &options)?)
    }

    /// Returns an error for a shift that depends on the picture, as long as the picture is not known.
    fn check_shift(&self) -> Result<()> {
        if !self.use_dynamic_shifting || self.dynamic_shift.is_some() {
            return Ok(());
        }
        Err(refuse("use_dynamic_shifting", "true", "expected false, or a shift for the picture's size"))
    }

    /// Returns an error for options that change the picture in diffusers and that this crate does not support.
    fn supported(&self) -> Result<()> {
        let text = |value: &Option<String>, only: &str| value.clone().filter(|value| value != only);
        let number = |value: Option<f64>| value.map(|value| value.to_string());
        let flag = |value: bool| value.then(|| "true".to_owned());
        let (missed, expected) = self.class().and_then(|class| class.misses).unzip();
        let expected = expected.unwrap_or_default();
        let unclipped = "expected false, because latents have no fixed range";
        let refusals = [
            ("clip_sample", flag(self.clip_sample), unclipped),
            ("thresholding", flag(self.thresholding), unclipped),
            ("invert_sigmas", flag(self.invert_sigmas), "expected false"),
            (
                "use_flow_sigmas",
                flag(self.use_flow_sigmas && self.prediction_type != Prediction::Flow),
                "expected false, or flow_prediction as the prediction_type",
            ),
            (
                "prediction_type",
                (self.is_flow() != (self.prediction_type == Prediction::Flow)).then(|| self.predicts().to_owned()),
                "expected flow_prediction with the levels of a flow, and another type without them",
            ),
            ("interpolation_type", text(&self.interpolation_type, "linear"), "expected linear"),
            ("timestep_type", text(&self.timestep_type, "discrete"), "expected discrete"),
            ("lambda_min_clipped", number(self.lambda_min_clipped), "expected null or -Infinity"),
            (
                "timestep_spacing",
                missed.filter(|_| missed == self.timestep_spacing.as_deref()).map(str::to_owned),
                expected,
            ),
            ("sigma_min", number(self.sigma_min), "expected null"),
            ("sigma_max", number(self.sigma_max), "expected null"),
        ];
        match refusals.into_iter().find_map(|(field, value, expected)| Some((field, value?, expected))) {
            Some((field, value, expected)) => Err(refuse(field, &value, Remedy::Solver.after(expected))),
            None => Ok(()),
        }
    }

    /// The name of the prediction type in the file.
    const fn predicts(&self) -> &'static str {
        match self.prediction_type {
            Prediction::Epsilon => "epsilon",
            Prediction::V => "v_prediction",
            Prediction::Sample => "sample",
            Prediction::Flow => "flow_prediction",
        }
    }

    fn timestep_spacing(&self) -> Result<Spacing> {
        if self.is_flow() {
            let trails = self.timestep_spacing.as_deref() == Some("trailing");
            return Ok(if trails { Spacing::Trailing } else { Spacing::Linspace });
        }
        if let Some(spacing) = self.class().and_then(|class| class.spacing) {
            return Ok(spacing);
        }
        match self.timestep_spacing.as_deref() {
            Some("leading") => Ok(Spacing::Leading),
            Some("linspace") => Ok(Spacing::Linspace),
            Some("trailing") => Ok(Spacing::Trailing),
            Some(other) => Err(refuse("timestep_spacing", other, "expected leading, linspace or trailing")),
            None if matches!(self.family(), SchedulerFamily::Ddim | SchedulerFamily::Lcm) => Ok(Spacing::Leading),
            None => Ok(Spacing::Linspace),
        }
    }

    /// The family of the class, which decides the rounding of timesteps.
    fn family(&self) -> SchedulerFamily {
        self.class().map_or(SchedulerFamily::Euler, |class| class.family)
    }
}
