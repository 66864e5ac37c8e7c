//! Shows where the picture attends to each of its words, with one overlay per word on a contact sheet.

use impasto::saliency::{Daam, DaamRun};
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let words = ["eyes", "hair bow", "hair", "skin", "shirt", "background"];
    let prompt = format!("1girl, {}", words.join(", "));
    let pipeline = Pipeline::builder().build()?;
    let mut request = pipeline.request(&prompt).seed(7);
    for word in words {
        request = request.guide(Daam::of(word));
    }
    let output = request.run()?;
    let picture = output.image(0)?;
    let mut sheet = Sheet::new(4).add("picture", picture);
    for word in words {
        let overlay = output.details::<DaamRun>(word)?.heat_map(0)?.overlay(picture, 0.7)?;
        sheet = sheet.add(word, &overlay);
    }
    sheet.draw()?.save("saliency_overlay.png")?;
    println!("saliency_overlay.png");
    Ok(())
}
