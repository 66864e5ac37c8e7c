//! The rate at which errors of solvers shrink with the number of steps.

use super::multistep::Taylor;
use super::tests::{Fake, Picture, golden, tanh};
use super::*;
use crate::diffusion::{Schedule, TrainingSchedule};
use crate::window::Window;

/// Error of the mean after `count` steps from σ = 10 to 0.05, spaced evenly in ln σ, from a latent of 8. `path` gives
/// the exact latent at a noise level. `seeds` steps on this path before σ = 10 fill the solver's memory.
fn error(solver: &mut dyn Solver, picture: Picture, path: &dyn Fn(f64) -> f64, count: usize, seeds: usize) -> f64 {
    error_of(&TrainingSchedule::stable_diffusion(), solver, picture, path, count, seeds)
}

/// The error of [`error`] for a model with this training schedule.
fn error_of(
    table: &TrainingSchedule,
    solver: &mut dyn Solver,
    picture: Picture,
    path: &dyn Fn(f64) -> f64,
    count: usize,
    seeds: usize,
) -> f64 {
    let (high, low) = (10f64.ln(), 0.05f64.ln());
    let level = |i: usize| (high + (i as f64 - seeds as f64) / count as f64 * (low - high)).exp();
    let sigmas: Vec<f64> = (0..=seeds + count).map(level).collect();
    let schedule = Schedule::from_sigmas(table, &sigmas).unwrap();
    solver.reset();
    let mut eval = Fake::silent(picture, &schedule);
    let end = schedule.steps().fold(Tensor::from(8.0), |x, step| {
        let x = if step.index <= seeds { Tensor::from(path(step.from)) } else { x };
        solver.step(&step, &x, &mut eval).unwrap().mean
    });
    (end.double_value(&[]) - path(0.05)).abs()
}

#[test]
fn errors_shrink_with_the_expected_order() {
    // The clean picture is μ + v/(v + σ²)·(x − μ), μ = 0.7, v = 1. The exact solution is x − μ ∝ (v + σ²)^((1 + e)/2),
    // where e (`renewed`) is η², or η for multistep SDEs.
    let bell: Picture = |x, sigma, _| 0.7 + 1.0 / (1.0 + sigma * sigma) * (x - 0.7);
    let heun = |solver: Multistep| Multistep { correction: Correction::Heun, ..solver };
    let exact = |solver: Multistep| Multistep { taylor: Taylor::Exact, ..heun(solver) };
    let (half, third) = (
        || Multistep { eta: 0.5, ..Multistep::default() },
        || Multistep { eta: 0.5, order: 3, ..Multistep::default() },
    );
    let plain = |solver: UniPc| UniPc { lower_order_final: false, ..solver };
    let (dpm2, two_s) = (|eta| Dpm2 { eta, s_noise: 1.0 }, |eta| Dpmpp2SAncestral { eta, s_noise: 1.0 });
    let solvers: [(&str, Box<dyn Solver>, f64); 30] = [
        ("dpm2", Box::new(dpm2(0.0)), 0.0),
        ("lms4", Box::new(Lms::default()), 0.0),
        ("lms4 seeded", Box::new(Lms::default()), 0.0),
        ("pndm", Box::new(Pndm::default()), 0.0),
        ("dpmpp_2s", Box::new(two_s(0.0)), 0.0),
        ("unipc2_bh1", Box::new(plain(UniPc { bh2: false, ..UniPc::default() })), 0.0),
        ("unipc2_bh2", Box::new(plain(UniPc::default())), 0.0),
        ("unipc3_bh2", Box::new(plain(UniPc { order: 3, ..UniPc::default() })), 0.0),
        ("unipc2_no_corrector", Box::new(plain(UniPc { uncorrected: (0..320).collect(), ..UniPc::default() })), 0.0),
        ("deis2", Box::new(Deis { lower_order_final: false, ..Deis::default() }), 0.0),
        ("deis3", Box::new(Deis { order: 3, lower_order_final: false, ..Deis::default() }), 0.0),
        ("deis3 seeded", Box::new(Deis { order: 3, lower_order_final: false, ..Deis::default() }), 0.0),
        ("dpm2_a eta .5 (mean)", Box::new(dpm2(0.5)), 0.25),
        ("dpmpp_2s_a eta .5 (mean)", Box::new(two_s(0.5)), 0.25),
        ("dpm2_a eta 1 (mean)", Box::new(dpm2(1.0)), 1.0),
        ("dpmpp_2s_a eta 1 (mean)", Box::new(two_s(1.0)), 1.0),
        ("dpmpp_sde eta .5 (mean)", Box::new(DpmppSde { eta: 0.5, ..Default::default() }), 0.25),
        ("euler", Box::new(Euler), 0.0),
        ("euler_a eta .5 (mean)", Box::new(EulerAncestral { eta: 0.5, ..EulerAncestral::default() }), 0.25),
        ("heun", Box::new(Heun), 0.0),
        ("dpmpp_2m", Box::new(Multistep::default()), 0.0),
        ("dpmpp_3m", Box::new(heun(Multistep { order: 3, ..Multistep::default() })), 0.0),
        ("dpmpp_3m seeded", Box::new(heun(Multistep { order: 3, ..Multistep::default() })), 0.0),
        ("dpmpp_3m exact", Box::new(exact(Multistep { order: 3, ..Multistep::default() })), 0.0),
        ("dpmpp_3m exact seeded", Box::new(exact(Multistep { order: 3, ..Multistep::default() })), 0.0),
        ("dpmpp_2m_sde eta .5 (mean)", Box::new(half()), 0.5),
        ("dpmpp_2m_sde_heun eta .5 (mean)", Box::new(heun(half())), 0.5),
        ("dpmpp_3m_sde eta .5 (mean)", Box::new(heun(third())), 0.5),
        ("dpmpp_3m_sde eta .5 seeded (mean)", Box::new(heun(third())), 0.5),
        ("dpmpp_3m_sde exact eta .5 seeded (mean)", Box::new(exact(third())), 0.5),
    ];
    for (name, mut solver, renewed) in solvers {
        let path = |sigma: f64| 0.7 + 7.3 * ((1.0 + sigma * sigma) / 101.0).powf((1.0 + renewed) / 2.0);
        let seeds = if name.contains("seeded") { 3 } else { 0 };
        converges(("sampling", name), solver.as_mut(), bell, &path, seeds);
    }
    let curved: [(&str, Box<dyn Solver>); 4] = [
        ("tanh: dpmpp_sde", Box::new(DpmppSde::default())),
        ("tanh: euler_a", Box::new(EulerAncestral::default())),
        ("tanh: dpmpp_2m_sde", Box::new(Multistep { eta: 1.0, ..Multistep::default() })),
        ("tanh: dpmpp_3m_sde", Box::new(Multistep::dpmpp_3m_sde())),
    ];
    for (name, mut solver) in curved {
        let end = golden("sampling")["convergence"][name]["exact"].as_f64().unwrap();
        converges(("sampling", name), solver.as_mut(), tanh, &|sigma| if sigma > 1.0 { 8.0 } else { end }, 0);
    }
}

