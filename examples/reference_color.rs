//! Colors one sketch like two reference pictures, as a whole and by parts.

use impasto::hint::{Canny, Drawing, Strokes};
use impasto::methods::{ColorForce, ReferenceColor};
use impasto::{Control, Pipeline, Raster, Result, Source};
use impasto_report::Sheet;

const PROMPT: &str = "1girl, eyes, hair bow, hair, skin, shirt, background";
/// Prompts of the references. Photographs work as references as well.
const REFERENCES: [&str; 2] = [
    "1girl, gold eyes, yellow hair bow, red hair, pale skin, orange shirt, navy background",
    "1girl, green eyes, white hair bow, teal hair, pale skin, green shirt, cyan background",
];

fn main() -> Result<()> {
    let mut pipeline = Pipeline::builder().build()?;
    let net = pipeline.model().controlnet(&Source::embedded())?;
    let sketched = pipeline.request(PROMPT).seed(20).run()?;
    let sketch = Canny::default().edges(sketched.image(0)?)?;
    let drawing = Drawing { sketch, strokes: Strokes::new(sketched.image(0)?.size()) };

    let mut sheet = Sheet::new(5);
    for (number, of) in (0..).zip(REFERENCES) {
        let picture = pipeline.request(of).seed(100 + number).run()?.image(0)?.clone();
        let reference = pipeline.reference(&picture, PROMPT, ["hair"])?;
        let mut paint = |colors: ReferenceColor, force: Option<&mut ColorForce>| -> Result<Raster> {
            let request = pipeline
                .request(PROMPT)
                .seed(3)
                .steps(14)
                .control(Control::drawing(&net, &drawing).scale(1.0).guess(None))
                .guide(colors);
            let request = force.into_iter().fold(request, |request, force| request.guide(force));
            Ok(request.run()?.image(0)?.clone())
        };
        let whole = paint(ReferenceColor::new(&picture), None)?;
        let hair = paint(ReferenceColor::new(&picture).part(&reference, "hair")?, None)?;
        let mut force = ColorForce::like(&reference, "hair")?;
        let exact = paint(ReferenceColor::new(&picture), Some(&mut force))?;
        let report = force.details()?;
        println!(
            "hair of {}: painted {}, CIEDE2000 {:.1}",
            report.asked, report.painted[0].color, report.painted[0].delta_e
        );
        sheet = sheet.add("the sketch", &drawing.raster()?).add("the reference", &picture).add("in its colors", &whole);
        sheet = sheet.add("only the hair", &hair).add("and exactly its hair", &exact);
    }
    sheet.draw()?.save("reference_color.png")?;
    println!("reference_color.png");
    Ok(())
}
