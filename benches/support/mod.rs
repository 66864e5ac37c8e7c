//! Models, rows and timing that the benches share.
#![allow(dead_code)] // each bench uses only a part of this module

pub mod clock;
pub mod figures;
pub mod folder;
pub mod joint;
pub mod models;
pub mod process;
pub mod rows;
pub mod statistics;
pub mod turns;

use clock::Clock;
use impasto::attention::{AttentionSite, Tap};
use impasto::diffusion::solver::Euler;
use impasto::diffusion::{Denoiser, Input, Noise, Predictions, Schedule, Spacing, TrainingSchedule};
use impasto::nn::{ConfigFile, UNet, UnetConfig};
use impasto::sampler::{Run, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::weights::Weights;
use impasto::{Codec, Conditioning, Grid, Prompt, Result, Step, Texts};
use tch::{Device, Kind, Tensor};

/// Prompt of the benches. Its words are in the tiny model's vocabulary.
pub const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";

/// A UNet of Stable Diffusion 1.5's size without other networks: prompts are noise, and pictures are latents.
pub struct Unet {
    unet: UNet,
    device: Device,
    words: ToyModel,
}

impl Unet {
    pub fn sd15(kind: Kind) -> Result<Self> {
        Self::sd15_on(kind, Device::Cpu)
    }

    pub fn sd15_on(kind: Kind, device: Device) -> Result<Self> {
        let config = serde_json::json!({
            "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "cross_attention_dim": 768,
            "attention_head_dim": 8, "in_channels": 4, "out_channels": 4, "sample_size": 64,
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
        });
        let config = UnetConfig::from_json("sd15", &config.to_string())?;
        let unet = UNet::new(&Weights::random(1, kind, device), &config)?;
        Ok(Self { unet, device, words: ToyModel::new(1)? })
    }
}

impl Denoiser for Unet {
    fn sites(&self) -> &[AttentionSite] {
        self.unet.sites()
    }
    fn device(&self) -> Device {
        self.device
    }
    fn denoise(&self, step: &Step, inputs: &[Input<'_>], tap: &mut Tap<'_>) -> Result<Predictions> {
        let x = Tensor::cat(&inputs.iter().map(|input| input.x).collect::<Vec<_>>(), 0);
        let context = Tensor::cat(&inputs.iter().map(|input| &input.conditioning.context).collect::<Vec<_>>(), 0);
        // As in a real model, branches that share a latent also share the computation before the prompt is read.
        let one = inputs.iter().all(|input| input.x.data_ptr() == inputs[0].x.data_ptr());
        let sample = if one { inputs[0].x } else { &x } / (step.sigma * step.sigma + 1.0).sqrt();
        let eps =
            self.unet.forward(&sample, &Tensor::from(step.timestep).to_device(self.device), &context, None, tap)?;
        Ok(Predictions::new(step, inputs, (x - eps * step.sigma).chunk(inputs.len() as i64, 0)))
    }
}

impl Codec for Unet {
    fn prompt(&self, texts: Texts<'_>) -> Result<Prompt> {
        self.words.prompt(texts.first.replace(',', "").as_str().into())
    }
    fn text(&self, _: Texts<'_>) -> Result<Conditioning> {
        Ok(Conditioning::new(Noise::shared(3).draw(&[1, 77, 768])?.to_device(self.device)))
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

/// Returns the noise levels of `steps` steps of Stable Diffusion.
pub fn levels(steps: usize) -> Result<Schedule> {
    Schedule::new(&TrainingSchedule::stable_diffusion(), steps, Spacing::Leading)
}

/// Starts a run over the noise levels `schedule` with the guidance methods of `row`, and takes its first step, which
/// fills the caches of the run.
pub fn begin<'m, M: Denoiser + Codec>(
    model: &'m M,
    schedule: Schedule,
    grid: Grid,
    row: &str,
) -> Result<Run<'static, 'm>> {
    let mut sampler = Sampler::new(schedule, Euler);
    for guidance in rows::methods(row) {
        sampler = sampler.guide(guidance);
    }
    let mut run = sampler.start(model, Start::new(PROMPT, grid, Noise::shared(7)))?;
    run.step()?;
    Ok(run)
}

/// Returns the seconds per step with the guidance methods of `row`, over `steps` steps of Stable Diffusion without the
/// first.
pub fn seconds<M: Denoiser + Codec>(model: &M, grid: Grid, steps: usize, row: &str) -> Result<f64> {
    let mut run = begin(model, levels(steps)?, grid, row)?;
    let begun = Clock::on(model.device());
    let mut taken = 0;
    while run.step()?.is_some() {
        taken += 1;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(taken))
}
