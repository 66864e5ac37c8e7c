//! Paints prompts without a LoRA, at half strength, and at full strength. The LoRA was trained on twenty pictures in
//! white lines on blue, as `docs/train-lora.md` says.
//!
//! `cargo run --release --example lora -- FILE` paints with another LoRA for the embedded model.

use impasto::weights::Lora;
use impasto::{Model, Pipeline, Result, Source};
use impasto_report::Sheet;
use std::path::PathBuf;

const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lora/blueprint.safetensors");
const PROMPTS: [&str; 3] = [
    "a red house and a yellow moon, green ground, navy sky",
    "portrait of a girl with long black hair and green eyes, pink hair bow",
    "a boat and a fish on the sea",
];
const STRENGTHS: [f64; 3] = [0.0, 0.5, 1.0];

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).map_or(OWN.into(), PathBuf::from);
    let model = Model::load(&Source::embedded())?;
    let mut pipelines = Vec::new();
    for strength in STRENGTHS {
        pipelines.push((strength, Pipeline::new(model.with_lora(&[Lora::open(&file)?.scale(strength)])?)));
    }
    let mut sheet = Sheet::new(STRENGTHS.len());
    for (seed, prompt) in (1..).zip(PROMPTS) {
        for (strength, pipeline) in &pipelines {
            let output = pipeline.request(prompt).seed(seed).run()?;
            sheet = sheet.add(format!("strength {strength}: {prompt}"), output.image(0)?);
        }
    }
    sheet.draw()?.save("lora.png")?;
    println!("lora.png");
    Ok(())
}
