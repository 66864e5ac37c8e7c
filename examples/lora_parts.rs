//! Paints two prompts without a LoRA, with the LoRA everywhere, from the middle of the run on, in the left half of the
//! picture, and on one thing alone. The LoRA is that of `lora.rs`, which draws white lines on blue.

use impasto::mask::Region;
use impasto::methods::UnmergedLora;
use impasto::pipeline::Request;
use impasto::weights::Lora;
use impasto::{Model, Pipeline, Result, Source, Window};
use impasto_report::Sheet;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lora/blueprint.safetensors");
/// Prompts, each with a thing in it.
const PROMPTS: [(&str, &str); 2] =
    [("1girl, long red hair, green eyes, white shirt", "hair"), ("a red house, blue sky, green ground", "house")];

fn main() -> Result<()> {
    let model = Model::load(&Source::embedded())?;
    let pipeline = Pipeline::new(model.with_unmerged(&[Lora::open(FILE)?])?);
    let lora = || UnmergedLora::new("blueprint", 1.0);
    let mut sheet = Sheet::new(5);
    for (prompt, thing) in PROMPTS {
        let rows = [
            ("without the LoRA".to_owned(), None),
            ("everywhere".to_owned(), Some(lora())),
            ("from the middle on".to_owned(), Some(lora().window(Window::progress(0.5..=1.0)))),
            ("in the left half".to_owned(), Some(lora().within(Region::rect(0.0..0.5, 0.0..1.0)))),
            (format!("on the {thing}"), Some(lora().on(thing))),
        ];
        for (name, lora) in rows {
            let output = lora.into_iter().fold(pipeline.request(prompt).seed(5), Request::guide).run()?;
            sheet = sheet.add(name, output.image(0)?);
        }
    }
    sheet.draw()?.save("lora_parts.png")?;
    println!("lora_parts.png");
    Ok(())
}
