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
//! cargo run --release -p impasto-train -- flow FLOW --steps 7500 --count 12288 --batch 12 --accumulate 2 --kind bf16
//! cargo run --release -p impasto-train -- lora OUT --pictures FOLDER
//! ```
//!
//! `OUT/model` is a diffusers folder, complete once all parts have been trained. `OUT/vae` and `OUT/unet` have
//! checkpoints, journals and sample sheets. `flow` needs a folder of its own, because a model has either a UNet or a
//! transformer. A training run that is stopped and started again continues from its last checkpoint.

mod arguments;
mod settings;

use arguments::{Arguments, ControlOptions, LoraOptions, Options, Part};
use clap::Parser;
use impasto::model::Defaults;
use impasto::nn::cosmos::CosmosConfig;
use impasto::nn::{ClipImageProcessor, ClipTextConfig, ClipVisionConfig, ConfigFile, UnetConfig, Vae, VaeConfig};
use impasto::weights::{Tensors, Weights, parse_safetensors, read_safetensors};
use impasto::{LoadOptions, Model, Size, Source};
use impasto_train::dataset::Dataset;
use impasto_train::lora::{Algorithm, Existing, LoraTask, LowRank, write_lora};
use impasto_train::{
    ClipTask, ControlTask, DistillTask, Drawn, Error, EvaluatorTask, FlowTask, HELD_OUT, Latents, Listed, ModelFolder,
    Pictures, Rate, ReferenceTask, TextTask, Training, TrainingProgress, UnetTask, VaeTask, averaged, export,
};
use indicatif::{ProgressBar, ProgressStyle};
use settings::Settings;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind};

/// Side of the pictures in pixels.
const SIZE: u32 = 256;
/// Configuration of the embedded model's VAE.
const VAE: &str = include_str!("../networks/vae.json");
/// Configuration of the embedded model's UNet.
const UNET: &str = include_str!("../networks/unet.json");
/// Configuration of the transformer that predicts the velocity of a flow.
const FLOW: &str = include_str!("../networks/flow.json");
/// Channels of the hint's embedding in the embedded model's ControlNet.
const SMALL_WIDTHS: [i64; 4] = [8, 16, 32, 64];
/// Channels of the hint's embedding in Stable Diffusion's ControlNets.
const USUAL_WIDTHS: [i64; 4] = [16, 32, 96, 256];

fn main() -> ExitCode {
    match train(&Arguments::parse().part) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}"); // the message, not the fields of the error
            ExitCode::FAILURE
        }
    }
}

