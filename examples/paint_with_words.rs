//! Paints with words: things that the prompt alone puts anywhere go where a map says.

use impasto::methods::PaintWithWords;
use impasto::methods::paint_with_words::{PaintReport, WeightFn};
use impasto::raster::Filter;
use impasto::{Pipeline, Raster, Result, Rgb, Window};
use impasto_report::Sheet;

const SKY: Rgb = Rgb(40, 50, 120);
const GROUND: Rgb = Rgb(60, 130, 60);
const HOUSE: Rgb = Rgb(200, 60, 50);
const STAR: Rgb = Rgb(250, 220, 90);

/// Returns a sketch of 16 × 16 blocks with a house below and a star above, with their left edges at `house` and `star`.
fn map(house: u32, star: u32) -> Result<Raster> {
    let mut map = Raster::flat(SKY, (16, 16));
    map.paste(&Raster::flat(GROUND, (16, 6)), 0, 10);
    map.paste(&Raster::flat(HOUSE, (7, 7)), house, 7);
    map.paste(&Raster::flat(STAR, (5, 5)), star, 1);
    map.resize((256, 256), Filter::Nearest)
}

fn main() -> Result<()> {
    let prompt = "a red house and a yellow star, green ground, navy sky";
    let pipeline = Pipeline::builder().build()?;
    let plain = pipeline.request(prompt).steps(14).seed(20).images(2).run()?;
    let mut painted = Vec::new();
    for map in [map(1, 10)?, map(8, 1)?] {
        let paint = PaintWithWords::new(&map)
            .color(HOUSE, "red house", 1.5)
            .color(STAR, "yellow star", 1.5)
            .color(SKY, "navy sky", 1.0)
            .color(GROUND, "green ground", 1.0)
            .weight(WeightFn::LogMax(0.4))
            .window(Window::sigmas(4.0..=f64::INFINITY)); // below σ = 4 the model draws without the map
        Sheet::new(4).add_all(&paint.legend((256, 256))?)?.draw()?.save("paint_legend.png")?;
        let output = pipeline.request(prompt).steps(14).seed(20).images(2).guide(paint).run()?;
        for area in &output.details::<PaintReport>("PaintWithWords")?.areas {
            println!("{}: {:.0} % of the picture", area.phrase, 100.0 * area.share);
        }
        painted.push((output, map));
    }
    let blank = Raster::flat(Rgb(235, 235, 235), (256, 256));
    let rows = painted.iter().map(|(output, map)| ("the map", map, output));
    let mut sheet = Sheet::new(3);
    for (caption, map, output) in [("no map", &blank, &plain)].into_iter().chain(rows) {
        sheet = sheet.add(caption, map);
        for (seed, picture) in (20..).zip(&output.images) {
            sheet = sheet.add(format!("seed {seed}"), picture);
        }
    }
    sheet.draw()?.save("paint.png")?;
    println!("paint.png, paint_legend.png");
    Ok(())
}
