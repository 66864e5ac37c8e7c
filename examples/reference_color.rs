//! Colors one sketch like two reference pictures, as a whole and by parts.

use impasto::hint::{Canny, Drawing, Strokes};
use impasto::methods::color_force::ColorReport;
use impasto::methods::{ColorForce, ReferenceColor};
use impasto::{Control, Output, Pipeline, Result, Source};
use impasto_report::Sheet;

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
/// Prompts of the references. Photographs work as references as well.
const REFERENCES: [&str; 2] = [
    "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background",
    "1girl, green eyes, white hair bow, teal hair, pale skin, green shirt, cyan background",
];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let net = pipeline.model().controlnet(&Source::embedded())?;
    let sketched = pipeline.request(PROMPT).seed(20).run()?;
    let sketch = Canny::default().edges(sketched.image(0)?)?;
    let drawing = Drawing { sketch, strokes: Strokes::new(sketched.image(0)?.size()) };

    let mut sheet = Sheet::new(5);
    for (number, of) in (0..).zip(REFERENCES) {
        let picture = pipeline.request(of).seed(100 + number).run()?.image(0)?.clone();
        let reference = pipeline.reference(&picture, PROMPT, ["hair"])?;
        let paint = |colors: ReferenceColor, force: Option<ColorForce>| -> Result<Output> {
            let request = pipeline
                .request(PROMPT)
                .seed(3)
                .steps(14)
                .control(Control::drawing(&net, &drawing).scale(1.0).guess(None))
                .guide(colors);
            force.into_iter().fold(request, |request, force| request.guide(force)).run()
        };
        let whole = paint(ReferenceColor::new(&picture), None)?;
        let hair = paint(ReferenceColor::new(&picture).part(&reference, "hair")?, None)?;
        let exact = paint(ReferenceColor::new(&picture), Some(ColorForce::like(&reference, "hair")?))?;
        let report = exact.details::<ColorReport>("hair")?;
        println!(
            "hair of {}: painted {}, CIEDE2000 {:.1}",
            report.asked, report.painted[0].color, report.painted[0].delta_e
        );
        sheet = sheet.add("the sketch", &drawing.raster()?).add("the reference", &picture);
        sheet = sheet.add("in its colors", whole.image(0)?).add("only the hair", hair.image(0)?);
        sheet = sheet.add("and exactly its hair", exact.image(0)?);
    }
    sheet.draw()?.save("reference_color.png")?;
    println!("reference_color.png");
    Ok(())
}
