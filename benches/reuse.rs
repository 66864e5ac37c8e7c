//! Time of a step with deep layers that are used again, and with merged cells: `cargo bench --bench reuse
//! [-- tiny|sd15] [--side CELLS] [--rounds N] [--threads N]`.
//!
//! A row is the mean step of a run of six steps on 32×32 latents, or those of another side, with the embedded model or
//! a model of Stable Diffusion 1.5's size with random weights.

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

/// The options of speed of a row.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    /// Evaluations for which deep layers are computed once.
    reuse: usize,
    /// Share of the cells that are merged.
    merge_tokens: f64,
}

const ROWS: [Row; 6] = [
    Row { name: "all", reuse: 1, merge_tokens: 0.0 },
    Row { name: "every second", reuse: 2, merge_tokens: 0.0 },
    Row { name: "every third", reuse: 3, merge_tokens: 0.0 },
    Row { name: "half merged", reuse: 1, merge_tokens: 0.5 },
    Row { name: "most merged", reuse: 1, merge_tokens: 0.75 },
    Row { name: "second, half", reuse: 2, merge_tokens: 0.5 },
];
const STEPS: usize = 6;
/// Side of the latent without another in the command line.
const SIDE: i64 = 32;

fn main() -> Result<()> {
    let given = std::env::args().skip_while(|argument| argument != "--side").nth(1);
    let side = given.and_then(|side| side.parse().ok()).unwrap_or(SIDE);
    each_model(7, |name, model, rounds| group(name, model, side, rounds))
}

fn group(name: &str, model: &Model, side: i64, rounds: usize) -> Result<()> {
    println!("{name}: {rounds} rounds of {STEPS} steps, {side}×{side} cells, {} threads", tch::get_num_threads());
    let name = if side == SIDE { name.to_owned() } else { format!("{name}_{side}") };
    in_turns("reuse", &name, &ROWS.map(|row| row.name), rounds, |row| {
        let Row { reuse, merge_tokens, .. } = ROWS[row];
        let model = Controlled::new(model, &[])?.reuse(reuse)?.merge_tokens(merge_tokens)?;
        let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), STEPS, Spacing::Leading)?;
        let start = Start::new(PROMPT, Grid::new(side, side), Noise::shared(7));
        let mut run = Sampler::new(schedule, Euler).start(&model, start)?;
        let clock = Clock::start();
        while run.step()?.is_some() {}
        Ok(clock.elapsed().as_secs_f64() / STEPS as f64)
    })
}
