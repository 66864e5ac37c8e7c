//! Trains a model like the embedded one, part after part:
//!
//! ```text
//! cargo run --release --features train --example train -- vae OUT --steps 12000
//! cargo run --release --features train --example train -- latents OUT --count 24576
//! cargo run --release --features train --example train -- unet OUT --steps 20000
//! cargo run --release --features train --example train -- decoder OUT --steps 4000
//! cargo run --release --features train --example train -- clip OUT --steps 1500
//! cargo run --release --features train --example train -- text OUT --steps 1500 --batch 32
//! cargo run --release --features train --example train -- evaluator OUT --steps 2000
//! ```
//!
//! `OUT/model` is a diffusers folder, complete once all parts have been trained; `OUT/vae`, `OUT/unet` have checkpoints, journals
//! and sample sheets. Stop it whenever you like and start it again: it goes on. Options: `--minutes N` stops after a time,
//! `--workers N` (threads, 2), `--seed N` (0), `--init FILE` begins with those weights, given more than once
//! with their mean, `--batch N` samples a worker (16).
//! `--kind bf16` computes the UNet in bf16. `clip` teaches the vision tower to meet the text tower, which the UNet depends on; `text` teaches the text tower to
//! read past words that it does not know; `evaluator` is the judge of the result.

use impasto::nn::{ClipImageProcessor, ClipTextConfig, ClipVisionConfig, UnetConfig, Vae, VaeConfig};
use impasto::train::dataset::Dataset;
use impasto::train::{
    ClipTask, EvaluatorTask, HELD_OUT, Latents, ModelFolder, Progress, Rate, TextTask, Training, UnetTask, VaeTask,
    averaged,
};
use impasto::weights::{Tensors, Weights, read_safetensors};
use impasto::{Error, Source};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind};

/// Side of the pictures.
const SIZE: u32 = 256;
/// The embedded model's VAE.
const VAE: &str = include_str!("train/vae.json");
/// Its UNet.
const UNET: &str = include_str!("train/unet.json");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "train vae|latents|unet|decoder|clip|text|evaluator OUT [--steps N] [--minutes N] [--workers N] [--seed N] [--count N] [--batch N] [--init FILE]";
    let (part, out) = (arguments.next().ok_or(usage)?, PathBuf::from(arguments.next().ok_or(usage)?));
    let mut options = Options {
        steps: 12000,
        count: 16384,
        batch: 16,
        workers: 2,
        kind: Kind::Float,
        seed: 0,
        minutes: None,
        init: Vec::new(),
    };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(usage)?;
        match option.as_str() {
            "--steps" => options.steps = value.parse()?,
            "--count" => options.count = value.parse()?,
            "--batch" => options.batch = value.parse()?,
            "--kind" if value == "bf16" => options.kind = Kind::BFloat16,
            "--kind" if value == "f32" => options.kind = Kind::Float,
            "--workers" => options.workers = value.parse()?,
            "--seed" => options.seed = value.parse()?,
            "--minutes" => options.minutes = Some(value.parse()?),
            "--init" => options.init.push(value.into()),
            _ => return Err(usage.into()),
        }
    }
    let model = ModelFolder::new(out.join("model"), &Source::embedded())?;
    match part.as_str() {
        "vae" => vae(&out, &model, &options)?,
        "decoder" => decoder(&out, &model, &options)?,
        "latents" => drop(latents(&out, &model, &options)?),
        "unet" => unet(&out, &model, &options)?,
        "clip" => clip(&out, &model, &options)?,
        "text" => text(&out, &model, &options)?,
        "evaluator" => evaluator(&out, &model, &options)?,
        _ => return Err(usage.into()),
    }
    Ok(())
}

struct Options {
    steps: u64,
    count: u64,
    batch: usize,
    workers: usize,
    kind: Kind,
    seed: u64,
    minutes: Option<f64>,
    init: Vec<PathBuf>,
}

impl Options {
    fn training(&self, folder: PathBuf, muon: f64, adamw: f64, hold: f64) -> Training {
        Training {
            folder,
            seed: self.seed,
            workers: self.workers,
            rate: Rate { warm_up: 50, hold, steps: self.steps },
            muon: (muon, 0.01),
            adamw: (adamw, 1e-3),
            clip: 1.0,
            ema: 0.9985,
            checkpoint: Duration::from_secs(180),
            evaluate: 500,
            until: self.minutes.map(|minutes| Instant::now() + Duration::from_secs_f64(60.0 * minutes)),
        }
    }

    /// Weights to begin with: those of a file, the mean of several, or new ones.
    fn initial(&self, new: impl FnOnce() -> Result<Tensors, Error>) -> Result<Tensors, Error> {
        if self.init.is_empty() {
            return new();
        }
        averaged(&self.init.iter().map(|file| read_safetensors(file)).collect::<Result<Vec<_>, _>>()?)
    }
}

fn vae(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (config, dataset) = (VaeConfig::from_json("vae/config.json", VAE)?, Dataset::new(SIZE)?);
    let training = options.training(out.join("vae"), 0.03, 3e-3, 0.3);
    let initial = || options.initial(|| VaeTask::initial(&config, options.seed));
    let task = || VaeTask::new(config.clone(), dataset, Kind::Float);
    let ema = training.run(initial, || Ok(task()), report)?;
    let scale = task().scaling_factor(&ema)?;
    model.put("vae", &VAE.replace("\"scaling_factor\": 1.0", &format!("\"scaling_factor\": {scale:.5}")), &ema)
}