/// Trains a part, or encodes pictures for it.
fn train(part: &Part) -> Result<(), Error> {
    match part {
        Part::Vae(options) => vae(&options.out, &options.folder()?, options)?,
        Part::Decoder(options) => decoder(&options.out, &options.folder()?, options)?,
        Part::Latents(options) => drop(latents(&options.out, &options.folder()?, options)?),
        Part::Unet(options) => unet(&options.out, &options.folder()?, options)?,
        Part::Clip(options) => clip(&options.out, &options.folder()?, options)?,
        Part::Text(options) => text(&options.out, &options.folder()?, options)?,
        Part::Evaluator(options) => evaluator(&options.out, &options.folder()?, options)?,
        Part::Control(options) => control(options)?,
        Part::Reference(options) => reference(options)?,
        Part::Flow(options) => flow(&options.out, &ModelFolder::of_flow(options.out.join("model"))?, options)?,
        Part::Distill(options) => distill(&options.out, &options.folder()?, options)?,
        Part::Lora(options) => lora(options)?,
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
    let ema = training.run(initial, || Ok(task()), report(&training))?;
    let scale = task().scaling_factor(&ema)?;
    Ok(model.put("vae", &VAE.replace("\"scaling_factor\": 1.0", &format!("\"scaling_factor\": {scale:.5}")), &ema)?)
}

/// Trains the decoder alone, longer. Latents stay unchanged.
fn decoder(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (config, dataset) = (VaeConfig::from_json("vae/config.json", VAE)?, Dataset::new(SIZE)?);
    let training = options.training(out.join("decoder"), 0.012, 1e-3, 0.2);
    let initial = || options.initial(|| read_safetensors(&out.join("vae/ema.safetensors")));
    let task = || Ok(VaeTask::new(config.clone(), dataset, Kind::Float).frozen_encoder());
    let ema = training.run(initial, task, report(&training))?;
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
    let ema = training.run(initial, make, report(&training))?;
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
    let ema = training.run(|| options.initial(initial), make, report(&training))?;
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
    let ema = training.run(initial, make, report(&training))?;
    Ok(model.put("text_encoder", &json, &ema)?)
}

fn evaluator(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let training = options.training(out.join("evaluator"), 0.02, 4e-3, 0.0);
    let make = || Ok(EvaluatorTask::new(Dataset::new(SIZE)?, Some(trained_vae(model)?), options.batch));
    let initial = || options.initial(|| EvaluatorTask::initial(options.seed));
    training.run(initial, make, report(&training)).map(drop)
}

/// Trains a ControlNet, for the embedded model or another one.
fn control(control: &ControlOptions) -> Result<(), Error> {
    let ControlOptions { options, device, .. } = control;
    let (out, kind) = (&options.out, Kind::from(options.kind));
    let load = || load(control.model.as_deref(), kind, *device);
    let model = load()?;
    let widths = if control.model.is_none() { SMALL_WIDTHS } else { USUAL_WIDTHS };
    let config = ControlTask::config(&model, &widths)?; // refuses other models before pictures are encoded
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
    let offset = control.offset_noise.unwrap_or(if control.model.is_none() { 0.1 } else { 0.0 });
    let make = || {
        let [pictures, held_out] = pictures.clone();
        Ok(ControlTask::new(load()?, config.clone(), pictures, held_out, options.batch, kind)?
            .offset(offset)
            .crops(control.crops))
    };
    let initial = || options.initial(|| ControlTask::initial(&model, &config, options.seed));
    let training = options.training(out.join("control"), control.rate, control.rate / 6.0, 0.4);
    let training = Training { device: *device, ..training };
    let ema = training.run(initial, make, report(&training))?;
    Ok(export(&out.join("controlnet"), &config.to_json()?, &ema)?)
}

/// Loads a checkpoint to train an addition for, or the embedded model.
fn load(path: Option<&Path>, kind: Kind, device: Device) -> impasto::Result<Model> {
    let source = match path {
        None => Source::embedded(),
        Some(path) if path.is_dir() => Source::dir(path),
        Some(path) => Source::file(path),
    };
    let mut options = LoadOptions::default();
    options.precision = kind.into();
    options.device = device;
    Model::load_with(&source, options)
}

/// Trains a LoRA, for the embedded model or another one.
fn lora(lora: &LoraOptions) -> Result<(), Error> {
    let LoraOptions { options, device, rank, .. } = lora;
    let (out, kind) = (&options.out, Kind::from(options.kind));
    let file = lora.file.clone().unwrap_or_else(|| out.join("lora.safetensors"));
    let existing = if lora.replace { Existing::Replace } else { Existing::Keep };
    if existing == Existing::Keep && file.exists() {
        let expected = "a file that does not exist yet, or --replace to replace this file after the training";
        return Err(impasto::Error::parameter("--file", file.display(), expected).into());
    }
    let low_rank = LowRank {
        rank: *rank,
        alpha: lora.alpha.unwrap_or(*rank as f64),
        algorithm: if lora.dora { Algorithm::Dora } else { Algorithm::Lora },
        layers: lora.layers.into(),
    };
    let (usual_rate, usual_offset) = if lora.model.is_none() { (0.01, 0.1) } else { (1e-4, 0.0) };
    let (rate, offset) = (lora.rate.unwrap_or(usual_rate), lora.offset_noise.unwrap_or(usual_offset));
    let settings = Settings::of(lora, rate, offset);
    settings.check(&out.join("lora"), options.steps)?;
    let load = || load(lora.model.as_deref(), kind, *device);
    let model = load()?;
    // Other models and a rank that is too large are refused before pictures are encoded.
    let new = LoraTask::initial(&model, &low_rank, options.seed)?;
    let Defaults { width, height, .. } = model.defaults();
    let pictures = Listed::open(&lora.pictures, &out.join("pictures"), Size::new(width, height), options.seed)?;
    let latents = Arc::new(LoraTask::encode(&model, &pictures, pictures.len() as u64)?);
    if let Some(problem) = pictures.problem() {
        eprintln!("another picture takes the place of one that cannot be read: {problem}");
    }
    drop(pictures); // ends its loaders
    let make = || Ok(LoraTask::new(load()?, low_rank.clone(), latents.clone(), options.batch, kind)?.offset(offset));
    let initial = || options.initial(|| Ok(new));
    let training = options.training(out.join("lora"), 0.0, rate, 0.4);
    let training = Training { device: *device, adamw: (rate, 0.0), ..training };
    let (mut show, mut done, mut kept) = (report(&training), 0, None);
    let watch = |progress: &TrainingProgress<'_>| {
        done = progress.step;
        show(progress);
        // A step has been taken, so the settings suit the checkpoint. A call that is refused leaves no settings.
        if kept.is_none() && !progress.figures.is_empty() {
            kept = Some(settings.write(&training.folder));
        }
    };
    let trained = training.run(initial, make, watch)?;
    kept.transpose()?;
    if (1..options.steps).contains(&done) {
        println!(
            "{} is written after step {}; the same command continues from step {done}",
            file.display(),
            options.steps
        );
        return Ok(());
    }
    let rate = Rate { steps: options.steps.max(done), ..training.rate };
    let mut metadata = make()?.metadata(&Training { rate, ..training }, &lora.trigger);
    let name = lora.model.as_ref().and_then(|path| path.file_name());
    let name = name.map_or("impasto-tiny".into(), |name| name.to_string_lossy().into_owned());
    metadata.insert("ss_sd_model_name".into(), name);
    write_lora(&file, &low_rank.named(&trained, lora.names.into())?, &metadata, existing)?;
    println!("{}", file.display());
    Ok(())
}

