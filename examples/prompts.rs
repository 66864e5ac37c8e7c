//! Paints one seed by texts that change during a run: one word after another, two words in turn, two prompts at once,
//! and a LoRA by its name. The LoRA is that of `lora.rs`, which draws white lines on blue.

use impasto::prompt::{PromptSchedule, PromptSyntax};
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lora");
const STEPS: usize = 20;
const PROMPTS: [&str; 6] = [
    "a red boat, blue sky",
    "a [red:yellow:0.3] boat, blue sky",
    "a [red|green] boat, blue sky",
    "a red boat, blue sky AND a house :0.6",
    "a red boat, [blue:orange:8] sky[, moon::0.5]",
    "a red boat, blue sky <lora:blueprint:0.8>",
];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?.lora_folder(FOLDER);
    let mut sheet = Sheet::new(3);
    for prompt in PROMPTS {
        for (end, text) in PromptSchedule::new(prompt, PromptSyntax::WebUi, STEPS)?.entries() {
            println!("up to step {end}: {text}");
        }
        let output = pipeline.request(prompt).seed(7).steps(STEPS).run()?;
        sheet = sheet.add(prompt, output.image(0)?);
    }
    sheet.draw()?.save("prompts.png")?;
    println!("prompts.png");
    Ok(())
}
