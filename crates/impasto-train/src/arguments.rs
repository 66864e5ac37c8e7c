//! The command line.

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use impasto_train::lora::{Layers, Names};
use std::path::PathBuf;
use std::time::Duration;
use tch::{Device, Kind};

/// Largest number of drawings, whose latents and captions then take about 12 GB of memory.
const MOST_DRAWINGS: u64 = 1 << 20;

/// Trains a small model of the Stable Diffusion family on drawn pictures, part after part, or a ControlNet or a LoRA
/// for any model with a UNet.
#[derive(Parser)]
#[command(version)]
pub struct Arguments {
    #[command(subcommand)]
    pub part: Part,
}

#[derive(Subcommand)]
pub enum Part {
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
    /// Trains a transformer that predicts the velocity of a flow, with the embedded model's captions and latents. OUT
    /// is another folder than that of a UNet, because a model has either a UNet or a transformer.
    Flow(Options),
    /// Trains a LoRA, which teaches a checkpoint a style or a thing from a few pictures with captions. The checkpoint
    /// stays unchanged.
    #[command(
        mut_arg("steps", |arg| arg.default_value("600")),
        mut_arg("batch", |arg| arg.default_value("8")),
        mut_arg("count", |arg| arg.hide(true)),
    )]
    Lora(LoraOptions),
}

#[derive(Args)]
pub struct Options {
    /// Folder of the model, its checkpoints, journals and sample sheets.
    pub out: PathBuf,
    /// Total number of training steps, including those of earlier calls.
    #[arg(long, default_value_t = 12000)]
    pub steps: u64,
    /// Number of pictures whose latents the UNet learns from, 1 to 1048576. Each takes about 12 kB of memory.
    #[arg(long, default_value_t = 16384, value_parser = RangedU64ValueParser::<u64>::new().range(1..=MOST_DRAWINGS))]
    pub count: u64,
    /// Number of samples that a worker takes in a step.
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub batch: usize,
    /// Number of batches that a worker takes in a step; their gradients are averaged.
    #[arg(long, default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub accumulate: usize,
    /// Number of threads that each take a batch in a step.
    #[arg(long, default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub workers: usize,
    /// The number type that the UNet is computed in.
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    pub kind: Precision,
    /// Seed of weights, drawings and noise.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Time in minutes after which the training stops with a checkpoint. The default is no limit.
    #[arg(long, value_parser = minutes)]
    pub minutes: Option<Duration>,
    /// Number of steps between two evaluations, each with a new sample sheet.
    #[arg(long, default_value_t = 500, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub evaluate: u64,
    /// File of initial weights. Several files are averaged. The default is new weights, or the weights of the part that
    /// was trained before.
    #[arg(long, value_name = "FILE")]
    pub init: Vec<PathBuf>,
}

fn minutes(text: &str) -> Result<Duration, &'static str> {
    let minutes = text.parse::<f64>().ok();
    let time = minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
    time.ok_or("expected a number of minutes, 0 or more")
}

/// Reads a learning rate or another factor.
fn positive(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or("expected a number above 0")
}

/// Reads a share of a whole, or a deviation that is at most that of the noise.
fn share(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|number: &f64| (0.0..=1.0).contains(number)).ok_or("expected a number from 0 to 1")
}

#[derive(Args)]
pub struct ControlOptions {
    #[command(flatten)]
    pub options: Options,
    /// Checkpoint that the ControlNet is for: a diffusers folder, or a single file. The default is the embedded model.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// Pictures to learn from: a folder, with a text file of the same name beside each picture, or a list of JSON lines
    /// such as {"picture": "cat.png", "caption": "a cat"}, with paths or URLs. The default is drawings like those that
    /// the embedded model was trained on.
    #[arg(long, value_name = "PATH")]
    pub pictures: Option<PathBuf>,
    /// Device of the training: cpu, mps, cuda, or cuda:N such as cuda:1.
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Standard deviation of offset noise, which shifts the mean of patches of the noise, 0 to 1. The default is .1 for
    /// the embedded model, which was trained with this value, and 0 for others.
    #[arg(long, value_parser = share)]
    pub offset_noise: Option<f64>,
    /// Learning rate of matrices and kernels, by Muon. Other weights learn at a sixth of this rate, by AdamW.
    #[arg(long, default_value_t = 0.012, value_parser = positive)]
    pub rate: f64,
    /// Share of the training, from its start on, that learns from quarters of pictures without captions, 0 to 1.
    /// Quarters give four times as many samples at about the same cost.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub crops: f64,
}

#[derive(Args)]
pub struct LoraOptions {
    #[command(flatten)]
    pub options: Options,
    /// Pictures to learn from: a folder, with a text file of the same name beside each picture, or a list of JSON lines
    /// such as {"picture": "cat.png", "caption": "a cat"}, with paths or URLs.
    #[arg(long, value_name = "PATH")]
    pub pictures: PathBuf,
    /// Checkpoint that the LoRA is for: a diffusers folder, or a single file. The default is the embedded model.
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,
    /// File of the LoRA, which is written after the last step. The default is OUT/lora.safetensors.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Replaces the file of the LoRA if it exists already.
    #[arg(long)]
    pub replace: bool,
    /// Program whose names the tensors in the file have.
    #[arg(long, value_enum, default_value_t = Writer::Kohya)]
    pub names: Writer,
    /// Rank of the change. A larger rank learns more details, and the file grows with it.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i64).range(1..))]
    pub rank: i64,
    /// The number that the change is multiplied by, after a division by the rank. The default is the rank.
    #[arg(long, value_parser = positive)]
    pub alpha: Option<f64>,
    /// Trains a DoRA, which also changes the lengths of the weights' rows.
    #[arg(long)]
    pub dora: bool,
    /// Layers of the UNet that change.
    #[arg(long, value_enum, default_value_t = Changed::Attention)]
    pub layers: Changed,
    /// Words that prompts need, separated by commas, for the metadata of the file. Captions should contain them.
    #[arg(long, default_value = "")]
    pub trigger: String,
    /// Learning rate, by AdamW. The default is .01 for the embedded model, whose layers are narrow, and .0001 for
    /// others.
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Device of the training: cpu, mps, cuda, or cuda:N such as cuda:1.
    #[arg(long, default_value = "cpu", value_parser = device)]
    pub device: Device,
    /// Standard deviation of offset noise, which shifts the mean of patches of the noise, 0 to 1. The default is .1 for
    /// the embedded model, which was trained with this value, and 0 for others.
    #[arg(long, value_parser = share)]
    pub offset_noise: Option<f64>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Writer {
    /// Kohya's trainer; every program reads these names.
    Kohya,
    /// Diffusers and PEFT.
    Diffusers,
}

impl From<Writer> for Names {
    fn from(writer: Writer) -> Self {
        match writer {
            Writer::Kohya => Self::Kohya,
            Writer::Diffusers => Self::Diffusers,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Changed {
    /// Queries, keys, values and outputs of all attention layers.
    Attention,
    /// Queries, keys, values and outputs of the attention to the prompt alone.
    CrossAttention,
    /// All attention layers and all feed-forward layers.
    Transformers,
}

impl From<Changed> for Layers {
    fn from(changed: Changed) -> Self {
        match changed {
            Changed::Attention => Self::Attention,
            Changed::CrossAttention => Self::CrossAttention,
            Changed::Transformers => Self::Transformers,
        }
    }
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
pub enum Precision {
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
