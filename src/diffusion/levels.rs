//! The noise levels of a [`Spacing`].

use super::spacing::{Ends, SchedulerFamily, Spacing, SpacingOptions, Terminal, TimestepRule};
use super::training_schedule::TrainingSchedule;

/// Pairs (noise level, timestep) of a spacing, in falling order. `steps` is at least 1.
pub(super) fn levels(
    table: &TrainingSchedule,
    steps: usize,
    spacing: Spacing,
    options: &SpacingOptions,
) -> Vec<(f64, f64)> {
    let last = table.len() - 1;
    // Evenly spaced timesteps from `last` down to 0, both included.
    let even = |points: usize| {
        let stride = last as f64 / (points.max(2) - 1) as f64;
        (0..points).rev().map(move |i| i as f64 * stride).collect::<Vec<_>>()
    };
    let timesteps: Vec<f64> = match (spacing, options.family) {
        (_, SchedulerFamily::Lcm) => {
            let stride = table.len() / options.original;
            (0..steps).map(|i| ((options.original - i * options.original / steps) * stride - 1) as f64).collect()
        }
        (Spacing::Leading, family) => {
            let skipped = usize::from(family == SchedulerFamily::Multistep);
            let stride = table.len() / (steps + skipped);
            let highest = (steps + skipped - 1) * stride;
            let offset = options.offset.min(last.saturating_sub(highest));
            (skipped..steps + skipped).rev().map(|i| (i * stride + offset) as f64).collect()
        }
        (Spacing::Linspace, SchedulerFamily::Euler) => even(steps),
        (Spacing::Linspace, SchedulerFamily::Ddim) => even(steps).into_iter().map(f64::round_ties_even).collect(),
        (Spacing::Linspace, SchedulerFamily::Multistep) => {
            even(steps + 1).into_iter().take(steps).map(f64::round_ties_even).collect()
        }
        (Spacing::Trailing, _) => {
            let stride = table.len() as f64 / steps as f64;
            (0..steps).map(|i| (table.len() as f64 - i as f64 * stride).round_ties_even() - 1.0).collect()
        }
        (Spacing::BetaTimesteps, _) => {
            let timestep = |i: usize| (last as f64 * beta_quantile(1.0 - i as f64 / steps as f64)).round_ties_even();
            let mut timesteps: Vec<f64> = (0..steps).map(timestep).collect();
            timesteps.dedup();
            timesteps
        }
        (Spacing::Simple, _) => (0..steps).map(|i| (last - i * table.len() / steps) as f64).collect(),
        (Spacing::DdimUniform, _) => {
            let mut rising: Vec<f64> = (1..=last).step_by((table.len() / steps).max(1)).map(|t| t as f64).collect();
            rising.reverse();
            rising
        }
        // With one point, torch's linspace gives its start, `last`; `even` would give 0.
        (Spacing::Normal, _) if steps == 1 => return between(table, vec![last as f64]),
        (Spacing::Normal, _) => return between(table, even(steps)),
        (Spacing::SgmUniform, _) => return between(table, even(steps + 1).into_iter().take(steps)),
        (
            Spacing::Karras
            | Spacing::Exponential
            | Spacing::Beta
            | Spacing::KlOptimal
            | Spacing::AlignYourSteps
            | Spacing::AlignYourStepsXl,
            _,
        ) => return by_level(table, steps, spacing, options),
    };
    timesteps.into_iter().map(|timestep| (table.level(timestep), timestep)).collect()
}

/// Pairs (noise level, timestep) of timesteps that may be fractions. Levels between entries of the table are
/// interpolated linearly in ln σ, as in k-diffusion.
fn between(table: &TrainingSchedule, timesteps: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
    timesteps.into_iter().map(|timestep| (table.sigma_of(timestep), timestep)).collect()
}

/// Noise levels of "Align Your Steps" (Sabour et al., 2024) for ten steps of SD 1.5, with the digits that diffusers and
/// A1111 use. The eleventh level is the end point for interpolation to other numbers of steps.
const ALIGNED: [f64; 11] = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029];
/// Noise levels of "Align Your Steps" for SDXL, in the layout of [`ALIGNED`].
const ALIGNED_XL: [f64; 11] = [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029];

