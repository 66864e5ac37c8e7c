//! Time of a step with deep layers that are used again: `cargo bench --bench reuse [-- tiny|sd15] [--rounds N]
//! [--threads N]`.
//!
//! A row is the mean step of a run of six steps on 32×32 latents, with the embedded model or a model of Stable
//! Diffusion 1.5's size with random weights.

mod support;

use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::model::Controlled;
use impasto::sampler::{Sampler, Start};
use impasto::{Grid, Model, Result};
use support::PROMPT;
use support::clock::Clock;
use support::models::each_model;
use support::turns::in_turns;

/// Names of the rows; row i computes deep layers at every (i + 1)-th step.
const ROWS: [&str; 3] = ["all", "every second", "every third"];
const STEPS: usize = 6;

fn main() -> Result<()> {
    each_model(7, group)
}

fn group(name: &str, model: &Model, rounds: usize) -> Result<()> {
    println!("{name}: {rounds} rounds of {STEPS} steps, {} threads", tch::get_num_threads());
    in_turns("reuse", name, &ROWS, rounds, |row| {
        let model = Controlled::new(model, &[])?.reuse(row + 1)?;
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), STEPS, Spacing::Leading)?;
        let mut run =
            Sampler::new(schedule, Euler).start(&model, Start::new(PROMPT, Grid::new(32, 32), Noise::shared(7)))?;
        let clock = Clock::start();
        while run.step()?.is_some() {}
        Ok(clock.elapsed().as_secs_f64() / STEPS as f64)
    })
}
