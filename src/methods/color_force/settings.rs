//! The settings of a force.

use super::gold::Gold;
use super::options::{ForceOptions, MaskEdge, StepVariance};
use super::{ColorWarning, Cutoff, Texture};
use crate::color::Rgb;
use crate::error::{Error, Result};
use crate::guidance::{LARGEST_LEVEL, Setup};
use crate::mask::Region;
use crate::step::Step;
use crate::window::Window;
use serde::{Deserialize, Serialize};

use tch::{Kind, Tensor};

/// The settings of a force, as the user chose them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub phrase: String,
    pub color: Rgb,
    /// The protected thing whose color takes the place of `color` once a first pass has shown it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
    pub mask: Option<Region>,
    pub color_var: f64,
    pub cutoff: Cutoff,
    pub window: Window,
    pub options: ForceOptions,
}

/// Largest weight of a force relative to the step. A force of this weight paints a solid block of color; larger weights
/// may overflow f32.
const LARGEST_WEIGHT: f64 = 1e6;

impl Settings {
    /// Returns true if a step is forced.
    pub(super) fn covers(&self, step: &Step) -> bool {
        self.window.contains(step) || (self.options.last_step && step.index + 1 == step.count && step.after == 0)
    }

    /// Returns the variance V of a step.
    pub(super) fn variance(&self, step: &Step) -> Result<f64> {
        let (from, to) = (step.from.min(LARGEST_LEVEL), step.to.min(LARGEST_LEVEL));
        let variance = match &self.options.step_variance {
            StepVariance::NoiseLevel => from * from,
            StepVariance::NextLevel => to * to,
            StepVariance::Custom(variance) => variance(step),
        };
        if !(variance.is_finite() && variance >= 0.0) {
            return Err(Error::parameter(
                "step_variance",
                variance,
                "a finite number of 0 or more; correct the function of StepVariance::Custom",
            ));
        }
        Ok(variance)
    }

    /// Returns true if an object without a clear material is redrawn at a step.
    pub(super) fn redraws(&self, step: &Step) -> bool {
        self.options.repaints() && self.options.redraw.is_some_and(|from| step.sd_timestep <= from)
    }

    /// Returns w = V/c, the force's precision relative to the step's precision, adjusted to `reference_steps` and
    /// limited.
    pub(super) fn weight(&self, step: &Step, variance: f64, color_var: f64) -> f64 {
        let weight = variance / color_var;
        let weight = match self.options.reference_steps {
            // Strengths 1 − 1/(1+w) compound over steps; the exponent gives every run the total strength of `reference`
            // steps.
            Some(reference) => (1.0 + weight).powf(reference as f64 / step.nominal.max(1) as f64) - 1.0,
            None => weight,
        };
        weight.min(LARGEST_WEIGHT)
    }

    /// Makes the mask of a saliency map, both [n, 1, h, w]. `levels` are the images' cutoffs, [n, 1, 1, 1]; `region` is
    /// the user's mask.
    pub(super) fn mask(&self, map: &Tensor, levels: &Tensor, region: Option<&Tensor>) -> Result<Tensor> {
        let mask = match self.options.edge {
            MaskEdge::Hard => map.f_ge_tensor(levels)?.f_to_kind(Kind::Float)?,
            MaskEdge::Soft(half) => {
                let u = map.f_sub(levels)?.f_add_scalar(half)?.f_div_scalar(2.0 * half)?.f_clamp(0.0, 1.0)?;
                // u²·(3 − 2u)
                u.f_square()?.f_mul(&u.f_mul_scalar(-2.0)?.f_add_scalar(3.0)?)?
            }
        };
        Ok(match region {
            Some(region) => mask.f_mul(region)?,
            None => mask,
        })
    }

    /// Checks that every number is in its range.
    pub(super) fn check(&self) -> Result<()> {
        if !(self.color_var.is_finite() && self.color_var > 0.0) {
            return Err(Error::parameter("color_var", self.color_var, "a number above 0; 15 to 70 is useful"));
        }
        self.cutoff.check()?;
        self.window.check()?;
        self.options.check()
    }

