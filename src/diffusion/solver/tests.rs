//! Tests of every solver against the golden trajectories, and of rules that hold for all solvers.

use super::dpmpp_sde::SdeNoise;
use super::multistep::Taylor;
use super::*;
use crate::diffusion::{
    Denoised, Noise, Schedule, SchedulerConfig, Spacing, SpacingOptions, Terminal, TrainingSchedule,
};
use crate::window::Window;
use serde_json::Value;
use tch::{Device, Kind};

pub(super) type Picture = fn(&Tensor, f64, f64) -> Tensor;

/// A fake model: a picture in closed form, the golden file's "noise", and counters.
pub(super) struct Fake<'a> {
    picture: Picture,
    schedule: &'a Schedule,
    calls: usize,
    draws: usize,
    /// True if all draws are zeros.
    silent: bool,
}

impl<'a> Fake<'a> {
    pub(super) fn new(picture: Picture, schedule: &'a Schedule) -> Self {
        Self { picture, schedule, calls: 0, draws: 0, silent: false }
    }

    pub(super) const fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn silent(picture: Picture, schedule: &'a Schedule) -> Self {
        Self { silent: true, ..Self::new(picture, schedule) }
    }
}

impl Eval for Fake<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.calls += 1;
        Ok((self.picture)(x, sigma, self.schedule.timestep(sigma)))
    }
    fn noise(&mut self) -> Result<Tensor> {
        self.draws += 1;
        Ok(if self.silent { Tensor::from(0.0) } else { wave(self.draws) })
    }
}

/// The draw noise_i[j] = √2·sin(1.7(4i + j) + 0.3).
pub(super) fn wave(i: usize) -> Tensor {
    let cells: Vec<f64> = (0..4).map(|j| 2f64.sqrt() * (1.7 * (4 * i + j) as f64 + 0.3).sin()).collect();
    Tensor::from_slice(&cells).reshape([1, 4, 1, 1])
}

pub(super) fn cells(values: [f64; 4]) -> Tensor {
    Tensor::from_slice(&values).reshape([1, 4, 1, 1])
}

fn linear(x: &Tensor, sigma: f64, _: f64) -> Tensor {
    let mu = cells([0.5, -0.25, 0.0, 1.0]);
    &mu + 0.6 / (0.6 + sigma * sigma) * (x - &mu)
}

fn wavy(x: &Tensor, sigma: f64, t: f64) -> Tensor {
    x - sigma * (x * (0.7 / sigma.hypot(1.0)) + t / 1000.0).sin()
}

pub(super) fn tanh(x: &Tensor, sigma: f64, _: f64) -> Tensor {
    (x / (1.0 + sigma)).tanh()
}

/// The pictures of the golden trajectories.
pub(super) const PICTURES: [(&str, Picture); 3] = [("linear", linear), ("wave", wavy), ("tanh", tanh)];

pub(super) fn golden(file: &str) -> Value {
    serde_json::from_str(match file {
        "sampling" => include_str!("../../../tests/golden/specs/sampling.json"),
        "solvers" => include_str!("../../../tests/golden/specs/solvers.json"),
        _ => include_str!("../../../tests/golden/specs/forcing.json"),
    })
    .unwrap()
}

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub(super) fn assert_near(got: &Tensor, want: &Value, what: &str) {
    let got = Vec::<f64>::try_from(got.flatten(0, -1)).unwrap();
    for (got, want) in got.iter().zip(numbers(want)) {
        assert!((got - want).abs() <= 1e-7 * want.abs().max(1.0), "{what}: {got} {want}");
    }
}

