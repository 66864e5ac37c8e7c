//! Restart: a part of the run is repeated with fresh noise.

use super::history::History;
use super::{Eval, Heun, Solver, check_noise};
use crate::diffusion::transition::Transition;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Restart: Heun's method, and after the step that reaches the level `low`, fresh noise raises the latent to the level
/// `high`, from which it comes down again. The fresh noise removes errors of the steps before, as the noise of an
/// ancestral solver does, while the other steps keep the accuracy of Heun's method.
///
/// The repetitions are parts of the step that ends at or below `low`, with Karras levels of their own. They add 2 ·
/// `steps` · `times` model calls to those of [`Heun`]. A run whose only level below `low` is 0 has no repetition. A run
/// that begins below `high`, such as one from a picture, goes up to its first level alone.
///
/// A pull on the mean acts once per step, after the repetitions. Guidance methods that act on x0 see every call
/// ([`Step::eval`]).
///
/// Source: Xu et al. (2023), "Restart Sampling for Improving Generative Processes" (arXiv 2306.14878). "Restart" of the
/// AUTOMATIC1111 web UI has the same levels, but takes the repeated steps off the steps of the run. It repeats twice,
/// with a quarter of the steps, from 36 steps on, and not at all below 20.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct Restart {
    /// Noise level from which the latent goes up again, positive; 0.1 is usual. A run whose levels all lie above it,
    /// down to 0, goes up again from its lowest level.
    pub low: f64,
    /// Noise level to which the latent goes up, above `low`; 2 is usual.
    pub high: f64,
    /// Number of steps from `high` down again, 1..=1000; 9 is usual.
    pub steps: usize,
    /// Number of repetitions, 0..=100; 1 or 2 is usual.
    pub times: usize,
    /// Factor on the fresh noise, positive; 1 is the right amount.
    pub s_noise: f64,
    /// Memory of a run: the noise level that it began with.
    #[serde(skip)]
    pub history: History,
}

impl Default for Restart {
    fn default() -> Self {
        Self { low: 0.1, high: 2.0, steps: 9, times: 1, s_noise: 1.0, history: History::new() }
    }
}

/// Exponent of Karras levels.
const RHO: f64 = 7.0;

impl Restart {
    fn check(&self) -> Result<()> {
        check_noise(0.0, self.s_noise)?;
        if !(self.low > 0.0 && self.low < self.high && self.high.is_finite()) {
            let expected = "a positive level below `high`; 0.1 and 2 are usual";
            return Err(Error::parameter("low", self.low, expected));
        }
        if !(1..=1000).contains(&self.steps) {
            return Err(Error::parameter("steps", self.steps, "1 to 1000; 9 is usual"));
        }
        if self.times > 100 {
            return Err(Error::parameter("times", self.times, "0 to 100; 1 is usual"));
        }
        Ok(())
    }

    /// Raises the latent from the level `bottom` to `top`, and takes the steps down to `bottom` again.
    fn repeat(&self, step: &Step, x: &Tensor, (top, bottom): (f64, f64), eval: &mut dyn Eval) -> Result<Transition> {
        let up = self.s_noise * (top * top - bottom * bottom).sqrt();
        let mut x = x.f_add(&eval.noise()?.f_mul_scalar(up)?)?;
        let (first, last) = (top.powf(RHO.recip()), bottom.powf(RHO.recip()));
        let level = |i: usize| match i {
            0 => top,
            i if i == self.steps => bottom,
            i => (first + i as f64 / self.steps as f64 * (last - first)).powf(RHO),
        };
        let down = |i: usize, x: &Tensor, eval: &mut dyn Eval| {
            Heun.step(&Step { from: level(i), to: level(i + 1), ..*step }, x, &mut Between(eval))
        };
        for i in 0..self.steps - 1 {
            x = down(i, &x, eval)?.mean;
        }
        down(self.steps - 1, &x, eval)
    }
}

/// An evaluator whose levels lie between those of the schedule.
struct Between<'a>(&'a mut dyn Eval);

impl Eval for Between<'_> {
    fn x0(&mut self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.0.x0_between(x, sigma)
    }

    fn noise(&mut self) -> Result<Tensor> {
        self.0.noise()
    }
}

impl Solver for Restart {
    fn reset(&mut self) {
        self.history.clear();
    }

    fn step(&mut self, step: &Step, x: &Tensor, eval: &mut dyn Eval) -> Result<Transition> {
        self.check()?;
        let begun = self.history.ago(0).map_or(step.from, |(level, _)| level);
        let (top, bottom) = (self.high.min(begun), step.to);
        let mut start = x.shallow_clone();
        if bottom == 0.0 && self.low < step.from && step.from < top {
            for _ in 0..self.times {
                start = self.repeat(step, &start, (top, step.from), eval)?.mean;
            }
        }
        let mut transition = Heun.step(step, &start, eval)?;
        if self.history.len() == 0 {
            self.history.push(step.from, transition.x0.shallow_clone(), 1);
        }
        if step.from > self.low && bottom <= self.low && bottom > 0.0 && bottom < top {
            for _ in 0..self.times {
                let repeated = self.repeat(step, &transition.mean, (top, bottom), eval)?;
                transition = Transition::new(repeated.mean, 0.0, bottom, x.shallow_clone(), repeated.x0);
            }
        }
        Ok(transition)
    }

    fn name(&self) -> &'static str {
        "Restart"
    }

    fn recipe(&self) -> Result<Recipe> {
        Recipe::of("Restart", self)
    }
}
