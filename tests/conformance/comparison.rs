//! Solvers of diffusers that this crate does not offer, to reproduce the numbers of diffusers.

use impasto::diffusion::solver::{Correction, Eval, Multistep, Solver, euler_step};
use impasto::diffusion::{SchedulerConfig, Transition};
use impasto::{Result, Step};
use tch::Tensor;

/// Levels and values of the last steps, the newest first.
type History = Vec<(f64, Tensor)>;

/// Returns h = ln(from/to), and the first and second differences of the newest values over h.
fn differences(history: &History, step: &Step) -> (f64, Option<Tensor>, Option<(f64, Tensor)>) {
    let h = (step.from / step.to).ln();
    let slope = |i: usize| -> Option<(f64, Tensor)> {
        let [(near, a), (far, b)] = history.get(i..i + 2)? else { return None };
        let r = (far / near).ln() / h;
        Some((r, (a - b) / r))
    };
    let second = slope(0).zip(slope(1)).map(|((r0, d0), (r1, d1))| (r0, (d0 - d1) / (r0 + r1)));
    (h, slope(0).map(|(_, d0)| d0), second)
}

/// DPM-Solver in noise space (`dpmsolver`, `sde-dpmsolver`): the exponential integrator on the noise e. The last level
/// must be above 0.
pub struct DpmSolver {
    config: SchedulerConfig,
    history: History,
}

impl DpmSolver {
    pub fn new(config: &SchedulerConfig) -> Self {
        Self { config: config.clone(), history: Vec::new() }
    }
}

impl Solver for DpmSolver {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (s, u) = (step.from, step.to);
        let x0 = eval.x0(x, s)?;
        self.history.insert(0, (s, (x - &x0) / s));
        self.history.truncate(3);
        let left = if self.config.lower_order_final && step.nominal < 15 { step.count - step.index } else { 3 };
        let order = self.config.solver_order.min(self.history.len()).min(left);
        let sde = self.config.algorithm_type.as_deref() == Some("sde-dpmsolver");
        let times = if sde { 2.0 } else { 1.0 };
        // x − (s − u)e − w·d₀, w = ½(s − u) or p = u((e^h − 1)/h − 1); third order: … − p(d₀ + r₀q)
        // − u((e^h − 1 − h)/h² − ½)q
        let mut mean = x - times * (s - u) * &self.history[0].1;
        let (h, d0, second) = differences(&self.history, step);
        let p = u * (h.exp_m1() / h - 1.0);
        match (order, d0, second) {
            (2, Some(d0), _) if self.config.solver_type.as_deref() == Some("heun") => mean -= times * p * d0,
            (2, Some(d0), _) => mean -= times * 0.5 * (s - u) * d0,
            (3, Some(d0), Some((r0, q))) => {
                mean -= p * (d0 + r0 * &q);
                mean -= u * ((h.exp_m1() - h) / (h * h) - 0.5) * q;
            }
            _ => {}
        }
        let (std, down) = if sde { ((s * s - u * u).sqrt(), 2.0 * u - s) } else { (0.0, u) };
        Ok(Transition::new(mean, std, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "DpmSolver"
    }
}

/// `sde-dpmsolver++` of order 3. diffusers has −½ instead of +½ in φ₃, which is a difference of 1.
pub struct Dpmpp3MSdeOfDiffusers {
    config: SchedulerConfig,
    solver: Multistep,
    history: History,
}

impl Dpmpp3MSdeOfDiffusers {
    pub fn new(config: &SchedulerConfig) -> Self {
        let heun = config.solver_type.as_deref() == Some("heun");
        let solver = Multistep {
            order: 3,
            eta: 1.0,
            correction: if heun { Correction::Heun } else { Correction::Midpoint },
            lower_order_final: config.lower_order_final,
            euler_at_final: config.euler_at_final,
            ..Multistep::default()
        };
        Self { config: config.clone(), solver, history: Vec::new() }
    }
}

impl Solver for Dpmpp3MSdeOfDiffusers {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let mut transition = self.solver.step(step, x, eval)?;
        self.history.insert(0, (step.from, transition.x0.shallow_clone()));
        self.history.truncate(3);
        let third = match step.count - step.index {
            1 | 2 if self.config.lower_order_final && step.nominal < 15 => false,
            1 => step.to > 0.0 && !self.config.euler_at_final,
            _ => true,
        };
        if let (true, (_, _, Some((_, q)))) = (third, differences(&self.history, step)) {
            transition.mean -= q;
        }
        Ok(transition)
    }

    fn name(&self) -> &'static str {
        "Dpmpp3MSdeOfDiffusers"
    }
}

/// LMS started inside its schedule. The order counts the skipped steps, but their slopes are left out of the sum.
pub struct LmsFromInside {
    skipped: Vec<f64>,
    history: History,
}

impl LmsFromInside {
    pub fn new(skipped: &[f64]) -> Self {
        Self { skipped: skipped.to_vec(), history: Vec::new() }
    }
}

