//! Cost of guidance methods, as ratios to the bare step: `cargo bench --bench overhead
//! [-- tiny|sd15|colorizer|precision|flow|joint] [--rows NAME,NAME] [--rounds N] [--threads N]`.
//!
//! Machines are shared and noisy, so every round has one run of each row, and these runs take their steps in turn. The
//! figures are ratios of each step to the same step of `none`: their median, with a bootstrap 95 % interval. `again` is
//! `none` a second time and shows the noise of the measurement. On one thread the clock takes processor time, which
//! other work on the machine hardly changes. On several threads the clock takes wall time, because processor time
//! counts waiting threads as working.
//!
//! A row's time is the time of whole steps of a run. The model is a tiny model, or a network of Stable Diffusion 1.5's
//! size with random weights (32×32 latents, 77 tokens). `own` is the ratio less one: the guidance method's own
//! operations. `precision` has the bare step of the network of SD 1.5's size in f32 and in bf16, in turns. `flow` is
//! the embedded transformer, and `joint` the first 4 blocks of the transformer of Stable Diffusion 3.5 medium, with
//! random weights and 333 tokens.

mod support;

use impasto::diffusion::{Denoiser, Schedule};
use impasto::{Codec, Grid, Model, Result, Source};
use support::clock::Clock;
use support::joint::Joint;
use support::rows::{COLORIZER_ROWS, ROWS};
use support::turns::{in_turns, steps_in_turns};
use support::{Unet, begin, levels, seconds};
use tch::Kind;

/// Rows for a transformer with joint attention.
const JOINT_ROWS: [&str; 12] = [
    "none",
    "again",
    "daam",
    "force",
    "daam + force",
    "paint",
    "paint (std)",
    "paint (flat)",
    "paint (idle)",
    "all",
    "word maps",
    "prompt blend",
];

fn group<M: Denoiser + Codec>(
    name: &str,
    model: &M,
    levels: impl Fn() -> Result<Schedule>,
    rounds: usize,
    rows: &[&str],
) -> Result<()> {
    let steps = levels()?.steps().count();
    println!("{name}: {rounds} rounds of {} steps, {} threads", steps - 1, tch::get_num_threads());
    steps_in_turns(
        "overhead",
        name,
        rows,
        rounds,
        |row| begin(model, levels()?, Grid::new(32, 32), rows[row]),
        |run| {
            let begun = Clock::on(model.device());
            Ok(run.step()?.map(|_| begun.elapsed().as_secs_f64()))
        },
    )
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| -> Option<usize> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let wanted = |group: &str| {
        let named = |name: &&str| arguments.iter().any(|argument| argument == *name);
        named(&group) || !["tiny", "sd15", "colorizer", "precision", "flow", "joint"].iter().any(named)
    };
    let named = arguments.iter().position(|argument| argument == "--rows").and_then(|at| arguments.get(at + 1));
    let chosen = |row: &&str| {
        matches!(*row, "none" | "again") || named.is_none_or(|named| named.split(',').any(|one| one == *row))
    };
    let rows: Vec<&str> = ROWS.into_iter().filter(|row| chosen(row)).collect();
    let rounds = option("--rounds").unwrap_or(30);
    tch::set_num_threads(option("--threads").unwrap_or(1) as i32);
    if wanted("tiny") {
        let model = Model::load(&Source::embedded())?;
        group("tiny", &model, || levels(21), rounds, &rows)?;
    }
    if wanted("sd15") {
        group("sd15", &Unet::sd15(Kind::Float)?, || levels(2), rounds, &rows)?;
    }
    if wanted("colorizer") {
        let model = Model::load(&Source::embedded_colorizer())?;
        group("colorizer", &model, || levels(21), rounds, &COLORIZER_ROWS)?;
    }
    if wanted("precision") {
        let models = [Unet::sd15(Kind::Float)?, Unet::sd15(Kind::BFloat16)?];
        let step = |row: usize| seconds(&models[row], Grid::new(32, 32), 2, "none");
        in_turns("overhead", "precision", &["f32", "bf16"], rounds, step)?;
    }
    if wanted("flow") {
        let model = Model::load(&Source::embedded_flow())?;
        // The skip connections that FreeU changes are those of a UNet.
        let rows: Vec<&str> = rows.iter().copied().filter(|row| *row != "free u").collect();
        group("flow", &model, || model.scheduler().schedule(20), rounds, &rows)?;
    }
    if wanted("joint") {
        let rows: Vec<&str> = JOINT_ROWS.into_iter().filter(|row| chosen(row)).collect();
        group("joint", &Joint::new(4)?, || levels(3), rounds, &rows)?;
    }
    Ok(())
}
