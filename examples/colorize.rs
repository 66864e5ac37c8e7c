//! Colors one sketch like six pictures, by a model that was trained for it, and changes one reference by words.

use impasto::hint::Canny;
use impasto::methods::Colorize;
use impasto::methods::colorize::{Ink, Manipulation};
use impasto::{Pipeline, Result, Source};
use impasto_report::Sheet;

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
/// Prompts of the references. Photographs work as references as well.
const REFERENCES: [&str; 6] = [
    "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background",
    "1girl, green eyes, white hair bow, teal hair, pale skin, green shirt, cyan background",
    "1girl, blue eyes, red hair bow, brown hair, tan skin, white shirt, pink background",
    "1boy, red eyes, white hair, pale skin, purple shirt, green background",
    "1girl, purple eyes, pink hair bow, black hair, pale skin, yellow shirt, azure background",
    "1girl, brown eyes, blue hair bow, pink hair, brown skin, navy shirt, orange background",
];

fn main() -> Result<()> {
    let painter = Pipeline::builder().build()?;
    let pipeline = Pipeline::builder().source(Source::embedded_colorizer()).build()?;
    let sketched = painter.request(PROMPT).seed(20).run()?;
    let sketch = Canny::default().edges(sketched.image(0)?)?.raster();

    let mut sheet = Sheet::new(4);
    let mut references = Vec::new();
    for (of, seed) in REFERENCES.iter().zip(100..) {
        let reference = painter.request(*of).seed(seed).steps(14).run()?.image(0)?.clone();
        let colors = Colorize::new(&sketch, &reference).tune(|options| options.ink = Ink::Light);
        let output = pipeline.request("").seed(3).steps(14).guide(colors).run()?;
        sheet = sheet.add("the reference", &reference).add("in its colors", output.image(0)?);
        references.push(reference);
    }

    // Words turn the brown hair of the third reference blonde. The embedded model's word for blonde is yellow.
    let reference = &references[2];
    let manipulation = Manipulation {
        anchor: Some("brown hair".into()),
        control: Some("hair".into()),
        // Nearly everything except the hair stays unchanged.
        thresholds: [0.001, 0.002, 0.6, 0.7],
        ..Manipulation::new("yellow hair", 9.0)
    };
    println!("{manipulation}");
    let colors = Colorize::new(&sketch, reference).tune(|options| options.ink = Ink::Light);
    let colors = colors.manipulate([manipulation]);
    let output = pipeline.request("").seed(3).steps(14).guide(colors).run()?;
    for picture in output.reports.iter().flat_map(|report| &report.pictures) {
        sheet = sheet.add(picture.caption.as_str(), &picture.raster()?);
    }
    sheet = sheet.add("yellow hair, not brown", output.image(0)?);
    sheet.draw()?.save("colorize.png")?;
    println!("colorize.png");
    Ok(())
}
