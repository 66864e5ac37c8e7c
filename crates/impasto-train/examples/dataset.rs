//! Draws samples of the tiny model's dataset: sheets of pictures and masks, some pictures with captions, and the
//! drawing speed.
//!
//! `cargo run --release -p impasto-train --example dataset -- OUT_FOLDER --count 64`

use clap::{Parser, value_parser};
use impasto::{Raster, Result, Rgb};
use impasto_report::Sheet;
use impasto_train::dataset::{Class, Dataset, Drawing, Wording};
use std::path::PathBuf;
use std::time::Instant;

const COLUMNS: usize = 8;
/// Number of pictures that are saved one by one.
const SAMPLES: usize = 8;

/// Draws samples of the data set that the embedded model was trained on.
#[derive(Parser)]
struct Options {
    /// Folder of the sheets and pictures; a missing folder is made.
    #[arg(value_name = "OUT_FOLDER", default_value = "dataset")]
    folder: PathBuf,
    /// Seed of the first drawing; each later drawing has the next seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of drawings.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..))]
    count: u64,
    /// Side of a drawing in pixels.
    #[arg(long, default_value_t = 256)]
    size: u32,
}

fn main() -> Result<()> {
    let Options { folder, seed, count, size } = Options::parse();
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let dataset = Dataset::new(size)?;
    let start = Instant::now();
    let drawings = (seed..seed + count).map(|seed| dataset.draw(seed)).collect::<Result<Vec<Drawing>>>()?;
    let rate = count as f64 / start.elapsed().as_secs_f64();

    let masks: Vec<Raster> = drawings.iter().map(map).collect();
    let pictures = drawings.iter().fold(Sheet::new(COLUMNS), |sheet, drawing| sheet.add("", &drawing.picture));
    pictures.draw()?.save(folder.join("sheet.png"))?;
    masks.iter().fold(Sheet::new(COLUMNS), |sheet, mask| sheet.add("", mask)).draw()?.save(folder.join("masks.png"))?;
    for (seed, drawing) in (seed..).zip(drawings.iter().take(SAMPLES)) {
        drawing.picture.save(folder.join(format!("{seed}.png")))?;
        let captions = [Wording::FULL, Wording::default(), Wording::default()];
        for (number, wording) in (0..).zip(captions) {
            println!("{seed}: {}", drawing.record.caption(wording, number));
        }
    }
    println!("{} pictures of {size}×{size}, {rate:.0} per second", drawings.len());
    println!("{}", folder.join("sheet.png").display());
    Ok(())
}

/// Paints the mask in the colors of its classes.
fn map(drawing: &Drawing) -> Raster {
    let mut map = Raster::flat(Rgb(0, 0, 0), drawing.picture.size());
    for ((y, x), &index) in drawing.mask.indexed_iter() {
        let class = Class::from_index(index).expect("masks hold classes");
        map.set(x as u32, y as u32, class.map_color());
    }
    map
}
