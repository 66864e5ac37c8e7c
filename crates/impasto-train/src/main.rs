//! Trains a model like the embedded one, part after part:
//!
//! ```text
//! cargo run --release -p impasto-train -- vae OUT --steps 12000
//! cargo run --release -p impasto-train -- latents OUT --count 24576
//! cargo run --release -p impasto-train -- unet OUT --steps 20000
//! cargo run --release -p impasto-train -- decoder OUT --steps 4000
//! cargo run --release -p impasto-train -- clip OUT --steps 1500
//! cargo run --release -p impasto-train -- text OUT --steps 1500 --batch 32
//! cargo run --release -p impasto-train -- evaluator OUT --steps 2000
//! cargo run --release -p impasto-train -- control OUT --steps 3200 --count 6144 --batch 6 --kind bf16 --crops 0.6
//! cargo run --release -p impasto-train -- distill OUT --steps 1100 --batch 4
//! ```
//!
//! `OUT/model` is a diffusers folder, complete once all parts have been trained. `OUT/vae` and `OUT/unet` have
//! checkpoints, journals and sample sheets. A training run that is stopped and started again continues from its last
//! checkpoint.

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use impasto::model::Defaults;
use impasto::nn::{ClipImageProcessor, ClipTextConfig, ClipVisionConfig, ConfigFile, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Tensors, Weights, parse_safetensors, read_safetensors};
use impasto::{LoadOptions, Model, Size, Source};
use impasto_train::dataset::Dataset;
use impasto_train::{
    ClipTask, ControlTask, DistillTask, Drawn, Error, EvaluatorTask, HELD_OUT, Latents, Listed, ModelFolder, Pictures,
    Rate, ReferenceTask, TextTask, Training, TrainingProgress, UnetTask, VaeTask, averaged, export,
};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind};

/// Side of the pictures in pixels.
const SIZE: u32 = 256;
/// Configuration of the embedded model's VAE.
const VAE: &str = include_str!("../networks/vae.json");
/// Configuration of the embedded model's UNet.
const UNET: &str = include_str!("../networks/unet.json");
/// Channels of the hint's embedding in the embedded model's ControlNet.
const SMALL_WIDTHS: [i64; 4] = [8, 16, 32, 64];
/// Channels of the hint's embedding in Stable Diffusion's ControlNets.
const USUAL_WIDTHS: [i64; 4] = [16, 32, 96, 256];

/// Trains a small model of the Stable Diffusion family on drawn pictures, part after part, or a ControlNet for any
/// model.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Trains the autoencoder of pictures.
    Vae(Options),
    /// Trains the autoencoder's decoder alone, longer. Latents stay unchanged.
    Decoder(Options),
    /// Encodes drawings to latents, which the UNet learns from; `unet` does this itself if latents are missing.
    Latents(Options),
    /// Trains the UNet.
    Unet(Options),
    /// Trains the vision tower to match the text tower.
    Clip(Options),
    /// Trains the text tower to read past words that it does not know.
    Text(Options),
    /// Trains the evaluator, which finds the parts of a picture.
    Evaluator(Options),
    /// Trains a ControlNet that follows lines and strokes of color, for a checkpoint that stays unchanged.
    Control(ControlOptions),
    /// Trains a model that colors a sketch like a reference picture, from the embedded model.
    Reference(Options),
    /// Trains the embedded UNet to paint in four steps, without a second branch.
    Distill(Options),
}

#[derive(Args)]
struct Options {
    /// Folder of the model, its checkpoints, journals and sample sheets.
    out: PathBuf,
    /// Total number of training steps, including those of earlier calls.
    #[arg(long, default_value_t = 12000)]
    steps: u64,
    /// Number of pictures whose latents the UNet learns from.
    #[arg(long, default_value_t = 16384)]
    count: u64,
    /// Number of samples that a worker takes in a step.
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    batch: usize,
    /// Number of batches that a worker takes in a step; their gradients are averaged.
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    accumulate: usize,
    /// Number of threads that each take a batch in a step.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    workers: usize,
    /// The number type that the UNet is computed in.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    kind: Precision,
    /// Seed of weights, drawings and noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Time in minutes after which the training stops with a checkpoint. The default is no limit.
    #[arg(long, value_parser = minutes)]
    minutes: Option<Duration>,
    /// Number of steps between two evaluations, each with a new sample sheet.
    #[arg(long, default_value_t = 500, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    evaluate: u64,
    /// File of initial weights. Several files are averaged. The default is new weights, or the weights of the part that
    /// was trained before.
    #[arg(long, value_name = "FILE")]
    init: Vec<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, &'static str> {
    let minutes = text.parse::<f64>().ok();
    let time = minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    time.ok_or("expected a number of minutes, 0 or more")
}

