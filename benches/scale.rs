//! Growth of a step's time along one axis.
//!
//! `cargo bench --bench scale [-- size|batch|forces|hooks|chunks|sd15] [--rounds N]`; without a name, all axes but
//! `sd15`. The example `growth` of impasto-yardstick plots the figures.
//!
//! The bench runs the embedded model on one thread and takes the processor's time of all steps of a run but the first.
//! Every round takes each point of an axis once, in turn. The figures are medians of the ratios to that round's first
//! point. Each axis is varied alone; the others stay at 128×128 pixels, one image, one chunk, no force and
//! no hook.
//!
//! * `size`: pixels of a side. Convolutions and linear layers are linear in the area, self-attention is quadratic.
//! * `batch`: images. The time grows linearly at most.
//! * `forces`: color forces, on the prompt's six phrases in turn. They share the reading of attention. Each has a mask
//!   to make and latents to pull.
//! * `hooks`: hooks that each take the mean attention of every token at every cross-attention site. They share the
//!   probabilities.
//! * `chunks`: chunks of 75 tokens in the prompt. The prompt's keys and values are made once a run. The time of
//!   attention to the prompt grows linearly.
//! * `sd15`: sizes again, with a network of SD 1.5's size and random weights, 256×256 and 512×512 pixels.
//!   Takes 4 GB and some minutes.

mod support;

use impasto::attention::{At, AttentionSite, CrossAttentionHook, Interest, Probs};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Noise, Schedule, Spacing, TrainingSchedule};
use impasto::methods::ColorForce;
use impasto::methods::color_force::GoldMode;
use impasto::sampler::{Sampler, Start};
use impasto::{Branch, Codec, Grid, Model, Result, Rgb, Source, Window};
use support::clock::Clock;
use support::figures::Figure;
use support::statistics::{bootstrap, median};
use support::{PROMPT, Unet};
use tch::{Device, Kind, Tensor};

/// A quantity that is varied, and its points.
struct Axis {
    name: &'static str,
    points: &'static [usize],
}

const AXES: [Axis; 5] = [
    Axis { name: "size", points: &[128, 192, 256, 384, 512] },
    Axis { name: "batch", points: &[1, 2, 4, 6, 8] },
    Axis { name: "forces", points: &[0, 1, 2, 4, 8, 16] },
    Axis { name: "hooks", points: &[0, 1, 2, 4, 8] },
    Axis { name: "chunks", points: &[1, 2, 3, 4] },
];
const SD15: Axis = Axis { name: "size", points: &[256, 512] };

/// A hook that adds up means of attention.
#[derive(Default)]
struct Means(Option<Tensor>);

impl CrossAttentionHook for Means {
    fn interest(&self, site: &AttentionSite, branch: Branch) -> Interest {
        if site.is_cross() && branch == Branch::Cond { Interest::PROBS } else { Interest::NONE }
    }
    fn probs(&mut self, _: &At, probs: &Probs) -> Result<()> {
        let here = probs.columns(probs.tokens())?.f_mean_dim([0i64, 1, 2].as_slice(), false, Kind::Float)?;
        self.0 = Some(match self.0.take() {
            Some(sum) => sum.f_add(&here)?,
            None => here,
        });
        Ok(())
    }
}

/// Returns the seconds per step at a point of an axis, over `steps` steps.
///
/// One more step comes before them and is not timed, because it fills the run's caches.
fn seconds<M: Denoiser + Codec>(model: &M, axis: &str, point: usize, steps: usize) -> Result<f64> {
    let at = |name: &str, otherwise: usize| if axis == name { point } else { otherwise };
    let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 1 + steps, Spacing::Leading)?;
    let mut sampler = Sampler::new(schedule, Euler);
    for phrase in ["eyes", "hair", "skin", "shirt", "background", "hair bow"].iter().cycle().take(at("forces", 0)) {
        let gold = GoldMode::Latent(Tensor::zeros([1, 4, 1, 1], (Kind::Float, Device::Cpu)).into());
        sampler = sampler.guide(
            ColorForce::published(*phrase, Rgb(255, 215, 0)).tune(|options| options.gold = gold).window(Window::WHOLE),
        );
    }
    for _ in 0..at("hooks", 0) {
        sampler = sampler.hook(Means::default());
    }
    let prompt = vec![PROMPT; at("chunks", 1)].join(" BREAK ");
    let cells = (at("size", 128) / 8) as i64;
    let mut start = Start::new(&prompt, Grid::new(cells, cells), Noise::shared(7));
    start.images = at("batch", 1);
    let mut run = sampler.start(model, start)?;
    run.step()?;
    let begun = Clock::start();
    while run.step()?.is_some() {}
    Ok(begun.elapsed().as_secs_f64() / steps as f64)
}

/// Measures each point's time, and prints and records its ratio to the first point's time.
fn measure<M: Denoiser + Codec>(model: &M, axis: &Axis, rounds: usize, steps: impl Fn(usize) -> usize) -> Result<()> {
    let mut times = vec![Vec::new(); axis.points.len()];
    for _ in 0..rounds {
        for (point, times) in axis.points.iter().zip(&mut times) {
            times.push(seconds(model, axis.name, *point, steps(*point))?);
        }
    }
    let first = times[0].clone();
    for (point, times) in axis.points.iter().zip(times) {
        let ratios: Vec<f64> = times.iter().zip(&first).map(|(time, first)| time / first).collect();
        let (interval @ (low, high), ratio) = (bootstrap(&ratios), median(ratios));
        println!("{} {point:4}: {:9.2} ms a step, {ratio:7.3} [{low:.3}, {high:.3}]", axis.name, 1e3 * median(times));
        let (group, row, interval) = (axis.name, &point.to_string(), Some(interval));
        Figure { bench: "scale", group, row, measure: "ratio", value: ratio, interval, rounds }.record();
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.get(arguments.iter().position(|argument| argument == name)? + 1);
    let rounds = after("--rounds").and_then(|rounds| rounds.parse().ok());
    let named = |group: &str| arguments.iter().any(|argument| argument == group);
    let some = named("sd15") || AXES.iter().any(|axis| named(axis.name));
    tch::set_num_threads(1);
    let model = Model::load(&Source::embedded())?;
    for axis in AXES.iter().filter(|axis| !some || named(axis.name)) {
        seconds(&model, axis.name, axis.points[0], 1)?; // warm-up
        // Long steps need few repetitions.
        let steps = |point: usize| if axis.name == "size" { (3 * 384 / point).clamp(2, 8) } else { 8 };
        measure(&model, axis, rounds.unwrap_or(9), steps)?;
    }
    if named("sd15") {
        measure(&Unet::sd15(Kind::Float)?, &SD15, rounds.unwrap_or(1), |_| 1)?;
    }
    Ok(())
}
