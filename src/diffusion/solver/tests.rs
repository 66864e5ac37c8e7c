//! Every solver against the golden trajectories, and the laws they share.

use super::*;
use crate::diffusion::{Denoised, Noise, Schedule, Spacing, Table};
use serde_json::Value;
use tch::{Device, Kind};

type Picture = fn(&Tensor, f64, f64) -> Tensor;

/// A picture known in closed form, the golden's "noise", and counters.
struct Fake<'a> {
    picture: Picture,
    schedule: &'a Schedule,
    calls: usize,
    draws: usize,
}

impl<'a> Fake<'a> {
    fn new(picture: Picture, schedule: &'a Schedule) -> Self {
        Self { picture, schedule, calls: 0, draws: 0 }
    }
}

impl Eval for Fake<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.calls += 1;
        Ok((self.picture)(x, sigma, self.schedule.timestep(sigma)))
    }
    fn noise(&mut self) -> Result<Tensor> {
        self.draws += 1;
        Ok(wave(self.draws))
    }
}

/// noise_i[j] = √2·sin(1.7(4i + j) + 0.3)
fn wave(i: usize) -> Tensor {
    let cells: Vec<f64> = (0..4).map(|j| 2f64.sqrt() * (1.7 * (4 * i + j) as f64 + 0.3).sin()).collect();
    Tensor::from_slice(&cells).reshape([1, 4, 1, 1])
}

fn cells(values: [f64; 4]) -> Tensor {
    Tensor::from_slice(&values).reshape([1, 4, 1, 1])
}

fn linear(x: &Tensor, sigma: f64, _: f64) -> Tensor {
    let mu = cells([0.5, -0.25, 0.0, 1.0]);
    &mu + 0.6 / (0.6 + sigma * sigma) * (x - &mu)
}

fn wavy(x: &Tensor, sigma: f64, t: f64) -> Tensor {
    x - sigma * (x * (0.7 / sigma.hypot(1.0)) + t / 1000.0).sin()
}

fn tanh(x: &Tensor, sigma: f64, _: f64) -> Tensor {
    (x / (1.0 + sigma)).tanh()
}

