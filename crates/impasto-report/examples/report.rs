//! Saves a run as a picture with its recipe, a page and a contact sheet, then makes the same picture again from its own
//! file.

use impasto::pipeline::{Pipeline, Request};
use impasto::saliency::Daam;
use impasto::{Error, Result};

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, #ffd700 eyes, {hotpink} hair bow, {tomato} hair, skin, shirt, background";
    let output = pipeline.request(prompt).seed(2).guide(Daam::of("shirt")).run()?;
    output.save(0, "report_picture.png")?;
    impasto_report::save(&output, "report.html")?;
    impasto_report::contact_sheet(&output, 0)?.save("report.png")?;
    println!("report_picture.png, report.png and, for a browser, report.html");
    println!("{:.1?} in all, {:.1?} a step", output.timing.total(), output.timing.step());

    let request = Request::from_png(&pipeline, "report_picture.png")?;
    request.notes()?.iter().for_each(|note| println!("note: {note}"));
    let again = request.run()?;
    if again.image(0)? != output.image(0)? {
        return Err(Error::NotRepeatable { what: "this machine's arithmetic".into() });
    }
    println!("made again from report_picture.png, every pixel the same");
    Ok(())
}