#[derive(Args)]
struct ControlOptions {
    #[command(flatten)]
    options: Options,
    /// Checkpoint that the ControlNet is for: a diffusers folder, or a single file. The default is the embedded model.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Pictures to learn from: a folder, with a text file of the same name beside each picture, or a list of JSON lines
    /// such as {"picture": "cat.png", "caption": "a cat"}, with paths or URLs. The default is drawings like those that
    /// the embedded model was trained on.
    #[arg(long, value_name = "PATH")]
    pictures: Option<PathBuf>,
    /// Device of the training: cpu, mps, cuda, or cuda:N such as cuda:1.
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: Device,
    /// Standard deviation of offset noise, which shifts the mean of patches of the noise. The default is .1 for the
    /// embedded model, which was trained with this value, and 0 for others.
    #[arg(long)]
    offset_noise: Option<f64>,
    /// Learning rate of matrices and kernels, by Muon. Other weights learn at a sixth of this rate, by AdamW.
    #[arg(long, default_value_t = 0.012)]
    rate: f64,
    /// Share of the training, from its start on, that learns from quarters of pictures without captions, 0 to 1.
    /// Quarters give four times as many samples at about the same cost.
    #[arg(long, default_value_t = 0.0)]
    crops: f64,
}

fn device(text: &str) -> Result<Device, &'static str> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "mps" => Ok(Device::Mps),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", number)) => number.parse().map(Device::Cuda).map_err(|_| "expected a number after cuda:"),
        _ => Err("expected cpu, mps, cuda, or cuda:N such as cuda:1"),
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    /// Floating point of 32 bits.
    F32,
    /// Floating point of 16 bits with the range of 32 (bfloat16).
    Bf16,
}

impl From<Precision> for Kind {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Float,
            Precision::Bf16 => Self::BFloat16,
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match &Arguments::parse().part {
        Part::Vae(options) => vae(&options.out, &options.folder()?, options)?,
        Part::Decoder(options) => decoder(&options.out, &options.folder()?, options)?,
        Part::Latents(options) => drop(latents(&options.out, &options.folder()?, options)?),
        Part::Unet(options) => unet(&options.out, &options.folder()?, options)?,
        Part::Clip(options) => clip(&options.out, &options.folder()?, options)?,
        Part::Text(options) => text(&options.out, &options.folder()?, options)?,
        Part::Evaluator(options) => evaluator(&options.out, &options.folder()?, options)?,
        Part::Control(options) => control(options)?,
        Part::Reference(options) => reference(options)?,
        Part::Distill(options) => distill(&options.out, &options.folder()?, options)?,
    }
    Ok(())
}

impl Options {
    fn folder(&self) -> impasto::Result<ModelFolder> {
        ModelFolder::new(self.out.join("model"))
    }

    fn training(&self, folder: PathBuf, muon: f64, adamw: f64, hold: f64) -> Training {
        Training {
            folder,
            seed: self.seed,
            workers: self.workers,
            accumulate: self.accumulate,
            device: Device::Cpu,
            rate: Rate { warm_up: 50, hold, steps: self.steps },
            muon: (muon, 0.01),
            adamw: (adamw, 1e-3),
            clip: 1.0,
            ema: 0.9985,
            checkpoint: Duration::from_secs(180),
            evaluate: self.evaluate,
            until: self.minutes.map(|minutes| Instant::now() + minutes),
        }
    }

    /// Returns the initial weights: those of a file, the mean of several files, or new ones.
    fn initial(&self, new: impl FnOnce() -> impasto::Result<Tensors>) -> impasto::Result<Tensors> {
        if self.init.is_empty() {
            return new();
        }
        averaged(&self.init.iter().map(|file| read_safetensors(file)).collect::<impasto::Result<Vec<_>>>()?)
    }
}

fn vae(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (config, dataset) = (VaeConfig::from_json("vae/config.json", VAE)?, Dataset::new(SIZE)?);
    let training = options.training(out.join("vae"), 0.03, 3e-3, 0.3);
    let initial = || options.initial(|| VaeTask::initial(&config, options.seed));
    let task = || VaeTask::new(config.clone(), dataset, Kind::Float);
    let ema = training.run(initial, || Ok(task()), report())?;
    let scale = task().scaling_factor(&ema)?;
    Ok(model.put("vae", &VAE.replace("\"scaling_factor\": 1.0", &format!("\"scaling_factor\": {scale:.5}")), &ema)?)
}

