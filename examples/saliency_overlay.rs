//! Shows where the picture attends to each of its words, with one overlay per word on a contact sheet.

use impasto::saliency::Daam;
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let words = ["eyes", "hair bow", "hair", "skin", "shirt", "background"];
    let prompt = format!("1girl, {}", words.join(", "));
    let mut pipeline = Pipeline::builder().build()?;
    let mut looks = words.map(Daam::of);
    let mut request = pipeline.request(&prompt).seed(7);
    for look in &mut looks {
        request = request.guide(look);
    }
    let output = request.run()?;
    let picture = output.image(0)?;
    let overlays: Vec<_> = looks.iter().map(|look| look.heat_map(0)?.overlay(picture, 0.7)).collect::<Result<_>>()?;
    let mut sheet = Sheet::new(4).add("picture", picture);
    for (word, overlay) in words.iter().zip(&overlays) {
        sheet = sheet.add(*word, overlay);
    }
    sheet.draw()?.save("saliency_overlay.png")?;
    println!("saliency_overlay.png");
    Ok(())
}
