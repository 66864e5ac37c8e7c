//! The noise levels of a [`Spacing`] in a rectified flow.

use super::levels::{beta_quantile, curve};
use super::spacing::{Ends, FlowStart, SchedulerFamily, Spacing, SpacingOptions, TimestepRule};
use super::training_schedule::Flow;

/// Pairs (noise level, timestep) of a spacing, in falling order. `steps` is at least 1, and `trained` is the number of
/// training times.
pub(super) fn levels(
    flow: Flow,
    trained: usize,
    steps: usize,
    spacing: Spacing,
    options: &SpacingOptions,
) -> Vec<(f64, f64)> {
    // Times that are already shifted, because they come from the training schedule.
    let shifted = Flow { shift: options.shift.unwrap_or(flow.shift), ..flow };
    let of_table = |indices: Vec<usize>| {
        let times = indices.into_iter().map(|index| shifted.training_time(index));
        times.map(|t| pair(flow, t, options)).collect::<Vec<_>>()
    };
    let last = trained - 1;
    match spacing {
        Spacing::Simple => of_table((0..steps).map(|i| last - i * trained / steps).collect()),
        Spacing::BetaTimesteps => {
            let index = |i: usize| (last as f64 * beta_quantile(1.0 - i as f64 / steps as f64)).round_ties_even();
            let mut indices: Vec<usize> = (0..steps).map(|i| index(i) as usize).collect();
            indices.dedup();
            of_table(indices)
        }
        Spacing::DdimUniform => {
            let mut rising: Vec<usize> = (1..=last).step_by((trained / steps).max(1)).collect();
            rising.reverse();
            of_table(rising)
        }
        Spacing::Leading => {
            let stride = trained / steps;
            let offset = options.offset.min(last.saturating_sub((steps - 1) * stride));
            of_table((0..steps).rev().map(|i| i * stride + offset).collect())
        }
        _ => {
            let base = match (spacing, options.ends) {
                (Spacing::Karras | Spacing::Exponential | Spacing::Beta, Ends::Spaced(base)) => base,
                _ => spacing,
            };
            place(flow, times(flow, steps, base, options), spacing, options)
        }
    }
}

/// The times of a spacing before the shift.
fn times(flow: Flow, steps: usize, spacing: Spacing, options: &SpacingOptions) -> Vec<f64> {
    let lowest = flow.training_time(0);
    // Evenly spaced times from 1 down to the lowest one, both included.
    let even = |points: usize| {
        let stride = (1.0 - lowest) / (points.max(2) - 1) as f64;
        (0..points).map(|i| 1.0 - i as f64 * stride).collect::<Vec<_>>()
    };
    match (spacing, options.family) {
        (Spacing::Trailing, _) => (0..steps).map(|i| 1.0 - i as f64 / steps as f64).collect(),
        (Spacing::Linspace, SchedulerFamily::Multistep) => {
            // The sums are numpy's, because timesteps are truncated and a rounding error would count as one.
            let stride = (0.001 - 1.0) / steps as f64;
            let falling = |j: usize| if j == steps { 0.001 } else { j as f64 * stride + 1.0 };
            match options.start {
                FlowStart::Below => (1..=steps).rev().map(|j| 1.0 - falling(j)).collect(),
                FlowStart::Whole => (0..steps).map(falling).collect(),
            }
        }
        (Spacing::SgmUniform, _) => even(steps + 1).into_iter().take(steps).collect(),
        _ => even(steps),
    }
}

/// Pairs (noise level, timestep) of times before the shift: shifts the times, stretches them to the last time, and
/// spaces them between the first and the last one, in diffusers' order.
pub(super) fn place(flow: Flow, mut times: Vec<f64>, spacing: Spacing, options: &SpacingOptions) -> Vec<(f64, f64)> {
    let shift = options.shift.unwrap_or(flow.shift);
    times.iter_mut().for_each(|t| *t = Flow::shift_time(shift, *t));
    // A single step begins and ends a schedule, and cannot be stretched.
    if let (Some(end), Some(last)) = (options.shift_terminal, times.last().copied().filter(|last| *last < 1.0)) {
        // 1 − t ← (1 − t)·(1 − e)/(1 − t_last)
        times.iter_mut().for_each(|t| *t = 1.0 - (1.0 - *t) * (1.0 - end) / (1.0 - last));
    }
    if let (Spacing::Karras | Spacing::Exponential | Spacing::Beta | Spacing::KlOptimal, Some(&max), Some(&min)) =
        (spacing, times.first(), times.last())
    {
        let count = times.len();
        times = (0..count).map(|i| i as f64 / (count.max(2) - 1) as f64).collect();
        times.iter_mut().for_each(|t| *t = curve(spacing, options.rho, *t, (max, min)));
    }
    if options.family == SchedulerFamily::Multistep {
        times.iter_mut().for_each(|t| *t = t.min(1.0 - NEAR)); // ln σ is finite
    }
    times.into_iter().map(|t| pair(flow, t, options)).collect()
}

