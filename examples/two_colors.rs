//! Runs two forces that share one reading of the attention. Each force reports what it painted.

use impasto::diffusion::solver::EulerAncestral;
use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

fn main() -> Result<()> {
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).seed(3).solver(EulerAncestral::default()).run()?;

    let eyes = ColorForce::published("eyes", Rgb(255, 215, 0)).color_var(15.0);
    let shirt = ColorForce::published("shirt", Rgb(0, 128, 128)).color_var(15.0).saliency_cutoff(0.2);
    let request = pipeline.request(prompt).seed(3).solver(EulerAncestral::default());
    let forced = request.guide(eyes).guide(shirt).run()?;

    for phrase in ["eyes", "shirt"] {
        let details = forced.details::<ColorReport>(phrase)?;
        let painted = details.painted.first().expect("both are in the picture");
        let asked = details.asked;
        println!("{phrase}: asked for {asked}, painted {} (CIEDE2000 {:.1})", painted.color, painted.delta_e);
    }
    let sheet = Sheet::new(2).add("plain", plain.image(0)?).add("gold eyes, teal shirt", forced.image(0)?);
    sheet.draw()?.save("two_colors.png")?;
    println!("two_colors.png");
    Ok(())
}
