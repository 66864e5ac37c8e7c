//! Forces exact colors without settings: several parts of a portrait, one in each run, and how near each color came.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).steps(14).seed(2).run()?;
    let wishes = [
        ("eyes", Rgb(255, 215, 0)),
        ("hair bow", Rgb(255, 105, 180)),
        ("hair", Rgb(255, 99, 71)),
        ("background", Rgb(60, 179, 113)),
    ];
    let mut outputs = Vec::new();
    for (part, color) in wishes {
        let output = pipeline.request(prompt).steps(14).seed(2).guide(ColorForce::exact(part, color)).run()?;
        let details = output.details::<ColorReport>(part)?;
        let painted = details.painted.first().expect("the part is in the picture");
        let met = if details.converged { "met" } else { "not met" };
        println!("{part}: asked for {color}, painted {} (CIEDE2000 {:.1}, {met})", painted.color, painted.delta_e);
        outputs.push(output);
    }
    let mut sheet = Sheet::new(5).add("plain", plain.image(0)?);
    for ((part, _), output) in wishes.iter().zip(&outputs) {
        sheet = sheet.add(*part, output.image(0)?);
    }
    sheet.draw()?.save("exact_color.png")?;
    println!("exact_color.png");
    Ok(())
}
