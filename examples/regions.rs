//! Uses regions without words: a house that keeps its noise while the rest varies, and a house with an exact color.

use impasto::mask::Region;
use impasto::methods::color_force::ColorReport;
use impasto::methods::paint_with_words::{Area, WeightFn};
use impasto::methods::{ColorForce, PaintWithWords};
use impasto::{Pipeline, Result, Rgb, Window};
use impasto_report::Sheet;

const PROMPT: &str = "a red house, green ground, azure sky";

/// Returns a map of a house on the left and its surroundings.
fn paint(seed: Option<u64>) -> PaintWithWords {
    let house = Area { strength: 1.5, ..Area::mask(Region::rect(0.06..0.5, 0.4..0.86), "red house") };
    PaintWithWords::default()
        .area(Area { seed, ..house })
        .area(Area::mask(Region::rect(0.5..1.0, 0.6..1.0).or(Region::rect(0.0..1.0, 0.86..1.0)), "green ground"))
        .area(Area::mask(Region::rect(0.5..1.0, 0.0..0.6).or(Region::rect(0.0..1.0, 0.0..0.4)), "azure sky"))
        .weight(WeightFn::LogMax(0.4))
        .window(Window::sigmas(4.0..=f64::INFINITY))
}

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let mut rows = Vec::new();
    for (name, house) in [("painted", None), ("its own seed", Some(3))] {
        for seed in 20..22 {
            let output = pipeline.request(PROMPT).seed(seed).steps(14).guide(paint(house)).run()?;
            rows.push((format!("{name}, {seed}"), output.image(0)?.clone()));
        }
    }
    for (seed, color) in (20..).zip([Rgb(255, 215, 0), Rgb(0, 128, 128)]) {
        let paint = paint(None);
        // Attention says where the house is; the region says where the house may be.
        let force = ColorForce::exact("house", color).mask(paint.region("red house")?);
        let output = pipeline.request(PROMPT).seed(seed).steps(14).guide(paint).guide(force).run()?;
        for painted in &output.details::<ColorReport>("house")?.painted {
            println!("asked for {color}, painted {}: CIEDE2000 {:.1}", painted.color, painted.delta_e);
        }
        rows.push((format!("{color}, {seed}"), output.image(0)?.clone()));
    }
    let sheet = rows.iter().fold(Sheet::new(2), |sheet, (caption, picture)| sheet.add(caption, picture));
    sheet.draw()?.save("regions.png")?;
    println!("regions.png");
    Ok(())
}
