//! Program that does one piece of work per line of input and prints its seconds.
//!
//! A script can drive the program in turns with another library: `benches/peers/picture.py`, `benches/peers/step.py`.
//!
//! A line is a prompt for a picture of 28 Euler steps, by the embedded model or the model in `--model FOLDER`. With
//! `--save FOLDER` the picture is saved as `FOLDER/picture.png`. With `--step tiny|sd15` a line names a row of the
//! benches, to be run for one call of the network with both branches. `--latents 64` is the side of the latents; 32 by
//! default. `--kind bf16|f16` and `--device cuda` are for `sd15`. With `--decode vae|taesd`, each line decodes a
//! latent, by a VAE of Stable Diffusion 1.5's size or by a tiny autoencoder, with random weights. With `--transformer
//! anima|sd35`, each line calls a transformer of Anima's size or of Stable Diffusion 3.5 medium's, with both branches
//! and random weights; `--blocks 4` is the number of its blocks, and `--kind bf16` its precision.

mod support;

use impasto::attention::{AttentionSite, Call, HookTable, KvCache, Tap};
use impasto::diffusion::Denoiser;
use impasto::nn::cosmos::{CosmosConfig, CosmosTransformer};
use impasto::nn::mmdit::Sd3Transformer;
use impasto::nn::{ConfigFile, Taesd, TaesdConfig, Vae, VaeConfig};
use impasto::weights::Weights;
use impasto::{Branch, Codec, Grid, Model, Pipeline, Result, Source, Step};
use std::io::{BufRead, Write};
use support::clock::Clock;
use support::{Unet, joint, seconds};
use tch::{Device, Kind, Tensor};

/// The numbers of Anima's transformer, with as many blocks as replace `BLOCKS`.
const ANIMA: &str = r#"{ "num_layers": BLOCKS, "in_channels": 16, "out_channels": 16, "num_attention_heads": 16, "attention_head_dim": 128,
    "mlp_ratio": 4.0, "text_embed_dim": 1024, "adaln_lora_dim": 256, "patch_size": [1, 2, 2],
    "rope_scale": [1.0, 4.0, 4.0], "concat_padding_mask": true, "extra_pos_embed_type": null }"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option =
        |name: &str| -> Option<&String> { arguments.get(arguments.iter().position(|found| found == name)? + 1) };
    tch::set_num_threads(option("--threads").and_then(|threads| threads.parse().ok()).unwrap_or(1));
    let side = option("--latents").and_then(|side| side.parse().ok()).unwrap_or(32);
    if let Some(decoder) = option("--decode") {
        return decode(decoder == "taesd", side);
    }
    let kind = match option("--kind").map(String::as_str) {
        Some("bf16") => Kind::BFloat16,
        Some("f16") => Kind::Half,
        _ => Kind::Float,
    };
    if let Some(name) = option("--transformer") {
        let blocks = option("--blocks").and_then(|blocks| blocks.parse().ok()).unwrap_or(4);
        return if name == "anima" { anima(blocks, kind, side) } else { sd35(blocks, kind, side) };
    }
    match option("--step").map(String::as_str) {
        None => {
            let source = option("--model").map_or_else(Source::embedded, Source::dir);
            pictures(source, option("--save").map(String::as_str))
        }
        Some("sd15") => {
            let cuda = option("--device").is_some_and(|device| device == "cuda");
            let device = if cuda { Device::Cuda(0) } else { Device::Cpu };
            steps(&Unet::sd15_on(kind, device)?, Grid::new(side, side))
        }
        Some(_) => steps(&Model::load(&Source::embedded())?, Grid::new(side, side)),
    }
}

/// The lines of the standard input.
fn lines() -> impl Iterator<Item = String> {
    std::io::stdin().lock().lines().map(|line| line.expect("a line of text"))
}

fn tell(seconds: f64) {
    println!("{seconds}");
    std::io::stdout().flush().expect("standard output is open");
}

fn pictures(source: Source, folder: Option<&str>) -> Result<()> {
    let pipeline = Pipeline::builder().source(source).build()?;
    for prompt in lines() {
        let begun = Clock::start();
        let output = pipeline.request(&prompt).seed(0).steps(28).run()?;
        tell(begun.elapsed().as_secs_f64());
        if let Some(folder) = folder {
            output.image(0)?.save(format!("{folder}/picture.png"))?;
        }
    }
    Ok(())
}

fn steps<M: Denoiser + Codec>(model: &M, grid: Grid) -> Result<()> {
    for row in lines() {
        tell(seconds(model, grid, 2, &row)?);
    }
    Ok(())
}

/// Calls a transformer of Anima's size, with a prompt of 512 columns.
fn anima(blocks: i64, kind: Kind, side: i64) -> Result<()> {
    let config = CosmosConfig::from_json("transformer", &ANIMA.replace("BLOCKS", &blocks.to_string()))?;
    let network = CosmosTransformer::new(&Weights::random(1, kind, Device::Cpu), &config)?;
    let (x, context) = (noise(&[2, config.in_channels, side, side]), noise(&[2, 512, config.text_embed_dim]));
    calls(network.sites(), side, |tap| network.forward(&x, &Tensor::from(0.5f32), &context, tap))
}

/// Calls a transformer of Stable Diffusion 3.5 medium's size, with the columns of CLIP and T5.
fn sd35(blocks: i64, kind: Kind, side: i64) -> Result<()> {
    let config = joint::numbers(blocks, 16)?;
    let network = Sd3Transformer::new(&Weights::random(1, kind, Device::Cpu), &config)?;
    let (x, context) =
        (noise(&[2, config.in_channels, side, side]), noise(&[2, joint::COLUMNS, config.joint_attention_dim]));
    let pooled = noise(&[2, config.pooled_projection_dim]);
    calls(network.sites(), side, |tap| network.forward(&x, &Tensor::from(500f32), &context, &pooled, &[], tap))
}

fn noise(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Times calls of a network as they are in a run, which keeps the keys and values of the prompt from its first call on.
fn calls(sites: &[AttentionSite], side: i64, call: impl Fn(&mut Tap<'_>) -> Result<Tensor>) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let (step, branches) = (Step::new(0, 1, 1.0, 0.0, 500.0), [Branch::Uncond, Branch::Cond]);
    let (table, mut cache) = (HookTable::new(&[], sites, &branches)?, KvCache::default());
    for _ in lines() {
        let own = Call { step: &step, branches: &branches, images: 0..1, grid: Grid::new(side, side) };
        let mut tap = Tap::new(own, Vec::new(), &table, &mut cache)?;
        let begun = Clock::start();
        drop(call(&mut tap)?);
        tell(begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn decode(by_taesd: bool, side: i64) -> Result<()> {
    let random = Weights::random(1, Kind::Float, Device::Cpu);
    if by_taesd {
        let taesd = Taesd::new(&random, &TaesdConfig::default())?;
        return pictures_of_latent(side, |latent| taesd.decode(latent));
    }
    let config = r#"{ "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2 }"#;
    let vae = Vae::new(&random, &VaeConfig::from_json("vae", config)?)?;
    pictures_of_latent(side, |latent| vae.decode(latent))
}

fn pictures_of_latent(side: i64, decode: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let latent = Tensor::randn([1, 4, side, side], (Kind::Float, Device::Cpu));
    for _ in lines() {
        let begun = Clock::start();
        drop(decode(&latent)?);
        tell(begun.elapsed().as_secs_f64());
    }
    Ok(())
}