/// The decoder alone, longer: latents stay as they are.
fn decoder(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (config, dataset) = (VaeConfig::from_json("vae/config.json", VAE)?, Dataset::new(SIZE)?);
    let training = options.training(out.join("decoder"), 0.012, 1e-3, 0.2);
    let initial = || options.initial(|| read_safetensors(&out.join("vae/ema.safetensors")));
    let task = || Ok(VaeTask::new(config.clone(), dataset, Kind::Float).frozen_encoder());
    let ema = training.run(initial, task, report)?;
    let path = model.path().join("vae/config.json");
    let json = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    model.put("vae", &json, &ema)
}

/// The VAE that was trained before, in f32.
fn trained_vae(model: &ModelFolder) -> Result<Vae, Error> {
    let path = model.path().join("vae/config.json");
    let config = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let weights = model.path().join("vae/diffusion_pytorch_model.safetensors");
    let config = VaeConfig::from_json("vae/config.json", &config)?;
    Vae::new(&Weights::open(&weights, Kind::Float, Device::Cpu)?, &config)
}

fn latents(out: &Path, model: &ModelFolder, options: &Options) -> Result<(Latents, Latents), Error> {
    let encode = |folder: &str, seeds| {
        Latents::encode(&out.join(folder), Dataset::new(SIZE)?, || trained_vae(model), seeds, options.workers as u64)
    };
    Ok((encode("latents", 0..options.count)?, encode("held-out", HELD_OUT..HELD_OUT + 256)?))
}

fn unet(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (latents, held_out) = latents(out, model, options)?;
    let (latents, held_out) = (Arc::new(latents), Arc::new(held_out));
    let training = options.training(out.join("unet"), 0.012, 2e-3, 0.5);
    let config = UnetConfig::from_json("unet/config.json", UNET)?;
    let initial = || options.initial(|| UnetTask::initial(&config, options.seed));
    let make = || UnetTask::new(UNET, model.clone(), latents.clone(), held_out.clone(), options.batch, options.kind);
    let ema = training.run(initial, make, report)?;
    model.put("unet", UNET, &ema)
}

fn clip(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let read = |file: &str| {
        let path = model.path().join(file);
        std::fs::read_to_string(&path).map_err(|source| Error::Io { path, source })
    };
    let json = read("image_encoder/config.json")?;
    let configs = || -> Result<_, Error> {
        let text = ClipTextConfig::from_json("text_encoder/config.json", &read("text_encoder/config.json")?)?;
        Ok((text, ClipVisionConfig::from_json("image_encoder/config.json", &json)?))
    };
    let processor = read("feature_extractor/preprocessor_config.json")?;
    let processor = ClipImageProcessor::from_json("preprocessor_config.json", &processor)?;
    let make = || {
        let (tokenizer, dataset) = (model.text()?.0, Dataset::new(SIZE)?);
        Ok(ClipTask::new(configs()?, processor.clone(), tokenizer, dataset, options.batch, true))
    };
    let initial = || {
        let (text, vision) = configs()?;
        let mut weights = ClipTask::initial(&text, &vision, options.seed)?;
        for tower in ["text", "image"] {
            let file = model.path().join(format!("{tower}_encoder/model.safetensors"));
            let prefix = if tower == "image" { "vision" } else { tower };
            let known = read_safetensors(&file)?.into_iter().map(|(name, x)| (format!("{prefix}.{name}"), x));
            weights.extend(known);
        }
        Ok(weights)
    };
    let training = options.training(out.join("clip"), 0.01, 1.5e-3, 0.3);
    let ema = training.run(|| options.initial(initial), make, report)?;
    model.put("image_encoder", &json, &ClipTask::tower(&ema, "vision"))
}

/// The text encoder that the UNet learned from, taught to read past words that it does not know.
fn text(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let path = model.path().join("text_encoder/config.json");
    let json = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let config = ClipTextConfig::from_json("text_encoder/config.json", &json)?;
    let make = || {
        let (tokenizer, before) = model.text()?;
        Ok(TextTask::new(config.clone(), tokenizer, before, Dataset::new(64)?, options.batch))
    };
    let initial = || options.initial(|| read_safetensors(&model.path().join("text_encoder/model.safetensors")));
    let training = options.training(out.join("text"), 0.01, 1.5e-3, 0.2);
    let ema = training.run(initial, make, report)?;
    model.put("text_encoder", &json, &ema)
}

fn evaluator(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let training = options.training(out.join("evaluator"), 0.02, 4e-3, 0.0);
    let make = || Ok(EvaluatorTask::new(Dataset::new(SIZE)?, Some(trained_vae(model)?), options.batch));
    let initial = || options.initial(|| EvaluatorTask::initial(options.seed));
    training.run(initial, make, report).map(drop)
}

fn report(progress: &Progress<'_>) {
    let evaluated = progress.figures.iter().any(|(name, _)| name.starts_with("held-out"));
    if evaluated || progress.step.is_multiple_of(20) {
        let figures: Vec<_> = progress.figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let left = progress.left.as_secs();
        println!(
            "{:>6}/{}  {:.2}/s  {}:{:02}:{:02} left  {}",
            progress.step,
            progress.steps,
            progress.speed,
            left / 3600,
            left / 60 % 60,
            left % 60,
            figures.join("  ")
        );
    }
}
