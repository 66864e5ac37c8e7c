//! What guidances cost, as ratios to the bare step: `cargo bench --bench overhead [-- tiny|sd15] [--rounds N]
//! [--threads N]`.
//!
//! Machines are shared and noisy, so every round runs each row once, in turn, and the figures are ratios to that
//! round's `none`: their median, with a bootstrap 95 % interval. `again` is `none` a second time: what is not the
//! guidance's.
//!
//! A row's time is that of whole steps of a run, on the tiny model or on a network of Stable Diffusion 1.5's size with
//! random weights (32×32 latents, 77 tokens); `own` is the ratio less one, the guidance's own operations.

use impasto::attention::{AttentionSite, Tap};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, Table};
use impasto::guidance::{ColorForce, Daam, GoldMode, Guidance};
use impasto::nn::{UNet, UnetConfig};
use impasto::sampler::{Sampler, Start};
use impasto::testing::ToyModel;
use impasto::weights::Weights;
use impasto::{Codec, Conditioning, Grid, Model, Prompt, Result, Rgb, Source, Step};
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";

/// A UNet of Stable Diffusion 1.5's size and nothing else: prompts are noise, pictures are latents.
struct Unet {
    unet: UNet,
    words: ToyModel,
}

impl Unet {
    fn sd15() -> Result<Self> {
        let config = serde_json::json!({
            "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "cross_attention_dim": 768,
            "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "sample_size": 64,
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
        });
        let config = UnetConfig::from_json("sd15", &config.to_string())?;
        let unet = UNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &config)?;
        Ok(Self { unet, words: ToyModel::new(1)? })
    }
}

impl Denoiser for Unet {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let x = Tensor::cat(&inputs.iter().map(|input| input.x).collect::<Vec<_>>(), 0);
        let context = Tensor::cat(&inputs.iter().map(|input| &input.conditioning.context).collect::<Vec<_>>(), 0);
        let sample = &x / (step.sigma * step.sigma + 1.0).sqrt();
        let eps = self.unet.forward(&sample, &Tensor::from(step.timestep), &context, None, tap)?;
        Ok(Predictions::new(step, inputs, (x - eps * step.sigma).chunk(inputs.len() as i64, 0)))
    }
}

impl Codec for Unet {
    fn prompt(&self, text: &str) -> Result<Prompt> {
        self.words.prompt(&text.replace(',', ""))
    }
    fn text(&self, _: &str) -> Result<Conditioning> {
        Ok(Conditioning::new(Noise::shared(3).draw(&[1, 77, 768])?))
    }
    fn encode(&self, picture: &Tensor) -> Result<Tensor> {
        self.words.encode(picture)
    }
    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.words.decode(latent)
    }
    fn cell(&self) -> i64 {
        1
    }
}

/// The guidances of a row. Forces act at every step, so that every step is the same work.
fn guidances(row: &str) -> Vec<Box<dyn Guidance>> {
    let gold = || GoldMode::Latent(Tensor::zeros([1, 4, 1, 1], (Kind::Float, Device::Cpu)));
    let force = |phrase: &str| -> Box<dyn Guidance> {
        Box::new(ColorForce::new(phrase, Rgb(255, 215, 0)).gold(gold()).max_timestep(999.0))
    };
    match row {
        "daam" => vec![Box::new(Daam::of("eyes"))],
        "force" => vec![force("eyes")],
        "daam + force" => vec![Box::new(Daam::of("hair")), force("eyes")],
        "3 forces" => vec![force("eyes"), force("hair"), force("skin")],
        _ => Vec::new(),
    }
}

const ROWS: [&str; 6] = ["none", "again", "daam", "force", "daam + force", "3 forces"];

/// Seconds a step, over `steps` steps.
fn seconds<M: Denoiser + Codec>(model: &M, grid: Grid, steps: usize, row: &str) -> Result<f64> {
    let schedule = Schedule::new(&Table::stable_diffusion(), steps, Spacing::Leading)?;
    let mut sampler = Sampler::new(schedule, Euler);
    for guidance in guidances(row) {
        sampler = sampler.guide(guidance);
    }
    let mut run = sampler.start(model, Start::new(PROMPT, grid, Noise::shared(7)))?;
    run.step()?; // fills what is kept for the run
    let begun = Instant::now();
    let mut taken = 0;
    while run.step()?.is_some() {
        taken += 1;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(taken))
}

fn group<M: Denoiser + Codec>(name: &str, model: &M, grid: Grid, steps: usize, rounds: usize) -> Result<()> {
    for row in ROWS {
        seconds(model, grid, steps, row)?; // warm
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ROWS.len()];
    for _ in 0..rounds {
        for (row, times) in ROWS.iter().zip(&mut times) {
            times.push(seconds(model, grid, steps, row)?);
        }
    }
    println!("{name}: {rounds} rounds of {} steps, {} threads", steps - 1, tch::get_num_threads());
    let none = times[0].clone();
    for (row, times) in ROWS.iter().zip(times) {
        let ratios: Vec<f64> = times.iter().zip(&none).map(|(time, none)| time / none).collect();
        let (low, high) = bootstrap(&ratios);
        let ratio = median(ratios);
        println!(
            "  {row:<14} {:8.2} ms a step   ratio {ratio:.4} [{low:.4}, {high:.4}]   own {:+.2} %",
            1e3 * median(times),
            100.0 * (ratio - 1.0)
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The 95 % interval of the median under resampling.
fn bootstrap(values: &[f64]) -> (f64, f64) {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values[(state >> 33) as usize % values.len()]
    };
    let mut medians: Vec<f64> = (0..2000).map(|_| median((0..values.len()).map(|_| draw()).collect())).collect();
    medians.sort_by(f64::total_cmp);
    (medians[50], medians[1949])
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| -> Option<usize> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let wanted = |group: &str| {
        let named = |name: &&str| arguments.iter().any(|argument| argument == *name);
        named(&group) || !["tiny", "sd15"].iter().any(named)
    };
    tch::set_num_threads(option("--threads").unwrap_or(1) as i32);
    if wanted("tiny") {
        let model = Model::load(&Source::embedded())?;
        group("tiny", &model, Grid::new(16, 16), 21, option("--rounds").unwrap_or(30))?;
    }
    if wanted("sd15") {
        group("sd15", &Unet::sd15()?, Grid::new(32, 32), 2, option("--rounds").unwrap_or(30))?;
    }
    Ok(())
}