impl Solver for LmsFromInside {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let x0 = eval.x0(x, step.from)?;
        self.history.insert(0, (step.from, (x - &x0) / step.from));
        self.history.truncate(4);
        let levels = self.history.iter().map(|(level, _)| *level).chain(self.skipped.iter().rev().copied());
        let levels: Vec<f64> = levels.take(4).collect();
        // Gauss–Legendre quadrature with two points integrates a polynomial of third degree exactly.
        let half = (step.to - step.from) / 2.0;
        let basis = |j: usize, at: f64| -> f64 {
            let others = levels.iter().enumerate().filter(|(other, _)| *other != j);
            others.map(|(_, other)| (at - other) / (levels[j] - other)).product()
        };
        let mut mean = x.shallow_clone();
        for (j, (_, slope)) in self.history.iter().enumerate() {
            let middle = (step.from + step.to) / 2.0;
            let points = [-1.0, 1.0].map(|side| basis(j, middle + side * half / 3f64.sqrt()));
            mean += slope * (half * (points[0] + points[1]));
        }
        Ok(Transition::new(mean, 0.0, step.to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "LmsFromInside"
    }
}

/// PNDM that averages the v-predictions instead of the slopes, and converts the mean with the latent of the step.
#[derive(Default)]
pub struct PndmOnV(Vec<Tensor>);

impl Solver for PndmOnV {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (from, to) = (step.from, step.to);
        let v = |x: &Tensor, x0: &Tensor, s: f64| ((x - x0) / s - x0 * s) / s.hypot(1.0);
        let slope = |v: &Tensor| (v + x * (from / from.hypot(1.0))) / from.hypot(1.0);
        let x0 = eval.x0(x, from)?;
        self.0.insert(0, v(x, &x0, from));
        self.0.truncate(4);
        let mean = match self.0.as_slice() {
            [a] if step.count > 1 => {
                let y = x + slope(a) * (to - from);
                let there = eval.x0(&y, to)?;
                (a + v(&y, &there, to)) / 2.0
            }
            [a] => a.shallow_clone(),
            [a, b] => (a * 3.0 - b) / 2.0,
            [a, b, c] => (a * 23.0 - b * 16.0 + c * 5.0) / 12.0,
            [a, b, c, d, ..] => (a * 55.0 - b * 59.0 + c * 37.0 - d * 9.0) / 24.0,
            [] => unreachable!("one was inserted"),
        };
        Ok(Transition::new(x + slope(&mean) * (to - from), 0.0, to, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "PndmOnV"
    }
}

/// UniPC in noise space (`predict_x0` false). The last level must be above 0.
pub struct UniPcOfNoise {
    config: SchedulerConfig,
    history: History,
    /// Latent, prediction and order of the previous step.
    before: Option<(Tensor, Tensor, usize)>,
}

impl UniPcOfNoise {
    pub fn new(config: &SchedulerConfig) -> Self {
        Self { config: config.clone(), history: Vec::new(), before: None }
    }

