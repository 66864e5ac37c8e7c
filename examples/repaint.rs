//! Starts from a picture: the whole picture at three strengths, parts of it under masks, and a variation of its seed.

use impasto::{Pipeline, Raster, Result, Rgb};
use impasto_report::Sheet;

const PORTRAIT: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, blue shirt, green background";
const CHANGED: &str = "1girl, gold eyes, pink hair bow, black hair, pale skin, red shirt, navy background";
const RED_SHIRT: &str = "1girl, gold eyes, pink hair bow, red hair, pale skin, red shirt, green background";
const TEAL_HAIR: &str = "1girl, gold eyes, pink hair bow, #008c96 hair, pale skin, blue shirt, green background";

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let first = pipeline.request(PORTRAIT).steps(14).seed(7).run()?;
    let portrait = first.image(0)?;
    let mut shown = vec![("the picture".to_owned(), portrait.clone())];

    // Image to image: a higher strength follows the prompt more and the picture less.
    for strength in [0.4, 0.6, 0.8] {
        let output = pipeline.request(CHANGED).steps(14).seed(7).start(portrait, strength).run()?;
        shown.push((format!("strength {strength}"), output.image(0)?.clone()));
    }

    // A variation mixes the noise of two seeds.
    let sibling = pipeline.request(PORTRAIT).steps(14).seed(7).variation(8, 0.3).run()?;
    shown.push(("a variation".into(), sibling.image(0)?.clone()));

    // Inpainting changes only the light area of the mask. The other pixels stay as they are, to the bit.
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
    shown.push(("a mask".into(), mask));
    shown.push(("repainted there".into(), below.image(0)?.clone()));

    // A thing can be the mask. It gets an exact color here.
    let hair = pipeline.request(TEAL_HAIR).steps(14).seed(7).start(portrait, 0.6).mask_where("hair");
    shown.push(("exactly teal hair".into(), hair.run()?.image(0)?.clone()));

    // Where a mask is gray, the picture changes less.
    let mut slope = Raster::flat(Rgb(0, 0, 0), (256, 256));
    for x in 0..=255 {
        slope.paste(&Raster::flat(Rgb(x, x, x), (1, 256)), u32::from(x), 0);
    }
    let more = pipeline.request(CHANGED).steps(14).seed(7).start(portrait, 1.0).mask(&slope).run()?;
    shown.push(("a gray mask".into(), slope));
    shown.push(("more to the right".into(), more.image(0)?.clone()));

    let sheet = shown.iter().fold(Sheet::new(5), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("repaint.png")?;
    println!("repaint.png");
    Ok(())
}