/// Trains a model that colors sketches like reference pictures.
fn reference(options: &Options) -> Result<(), Error> {
    let (out, kind, dataset) = (&options.out, Kind::from(options.kind), Dataset::new(SIZE)?);
    options.folder()?; // refuses the folder of a flow before drawings are encoded
    let (learned, held_out) = embedded_latents(options)?;
    let model = Model::load(&Source::embedded())?;
    let make =
        || ReferenceTask::new(out.join("model"), dataset, learned.clone(), held_out.clone(), options.batch, kind);
    let initial = || options.initial(|| ReferenceTask::initial(&model, options.seed));
    let training = options.training(out.join("reference"), 0.008, 1.2e-3, 0.4);
    let ema = training.run(initial, make, report(&training))?;
    Ok(ReferenceTask::export(&out.join("model"), &ema)?)
}

/// Trains the embedded UNet to paint in four steps.
fn distill(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let training = options.training(out.join("distill"), 0.003, 5e-4, 0.4);
    let make = || DistillTask::new(model.clone(), options.batch, options.kind.into());
    let ema = training.run(|| options.initial(DistillTask::initial), make, report(&training))?;
    let config = impasto_tiny::file("unet/config.json").unwrap_or_default();
    Ok(model.put("unet", &String::from_utf8_lossy(config), &ema)?)
}

/// Trains a transformer that predicts the velocity of a flow.
fn flow(out: &Path, model: &ModelFolder, options: &Options) -> Result<(), Error> {
    let (latents, held_out) = embedded_latents(options)?;
    let config = CosmosConfig::from_json("transformer/config.json", FLOW)?;
    let dataset = Dataset::new(SIZE)?;
    let make = || {
        let (model, latents, held_out) = (model.clone(), latents.clone(), held_out.clone());
        FlowTask::new(FLOW, model, latents, held_out, dataset, options.batch, options.kind.into())
    };
    let initial = || FlowTask::initial(&config, options.seed, options.initial(|| Ok(Tensors::new()))?);
    let training = options.training(out.join("flow"), 0.005, 7e-4, 0.15);
    training.run(initial, make, report(&training))?; // the last evaluation writes the model
    Ok(())
}

/// Encodes drawings with the embedded model's VAE: those to learn from, and held-out ones.
fn embedded_latents(options: &Options) -> impasto::Result<(Arc<Latents>, Arc<Latents>)> {
    let dataset = Dataset::new(SIZE)?;
    let encode = |name: &str, seeds: std::ops::Range<u64>| -> impasto::Result<Arc<Latents>> {
        let folder = options.out.join(name);
        Ok(Arc::new(Latents::encode(&folder, dataset, embedded_vae, seeds, options.workers as u64)?))
    };
    Ok((encode("latents", 0..options.count)?, encode("held-out", HELD_OUT..HELD_OUT + 256)?))
}

/// Loads the embedded model's VAE, in f32.
fn embedded_vae() -> impasto::Result<Vae> {
    let file = |name: &str| impasto_tiny::file(name).unwrap_or_default();
    let config = VaeConfig::from_json("vae/config.json", &String::from_utf8_lossy(file("vae/config.json")))?;
    let tensors = parse_safetensors("vae", file("vae/diffusion_pytorch_model.safetensors"))?;
    Vae::new(&Weights::new("the embedded VAE", tensors, Kind::Float, Device::Cpu), &config)
}

/// Shows the progress of a training run: a bar with the time left in a terminal, and a line every twenty steps
/// elsewhere. A line also says that no step is left.
fn report(training: &Training) -> impl FnMut(&TrainingProgress<'_>) + use<> {
    let (folder, mut is_first) = (training.folder.display().to_string(), true);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}").unwrap_or(ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    move |progress: &TrainingProgress<'_>| {
        if std::mem::take(&mut is_first) && progress.figures.is_empty() {
            let step = progress.step;
            println!("{folder} is already trained for {step} steps; more --steps train on, another OUT begins anew");
            return;
        }
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
