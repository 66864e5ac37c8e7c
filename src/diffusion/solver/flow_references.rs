//! Tests of the solvers on a flow against the trajectories of `gen_flow.py`.

use super::tests::numbers;
use super::*;
use crate::diffusion::{Prediction, Schedule, Spacing, SpacingOptions, TrainingSchedule};
use crate::json;
use serde_json::Value;

fn golden() -> Value {
    json::parse(include_str!("../../../tests/golden/specs/flow.json")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Largest difference from a reference, as a share of its largest number.
fn error(got: &Tensor, want: &Value) -> f64 {
    let (got, want) = (Vec::<f64>::try_from(got).unwrap(), numbers(want));
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(1e-3f64, |largest, value| largest.max(value.abs()));
    got.iter().zip(&want).fold(0f64, |error, (got, want)| error.max((got - want).abs())) / largest
}

/// A flow whose velocity is sin(0.7·x_t + t), and which runs without draws.
struct Waves;

impl Eval for Waves {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let t = sigma / (1.0 + sigma);
        let velocity = (x * (0.7 * Prediction::Flow.input_scale(sigma)) + t).sin();
        Prediction::Flow.x0(&velocity, x, sigma)
    }

    fn noise(&mut self) -> Result<Tensor> {
        Err(Error::custom("these solvers leave their draws to the run"))
    }
}

#[test]
fn trajectories_of_a_flow_match_the_generator() -> Result<()> {
    let golden = golden();
    let ancestral = |eta| EulerAncestral { eta, ..EulerAncestral::default() };
    let solvers: [(&str, Box<dyn Solver>); 4] = [
        ("er_sde_simple_10", Box::new(ErSde { summed: Some(200), ..ErSde::default() })),
        ("euler_ancestral_rf", Box::new(ancestral(1.0))),
        ("euler_ancestral_rf_half", Box::new(ancestral(0.5))),
        ("dpmpp_2m_flow", Box::new(Multistep { lower_order_final: false, ..Multistep::default() })),
    ];
    for (name, mut solver) in solvers {
        let want = &golden["trajectories"][name];
        let times = numbers(&want["levels"]);
        let shift = want["args"]["s"].as_f64().unwrap_or(3.0);
        // The golden's times are shifted already, and the schedule shifts the times that it is given.
        let given: Vec<f64> = times[..times.len() - 1].iter().map(|t| t / (shift - (shift - 1.0) * t)).collect();
        let table = TrainingSchedule::flow(shift, 1.0)?;
        let schedule = Schedule::from_times(&table, &given, Spacing::Simple, &SpacingOptions::default())?;
        let schedule = if solver.needs_finite_start() { schedule.below_start() } else { schedule };
        let mut x = Tensor::from_slice(&numbers(&want["start"])) / Prediction::Flow.input_scale(schedule.sigma_max());
        let mut draws = want["noise"].as_array().unwrap().iter();
        for step in schedule.steps() {
            let row = &want["steps"][step.index];
            let transition = solver.step(&step, &x, &mut Waves)?;
            let scale = Prediction::Flow.input_scale(step.to);
            if let Some(std) = row["std"].as_f64() {
                assert!((transition.std * scale - std).abs() < 1e-6, "{name} step {}: {}", step.index, transition.std);
            }
            x = transition.resolve()?;
            if transition.std > 0.0 {
                x += transition.std * Tensor::from_slice(&numbers(draws.next().unwrap()));
            }
            let error = error(&(&x * scale), &want["x"][step.index + 1]);
            assert!(error < 1e-6, "{name} step {}: {error}", step.index);
        }
        assert!(draws.next().is_none(), "{name}: draws are left");
    }
    Ok(())
}

#[test]
fn first_level_of_log_snr_solvers_is_comfyui_s() -> Result<()> {
    for (shift, want) in golden()["first_level_snr"].as_object().unwrap() {
        let table = TrainingSchedule::flow(shift.parse().unwrap(), 1.0)?;
        let first = Schedule::new(&table, 10, Spacing::Simple)?.below_start().sigma_max();
        let t = 1.0 - Prediction::Flow.input_scale(first);
        assert!((t - number(want)).abs() < 1e-9, "shift {shift}: {t}");
    }
    for (finite, names) in [
        (true, ["DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M SDE", "DPM++ SDE", "SA-Solver", "ER SDE"]),
        (false, ["Euler", "Euler a", "Heun", "LCM", "DPM2", "LMS"]),
    ] {
        for name in names {
            assert_eq!(by_name(name)?.0.needs_finite_start(), finite, "{name}");
        }
    }
    Ok(())
}

#[test]
fn er_sde_below_a_level_matches_the_generator() -> Result<()> {
    // The golden's levels are those of a diffusion, with the picture of a flow's velocity: D = x − σ·sin(0.7·x + σ).
    struct Sigma;
    impl Eval for Sigma {
        fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
            Ok(x - (x * 0.7 + sigma).sin() * sigma)
        }
        fn noise(&mut self) -> Result<Tensor> {
            Err(Error::custom("ER-SDE leaves its draws to the run"))
        }
    }
    let golden = golden();
    let want = &golden["trajectories"]["er_sde_ve_karras"];
    let schedule = Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &numbers(&want["levels"]))?;
    let mut solver = ErSde { summed: Some(200), ..ErSde::default() };
    let mut x = Tensor::from_slice(&numbers(&want["start"]));
    for step in schedule.steps() {
        let transition = solver.step(&step, &x, &mut Sigma)?;
        x = transition.resolve()?;
        if transition.std > 0.0 {
            x += transition.std * Tensor::from_slice(&numbers(&want["noise"][step.index]));
        }
        let error = error(&x, &want["x"][step.index + 1]);
        assert!(error < 1e-9, "step {}: {error}", step.index);
    }
    Ok(())
}