fn golden(file: &str) -> Value {
    serde_json::from_str(match file {
        "sampling" => include_str!("../../../tests/golden/specs/sampling.json"),
        _ => include_str!("../../../tests/golden/specs/forcing.json"),
    })
    .unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn assert_near(got: &Tensor, want: &Value, what: &str) {
    let got = Vec::<f64>::try_from(got.flatten(0, -1)).unwrap();
    for (got, want) in got.iter().zip(numbers(want)) {
        assert!((got - want).abs() <= 2e-8 * want.abs().max(1.0), "{what}: {got} {want}");
    }
}

#[test]
fn trajectories_are_the_references() {
    let golden = golden("sampling");
    let schedule = Schedule::from_sigmas(&Table::stable_diffusion(), &numbers(&golden["karras6"]["sigma"])).unwrap();
    for (step, t) in schedule.steps().zip(numbers(&golden["karras6"]["t"])) {
        assert!((step.timestep - t).abs() < 1e-5);
    }
    let solvers: [(&str, Box<dyn Solver>); 6] = [
        ("euler", Box::new(Euler)),
        ("euler_a", Box::new(EulerAncestral::default())),
        ("euler_a_eta0.5_snoise1.1", Box::new(EulerAncestral { eta: 0.5, s_noise: 1.1 })),
        ("ddim_eta0", Box::new(Ddim::default())),
        ("ddim_eta0.5", Box::new(Ddim { eta: 0.5 })),
        ("ddpm_fixed_large", Box::new(Ddpm { variance: Variance::Large })),
    ];
    let pictures: [(&str, Picture); 3] = [("linear", linear), ("wave", wavy), ("tanh", tanh)];
    for (name, mut solver) in solvers {
        for (picture, f) in pictures {
            for forced in [false, true] {
                let want = &golden["trajectories"][name][picture];
                let mut eval = Fake::new(f, &schedule);
                let mut x = schedule.sigma_max() * wave(0);
                solver.reset();
                for step in schedule.steps() {
                    let what = format!("{name} {picture} step {} forced {forced}", step.index);
                    let mut transition = solver.step(&step, &x, &mut eval).unwrap();
                    if forced {
                        let weight = cells([1.0, 1.0, 0.0, 0.5]) * (step.from * step.from / 25.0);
                        let shift = &weight * (cells([0.5, -0.5, 1.0, 0.0]) - &transition.mean);
                        transition.pull(shift, weight);
                    }
                    let mean = transition.resolve().unwrap();
                    x = if transition.std > 0.0 { &mean + eval.noise().unwrap() * transition.std } else { mean.copy() };
                    if forced {
                        assert_near(&x, &want["forced_x"][step.index], &what);
                        continue;
                    }
                    assert_near(&mean, &want["mean"][step.index], &what);
                    assert_near(&x, &want["x"][step.index], &what);
                    assert_near(
                        &Tensor::from_slice(&[transition.std]),
                        &Value::from(vec![want["std"][step.index].clone()]),
                        &what,
                    );
                    assert_near(
                        &Tensor::from_slice(&[transition.down]),
                        &Value::from(vec![want["down"][step.index].clone()]),
                        &what,
                    );
                }
                assert_eq!(
                    (eval.calls, eval.draws),
                    (want["calls"].as_u64().unwrap() as usize, want["draws"].as_u64().unwrap() as usize)
                );
            }
        }
    }
}

#[test]
fn a_force_moves_euler_as_far_as_the_reference() {
    let want = &golden("sampling")["trajectories"]["euler"]["linear"];
    let shift = numbers(&golden("sampling")["force_shift_linear"]["euler"]);
    let (forced, free) = (numbers(&want["forced_x"][5]), numbers(&want["x"][5]));
    for ((forced, free), shift) in forced.iter().zip(free).zip(shift) {
        assert!((forced - free - shift).abs() < 1e-8);
    }
}

#[test]
fn solvers_that_are_the_same_are_the_same_forced_or_not() {
    let golden = golden("forcing");
    let golden = &golden["sampler_equivalence"];
    let schedule = Schedule::new(&Table::stable_diffusion(), 10, Spacing::Leading).unwrap();
    assert_eq!(schedule.steps().map(|step| step.timestep).collect::<Vec<_>>(), numbers(&golden["steps"]));
    let (gold, mask) = (cells([0.5, -0.5, 1.0, 0.0]), cells([1.0, 1.0, 0.0, 0.5]));
    for target in ["mean", "signal_only", "denoised"] {
        let solvers: [(&str, Box<dyn Solver>); 5] = [
            ("euler", Box::new(Euler)),
            ("ddim0", Box::new(Ddim::default())),
            ("euler_a", Box::new(EulerAncestral::default())),
            ("ddim1", Box::new(Ddim { eta: 1.0 })),
            ("ddpm", Box::new(Ddpm::default())),
        ];
        for (name, mut solver) in solvers {
            let mut x = schedule.sigma_max() * wave(0);
            for step in schedule.steps() {
                let inside = if step.timestep <= 700.0 { 1.0 } else { 0.0 };
                let weight = &mask * (inside * step.from * step.from / 25.0);
                let mut eval = Forced { gold: &gold, weight: (target == "denoised").then_some(&weight) };
                let mut transition = solver.step(&step, &x, &mut eval).unwrap();
                match target {
                    "mean" => transition.pull(&weight * (&gold - &transition.mean), weight),
                    "signal_only" => transition.pull(&weight * (&gold - &transition.x0), weight),
                    _ => {}
                }
                x = transition.resolve().unwrap() + transition.std * wave(step.index + 1);
            }
            let want = numbers(&golden[target][name]);
            let got = Vec::<f64>::try_from(x.flatten(0, -1)).unwrap();
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-5, "{target} {name}: {got} {want}");
            }
        }
    }
}

/// tanh, pulled before the solver sees it.
struct Forced<'a> {
    gold: &'a Tensor,
    weight: Option<&'a Tensor>,
}

impl Eval for Forced<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let mut denoised = Denoised::new(tanh(x, sigma, 0.0));
        if let Some(weight) = self.weight {
            denoised.pull(weight * (self.gold - &denoised.x0), weight.shallow_clone());
        }
        denoised.resolve()
    }
    fn noise(&mut self) -> Result<Tensor> {
        panic!("nothing is drawn inside these steps")
    }
}

