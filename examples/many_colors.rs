//! Forces five exact colors in one run. The forces share one first pass, and no latent cell gets two colors.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).steps(14).seed(2).run()?;
    let colors = [
        ("eyes", Rgb(255, 215, 0)),
        ("hair bow", Rgb(255, 105, 180)),
        ("hair", Rgb(72, 61, 139)),
        ("shirt", Rgb(0, 128, 128)),
        ("background", Rgb(245, 222, 179)),
    ];
    let mut request = pipeline.request(prompt).steps(14).seed(2);
    for (phrase, color) in colors {
        request = request.guide(ColorForce::exact(phrase, color));
    }
    let forced = request.run()?;
    for (phrase, asked) in colors {
        let details = forced.details::<ColorReport>(phrase)?;
        let painted = details.painted.first().expect("all are in the picture");
        println!("{phrase}: asked for {asked}, painted {} (CIEDE2000 {:.1})", painted.color, painted.delta_e);
    }
    let sheet = Sheet::new(2).add("plain", plain.image(0)?).add("five colors", forced.image(0)?);
    sheet.draw()?.save("many_colors.png")?;
    println!("many_colors.png");
    Ok(())
}
