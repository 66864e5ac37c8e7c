//! Guides a prompt by a picture at four rising strengths, from the prompt alone (0) to 0.45, with one seed.

use impasto::methods::ImageGuidance;
use impasto::methods::image_guidance::GuidanceParams;
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
/// Prompts of the guiding pictures.
const WARM: &str = "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background";
const COOL: &str = "1girl, green eyes, white hair bow, teal hair, pale skin, green shirt, cyan background";
const STRENGTHS: [f64; 4] = [0.0, 0.15, 0.3, 0.45];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut sheet = Sheet::new(1 + STRENGTHS.len());
    for of in [WARM, COOL] {
        let picture = pipeline.request(of).seed(100).run()?.image(0)?.clone();
        sheet = sheet.add("the guide", &picture);
        for most in STRENGTHS {
            // Every word of the prompt moves toward the patch of the picture that resembles the word most.
            let guide = ImageGuidance::new(&picture).tune(|params| {
                *params = GuidanceParams::off();
                params.linear = (1.0, 1.0);
                params.snap = false;
                params.max_guidance = most;
            });
            let output = pipeline.request(PROMPT).seed(6).steps(14).guide(guide).run()?;
            let caption = if most == 0.0 { "prompt alone".into() } else { format!("guided {most}") };
            sheet = sheet.add(caption, output.image(0)?);
        }
    }
    sheet.draw()?.save("image_guidance.png")?;
    println!("image_guidance.png");
    Ok(())
}
