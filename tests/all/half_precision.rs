//! The error of a network in bf16, over many inputs. A single input says little: its error varies by a fifth.

use impasto::attention::Tap;
use impasto::nn::{ConfigFile, UNet, UnetConfig};
use impasto::weights::{Tensors, Weights};
use impasto::{Error, Result};
use std::path::Path;
use tch::{Device, Kind, Tensor};

#[test]
fn mean_error_of_bf16_predictions_is_small() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/unet-sd15");
    let config = std::fs::read_to_string(folder.join("config.json")).map_err(Error::custom)?;
    let config = UnetConfig::from_json("config.json", &config)?;
    let tensors = || -> Result<Tensors> {
        Ok(Tensor::read_safetensors(folder.join("diffusion_pytorch_model.safetensors"))?.into_iter().collect())
    };
    let width = tensors()?["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].size()[1];
    let network = |kind| UNet::new(&Weights::new("unet-sd15", tensors()?, kind, Device::Cpu), &config);
    let (exact, half) = (network(Kind::Float)?, network(Kind::BFloat16)?);
    let _no_grad = tch::no_grad_guard();
    // Inputs are rounded to bf16, so that the error is the network's alone.
    let wave = |shape: &[i64], phase: i64| {
        let at = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        ((at * 12.9898 + phase as f64 * 78.233).sin() * 43758.5453).frac().reshape(shape).to_kind(Kind::BFloat16) * 1.7
    };
    let inputs = 30;
    let mut sum = 0.0;
    for i in 0..inputs {
        let (x, context) = (wave(&[2, 4, 16, 16], i), wave(&[2, 77, width], 1000 + i));
        let timestep = Tensor::from_slice(&[33.0 * i as f32]);
        let [want, got] = [(&exact, Kind::Float), (&half, Kind::BFloat16)].map(|(unet, kind)| {
            unet.forward(&x.to_kind(kind), &timestep, &context.to_kind(kind), None, &mut Tap::none())
        });
        let (want, got) = (want?, got?.to_kind(Kind::Float));
        sum += ((got - &want).norm() / want.norm()).double_value(&[]);
    }
    let mean = sum / inputs as f64;
    println!("bf16: {mean:.4} of the norm");
    assert!(mean < 0.045, "{mean}; libtorch's operations reach about .040");
    Ok(())
}
