//! Draws what the tiny model is trained on: sheets for the eye, some pictures with captions, and how fast it went.
//!
//! `cargo run --release -p impasto-train --example dataset -- OUT_FOLDER [--seed N] [--count N] [--size N]`

use impasto::{Raster, Result, Rgb};
use impasto_report::Sheet;
use impasto_train::dataset::{Class, Dataset, Drawing, Wording};
use std::path::{Path, PathBuf};
use std::time::Instant;

const COLUMNS: usize = 8;
/// Pictures that are saved one by one.
const SAMPLES: usize = 8;

struct Options {
    folder: PathBuf,
    seed: u64,
    count: u64,
    size: u32,
}

fn main() -> Result<()> {
    let Options { folder, seed, count, size } = options(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\nusage: dataset [OUT_FOLDER] [--seed N] [--count N] [--size N]");
        std::process::exit(2);
    });
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
    println!("{}", Path::new(&folder).join("sheet.png").display());
    Ok(())
}

/// The mask in the colors of its classes.
fn map(drawing: &Drawing) -> Raster {
    let mut map = Raster::flat(Rgb(0, 0, 0), (drawing.picture.width(), drawing.picture.height()));
    for ((y, x), &index) in drawing.mask.indexed_iter() {
        let class = Class::from_index(index).expect("masks hold classes");
        map.set(x as u32, y as u32, class.map_color());
    }
    map
}

fn options(arguments: impl Iterator<Item = String>) -> std::result::Result<Options, String> {
    let mut options = Options { folder: "dataset".into(), seed: 0, count: 64, size: 256 };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{text} is no number"))
        };
        match argument.as_str() {
            "--seed" => options.seed = number()?,
            "--count" => options.count = number()?.max(1),
            "--size" => options.size = u32::try_from(number()?).map_err(|_| "that size is too large".to_owned())?,
            folder if !folder.starts_with('-') => options.folder = folder.into(),
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(options)
}
