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
    let mut pipeline = Pipeline::builder().build()?;
    // The first thing once more, like the one in a picture: what the picture is to say, the prompt leaves out.
    let picture = pipeline.request("a teal house, green ground, azure sky").seed(3).run()?;
    picture.image(0)?.save("composition_image.png")?;
    let mut guided = composition.clone();
    if let Some(first) = guided.entities.first_mut() {
        let alike = |text: &str| text.replace("red house", "house");
        (first.prompt, first.thing) = (alike(&first.prompt), first.thing.as_deref().map(alike));
        *first = first.clone().image("composition_image.png", 0.6);
    }
    guided.preview()?.save("composition_preview.png")?;
    let mut rows = Vec::new();
    for (name, composition) in [("the background", None), ("composed", Some(&composition)), ("guided", Some(&guided))] {
        for seed in 0..4 {
            let Composition { prompt, negative, width, height, .. } = &guided;
            let request = pipeline.request(prompt).negative(negative).seed(seed).size(*width, *height);
            let request = match composition {
                Some(composition) => request.guide(composition.regions()?),
                None => request,
            };
            rows.push((format!("{name}, seed {seed}"), request.run()?.image(0)?.clone()));
        }
    }
    let sheet = rows.iter().fold(Sheet::new(4), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("composition.png")?;
    println!("composition.png, composition_preview.png, composition_image.png");
    Ok(())
}
