//! Paints two prompts in their own colors, in two palettes, and in the colors of another picture.

use impasto::methods::Palette;
use impasto::methods::palette::PaletteReport;
use impasto::{Pipeline, Result, Rgb};
use impasto_report::Sheet;

const PROMPTS: [&str; 2] = ["1girl, long hair, blue eyes, red shirt", "a house, a tree, blue sky, green ground"];

fn main() -> Result<()> {
    let pipeline = Pipeline::builder().build()?;
    let sunset = pipeline.request("a boat, orange sky, purple ground").seed(3).run()?;
    let night = [(Rgb(11, 20, 55), 3.0), (Rgb(39, 64, 139), 2.0), (Rgb(245, 213, 118), 1.0)];
    let mint = [(Rgb(241, 250, 238), 3.0), (Rgb(168, 218, 220), 2.0), (Rgb(69, 123, 157), 1.0), (Rgb(29, 53, 87), 1.0)];
    let palettes = [
        ("night", Palette::new(night)),
        ("mint", Palette::new(mint)),
        ("of the sunset", Palette::of(sunset.image(0)?, 6)?),
    ];
    let mut sheet = Sheet::new(4);
    for prompt in PROMPTS {
        sheet = sheet.add("without a palette", pipeline.request(prompt).seed(5).run()?.image(0)?);
        for (name, palette) in &palettes {
            let output = pipeline.request(prompt).seed(5).guide(palette.clone()).run()?;
            let painted = &output.details::<PaletteReport>("Palette")?.painted[0];
            sheet = sheet.add(format!("{name}, distance {:.1}", painted.distance), output.image(0)?);
        }
    }
    sheet.draw()?.save("palette.png")?;
    println!("palette.png");
    Ok(())
}
