//! Forces five exact colors in one run. The forces share one first pass, and no latent cell gets two colors.

use impasto::methods::ColorForce;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let mut pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).steps(14).seed(2).run()?;
    let mut forces = [
        ColorForce::exact("eyes", Rgb(255, 215, 0)),
        ColorForce::exact("hair bow", Rgb(255, 105, 180)),
        ColorForce::exact("hair", Rgb(72, 61, 139)),
        ColorForce::exact("shirt", Rgb(0, 128, 128)),
        ColorForce::exact("background", Rgb(245, 222, 179)),
    ];
    let mut request = pipeline.request(prompt).steps(14).seed(2);
    for force in &mut forces {
        request = request.guide(force);
    }
    let forced = request.run()?;
    for force in &forces {
        let details = force.details()?;
        let painted = details.painted.first().expect("all are in the picture");
        let (phrase, asked) = (&details.phrase, details.asked);
        println!("{phrase}: asked for {asked}, painted {} (CIEDE2000 {:.1})", painted.color, painted.delta_e);
    }
    let sheet = Sheet::new(2).add("plain", plain.image(0)?).add("five colors", forced.image(0)?);
    sheet.draw()?.save("many_colors.png")?;
    println!("many_colors.png");
    Ok(())
}
