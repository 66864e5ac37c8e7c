//! Cost of LoRAs beside the weights, as ratios to merged LoRAs: `cargo bench --bench lora [-- tiny|sd15] [--rounds N]
//! [--threads N]`.
//!
//! A call of the network evaluates both branches on 32×32 latents, with the embedded model or a model of Stable
//! Diffusion 1.5's size with random weights. The LoRA has rank 16 and changes all matrices of the transformers, as
//! kohya's trainer does by default. `convolutions` also changes the convolutions (LoCon). `in a place` is the first
//! LoRA in half of the picture, and `whole` has its changes as whole matrices, as other algorithms than LoRA do.

mod support;

use impasto::attention::Tap;
use impasto::conditioning::{LoraPlace, LoraStrengths};
use impasto::diffusion::{Denoiser, Input, Noise};
use impasto::weights::{Lora, Tensors};
use impasto::{Branch, Codec, Model, Result, Step};
use support::PROMPT;
use support::clock::Clock;
use support::models::each_model;
use support::turns::in_turns;
use tch::{Device, Kind, Tensor};

const ROWS: [&str; 5] = ["merged", "beside", "in a place", "convolutions", "whole"];
const RANK: i64 = 16;

fn main() -> Result<()> {
    each_model(15, group)
}

fn group(name: &str, model: &Model, rounds: usize) -> Result<()> {
    println!("{name}: {rounds} rounds, {} threads", tch::get_num_threads());
    let beside = model.with_unmerged(&[lora("lora", model, false, false)?])?;
    let beside = beside.with_unmerged(&[lora("locon", model, true, false)?, lora("whole", model, false, true)?])?;
    let x = Noise::seeded(1).draw(&[1, 4, 32, 32])?;
    let half = LoraPlace::new();
    let left = Tensor::arange(32, (Kind::Float, Device::Cpu)).lt(16.0).to_kind(Kind::Float);
    half.set(Some(left.expand([1, 1, 32, 32], false)))?;
    in_turns("lora", name, &ROWS, rounds, |row| {
        let used = match ROWS[row] {
            "merged" => None,
            "convolutions" => Some(("locon", None)),
            "whole" => Some(("whole", None)),
            "in a place" => Some(("lora", Some(&half))),
            _ => Some(("lora", None)),
        };
        let mut texts = [model.text("".into())?, model.text(PROMPT.into())?];
        if let Some((lora, place)) = used {
            texts.iter_mut().for_each(|text| LoraStrengths::add(text, lora, 0.5, place));
        }
        let inputs = [Input::new(Branch::Uncond, &x, &texts[0]), Input::new(Branch::Cond, &x, &texts[1])];
        let clock = Clock::start();
        drop(beside.denoise(&Step::new(0, 1, 3.0, 0.0, 600.0), &inputs, &mut Tap::none())?);
        Ok(clock.elapsed().as_secs_f64())
    })
}

/// A LoRA of random values for the matrices of all transformers, and for convolutions if `conv` is true. If `whole` is
/// true, its changes are whole matrices.
fn lora(name: &str, model: &Model, conv: bool, whole: bool) -> Result<Lora> {
    let mut tensors = Tensors::new();
    for (weight, x) in model.tensors("unet").expect("a UNet") {
        let Some(path) = weight.strip_suffix(".weight") else { continue };
        let changes = (x.dim() == 2 && path.contains("attentions")) || (conv && x.dim() == 4);
        if !changes {
            continue;
        }
        let module = format!("lora_unet_{}", path.replace('.', "_"));
        let size = x.size();
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.01;
        if whole {
            tensors.insert(format!("{module}.diff"), draw(&size));
            continue;
        }
        let ones = vec![1; size.len() - 2];
        tensors.insert(format!("{module}.lora_down.weight"), draw(&[&[RANK], &size[1..]].concat()));
        tensors.insert(format!("{module}.lora_up.weight"), draw(&[&[size[0], RANK], &*ones].concat()));
    }
    Lora::of(name, tensors)
}
