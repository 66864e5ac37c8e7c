//! Adds structure to pictures by perturbed-attention guidance, at three scales. Classifier-free guidance is off.

use impasto::methods::PerturbedAttention;
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

const PROMPT: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background";
const SCALES: [f64; 3] = [0.0, 3.0, 8.0];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut sheet = Sheet::new(SCALES.len());
    for seed in [7, 21] {
        for scale in SCALES {
            let guide = PerturbedAttention::new(scale);
            let output = pipeline.request(PROMPT).seed(seed).guidance_scale(1.0).guide(guide).run()?;
            sheet = sheet.add(format!("scale {scale}"), output.image(0)?);
        }
    }
    sheet.draw()?.save("perturbed_attention.png")?;
    println!("perturbed_attention.png");
    Ok(())
}