#[test]
fn errors_of_newer_solvers_shrink_as_expected() {
    let sa = |predictor_order, corrector_order, tau| SaSolver {
        predictor_order,
        corrector_order,
        tau,
        window: Window::WHOLE,
        lower_order_final: false,
        ..SaSolver::default()
    };
    let er = |scale, order| ErSde { scale, order, ..ErSde::default() };
    let solvers: [(&str, Box<dyn Solver>); 11] = [
        ("sa_2_0", Box::new(sa(2, 0, 0.0))),
        ("sa_2_2", Box::new(sa(2, 2, 0.0))),
        ("sa_2_3", Box::new(sa(2, 3, 0.0))),
        ("sa_3_3 tau 1", Box::new(sa(3, 3, 1.0))),
        ("res", Box::new(ResMultistep::default())),
        ("res_a", Box::new(ResMultistep { eta: 1.0, ..ResMultistep::default() })),
        ("er_sde", Box::new(ErSde::default())),
        ("er_sde_2", Box::new(er(NoiseScale::Exponential, 2))),
        ("er_sde_1", Box::new(er(NoiseScale::Exponential, 1))),
        ("er_sde_square", Box::new(er(NoiseScale::Square, 3))),
        ("er_sde_linear", Box::new(er(NoiseScale::Linear, 3))),
    ];
    for (name, mut solver) in solvers {
        let end = golden("solvers")["convergence"][name]["exact"].as_f64().unwrap();
        converges(("solvers", name), solver.as_mut(), tanh, &|sigma| if sigma > 1.0 { 8.0 } else { end }, 0);
    }
}

#[test]
fn slopes_of_a_flow_are_integrated_over_its_time() -> crate::error::Result<()> {
    // The velocity is 1 + 2t, so that x_t is t + t² beside a constant.
    let picture: Picture = |x, sigma, _| {
        let t = sigma / (1.0 + sigma);
        x * (1.0 - t) - t * (1.0 + 2.0 * t)
    };
    let path = |sigma: f64| {
        let t = sigma / (1.0 + sigma);
        (0.5 + t + t * t) * (1.0 + sigma)
    };
    let flow = TrainingSchedule::flow(1.0, 1000.0)?;
    // A trapezoid, and polynomials through several slopes, are exact for a velocity that is linear in t.
    let exact: [(Box<dyn Solver>, usize); 2] = [(Box::new(Heun), 0), (Box::new(Lms::default()), 3)];
    for (mut solver, seeds) in exact {
        let of_flow = error_of(&flow, solver.as_mut(), picture, &path, 20, seeds);
        assert!(of_flow < 1e-9, "{}: {of_flow:e}", solver.name());
        let of_levels = error(solver.as_mut(), picture, &path, 20, seeds);
        assert!(of_levels > 1e-6, "{}: {of_levels:e}", solver.name());
    }
    let mut dpm2 = Dpm2 { eta: 0.0, s_noise: 1.0 };
    let [coarse, fine] = [80, 160].map(|count| error_of(&flow, &mut dpm2, picture, &path, count, 0));
    assert!((3.5..4.5).contains(&(coarse / fine)), "second order: {coarse:e} {fine:e}");
    Ok(())
}

/// Checks errors and order of convergence against a golden file.
fn converges(
    (file, name): (&str, &str),
    solver: &mut dyn Solver,
    picture: Picture,
    path: &dyn Fn(f64) -> f64,
    seeds: usize,
) {
    let want = &golden(file)["convergence"][name];
    let mut errors = [20, 160, 320].map(|count| error(solver, picture, path, count, seeds));
    for (error, count) in errors.iter().zip(["20", "160", "320"]) {
        let want = want["error"][count].as_f64().unwrap();
        assert!((error - want).abs() < 2e-9 + 1e-6 * want, "{name}, {count} steps: {error:e} {want:e}");
    }
    errors.sort_by(f64::total_cmp);
    let order = (errors[1] / errors[0]).log2();
    let (expected, seen) = (want["expected"].as_f64().unwrap(), want["order"].as_f64().unwrap());
    match expected {
        3.0 => assert!(order > 2.6, "{name}: {order}"),
        _ => assert!((order - seen).abs() < 0.15 && order > expected - 0.15, "{name}: {order}"),
    }
}
