//! Starts from a picture: the whole picture at three strengths, a part under a mask, and variations of its seed.

use impasto::{Pipeline, Raster, Result, Rgb};
use impasto_report::Sheet;

const PORTRAIT: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background";
const CHANGED: &str = "1girl, gold eyes, pink hair bow, black hair, pale skin, red shirt, navy background";
const RED_SHIRT: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, red shirt, green background";

fn main() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let first = pipeline.request(PORTRAIT).steps(14).seed(7).run()?;
    let portrait = first.image(0)?;
    let mut shown = vec![("the picture".to_owned(), portrait.clone())];

    // Image to image: a higher strength follows the prompt more and the picture less.
    for strength in [0.4, 0.6, 0.8] {
        let output = pipeline.request(CHANGED).steps(14).seed(7).start(portrait, strength).run()?;
        shown.push((format!("strength {strength}"), output.image(0)?.clone()));
    }

    // Inpainting changes only the light area of the mask.
    let mut mask = Raster::flat(Rgb(0, 0, 0), (256, 256));
    mask.paste(&Raster::flat(Rgb(255, 255, 255), (256, 80)), 0, 176);
    let below = pipeline
        .request(RED_SHIRT)
        .steps(14)
        .seed(7)
        .start(portrait, 1.0)
        .mask(&mask)
        .solver_named("DPM++ 2M")
        .run()?;
    shown.push(("the mask".into(), mask.clone()));
    shown.push(("repainted there".into(), below.image(0)?.clone()));

    // Variations mix the noise of two seeds.
    for strength in [0.1, 0.3] {
        let output = pipeline.request(PORTRAIT).steps(14).seed(7).variation(8, strength).run()?;
        shown.push((format!("variation {strength}"), output.image(0)?.clone()));
    }

    let sheet = shown.iter().fold(Sheet::new(4), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("repaint.png")?;
    println!("repaint.png");
    Ok(())
}
