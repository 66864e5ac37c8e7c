//! Candle's UNet of Stable Diffusion 1.5 with random weights. For every line of the standard input, this program
//! computes one call with both branches and prints its seconds. `benches/peers/step.py` drives the program in turns
//! with other libraries.
//!
//! Arguments: the side of the latents, and the number of threads. With one thread, seconds are processor time.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};
use cpu_time::ProcessTime;
use std::io::{BufRead, Write};
use std::time::Instant;

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let &[side, threads] = &numbers[..] else { panic!("expected the side of the latents and the number of threads") };
    // SAFETY: no other thread reads the environment yet. Candle reads the number of threads from it.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    let block = |out_channels, attends: bool| BlockConfig {
        out_channels,
        use_cross_attn: attends.then_some(1),
        attention_head_dim: 8,
    };
    let config = UNet2DConditionModelConfig {
        blocks: vec![block(320, true), block(640, true), block(1280, true), block(1280, false)],
        cross_attention_dim: 768,
        ..Default::default()
    };
    let weights = VarMap::new();
    let unet =
        UNet2DConditionModel::new(VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu), 4, 4, false, config)?;
    let latents = Tensor::randn(0f32, 1f32, (2, 4, side, side), &Device::Cpu)?;
    let context = Tensor::randn(0f32, 1f32, (2, 77, 768), &Device::Cpu)?;
    for _ in std::io::stdin().lock().lines() {
        let (wall, processor) = (Instant::now(), ProcessTime::now());
        let out = unet.forward(&latents, 500., &context)?;
        let took = if threads == 1 { processor.elapsed() } else { wall.elapsed() };
        assert_eq!(out.dims(), [2, 4, side, side]);
        println!("{}", took.as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}
