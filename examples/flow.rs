//! Forces exact colors on a transformer with flow matching, as Anima and Stable Diffusion 3.5 are.

use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::saliency::{Daam, DaamRun};
use impasto::{Pipeline, Result, Rgb, Source};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().source(Source::embedded_flow()).build()?;
    let mut sheet = Sheet::new(5);
    for (prompt, seed, wishes) in [
        (
            "1girl, brown hair, blue eyes, white shirt, pink background",
            12,
            [("hair", Rgb(255, 99, 71)), ("shirt", Rgb(60, 179, 113)), ("background", Rgb(255, 215, 0))],
        ),
        (
            "a red house, green ground, blue sky",
            7,
            [("house", Rgb(255, 215, 0)), ("ground", Rgb(205, 133, 63)), ("sky", Rgb(72, 61, 139))],
        ),
    ] {
        let request = || pipeline.request(prompt).seed(seed).steps(14);
        let (first, _) = wishes[0];
        let plain = request().guide(Daam::of(first)).run()?;
        let overlay = plain.details::<DaamRun>(first)?.heat_map(0)?.overlay(plain.image(0)?, 0.7)?;
        sheet = sheet.add("plain", plain.image(0)?).add(format!("attention to {first}"), &overlay);
        for (part, color) in wishes {
            let output = request().guide(ColorForce::exact(part, color)).run()?;
            let details = output.details::<ColorReport>(part)?;
            let painted = details.painted.first().expect("the part is in the picture");
            println!("{part}: asked for {color}, painted {} (CIEDE2000 {:.1})", painted.color, painted.delta_e);
            sheet = sheet.add(format!("{part}: {color}"), output.image(0)?);
        }
    }
    sheet.draw()?.save("flow.png")?;
    println!("flow.png");
    Ok(())
}
