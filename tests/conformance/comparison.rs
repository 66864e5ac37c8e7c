//! What diffusers does and this crate does not offer, to reproduce its numbers.

use impasto::diffusion::solver::{Correction, Eval, Multistep, Solver};
use impasto::diffusion::{SchedulerConfig, Transition};
use impasto::{Result, Step};
use tch::Tensor;

/// (level, value) of the last steps, the newest first.
type History = Vec<(f64, Tensor)>;

/// h = ln(from/to), and the first and second differences of the newest values over it.
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

/// DPM-Solver in noise space (`dpmsolver`, `sde-dpmsolver`): the exponential integrator on the noise e. Its last level
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

/// `sde-dpmsolver++` of order 3: diffusers has −½ for +½ in φ₃, which makes it 1 more.
pub struct Dpmpp3MSdeOfDiffusers {
    config: SchedulerConfig,
    solver: Multistep,
    history: History,
}

impl Dpmpp3MSdeOfDiffusers {
    pub fn new(config: &SchedulerConfig) -> Self {
        let heun = config.solver_type.as_deref() == Some("heun");
        let solver = Multistep::dpmpp_3m_sde().correction(if heun { Correction::Heun } else { Correction::Midpoint });
        let solver = solver.lower_order_final(config.lower_order_final).euler_at_final(config.euler_at_final);
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