/// The noise level at position `way` in 0..=1 among eleven levels, interpolated linearly in ln σ.
fn align(levels: &[f64; 11], way: f64) -> f64 {
    let place = way * 10.0;
    let (below, part) = ((place.floor() as usize).min(9), place - place.floor().min(9.0));
    let log = |i: usize| levels.get(i).map_or(0.0, |level| level.ln());
    (log(below) + part * (log(below + 1) - log(below))).exp()
}

/// Pairs (noise level, timestep) of a spacing by level, from the highest level M down to the lowest level m.
fn by_level(table: &TrainingSchedule, steps: usize, spacing: Spacing, options: &SpacingOptions) -> Vec<(f64, f64)> {
    let (max, min) = match options.ends {
        Ends::Spaced(spaced @ (Spacing::Leading | Spacing::Linspace | Spacing::Trailing)) => {
            let spaced = levels(table, steps, spaced, options);
            let level = |of: Option<&(f64, f64)>| of.map_or(0.0, |level| level.0);
            (level(spaced.first()), level(spaced.last()))
        }
        _ => (table.sigma_max(), table.sigma_min()),
    };
    let level = |way: f64| curve(spacing, options.rho, way, (max, min));
    let timestep = |sigma: f64| match options.timesteps {
        TimestepRule::Interpolated => table.timestep_of(sigma),
        TimestepRule::Rounded => table.timestep_of(sigma).round_ties_even(),
        TimestepRule::Truncated => table.timestep_of(sigma).trunc(),
    };
    let sigmas = (0..steps).map(|i| match spacing {
        Spacing::KlOptimal if options.terminal == Terminal::Lowest => level(i as f64 / steps as f64),
        Spacing::AlignYourSteps => align(&ALIGNED, i as f64 / steps as f64),
        Spacing::AlignYourStepsXl => align(&ALIGNED_XL, i as f64 / steps as f64),
        _ => level(i as f64 / (steps.max(2) - 1) as f64),
    });
    sigmas.map(|sigma| (sigma, timestep(sigma))).collect()
}

/// The level at position `way` in 0..=1 of a spacing by level, from the highest level M down to the lowest level m.
pub(super) fn curve(spacing: Spacing, rho: f64, way: f64, (max, min): (f64, f64)) -> f64 {
    let even = |way: f64, from: f64, to: f64| from + way * (to - from);
    match spacing {
        // (M^(1/ρ) + i/(n − 1)·(m^(1/ρ) − M^(1/ρ)))^ρ
        Spacing::Karras => even(way, max.powf(rho.recip()), min.powf(rho.recip())).powf(rho),
        Spacing::Beta => even(beta_quantile(1.0 - way), min, max),
        Spacing::KlOptimal => even(way, max.atan(), min.atan()).tan(),
        _ => even(way, max.ln(), min.ln()).exp(),
    }
}

