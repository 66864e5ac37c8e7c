//! A picture composed of things in boxes, each after a prompt of its own, as JSON that a program or a person wrote:
//! `composition [FILE.json]`.

use impasto::guidance::Composition;
use impasto::{Pipeline, Result, Sheet};

const SCENE: &str = r#"{
    "prompt": "green ground, azure sky",
    "width": 128,
    "height": 128,
    "entities": [
        { "prompt": "a red house, green ground, azure sky", "thing": "red house",
          "left": 8, "top": 56, "width": 52, "height": 60, "strength": 1.0 },
        { "prompt": "a yellow star, green ground, azure sky", "thing": "yellow star",
          "left": 70, "top": 8, "width": 48, "height": 48, "strength": 1.0 }
    ]
}"#;

fn main() -> Result<()> {
    let composition = match std::env::args().nth(1) {
        Some(file) => Composition::open(file)?,
        None => Composition::from_json(SCENE)?,
    };
    composition.preview()?.save("composition_preview.png")?;
    let mut pipeline = Pipeline::builder().build()?;
    let mut rows = Vec::new();
    for composed in [false, true] {
        for seed in 0..4 {
            let request = pipeline.request(&composition.prompt).negative(&composition.negative).seed(seed);
            let request = request.size(composition.width, composition.height);
            let request = if composed { request.guide(composition.regions()?) } else { request };
            let caption = format!("{}, seed {seed}", if composed { "composed" } else { "the background" });
            rows.push((caption, request.run()?.image(0)?.clone()));
        }
    }
    let sheet = rows.iter().fold(Sheet::new(4), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("composition.png")?;
    println!("composition.png, composition_preview.png");
    Ok(())
}