#[test]
fn eulers_error_halves_with_the_step() {
    // D = μ + v/(v + σ²)(x − μ), μ = 0.7, v = 1: exactly x − μ ∝ (v + σ²)^((1 + η²)/2)
    let bell: Picture = |x, sigma, _| 0.7 + 1.0 / (1.0 + sigma * sigma) * (x - 0.7);
    let (high, low) = (10f64, 0.05f64);
    for (name, eta) in [("euler", 0.0), ("euler_a eta .5 (mean)", 0.5f64)] {
        let want = &golden("sampling")["convergence"][name];
        let exact = 0.7 + 7.3 * ((1.0 + low * low) / (1.0 + high * high)).powf((1.0 + eta * eta) / 2.0);
        let error = |count: usize| {
            let level = |i: usize| (high.ln() + i as f64 / count as f64 * (low / high).ln()).exp();
            let sigmas: Vec<f64> = (0..=count).map(level).collect();
            let schedule = Schedule::from_sigmas(&Table::stable_diffusion(), &sigmas).unwrap();
            let (mut eval, mut solver) = (Fake::new(bell, &schedule), EulerAncestral::with_eta(eta));
            let step = |x: Tensor, step: Step| solver.step(&step, &x, &mut eval).unwrap().mean;
            (schedule.steps().fold(Tensor::from(8.0), step).double_value(&[]) - exact).abs()
        };
        let (coarse, fine) = (error(160), error(320));
        assert!((error(20) - want["error"]["20"].as_f64().unwrap()).abs() < 1e-6, "{name}");
        assert!(((coarse / fine).log2() - 1.0).abs() < 0.15, "{name}");
    }
}

#[test]
fn noise_left_and_noise_added_make_the_next_level() {
    let schedule = Schedule::new(&Table::stable_diffusion(), 12, Spacing::Karras).unwrap();
    let solvers: [Box<dyn Solver>; 6] = [
        Box::new(Euler),
        Box::new(EulerAncestral::with_eta(0.3)),
        Box::new(EulerAncestral::default()),
        Box::new(EulerAncestral::with_eta(7.0)),
        Box::new(Ddim { eta: 0.5 }),
        Box::new(Ddpm::default()),
    ];
    for mut solver in solvers {
        for step in schedule.steps() {
            let transition = solver.step(&step, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap();
            let total = transition.down.hypot(transition.std);
            assert!((total - step.to).abs() < 1e-12 && transition.down >= 0.0, "{}", solver.name());
        }
    }
}

#[test]
fn nothing_is_drawn_that_is_not_used() {
    let (mut noise, untouched) = (Noise::seeded(1), Noise::seeded(1));
    let schedule = Schedule::new(&Table::stable_diffusion(), 4, Spacing::Karras).unwrap();
    let mut eval = Fake::new(tanh, &schedule);
    let last = schedule.steps().last().unwrap();
    let x = Tensor::ones([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    let sampled = EulerAncestral::default().step(&last, &x, &mut eval).unwrap().sample(&mut noise).unwrap();
    assert_eq!(noise, untouched);
    assert_eq!(sampled, tanh(&x, last.from, 0.0));
    let first = schedule.steps().next().unwrap();
    let transition = EulerAncestral::default().step(&first, &x, &mut eval).unwrap();
    let want = &transition.mean + transition.std * Noise::seeded(1).draw(&[1, 4, 2, 2]).unwrap();
    assert!(transition.sample(&mut noise).unwrap().allclose(&want, 0.0, 1e-6, false));
    assert_ne!(noise, untouched);
}

#[test]
fn a_mean_that_nobody_pulls_on_is_the_next_latent_itself() {
    let schedule = Schedule::new(&Table::stable_diffusion(), 4, Spacing::Karras).unwrap();
    let step = schedule.steps().next().unwrap();
    let transition = Euler.step(&step, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap();
    let mean = transition.mean.shallow_clone();
    assert_eq!(transition.sample(&mut Noise::seeded(0)).unwrap().data_ptr(), mean.data_ptr());
}

#[test]
fn eta_and_noise_have_ranges() {
    let schedule = Schedule::new(&Table::stable_diffusion(), 4, Spacing::Karras).unwrap();
    let step = schedule.steps().next().unwrap();
    let wrong: [Box<dyn Solver>; 5] = [
        Box::new(EulerAncestral::with_eta(-0.1)),
        Box::new(EulerAncestral::with_eta(f64::NAN)),
        Box::new(EulerAncestral { eta: 1.0, s_noise: 0.0 }),
        Box::new(Ddim { eta: 1.1 }),
        Box::new(Ddim { eta: f64::NAN }),
    ];
    for mut solver in wrong {
        let error = solver.step(&step, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap_err();
        assert!(matches!(error, crate::error::Error::Parameter { name: "eta" | "s_noise", .. }), "{error}");
    }
}