    /// Returns x − u(e^h − 1)·e − u·B·Σ ρⱼ·(eⱼ − e)/rⱼ over a step from s to u, with the noise eⱼ at other levels.
    ///
    /// h is ln(s/u), rⱼ is ln(s/levelⱼ)/h, and B is h for `bh1` and e^h − 1 for `bh2`.
    fn over(&self, (s, u): (f64, f64), x: &Tensor, e: &Tensor, others: &[(f64, &Tensor)]) -> Tensor {
        let h = (s / u).ln();
        let b = if self.config.solver_type.as_deref() == Some("bh1") { h } else { h.exp_m1() };
        let places: Vec<f64> = others.iter().map(|(level, _)| (s / level).ln() / h).collect();
        let mut end = x - e * (u * h.exp_m1());
        for ((weight, place), (_, other)) in weights(&places, h, b).iter().zip(&places).zip(others) {
            end -= (*other - e) * (u * b * weight / place);
        }
        end
    }
}

/// Returns ρ of up to three places: Σⱼ ρⱼ·rⱼ^(i − 1) = φᵢ·i!/B, by elimination. A single ρ is ½.
fn weights(places: &[f64], hh: f64, b: f64) -> Vec<f64> {
    let n = places.len();
    if n == 1 {
        return vec![0.5];
    }
    let (mut phi, mut factorial) = (hh.exp_m1() / hh - 1.0, 1.0);
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for i in 1..=n {
        let row = places.iter().map(|place| place.powi(i as i32 - 1)).chain([phi * factorial / b]);
        rows.push(row.collect());
        factorial *= (i + 1) as f64;
        phi = phi / hh - 1.0 / factorial;
    }
    for pivot in 0..n {
        let row: Vec<f64> = rows[pivot].iter().map(|value| value / rows[pivot][pivot]).collect();
        for (_, other) in rows.iter_mut().enumerate().filter(|(i, _)| *i != pivot) {
            let factor = other[pivot];
            other.iter_mut().zip(&row).for_each(|(value, by)| *value -= factor * by);
        }
        rows[pivot] = row;
    }
    rows.iter().map(|row| row[n]).collect()
}

impl Solver for UniPcOfNoise {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (s, u) = (step.from, step.to);
        let x0 = eval.x0(x, s)?;
        let e = (x - &x0) / s;
        let index = step.nominal - step.count + step.index;
        let corrects = index > 0 && !self.config.disable_corrector.contains(&(index - 1));
        let corrected = match (&self.before, self.history.first()) {
            (Some((start, mean, order)), Some((q, known))) if corrects => {
                let earlier = self.history[1..*order].iter().map(|(level, e)| (*level, e));
                let others: Vec<(f64, &Tensor)> = earlier.chain([(s, &e)]).collect();
                self.over((*q, s), start, known, &others) + (x - mean)
            }
            _ => x.shallow_clone(),
        };
        self.history.insert(0, (s, e));
        self.history.truncate(3);
        let left = if self.config.lower_order_final { step.count - step.index } else { 3 };
        let order = self.config.solver_order.min(left).min(self.history.len());
        let others: Vec<(f64, &Tensor)> = self.history[1..order].iter().map(|(level, e)| (*level, e)).collect();
        let mean = match (s / u).ln().abs() < 1e-5 {
            true => corrected.shallow_clone(),
            false => self.over((s, u), &corrected, &self.history[0].1, &others),
        };
        self.before = Some((corrected, mean.shallow_clone(), order));
        Ok(Transition::new(mean, 0.0, u, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "UniPcOfNoise"
    }
}

/// DPM-Solver singlestep in noise space (`dpmsolver`), of order 1 or 2. The last level must be above 0.
pub struct SinglestepOfNoise {
    config: SchedulerConfig,
    history: History,
    block: Tensor,
}

impl SinglestepOfNoise {
    pub fn new(config: &SchedulerConfig) -> Self {
        assert!(config.solver_order < 3, "order 3 in noise space is not modelled");
        Self { config: config.clone(), history: Vec::new(), block: Tensor::new() }
    }
}

impl Solver for SinglestepOfNoise {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let (s, u, order) = (step.from, step.to, self.config.solver_order);
        let x0 = eval.x0(x, s)?;
        self.history.insert(0, (s, (x - &x0) / s));
        self.history.truncate(2);
        let last = step.index + 1 == step.count && self.config.lower_order_final && step.nominal.is_multiple_of(order);
        let place = if last { 0 } else { (step.nominal - step.count + step.index) % order };
        let mean = match (place, self.history.as_slice()) {
            (1, [(_, e), (begin, first)]) => {
                let h = (begin / u).ln();
                let d = (e - first) / ((begin / s).ln() / h);
                let heun = self.config.solver_type.as_deref() == Some("heun");
                let weight = if heun { u * (h.exp_m1() / h - 1.0) } else { 0.5 * (begin - u) };
                &self.block - (begin - u) * first - weight * d
            }
            _ => {
                self.block = x.shallow_clone();
                euler_step(x, &x0, s, u)?
            }
        };
        Ok(Transition::new(mean, 0.0, u, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "SinglestepOfNoise"
    }
}

/// DPM2 a with the levels as diffusers forms them, in f32. Nearly all of `down` cancels in a long step, so that the
/// last bit of torch's levels changes the result.
pub struct Dpm2AncestralInSingle {
    levels: Vec<f32>,
}

impl Dpm2AncestralInSingle {
    /// Creates the solver from torch's levels.
    pub fn new(levels: Vec<f32>) -> Self {
        Self { levels }
    }

    /// Returns (middle, down, up) of a step.
    pub fn split(&self, from: f64, to: f64) -> (f64, f64, f64) {
        let nearest = |level: f64| {
            let level = level as f32;
            self.levels.iter().copied().min_by(|a, b| (a - level).abs().total_cmp(&(b - level).abs())).unwrap_or(level)
        };
        let (s, u) = (nearest(from), nearest(to));
        let up = (u * u * (s * s - u * u) / (s * s)).sqrt();
        let down = (u * u - up * up).sqrt();
        let middle = (s.ln() + 0.5 * (down.ln() - s.ln())).exp();
        (f64::from(middle), f64::from(down), f64::from(up))
    }
}

impl Solver for Dpm2AncestralInSingle {
    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        let x0 = eval.x0(x, step.from)?;
        if step.to == 0.0 {
            return Ok(Transition::new(x0.shallow_clone(), 0.0, 0.0, x.shallow_clone(), x0));
        }
        let (middle, down, up) = self.split(step.from, step.to);
        let y = euler_step(x, &x0, step.from, middle)?;
        let slope = (&y - eval.x0_between(&y, middle)?) / middle;
        Ok(Transition::new(x + slope * (down - step.from), up, down, x.shallow_clone(), x0))
    }

    fn name(&self) -> &'static str {
        "Dpm2AncestralInSingle"
    }
}