#[test]
fn trajectories_match_the_references() {
    let golden = golden("sampling");
    let table = TrainingSchedule::stable_diffusion();
    let of = |name: &str, terminal: f64| {
        let mut sigmas = numbers(&golden[name]["sigma"]);
        *sigmas.last_mut().unwrap() = terminal;
        let schedule = Schedule::from_sigmas(&table, &sigmas).unwrap();
        for (step, t) in schedule.steps().zip(numbers(&golden[name]["t"])) {
            assert!((step.timestep - t).abs() < 3e-5, "{} {t}", step.timestep);
        }
        schedule
    };
    // TCD ends at the lowest level
    let (karras, lcm, tcd) = (of("karras6", 0.0), of("lcm6", 0.0), of("lcm6", table.sigma_min()));
    let independent = DpmppSde { noise: SdeNoise::Independent, ..DpmppSde::default() };
    let solvers: [(&str, Box<dyn Solver>); 29] = [
        ("dpm2", Box::new(Dpm2::default())),
        ("dpm2_a", Box::new(Dpm2 { eta: 1.0, ..Dpm2::default() })),
        ("lms4", Box::new(Lms::default())),
        ("pndm", Box::new(Pndm::default())),
        ("dpmpp_sde", Box::new(DpmppSde::default())),
        ("dpmpp_sde_independent", Box::new(independent)),
        ("dpmpp_2s_a", Box::new(Dpmpp2SAncestral::default())),
        ("unipc2_bh1", Box::new(UniPc { bh2: false, ..UniPc::default() })),
        ("unipc2_bh2", Box::new(UniPc::default())),
        ("unipc3_bh2", Box::new(UniPc { order: 3, ..UniPc::default() })),
        ("deis2", Box::new(Deis::default())),
        ("deis3", Box::new(Deis { order: 3, ..Deis::default() })),
        ("lcm", Box::new(Lcm::default())),
        ("tcd_gamma0.3", Box::new(Tcd::default())),
        ("heun", Box::new(Heun)),
        ("dpmpp_2m", Box::new(Multistep::default())),
        ("dpmpp_2m_heun", Box::new(Multistep { correction: Correction::Heun, ..Multistep::default() })),
        ("dpmpp_2m_sde", Box::new(Multistep { eta: 1.0, ..Multistep::default() })),
        (
            "dpmpp_2m_sde_heun_eta0.5",
            Box::new(Multistep { eta: 0.5, correction: Correction::Heun, ..Multistep::default() }),
        ),
        ("dpmpp_3m", Box::new(Multistep { order: 3, ..Multistep::default() })),
        (
            "dpmpp_3m_exact",
            Box::new(Multistep {
                correction: Correction::Heun,
                taylor: Taylor::Exact,
                order: 3,
                ..Multistep::default()
            }),
        ),
        ("dpmpp_3m_sde", Box::new(Multistep::dpmpp_3m_sde())),
        ("dpmpp_3m_sde_exact", Box::new(Multistep { taylor: Taylor::Exact, ..Multistep::dpmpp_3m_sde() })),
        ("euler", Box::new(Euler)),
        ("euler_a", Box::new(EulerAncestral::default())),
        ("euler_a_eta0.5_snoise1.1", Box::new(EulerAncestral { eta: 0.5, s_noise: 1.1 })),
        ("ddim_eta0", Box::new(Ddim::default())),
        ("ddim_eta0.5", Box::new(Ddim { eta: 0.5 })),
        ("ddpm_fixed_large", Box::new(Ddpm { variance: Variance::Large })),
    ];
    for (name, mut solver) in solvers {
        let schedule = match name {
            "lcm" => &lcm,
            "tcd_gamma0.3" => &tcd,
            _ => &karras,
        };
        for (picture, f) in PICTURES {
            for forced in [false, true] {
                let want = &golden["trajectories"][name][picture];
                let mut eval = Fake::new(f, schedule);
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
fn pulls_shift_a_run_as_in_the_reference() {
    let golden = golden("sampling");
    for (name, shift) in
        golden["force_shift_linear"].as_object().unwrap().iter().filter(|(name, _)| !name.contains("forgetting"))
    {
        let want = &golden["trajectories"][name]["linear"];
        let (forced, free) = (numbers(&want["forced_x"][5]), numbers(&want["x"][5]));
        for ((forced, free), shift) in forced.iter().zip(free).zip(numbers(shift)) {
            assert!((forced - free - shift).abs() < 1e-8, "{name}");
        }
    }
}

/// The last latent of a run without forces, from the golden file's noise.
fn end(solver: &mut dyn Solver, schedule: &Schedule) -> Tensor {
    solver.reset();
    schedule.steps().fold(schedule.sigma_max() * wave(0), |x, step| {
        let transition = solver.step(&step, &x, &mut Fake::new(tanh, schedule)).unwrap();
        transition.mean + transition.std * wave(step.index + 1)
    })
}

#[test]
fn reset_clears_the_memory_of_every_solver() {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras).unwrap();
    let solvers: [fn() -> Box<dyn Solver>; 9] = [
        || Box::new(Multistep::dpmpp_3m_sde()),
        || Box::new(Lms::default()),
        || Box::new(Pndm::default()),
        || Box::new(Deis { order: 3, ..Deis::default() }),
        || Box::new(UniPc { order: 3, bh2: false, ..UniPc::default() }),
        || Box::new(Singlestep { order: 3, ..Singlestep::default() }),
        || Box::new(SaSolver::default()),
        || Box::new(ResMultistep::default()),
        || Box::new(ErSde::default()),
    ];
    for make in solvers {
        let (mut used, mut fresh) = (make(), make());
        let first = end(&mut used, &schedule);
        assert_eq!(end(&mut used, &schedule), first, "{}", used.name());
        // Without a reset, the memory of the previous run changes the mean.
        let inside = schedule.steps().nth(4).unwrap();
        let step =
            |solver: &mut dyn Solver| solver.step(&inside, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap().mean;
        assert_ne!(step(&mut used), step(&mut fresh), "{}", used.name());
    }
}

#[test]
fn edit_inside_a_singlestep_block_is_kept() {
    // The second step of a block starts from the first step's latent; an edit in between is added again.
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 6, Spacing::Karras).unwrap();
    let run = |push: f64| {
        let mut solver = Singlestep::default();
        let steps: Vec<Step> = schedule.steps().take(2).collect();
        let mut step =
            |i: usize, x: &Tensor| solver.step(&steps[i], x, &mut Fake::new(linear, &schedule)).unwrap().mean;
        let middle = step(0, &(schedule.sigma_max() * wave(0))) + push;
        step(1, &middle)
    };
    let moved = run(1.0) - run(0.0);
    assert!(moved.min().double_value(&[]) > 0.5, "{moved}");
}

#[test]
fn first_order_solvers_equal_euler() {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 9, Spacing::Exponential).unwrap();
    let same = |a: &mut dyn Solver, b: &mut dyn Solver| {
        let (got, want) = (end(a, &schedule), end(b, &schedule));
        assert!(got.allclose(&want, 0.0, 1e-12, false), "{} {}", a.name(), b.name());
    };
    same(&mut Multistep { order: 1, ..Multistep::default() }, &mut Euler);
    same(&mut Multistep { order: 1, ..Multistep::dpmpp_3m_sde() }, &mut EulerAncestral::default());
    same(&mut Deis { order: 1, ..Deis::default() }, &mut Euler);
    same(&mut Lms { order: 1, ..Lms::default() }, &mut Euler);
    same(&mut Singlestep { order: 1, ..Singlestep::default() }, &mut Euler);
    same(&mut UniPc { order: 1, uncorrected: (0..9).collect(), ..UniPc::default() }, &mut Euler);
    same(&mut UniPc { uncorrected: (0..9).collect(), ..UniPc::default() }, &mut Multistep::default());
    same(&mut DpmppSde { eta: 0.0, ..Default::default() }, &mut Dpmpp2SAncestral { eta: 0.0, s_noise: 1.0 });
    same(&mut Tcd { gamma: 0.0, ..Tcd::default() }, &mut Euler);
    same(&mut Restart { times: 0, ..Restart::default() }, &mut Heun);
    let above = Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &[9.0, 4.0, 2.5, 1.0, 0.15, 0.0]).unwrap();
    let restarted = end(&mut Restart::default(), &above);
    assert_ne!(restarted, end(&mut Heun, &above), "the lowest level lies above `low`");
    assert_eq!(restarted, end(&mut Restart { low: 0.15, ..Restart::default() }, &above));
    let sa =
        |tau| SaSolver { predictor_order: 1, corrector_order: 0, tau, window: Window::WHOLE, ..SaSolver::default() };
    same(&mut sa(0.0), &mut Euler);
    same(&mut sa(1.0), &mut EulerAncestral::default());
    same(&mut ErSde { order: 1, scale: NoiseScale::Square, ..ErSde::default() }, &mut EulerAncestral::default());
    same(&mut ErSde { order: 1, scale: NoiseScale::Linear, ..ErSde::default() }, &mut Euler);
    let mut two = Schedule::new(&TrainingSchedule::stable_diffusion(), 2, Spacing::Karras).unwrap();
    assert_ne!(end(&mut Heun, &two), end(&mut Euler, &two));
    two = two.last(1).unwrap();
    assert_eq!(end(&mut Heun, &two), end(&mut Euler, &two));
    assert_eq!(end(&mut Multistep::default(), &two), end(&mut Euler, &two));
}

#[test]
fn few_steps_end_with_lower_orders() {
    // Compares settings for few and many steps, in a whole run and in the end of a run. The last step ends above
    // level 0.
    let level = |i: usize, n: usize| (10f64.ln() - i as f64 / n as f64 * 200f64.ln()).exp();
    let ends = |n: usize, solver: Multistep| {
        let sigmas: Vec<f64> = (0..=n).map(|i| level(i, n)).collect();
        let schedule = Schedule::from_sigmas(&TrainingSchedule::stable_diffusion(), &sigmas).unwrap();
        (end(&mut Box::new(solver), &schedule), schedule)
    };
    let plain = || Multistep { lower_order_final: false, ..Multistep::default() };
    for (n, lowers) in [(14, true), (15, false)] {
        let (high, schedule) = ends(n, plain());
        assert_eq!(ends(n, Multistep::default()).0 != high, lowers, "{n}");
        assert_ne!(ends(n, Multistep { euler_at_final: true, ..plain() }).0, high);
        let third = |lower_order_final: bool| {
            end(&mut Multistep { euler_at_final: true, lower_order_final, order: 3, ..Multistep::default() }, &schedule)
        };
        assert_eq!(third(true) != third(false), lowers, "the second-to-last step of {n}");
        let inside = schedule.last(5).unwrap();
        let ends = [plain(), Multistep::default()].map(|mut solver| end(&mut solver, &inside));
        assert_eq!(ends[0] != ends[1], lowers, "the number of requested steps decides, {n}");
    }
}

#[test]
fn repeated_last_level_keeps_the_latent() {
    let options = SpacingOptions { terminal: Terminal::Lowest, ..Default::default() };
    let schedule =
        Schedule::with_options(&TrainingSchedule::stable_diffusion(), 20, Spacing::Exponential, &options).unwrap();
    let last = schedule.steps().last().unwrap();
    assert!((last.from / last.to - 1.0).abs() < 1e-12);
    let solvers: [Box<dyn Solver>; 8] = [
        Box::new(Multistep::default()),
        Box::new(Multistep::dpmpp_3m_sde()),
        Box::new(Deis { order: 3, ..Deis::default() }),
        Box::new(UniPc { uncorrected: (0..20).collect(), bh2: false, ..UniPc::default() }),
        Box::new(Singlestep::default()),
        Box::new(SaSolver { corrector_order: 0, ..SaSolver::default() }),
        Box::new(ResMultistep { eta: 1.0, ..ResMultistep::default() }),
        Box::new(ErSde::default()),
    ];
    for mut solver in solvers {
        for step in schedule.steps() {
            let transition = solver.step(&step, &wave(step.index), &mut Fake::new(tanh, &schedule)).unwrap();
            if step.index + 1 == step.count {
                assert!(transition.mean.allclose(&wave(step.index), 0.0, 1e-12, false), "{}", solver.name());
                assert!(transition.std < 1e-6 && transition.std >= 0.0);
            }
        }
    }
}

#[test]
fn equivalent_solvers_match_the_forced_golden() {
    let golden = golden("forcing");
    let golden = &golden["sampler_equivalence"];
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 10, Spacing::Leading).unwrap();
    assert_eq!(schedule.steps().map(|step| step.timestep).collect::<Vec<_>>(), numbers(&golden["steps"]));
    let (gold, mask) = (cells([0.5, -0.5, 1.0, 0.0]), cells([1.0, 1.0, 0.0, 0.5]));
    for target in ["mean", "signal_only", "denoised"] {
        let solvers: [(&str, Box<dyn Solver>); 7] = [
            ("euler", Box::new(Multistep { order: 1, ..Multistep::default() })),
            ("euler_a", Box::new(Multistep { order: 1, eta: 1.0, ..Multistep::default() })),
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

/// The `tanh` picture, pulled toward `gold` before the solver sees it.
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
fn down_and_std_add_up_to_the_next_level() {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 12, Spacing::Karras).unwrap();
    let solvers: [Box<dyn Solver>; 25] = [
        Box::new(Dpm2::default()),
        Box::new(Dpm2 { eta: 0.7, s_noise: 1.0 }),
        Box::new(Dpmpp2SAncestral::default()),
        Box::new(DpmppSde { noise: SdeNoise::Independent, ..Default::default() }),
        Box::new(Lms::default()),
        Box::new(Pndm::default()),
        Box::new(UniPc::default()),
        Box::new(Lcm::default()),
        Box::new(Tcd::default()),
        Box::new(Singlestep { order: 3, ..Singlestep::default() }),
        Box::new(Heun),
        Box::new(Multistep::default()),
        Box::new(Multistep { eta: 0.4, ..Multistep::default() }),
        Box::new(Multistep { eta: 3.0, ..Multistep::dpmpp_3m_sde() }),
        Box::new(Euler),
        Box::new(EulerAncestral { eta: 0.3, ..EulerAncestral::default() }),
        Box::new(EulerAncestral::default()),
        Box::new(EulerAncestral { eta: 7.0, ..EulerAncestral::default() }),
        Box::new(Ddim { eta: 0.5 }),
        Box::new(Ddpm::default()),
        Box::new(Restart { low: 0.5, ..Restart::default() }),
        Box::new(SaSolver { tau: 0.6, ..SaSolver::default() }),
        Box::new(ResMultistep { eta: 0.4, ..ResMultistep::default() }),
        Box::new(ErSde::default()),
        Box::new(ErSde { scale: NoiseScale::Logarithmic, ..ErSde::default() }),
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
fn last_step_draws_no_noise() {
    let (mut noise, untouched) = (Noise::seeded(1), Noise::seeded(1));
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Karras).unwrap();
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
fn sample_without_pulls_returns_the_mean_itself() {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Karras).unwrap();
    let step = schedule.steps().next().unwrap();
    let transition = Euler.step(&step, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap();
    let mean = transition.mean.shallow_clone();
    assert_eq!(transition.sample(&mut Noise::seeded(0)).unwrap().data_ptr(), mean.data_ptr());
}

#[test]
fn settings_out_of_range_are_errors() {
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 4, Spacing::Karras).unwrap();
    let step = schedule.steps().next().unwrap();
    let wrong: [Box<dyn Solver>; 33] = [
        Box::new(Lms { order: 0, ..Lms::default() }),
        Box::new(Lms { order: 5, ..Lms::default() }),
        Box::new(Deis { order: 4, ..Deis::default() }),
        Box::new(UniPc { order: 0, bh2: false, ..UniPc::default() }),
        Box::new(Singlestep { order: 0, ..Singlestep::default() }),
        Box::new(Dpm2 { eta: -1.0, s_noise: 1.0 }),
        Box::new(Dpmpp2SAncestral { eta: 1.0, s_noise: 0.0 }),
        Box::new(DpmppSde { eta: f64::NAN, ..Default::default() }),
        Box::new(DpmppSde { r: 0.0, ..Default::default() }),
        Box::new(Lcm { scaling: 0.0 }),
        Box::new(Tcd { gamma: 1.1, ..Tcd::default() }),
        Box::new(Tcd { gamma: f64::NAN, ..Tcd::default() }),
        Box::new(Multistep { order: 0, ..Multistep::default() }),
        Box::new(Multistep { order: 4, ..Multistep::default() }),
        Box::new(Multistep { eta: -1.0, ..Multistep::default() }),
        Box::new(Multistep { s_noise: f64::NAN, ..Multistep::default() }),
        Box::new(EulerAncestral { eta: -0.1, ..EulerAncestral::default() }),
        Box::new(EulerAncestral { eta: f64::NAN, ..EulerAncestral::default() }),
        Box::new(EulerAncestral { eta: 1.0, s_noise: 0.0 }),
        Box::new(Ddim { eta: 1.1 }),
        Box::new(Ddim { eta: f64::NAN }),
        Box::new(SaSolver { predictor_order: 0, ..SaSolver::default() }),
        Box::new(SaSolver { corrector_order: 5, ..SaSolver::default() }),
        Box::new(SaSolver { tau: -1.0, ..SaSolver::default() }),
        Box::new(SaSolver { window: Window::progress(0.0..=2.0), ..SaSolver::default() }),
        Box::new(ResMultistep { eta: f64::NAN, ..ResMultistep::default() }),
        Box::new(ErSde { order: 4, ..ErSde::default() }),
        Box::new(ErSde { s_noise: -1.0, ..ErSde::default() }),
        Box::new(ErSde { summed: Some(0), ..ErSde::default() }),
        Box::new(Restart { low: 0.0, ..Restart::default() }),
        Box::new(Restart { low: 3.0, ..Restart::default() }),
        Box::new(Restart { steps: 0, ..Restart::default() }),
        Box::new(Restart { times: 101, ..Restart::default() }),
    ];
    for mut solver in wrong {
        let error = solver.step(&step, &wave(0), &mut Fake::new(tanh, &schedule)).unwrap_err();
        assert!(matches!(error, crate::error::Error::Parameter { .. }), "{error}");
    }
}

/// A model that knows its pictures: cells with the mean .7 and the standard deviation .5.
struct Bell {
    draws: u64,
}

impl Bell {
    const MEAN: f64 = 0.7;
    const VARIANCE: f64 = 0.25;

    fn draw(&mut self) -> Result<Tensor> {
        self.draws += 1;
        Noise::shared(self.draws).draw(&[1, 4, 64, 64])
    }
}

impl Eval for Bell {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let share = Self::VARIANCE / (Self::VARIANCE + sigma * sigma);
        Ok(x.f_sub_scalar(Self::MEAN)?.f_mul_scalar(share)?.f_add_scalar(Self::MEAN)?)
    }
    fn noise(&mut self) -> Result<Tensor> {
        self.draw()
    }
}

#[test]
fn every_solver_takes_a_flow_to_its_pictures() -> Result<()> {
    let scheduler = SchedulerConfig::flow(3.0);
    for label in labels() {
        let (mut solver, _) = by_name(label)?;
        let schedule = scheduler.schedule_for_another(solver.family(), 200, None)?;
        let schedule = if solver.needs_finite_start() { schedule.below_start() } else { schedule };
        let mut bell = Bell { draws: 0 };
        let first = bell.draw()?;
        assert_eq!(first.kind(), Kind::Float, "the precision of latents");
        let mut x = &first * schedule.sigma_max();
        for step in schedule.steps() {
            let transition = solver.step(&step, &x, &mut bell)?;
            x = match transition.std {
                0.0 => transition.mean,
                std => transition.mean + bell.draw()? * std,
            };
        }
        let (mean, std) = (x.mean(Kind::Float).double_value(&[]), x.std(true).double_value(&[]));
        let last = schedule.steps().last().map_or(0.0, |step| step.to);
        let expected = (Bell::VARIANCE + last * last).sqrt();
        assert!((mean - Bell::MEAN).abs() < 0.03, "{label}: the mean is {mean}");
        // LCM and TCD take each prediction for a picture, so they need a network that was trained for this.
        let is_consistency = ["Lcm", "Tcd"].contains(&solver.name());
        assert!(
            is_consistency || (std / expected - 1.0).abs() < 0.1,
            "{label}: the deviation is {std}, not {expected}"
        );
    }
    Ok(())
}

#[test]
fn first_step_of_deis_from_pure_noise_is_exact() -> Result<()> {
    let schedule = SchedulerConfig::flow(3.0).schedule(4)?;
    let step = schedule.steps().next().expect("a step");
    let mut bell = Bell { draws: 0 };
    let x = bell.draw()? * step.from;
    let x0 = bell.x0(&x, step.from)?;
    let got = Deis::default().step(&step, &x, &mut bell)?.mean;
    let apart = (got - euler_step(&x, &x0, step.from, step.to)?).abs().max().double_value(&[]);
    assert!(step.from > 1e6 && apart < 1e-4, "{apart} from the level {}", step.from);
    Ok(())
}