    /// Returns the warnings that are known before the run.
    pub(super) fn doubts(&self, setup: &Setup<'_>, range: f64, gold: &Gold) -> Vec<ColorWarning> {
        let unreachable = match self.cutoff {
            Cutoff::At(cutoff) if cutoff > range => Some(cutoff),
            _ => None,
        };
        let doubts = [
            (unreachable.is_some(), ColorWarning::CutoffOutOfReach { cutoff: unreachable.unwrap_or_default(), range }),
            // A force that keeps the texture turns no region into a solid block.
            (
                self.options.texture == Texture::Off && !(10.0..=200.0).contains(&self.color_var),
                ColorWarning::UnusualVariance { color_var: self.color_var },
            ),
            (
                !self.options.last_step && !setup.schedule.steps().any(|step| self.window.contains(&step)),
                ColorWarning::NeverActive { window: self.window },
            ),
            (gold.delta_e > 3.0, ColorWarning::ColorNotRepresentable { delta_e: gold.delta_e }),
        ];
        doubts.into_iter().filter_map(|(holds, doubt)| holds.then_some(doubt)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::color::Rgb;
    use crate::diffusion::{Pulls, Schedule, Spacing, SpacingOptions, TrainingSchedule};
    use crate::error::Result;
    use crate::methods::ColorForce;
    use serde_json::Value;
    use tch::Tensor;

    #[test]
    fn a_flow_imposes_the_share_of_the_golden() -> Result<()> {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/flow.json")).unwrap();
        for row in golden["imposed"].as_array().unwrap() {
            let levels = row["levels"].as_str().unwrap();
            let (spacing, shift) = match levels {
                "simple_28_3" => (Spacing::Simple, 3.0),
                "anima_diffusers_28_3" => (Spacing::Trailing, 3.0),
                "class_default_28_3" => (Spacing::Linspace, 3.0),
                "simple_28_1" => (Spacing::Simple, 1.0),
                other => panic!("{other}"),
            };
            let schedule = Schedule::new(&TrainingSchedule::flow(shift, 1.0)?, 28, spacing)?;
            let settings = ColorForce::published("shirt", Rgb(255, 215, 0)).settings;
            let inside: Vec<_> = schedule.steps().filter(|step| settings.covers(step)).collect();
            assert_eq!(Value::from(inside.len()), row["steps_inside"], "{levels}");
            for color_var in [15.0, 25.0, 40.0, 70.0] {
                let mut kept = 1.0;
                for step in &inside {
                    kept /= 1.0 + settings.weight(step, settings.variance(step)?, color_var);
                }
                let want = row[format!("c{color_var}")].as_f64().unwrap();
                assert!((1.0 - kept - want).abs() < 1e-9, "{levels}, c {color_var}: {} {want}", 1.0 - kept);
            }
        }
        Ok(())
    }

    #[test]
    fn pulls_in_a_flow_s_latents_are_the_golden_s() -> Result<()> {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/specs/flow.json")).unwrap();
        let table = TrainingSchedule::flow(3.0, 1.0)?;
        let settings = ColorForce::published("shirt", Rgb(255, 215, 0)).settings;
        for row in golden["blend_cases"].as_array().unwrap() {
            let number = |name: &str| row[name].as_f64().unwrap();
            let options = SpacingOptions { shift: Some(1.0), ..SpacingOptions::default() };
            let times = [number("t_from"), number("t_to")];
            let step = Schedule::from_times(&table, &times, Spacing::Simple, &options)?.steps().next().unwrap();
            let variance = settings.variance(&step)?;
            assert!((variance - number("V")).abs() < 1e-6 * variance, "{row}: {variance}");
            let weight = number("m") * settings.weight(&step, variance, number("c"));
            let pulled = |mean: &str, base: &str| -> Result<f64> {
                let shift = weight * (number("g") - number(base));
                let mut pulls = Pulls::none();
                pulls.add(Tensor::from(shift), Tensor::from(weight));
                Ok(pulls.apply(&Tensor::from(number(mean)))?.double_value(&[]))
            };
            let scale = 1.0 / (1.0 + step.to); // of the flow's own latents
            for (got, want) in [
                (pulled("mean_sigma", "mean_sigma")?, "out_sigma"),
                (pulled("mean_sigma", "mean_sigma")? * scale, "out_flow"),
                (pulled("mean_sigma", "x0")? * scale, "signal_only_flow"),
                (pulled("x0", "x0")?, "denoised"),
            ] {
                let want = number(want);
                assert!((got - want).abs() < 1e-6 * want.abs().max(1.0), "{row}: {got} {want}");
            }
        }
        Ok(())
    }
}