/// Trains the decoder alone, longer. Latents stay unchanged.
fn decoder(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (config, dataset) = (VaeConfig::from_json("vae/config.json", VAE)?, Dataset::new(SIZE)?);
    let training = options.training(out.join("decoder"), 0.012, 1e-3, 0.2);
    let initial = || options.initial(|| read_safetensors(&out.join("vae/ema.safetensors")));
    let task = || Ok(VaeTask::new(config.clone(), dataset, Kind::Float).frozen_encoder());
    let ema = training.run(initial, task, report())?;
    let path = model.path().join("vae/config.json");
    let json = std::fs::read_to_string(&path).map_err(|source| impasto::Error::Io { path: path.clone(), source })?;
    Ok(model.put("vae", &json, &ema)?)
}

/// Loads the VAE that was trained before, in f32.
fn trained_vae(model: &ModelFolder) -> impasto::Result<Vae> {
    let path = model.path().join("vae/config.json");
    let config = std::fs::read_to_string(&path).map_err(|source| impasto::Error::Io { path: path.clone(), source })?;
    let weights = model.path().join("vae/diffusion_pytorch_model.safetensors");
    let config = VaeConfig::from_json("vae/config.json", &config)?;
    Vae::new(&Weights::open(&weights, Kind::Float, Device::Cpu)?, &config)
}

fn latents(out: &Path, model: &ModelFolder, options: &Options) -> impasto::Result<(Latents, Latents)> {
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
    let make =
        || UnetTask::new(UNET, model.clone(), latents.clone(), held_out.clone(), options.batch, options.kind.into());
    let ema = training.run(initial, make, report())?;
    Ok(model.put("unet", UNET, &ema)?)
}

