//! Gives exact colors in the prompt, in the notations of CSS. Beside them are the same colors, forced on the picture of
//! a prompt without colors.

use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt =
        "1girl, #ffd700 eyes, {hotpink} hair bow, rgb(72, 61, 139) hair, skin, oklch(0.54 0.09 195) shirt, background";
    for found in pipeline.request(prompt).colors()? {
        println!(
            "{} is {} for \"{}\", and the model reads \"{}\"",
            found.written, found.color, found.phrase, found.word
        );
    }
    let plain = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let colors = [
        ("eyes", Rgb(255, 215, 0)),
        ("hair bow", Rgb(255, 105, 180)),
        ("hair", Rgb(72, 61, 139)),
        ("shirt", Rgb(0, 125, 128)),
    ];
    let mut pictures = Vec::new();
    for seed in [2, 11] {
        let finished = pipeline.request(plain).steps(14).seed(seed).run()?;
        let forced = pipeline.request(plain).steps(14).seed(seed);
        let forced =
            colors.into_iter().fold(forced, |request, (part, color)| request.color_force(part, color)).run()?;
        let said = pipeline.request(prompt).steps(14).seed(seed).run()?;
        pictures.push((format!("seed {seed}, no colors"), finished));
        pictures.push(("forced on that picture".to_owned(), forced));
        pictures.push(("said in the prompt".to_owned(), said));
    }
    let mut sheet = Sheet::new(3);
    for (caption, output) in &pictures {
        sheet = sheet.add(caption, output.image(0)?);
    }
    sheet.draw()?.save("prompt_colors.png")?;
    println!("prompt_colors.png");
    Ok(())
}
