//! Turns one prompt into another at four moments of a run: the earlier the change, the less of the first prompt stays.

use impasto::methods::PromptBlend;
use impasto::{Pipeline, Result, Window};
use impasto_report::Sheet;

const FIRST: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background";
const SECOND: &str = "1girl, blue eyes, white hair bow, black hair, pale skin, red shirt, yellow background";
/// Parts of the run, from 0 to 1, by which the second prompt has replaced the first one.
const MOMENTS: [f64; 4] = [0.2, 0.4, 0.6, 0.8];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut sheet = Sheet::new(2 + MOMENTS.len());
    for seed in [7, 21] {
        let first = pipeline.request(FIRST).seed(seed).run()?;
        let second = pipeline.request(SECOND).seed(seed).run()?;
        sheet = sheet.add("first prompt", first.image(0)?);
        for moment in MOMENTS.into_iter().rev() {
            let blend = PromptBlend::to(SECOND).window(Window::progress(0.0..=moment));
            let output = pipeline.request(FIRST).seed(seed).guide(blend).run()?;
            sheet = sheet.add(format!("blended until {moment}"), output.image(0)?);
        }
        sheet = sheet.add("second prompt", second.image(0)?);
    }
    sheet.draw()?.save("prompt_blend.png")?;
    println!("prompt_blend.png");
    Ok(())
}
