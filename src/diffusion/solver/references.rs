//! Tests of SA-Solver, RES multistep, ER-SDE and Restart against the trajectories of `gen_solvers.py`.

use super::tests::{Fake, PICTURES, Picture, assert_near, cells, golden, numbers, wave};
use super::*;
use crate::diffusion::{Schedule, TrainingSchedule};
use crate::window::Window;

/// Returns the mean, the deviation and the latent after each step of a run over the reference's levels.
fn run(solver: &mut dyn Solver, schedule: &Schedule, picture: Picture, forced: bool) -> Vec<(Tensor, f64, Tensor)> {
    let mut eval = Fake::new(picture, schedule);
    let mut x = schedule.sigma_max() * wave(0);
    solver.reset();
    let mut rows = Vec::new();
    for step in schedule.steps() {
        let mut transition = solver.step(&step, &x, &mut eval).unwrap();
        if forced {
            let weight = cells([1.0, 1.0, 0.0, 0.5]) * (step.from * step.from / 25.0);
            transition.pull(&weight * (cells([0.5, -0.5, 1.0, 0.0]) - &transition.mean), weight);
        }
        x = transition.resolve().unwrap() + transition.std * wave(step.index + 1);
        rows.push((transition.mean, transition.std, x.shallow_clone()));
    }
    rows
}

#[test]
fn restart_adds_its_calls_to_one_step() {
    let schedule = schedule(true);
    let mut restart = Restart { low: 0.5, steps: 4, times: 2, ..Restart::default() };
    let mut eval = Fake::new(PICTURES[2].1, &schedule);
    let crossing = schedule.steps().position(|step| step.to <= 0.5).unwrap();
    for step in schedule.steps() {
        let before = eval.calls();
        restart.step(&step, &wave(0), &mut eval).unwrap();
        let calls = if step.to == 0.0 { 1 } else { 2 };
        assert_eq!(eval.calls() - before, calls + if step.index == crossing { 2 * 4 * 2 } else { 0 });
    }
}

fn schedule(to_zero: bool) -> Schedule {
    let golden = golden("solvers");
    let mut levels = numbers(&golden["levels"]);
    if !to_zero {
        *levels.last_mut().unwrap() = golden["low"].as_f64().unwrap();
    }
    Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &levels).unwrap()
}

#[test]
fn trajectories_match_those_of_the_generator() {
    let golden = golden("solvers");
    let sa = |predictor_order, corrector_order, tau| SaSolver {
        predictor_order,
        corrector_order,
        tau,
        window: Window::WHOLE,
        ..SaSolver::default()
    };
    let er = |scale, order| ErSde { scale, order, ..ErSde::default() };
    let solvers: [(&str, Box<dyn Solver>); 15] = [
        ("sa", Box::new(SaSolver::default())),
        ("sa_3_4", Box::new(SaSolver { predictor_order: 3, corrector_order: 4, ..SaSolver::default() })),
        ("sa_4_1_tau0.5", Box::new(sa(4, 1, 0.5))),
        ("sa_ode", Box::new(sa(2, 2, 0.0))),
        ("sa_full_orders", Box::new(SaSolver { lower_order_final: false, ..sa(3, 3, 1.0) })),
        ("res", Box::new(ResMultistep::default())),
        ("res_a", Box::new(ResMultistep { eta: 1.0, ..ResMultistep::default() })),
        ("res_a_eta0.5", Box::new(ResMultistep { eta: 0.5, ..ResMultistep::default() })),
        ("er_sde", Box::new(ErSde::default())),
        ("er_sde_2", Box::new(er(NoiseScale::Exponential, 2))),
        ("er_sde_1_square", Box::new(er(NoiseScale::Square, 1))),
        ("er_sde_logarithmic", Box::new(er(NoiseScale::Logarithmic, 3))),
        ("er_sde_linear", Box::new(er(NoiseScale::Linear, 3))),
        ("restart", Box::new(Restart { low: 0.5, high: 3.0, steps: 3, times: 2, ..Restart::default() })),
        ("restart_below", Box::new(Restart { low: 0.5, high: 40.0, steps: 4, ..Restart::default() })),
    ];
    for (name, mut solver) in solvers {
        let schedule = schedule(!name.starts_with("sa"));
        for (picture, f) in PICTURES {
            let want = &golden["cases"][name][picture];
            for forced in [false, true] {
                for (i, (mean, std, x)) in run(&mut solver, &schedule, f, forced).iter().enumerate() {
                    let what = format!("{name} {picture} step {i} forced {forced}");
                    if forced {
                        assert_near(x, &want["forced_x"][i], &what);
                        continue;
                    }
                    assert_near(mean, &want["mean"][i], &what);
                    assert_near(x, &want["x"][i], &what);
                    assert!((std - want["std"][i].as_f64().unwrap()).abs() < 1e-7, "{what}: {std}");
                }
            }
        }
    }
}

#[test]
fn er_sde_ends_near_the_sums_of_comfyui() {
    let golden = golden("solvers");
    for (picture, f) in PICTURES {
        let got = run(&mut ErSde::default(), &schedule(true), f, false);
        let want = numbers(&golden["cases"]["er_sde_comfy"][picture]["x"][5]);
        let largest = want.iter().fold(1f64, |largest, value| largest.max(value.abs()));
        let end = Vec::<f64>::try_from(got[5].2.flatten(0, -1)).unwrap();
        for (got, want) in end.iter().zip(want) {
            assert!((got - want).abs() < 1e-3 * largest, "{picture}: {got} {want}");
        }
    }
}

#[test]
fn res_without_noise_is_dpmpp_2m_heun() {
    let multistep = Multistep { correction: Correction::Heun, lower_order_final: false, ..Multistep::default() };
    for eta in [0.0, 1.0] {
        let [got, want]: [Box<dyn Solver>; 2] = [
            Box::new(ResMultistep { eta, ..ResMultistep::default() }),
            Box::new(Multistep { eta, ..multistep.clone() }),
        ];
        let [got, want] = [got, want].map(|mut solver| run(&mut solver, &schedule(true), PICTURES[1].1, false));
        for ((got, _, _), (want, _, _)) in got.iter().zip(&want) {
            assert!(got.allclose(want, 1e-10, 1e-10, false), "eta {eta}");
        }
    }
}