/// The `p`-quantile of a beta distribution with α = β = 0.6; `p` is in 0..=1.
pub(super) fn beta_quantile(p: f64) -> f64 {
    const SHAPE: f64 = 0.6;
    if p >= 0.5 {
        return if p > 0.5 { 1.0 - beta_quantile(1.0 - p) } else { 0.5 }; // the distribution is symmetric
    }
    // ∫₀ˣ (t(1 − t))^(α − 1) dt = Σₖ cₖ·x^(α + k)/(α + k), cₖ = (1 − α)(2 − α)…(k − α)/k!; converges fast for x ≤ ½
    let share = |x: f64| {
        let terms = (0..60).scan(x.powf(SHAPE), |term, k| {
            let k = f64::from(k);
            let value = *term / (SHAPE + k);
            *term *= x * (k + 1.0 - SHAPE) / (k + 1.0);
            Some(value)
        });
        terms.sum::<f64>()
    };
    let wanted = p * 2.0 * share(0.5);
    let (mut below, mut above) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = (below + above) / 2.0;
        if share(middle) < wanted { below = middle } else { above = middle }
    }
    (below + above) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::schedule::Schedule;
    use crate::error::Error;
    use serde_json::Value;

    fn golden() -> Value {
        serde_json::from_str(include_str!("../../tests/golden/specs/sampling.json")).unwrap()
    }

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    fn assert_near(got: &[f64], want: &[f64], what: &str) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() <= 1e-5 + 1e-6 * want.abs(), "{what}: {got} {want}");
        }
    }

    fn timesteps(schedule: &Schedule) -> Vec<f64> {
        schedule.steps().map(|step| step.timestep).collect()
    }

    fn sigmas(schedule: &Schedule) -> Vec<f64> {
        schedule.steps().map(|step| step.from).collect()
    }

    #[test]
    fn timesteps_match_diffusers() {
        let table = TrainingSchedule::stable_diffusion();
        for (name, want) in golden()["timesteps"].as_object().unwrap() {
            let [family, spacing, steps] = name.split('_').collect::<Vec<_>>()[..] else { panic!("{name}") };
            let family = match family {
                "k" => SchedulerFamily::Euler,
                "d" => SchedulerFamily::Ddim,
                _ => SchedulerFamily::Multistep,
            };
            let spacing = match spacing {
                "leading" => Spacing::Leading,
                "linspace" => Spacing::Linspace,
                _ => Spacing::Trailing,
            };
            let options = SpacingOptions { family, ..Default::default() };
            let schedule = Schedule::with_options(&table, steps.parse().unwrap(), spacing, &options).unwrap();
            assert_near(&timesteps(&schedule), &numbers(want), name);
        }
    }

    #[test]
    fn karras_levels_match_k_diffusion() {
        let (table, golden) = (TrainingSchedule::stable_diffusion(), golden());
        let schedule = Schedule::new(&table, 10, Spacing::Karras).unwrap();
        let want = &golden["schedules"]["karras"];
        assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..10], "sigma");
        assert_near(&timesteps(&schedule), &numbers(&want["t"]), "t");

        let options = SpacingOptions { ends: Ends::Spaced(Spacing::Leading), ..Default::default() };
        let schedule = Schedule::with_options(&table, 10, Spacing::Karras, &options).unwrap();
        let want = &golden["karras_of_spaced_leading_10"];
        assert_near(&sigmas(&schedule), &numbers(&want["sigma"]), "spaced sigma");
        assert_near(&timesteps(&schedule), &numbers(&want["t"]), "spaced t");
    }

    #[test]
    fn other_spacings_match_the_references() {
        let (table, golden) = (TrainingSchedule::stable_diffusion(), golden());
        let further = [
            (Spacing::Normal, "normal", 10),
            (Spacing::SgmUniform, "sgm_uniform", 10),
            (Spacing::Simple, "simple", 10),
            (Spacing::DdimUniform, "ddim_uniform", 10),
            (Spacing::KlOptimal, "kl_optimal", 10),
            (Spacing::BetaTimesteps, "beta_timestep", 10),
            (Spacing::AlignYourSteps, "ays_sd15", 10),
            (Spacing::AlignYourStepsXl, "ays_sdxl", 10),
            (Spacing::AlignYourStepsXl, "ays_sdxl_16", 16),
        ];
        for (spacing, name, steps) in further {
            let schedule = Schedule::new(&table, steps, spacing).unwrap();
            let want = &golden["schedules"][name];
            assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..steps], name);
            assert_near(&timesteps(&schedule), &numbers(&want["t"]), name);
        }
        let options = SpacingOptions { terminal: Terminal::Lowest, ..Default::default() };
        let schedule = Schedule::with_options(&table, 10, Spacing::KlOptimal, &options).unwrap();
        let levels: Vec<f64> = schedule.steps().map(|step| step.from).chain([table.sigma_min()]).collect();
        assert_near(&levels, &numbers(&golden["schedules"]["kl_optimal_a1111"]["sigma"]), "kl_optimal_a1111");
        for (spacing, name) in [(Spacing::Exponential, "exponential"), (Spacing::Beta, "beta_sigma")] {
            let schedule = Schedule::new(&table, 10, spacing).unwrap();
            let want = &golden["schedules"][name];
            assert_near(&sigmas(&schedule), &numbers(&want["sigma"])[..10], name);
            assert_near(&timesteps(&schedule), &numbers(&want["t"]), name);
            let options = SpacingOptions { timesteps: TimestepRule::Truncated, ..Default::default() };
            let whole = Schedule::with_options(&table, 10, spacing, &options).unwrap();
            let below: Vec<f64> = timesteps(&schedule).into_iter().map(f64::trunc).collect();
            assert_eq!((sigmas(&whole), timesteps(&whole)), (sigmas(&schedule), below));
        }
        let quantiles = [(0.0, 0.0), (0.05, 0.0125544569), (0.1, 0.0395844056), (0.25, 0.1756803787), (0.5, 0.5)];
        for (p, want) in quantiles {
            assert!((beta_quantile(p) - want).abs() < 1e-9 && (beta_quantile(1.0 - p) - 1.0 + want).abs() < 1e-9);
        }
    }

    #[test]
    fn some_spacings_change_the_number_of_steps() {
        let table = TrainingSchedule::stable_diffusion();
        let many = Schedule::new(&table, 900, Spacing::BetaTimesteps).unwrap();
        assert!(many.steps().len() < 900 && many.steps().all(|step| step.nominal == many.steps().len()));
        for (asked, made) in [(10, 10), (28, 29), (1, 1), (1000, 999)] {
            let schedule = Schedule::new(&table, asked, Spacing::DdimUniform).unwrap();
            assert_eq!((schedule.steps().len(), timesteps(&schedule).last()), (made, Some(&1.0)));
            assert!(schedule.steps().all(|step| step.nominal == made));
        }
    }

    #[test]
    fn lcm_family_takes_timesteps_of_distillation() {
        let table = TrainingSchedule::stable_diffusion();
        let lcm = |steps, spacing, original| {
            let options = SpacingOptions { family: SchedulerFamily::Lcm, original, ..Default::default() };
            Schedule::with_options(&table, steps, spacing, &options)
        };
        let four = lcm(4, Spacing::Leading, 50).unwrap();
        assert_eq!(timesteps(&four), [999.0, 759.0, 499.0, 259.0]);
        assert_eq!(lcm(4, Spacing::Karras, 50).unwrap(), four);
        assert_eq!(timesteps(&lcm(2, Spacing::Leading, 25).unwrap()), [999.0, 519.0]);
        for (steps, original, wrong) in [(51, 50, "steps"), (4, 0, "original"), (4, 1001, "original")] {
            let refused = lcm(steps, Spacing::Leading, original);
            assert!(matches!(refused, Err(Error::Parameter { name, .. }) if name == wrong));
        }
    }

    #[test]
    fn single_step_begins_with_the_most_noise() {
        let table = TrainingSchedule::stable_diffusion();
        for spacing in [Spacing::Normal, Spacing::SgmUniform, Spacing::Simple, Spacing::Trailing, Spacing::Karras] {
            let first = Schedule::new(&table, 1, spacing).unwrap().steps().next().unwrap();
            assert!(first.from > 14.0, "{spacing:?}: {}", first.from);
        }
    }

    #[test]
    fn drop_penultimate_omits_the_lowest_level() {
        let table = TrainingSchedule::stable_diffusion();
        let options = SpacingOptions { drop_penultimate: true, ..Default::default() };
        let dropped = Schedule::with_options(&table, 10, Spacing::Karras, &options).unwrap();
        let whole = Schedule::new(&table, 11, Spacing::Karras).unwrap();
        assert_eq!(sigmas(&dropped), sigmas(&whole)[..10]);
        assert_eq!(dropped.steps().last().map(|step| (step.to, step.nominal)), Some((0.0, 10)));
    }
}
