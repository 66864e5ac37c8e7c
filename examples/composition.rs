//! Composes a picture from JSON in which each thing has a box and a prompt of its own: `composition [FILE.json]`.

use impasto::composition::Composition;
use impasto::{Pipeline, Result};
use impasto_report::Sheet;

const SCENE: &str = r#"{
    "prompt": "green ground, azure sky",
    "width": 256,
    "height": 256,
    "entities": [
        { "prompt": "a red house, green ground, azure sky", "thing": "red house",
          "left": 16, "top": 112, "width": 104, "height": 120, "strength": 1.0 },
        { "prompt": "a yellow star, green ground, azure sky", "thing": "yellow star",
          "left": 140, "top": 16, "width": 96, "height": 96, "strength": 1.0 }
    ]
}"#;

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let compositions = match std::env::args().nth(1) {
        Some(file) => vec![("composed", Composition::open(file)?)],
        None => {
            let scene = Composition::from_json(SCENE)?;
            // The second composition takes the house's color from a picture, so that the prompt leaves out the color.
            let picture = pipeline.request("a teal house, green ground, azure sky").seed(3).run()?;
            picture.image(0)?.save("composition_image.png")?;
            let mut guided = scene.clone();
            if let Some(house) = guided.entities.first_mut() {
                house.prompt = "a house, green ground, azure sky".into();
                house.thing = Some("house".into());
                (house.image, house.likeness) = (Some("composition_image.png".into()), 0.6);
            }
            vec![("composed", scene), ("guided", guided)]
        }
    };
    let mut rows = Vec::new();
    // The first row shows the background alone.
    let alone = compositions.iter().take(1).map(|(_, composition)| ("the background", composition, false));
    for (name, composition, composed) in alone.chain(compositions.iter().map(|(name, it)| (*name, it, true))) {
        let Composition { prompt, negative, width, height, .. } = composition;
        for seed in 0..2 {
            let request = pipeline.request(prompt).negative(negative).seed(seed).steps(14).size((*width, *height));
            let request = if composed { request.guide(composition.regions()?) } else { request };
            rows.push((format!("{name}, seed {seed}"), request.run()?.image(0)?.clone()));
        }
        if composed {
            Sheet::new(4).add_all(&composition.preview()?)?.draw()?.save(format!("{name}_preview.png"))?;
        }
    }
    let sheet = rows.iter().fold(Sheet::new(2), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("composition.png")?;
    println!("composition.png, and a preview of each composition");
    Ok(())
}