fn clip(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let read = |file: &str| {
        let path = model.path().join(file);
        std::fs::read_to_string(&path).map_err(|source| impasto::Error::Io { path, source })
    };
    let json = read("image_encoder/config.json")?;
    let configs = || -> impasto::Result<_> {
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
    let ema = training.run(|| options.initial(initial), make, report())?;
    Ok(model.put("image_encoder", &json, &ClipTask::tower(&ema, "vision"))?)
}

/// Trains the text encoder that the UNet learned from to read past words that it does not know.
fn text(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let path = model.path().join("text_encoder/config.json");
    let json = std::fs::read_to_string(&path).map_err(|source| impasto::Error::Io { path: path.clone(), source })?;
    let config = ClipTextConfig::from_json("text_encoder/config.json", &json)?;
    let make = || {
        let (tokenizer, before) = model.text()?;
        Ok(TextTask::new(config.clone(), tokenizer, before, Dataset::new(64)?, options.batch))
    };
    let initial = || options.initial(|| read_safetensors(&model.path().join("text_encoder/model.safetensors")));
    let training = options.training(out.join("text"), 0.01, 1.5e-3, 0.2);
    let ema = training.run(initial, make, report())?;
    Ok(model.put("text_encoder", &json, &ema)?)
}

fn evaluator(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let training = options.training(out.join("evaluator"), 0.02, 4e-3, 0.0);
    let make = || Ok(EvaluatorTask::new(Dataset::new(SIZE)?, Some(trained_vae(model)?), options.batch));
    let initial = || options.initial(|| EvaluatorTask::initial(options.seed));
    training.run(initial, make, report()).map(drop)
}

/// Trains a ControlNet, for the embedded model or another one.
fn control(control: &ControlOptions) -> Result<(), Error> {
    let ControlOptions { options, device, .. } = control;
    let (out, kind) = (&options.out, Kind::from(options.kind));
    let source = match &control.model {
        None => Source::embedded(),
        Some(path) if path.is_dir() => Source::dir(path),
        Some(path) => Source::file(path),
    };
    let load = || {
        let mut options = LoadOptions::default();
        options.precision = kind.into();
        options.device = *device;
        Model::load_with(&source, options)
    };
    let model = load()?;
    let pictures: [Arc<dyn Pictures>; 2] = match (&control.pictures, &control.model) {
        (Some(path), _) => {
            let Defaults { width, height, .. } = model.defaults();
            let open = |seed| Listed::open(path, &out.join("pictures"), Size::new(width, height), seed);
            // Sheets and evaluations show pictures of the same list in another order.
            [Arc::new(open(options.seed)?), Arc::new(open(HELD_OUT)?)]
        }
        (None, None) => {
            let dataset = Dataset::new(SIZE)?;
            let drawn = |name: &str, seeds: std::ops::Range<u64>| -> impasto::Result<Arc<dyn Pictures>> {
                let first = seeds.start;
                let latents = Latents::encode(&out.join(name), dataset, embedded_vae, seeds, options.workers as u64)?;
                Ok(Arc::new(Drawn::new(dataset, latents, first)))
            };
            [drawn("latents", 0..options.count)?, drawn("held-out", HELD_OUT..HELD_OUT + 256)?]
        }
        (None, Some(path)) => {
            let expected = "--pictures as well, because drawings, the default, suit only the embedded model";
            return Err(impasto::Error::parameter("--model", path.display(), expected).into());
        }
    };
    let widths = if control.model.is_none() { SMALL_WIDTHS } else { USUAL_WIDTHS };
    let config = ControlTask::config(&model, &widths);
    let offset = control.offset_noise.unwrap_or(if control.model.is_none() { 0.1 } else { 0.0 });
    let make = || {
        let [pictures, held_out] = pictures.clone();
        Ok(ControlTask::new(load()?, config.clone(), pictures, held_out, options.batch, kind)?
            .offset(offset)
            .crops(control.crops))
    };
    let initial = || options.initial(|| ControlTask::initial(&model, &config, options.seed));
    let training = options.training(out.join("control"), control.rate, control.rate / 6.0, 0.4);
    let ema = Training { device: *device, ..training }.run(initial, make, report())?;
    Ok(export(&out.join("controlnet"), &config.to_json()?, &ema)?)
}

/// Trains a model that colors sketches like reference pictures.
fn reference(options: &Options) -> Result<(), Error> {
    let (out, kind, dataset) = (&options.out, Kind::from(options.kind), Dataset::new(SIZE)?);
    let latents = |name: &str, seeds: std::ops::Range<u64>| -> impasto::Result<Arc<Latents>> {
        Ok(Arc::new(Latents::encode(&out.join(name), dataset, embedded_vae, seeds, options.workers as u64)?))
    };
    let (learned, held_out) = (latents("latents", 0..options.count)?, latents("held-out", HELD_OUT..HELD_OUT + 256)?);
    let model = Model::load(&Source::embedded())?;
    let make =
        || ReferenceTask::new(out.join("model"), dataset, learned.clone(), held_out.clone(), options.batch, kind);
    let initial = || options.initial(|| ReferenceTask::initial(&model, options.seed));
    let training = options.training(out.join("reference"), 0.008, 1.2e-3, 0.4);
    let ema = training.run(initial, make, report())?;
    Ok(ReferenceTask::export(&out.join("model"), &ema)?)
}

/// Trains the embedded UNet to paint in four steps.
fn distill(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let training = options.training(out.join("distill"), 0.003, 5e-4, 0.4);
    let make = || DistillTask::new(model.clone(), options.batch, options.kind.into());
    let ema = training.run(|| options.initial(DistillTask::initial), make, report())?;
    let config = impasto_tiny::file("unet/config.json").unwrap_or_default();
    Ok(model.put("unet", &String::from_utf8_lossy(config), &ema)?)
}

/// Loads the embedded model's VAE, in f32.
fn embedded_vae() -> impasto::Result<Vae> {
    let file = |name: &str| impasto_tiny::file(name).unwrap_or_default();
    let config = VaeConfig::from_json("vae/config.json", &String::from_utf8_lossy(file("vae/config.json")))?;
    let tensors = parse_safetensors("vae", file("vae/diffusion_pytorch_model.safetensors"))?;
    Vae::new(&Weights::new("the embedded VAE", tensors, Kind::Float, Device::Cpu), &config)
}

/// Shows the progress of a training run: a bar with the time left in a terminal, and a line every twenty steps
/// elsewhere.
fn report() -> impl FnMut(&TrainingProgress<'_>) {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}").unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    move |progress: &TrainingProgress<'_>| {
        let figures: Vec<_> = progress.figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        let (figures, left) = (figures.join("  "), progress.left.as_secs());
        let time = format!("{:.2}/s  {}:{:02}:{:02} left", progress.speed, left / 3600, left / 60 % 60, left % 60);
        let evaluated = progress.figures.iter().any(|(name, _)| name.starts_with("held-out"));
        if evaluated || (bar.is_hidden() && progress.step.is_multiple_of(20)) {
            bar.suspend(|| println!("{:>6}/{}  {time}  {figures}", progress.step, progress.steps));
        }
        if !evaluated {
            bar.set_length(progress.steps);
            bar.set_position(progress.step);
            bar.set_message(format!("{time}  {figures}"));
        }
        if progress.step == progress.steps {
            bar.finish_and_clear();
        }
    }
}
