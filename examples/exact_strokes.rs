//! Paints the things under a few strokes in exactly the strokes' colors, without any trained ControlNet.

use impasto::guidance::Guidance;
use impasto::hint::Strokes;
use impasto::methods::ColorForce;
use impasto::methods::color_force::ColorReport;
use impasto::{Pipeline, Raster, Result, Rgb, Size};
use impasto_report::Sheet;

const COLORS: [Rgb; 10] = [
    Rgb(255, 99, 71),
    Rgb(72, 61, 139),
    Rgb(255, 215, 0),
    Rgb(0, 128, 128),
    Rgb(199, 21, 133),
    Rgb(60, 179, 113),
    Rgb(70, 130, 180),
    Rgb(139, 69, 19),
    Rgb(238, 130, 238),
    Rgb(47, 79, 79),
];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let prompt = "1girl, eyes, hair bow, hair, skin, shirt, background";
    let three = Strokes::new((256, 256))
        .line([(120.0, 92.0), (150.0, 98.0)], 4.0, Rgb(255, 99, 71)) // hair
        .line([(105.0, 240.0), (150.0, 240.0)], 4.0, Rgb(72, 61, 139)) // shirt
        .line([(15.0, 15.0), (50.0, 25.0)], 4.0, Rgb(255, 215, 0)); // background
    // Strokes may lie anywhere. Of several strokes on one thing, each colors the area that is nearest to the stroke.
    let ten = (0..10).zip(COLORS).fold(Strokes::new((256, 256)), |ten, (i, color)| {
        let (x, y) = (32.0 + 48.0 * f64::from(i % 5), 60.0 + 140.0 * f64::from(i / 5));
        ten.line([(x - 5.0, y), (x + 5.0, y)], 5.0, color)
    });
    let mut sheet = Sheet::new(3);
    for (name, strokes, seed) in [("three strokes", &three, 2), ("ten strokes", &ten, 3)] {
        let plain = pipeline.request(prompt).seed(seed).steps(14).run()?;
        let forces = ColorForce::painted(strokes)?;
        let request = pipeline.request(prompt).seed(seed).steps(14);
        let output = forces.iter().cloned().fold(request, |request, force| request.guide(force)).run()?;
        for force in &forces {
            let report = output.details::<ColorReport>(&force.label())?;
            println!(
                "seed {seed}, {}: painted {}, CIEDE2000 {:.1}",
                report.asked, report.painted[0].color, report.painted[0].delta_e
            );
        }
        sheet = sheet.add(format!("seed {seed}"), plain.image(0)?);
        sheet = sheet.add(name, &over(strokes, plain.image(0)?));
        sheet = sheet.add("what lies under them", output.image(0)?);
    }
    sheet.draw()?.save("exact_strokes.png")?;
    println!("exact_strokes.png");
    Ok(())
}

/// Draws the strokes on a picture.
fn over(strokes: &Strokes, picture: &Raster) -> Raster {
    let mut painted = picture.clone();
    let Size { width, height } = picture.size();
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        if let Some((color, 255)) = strokes.layer().pixel(x, y) {
            painted.set(x, y, color);
        }
    }
    painted
}
