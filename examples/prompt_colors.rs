//! Exact colors said in the prompt, in the ways of CSS.

use impasto::{Pipeline, Result, Sheet};

fn main() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let prompt =
        "1girl, #ffd700 eyes, {hotpink} hair bow, rgb(72, 61, 139) hair, skin, oklch(0.54 0.09 195) shirt, background";
    let request = pipeline.request(prompt).seed(2);
    for found in request.colors()? {
        println!("{} is {}: {}, and the model reads \"{}\"", found.written, found.color, found.phrase, found.word);
    }
    let output = request.run()?;
    Sheet::new(1).add(prompt, output.image(0)?).draw()?.save("prompt_colors.png")?;
    println!("prompt_colors.png");
    Ok(())
}
