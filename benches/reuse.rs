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
use impasto::{Grid, Model, Result, Source};
use support::PROMPT;
use support::clock::Clock;
use support::folder::write_model;
use support::turns::in_turns;

/// Names of the rows; row i computes deep layers at every (i + 1)-th step.
const ROWS: [&str; 3] = ["all", "every second", "every third"];
const STEPS: usize = 6;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<usize> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let wanted = |group: &str| {
        let named = |name: &&str| arguments.iter().any(|argument| argument == *name);
        named(&group) || !["tiny", "sd15"].iter().any(named)
    };
    tch::set_num_threads(number("--threads").unwrap_or(1) as i32);
    let rounds = number("--rounds").unwrap_or(7);
    if wanted("tiny") {
        group("tiny", &Model::load(&Source::embedded())?, rounds)?;
    }
    if wanted("sd15") {
        let folder = tempfile::tempdir().expect("a folder");
        write_model(folder.path(), false)?;
        group("sd15", &Model::load(&Source::dir(folder.path()))?, rounds)?;
    }
    Ok(())
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