/// Distance from the start of a flow at which diffusers' UniPC begins.
const NEAR: f64 = 1e-6;

/// The noise level and the timestep of a time.
fn pair(flow: Flow, t: f64, options: &SpacingOptions) -> (f64, f64) {
    let timestep = flow.multiplier * t;
    let timestep = match options.timesteps {
        TimestepRule::Interpolated => timestep,
        TimestepRule::Rounded => timestep.round_ties_even(),
        TimestepRule::Truncated => timestep.trunc(),
    };
    (Flow::sigma(t), timestep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::{Schedule, TrainingSchedule};
    use crate::error::Result;
    use serde_json::Value;

    #[test]
    fn times_match_diffusers_and_comfyui() -> Result<()> {
        let golden: Value = serde_json::from_str(include_str!("../../tests/golden/specs/flow.json")).unwrap();
        let table = TrainingSchedule::flow(3.0, 1000.0)?;
        for (name, want) in golden["levels"].as_object().unwrap() {
            let parts: Vec<&str> = name.rsplitn(3, '_').collect();
            let [shift, steps, spacing] = parts[..] else { panic!("{name}") };
            assert_eq!(shift, "3", "{name}");
            let spacing = match spacing {
                "anima_diffusers" => Spacing::Trailing,
                "class_default" => Spacing::Linspace,
                "simple" => Spacing::Simple,
                "normal" => Spacing::Normal,
                "sgm_uniform" => Spacing::SgmUniform,
                "beta" => Spacing::BetaTimesteps,
                other => panic!("{other}"),
            };
            let schedule = Schedule::new(&table, steps.parse().unwrap(), spacing)?;
            let times: Vec<f64> = schedule.steps().map(|step| Flow::time(step.from)).chain([0.0]).collect();
            let want: Vec<f64> = want.as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect();
            assert_eq!(times.len(), want.len(), "{name}");
            assert!(times.iter().zip(&want).all(|(t, want)| (t - want).abs() < 1e-6), "{name}: {times:?} {want:?}");
        }
        Ok(())
    }

    #[test]
    fn windows_in_timesteps_mean_equal_noise_levels() -> Result<()> {
        let schedule = Schedule::new(&TrainingSchedule::flow(3.0, 1.0)?, 28, Spacing::Trailing)?;
        let window = crate::window::Window::timesteps(0..=700);
        let inside: Vec<_> = schedule.steps().filter(|step| window.contains(step)).collect();
        assert_eq!(inside.len(), 14);
        assert!(inside.iter().all(|step| step.from <= 3.3344 && step.timestep <= 0.7693));
        Ok(())
    }

    #[test]
    fn a_shift_of_the_options_acts_on_every_spacing() -> Result<()> {
        use Spacing::{Beta, BetaTimesteps, DdimUniform, Exponential, Karras, Leading, Linspace, Normal, SgmUniform};
        let (plain, shifted) = (TrainingSchedule::flow(1.0, 1.0)?, TrainingSchedule::flow(3.0, 1.0)?);
        let options = SpacingOptions { shift: Some(3.0), ..SpacingOptions::default() };
        let moved =
            [Spacing::Simple, Spacing::Trailing, BetaTimesteps, DdimUniform, Leading, SgmUniform, Linspace, Normal];
        for spacing in moved.into_iter().chain([Beta, Exponential, Karras]) {
            let here = Schedule::with_options(&plain, 10, spacing, &options)?;
            let there = Schedule::new(&shifted, 10, spacing)?;
            let middle = |schedule: &Schedule| schedule.steps().nth(4).map_or(0.0, |step| Flow::time(step.to));
            let (here, there) = (middle(&here), middle(&there));
            // The lowest time of a shifted table is shifted once more in some spacings.
            assert!((here - there).abs() < 0.04, "{spacing:?}: {here} {there}");
            // Curves have their shape from the highest and the lowest time, of which the shift moves one alone.
            let none = middle(&Schedule::new(&plain, 10, spacing)?);
            assert!(here - none > 0.1 || !moved.contains(&spacing), "{spacing:?}: {here} {none}");
        }
        let below = |table: &TrainingSchedule, options: &SpacingOptions| -> Result<f64> {
            Ok(Schedule::with_options(table, 10, Spacing::Simple, options)?.below_start().sigma_max())
        };
        let (here, there) = (below(&plain, &options)?, below(&shifted, &SpacingOptions::default())?);
        assert!((here / there - 1.0).abs() < 1e-9, "{here} {there}");
        Ok(())
    }
}
