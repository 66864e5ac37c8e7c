//! The distance of pictures from their [`Palette`], and the share of their things that stay: makes the table of
//! docs/palette.md.
//!
//! Paints portraits and scenes without and with each of six palettes, and prints for each palette the sliced
//! Wasserstein distance between the picture and its swatches in CIE Lab, and the share of the things that keep half of
//! their area or more. `palette_study FOLDER [SEEDS]` also writes the pictures, each in a row with its palettes.

use impasto::methods::Palette;
use impasto::methods::palette::PaletteReport;
use impasto::{Pipeline, Raster, Rgb};
use impasto_yardstick::failure::Failure;
use impasto_yardstick::guides;
use impasto_yardstick::judge::{Evaluator, class};
use impasto_yardstick::picture::picture;

use std::path::Path;

/// The palettes: name, and colors with shares.
const PALETTES: [(&str, &[(&str, f64)]); 6] = [
    ("night", &[("#0b1437", 3.0), ("#27408b", 2.0), ("#f5d576", 1.0)]),
    ("autumn", &[("#5b2a14", 1.0), ("#c1440e", 2.0), ("#f2a541", 2.0), ("#f9ead0", 1.0)]),
    ("mint", &[("#f1faee", 3.0), ("#a8dadc", 2.0), ("#457b9d", 1.0), ("#1d3557", 1.0)]),
    ("two inks", &[("#e63946", 1.0), ("#f8f4e3", 2.0)]),
    ("pastel", &[("#ffd6e0", 2.0), ("#cdb4db", 2.0), ("#bde0fe", 2.0), ("#6d597a", 1.0)]),
    ("forest", &[("#132a13", 2.0), ("#4f772d", 2.0), ("#90a955", 1.0), ("#ecf39e", 1.0)]),
];

/// The prompts, each with the things that the judge looks for.
const PROMPTS: [(&str, &[&str]); 6] = [
    ("1girl, long hair, blue eyes, red shirt, green background", &["hair", "skin", "shirt"]),
    ("a girl with pink hair and a hair bow, smiling", &["hair", "skin", "hair bow"]),
    ("a house, a tree, blue sky, green ground", &["house", "tree", "sky", "ground"]),
    ("a red boat, orange sky, sea", &["boat", "sky"]),
    ("a yellow fish, blue sky, ground", &["fish", "sky", "ground"]),
    ("a purple flower, white moon, dark sky, ground", &["flower", "moon", "sky", "ground"]),
];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("expected a folder for the sheets")?;
    let seeds: u64 = arguments.next().map_or(Ok(2), |seeds| seeds.parse())?;
    let (pipeline, judge) = (Pipeline::builder().build()?, Evaluator::open()?);
    let mut figures: Vec<Vec<(f64, f64, f64)>> = vec![Vec::new(); PALETTES.len()];
    for (number, (prompt, things)) in PROMPTS.iter().enumerate() {
        for seed in 0..seeds {
            let request = || pipeline.request(*prompt).seed(seed);
            let plain = request().run()?;
            let before = judge.see(&picture(plain.image(0)?)?)?;
            let classes: Vec<u8> = things.iter().map(|thing| class(thing, &[])).collect();
            let mut sheet = vec![plain.image(0)?.clone()];
            for ((_, colors), figures) in PALETTES.iter().zip(&mut figures) {
                let colors = colors.iter().map(|(color, share)| Ok((color.parse()?, *share)));
                let palette = Palette::new(colors.collect::<impasto::Result<Vec<(Rgb, f64)>>>()?);
                let output = request().guide(palette.clone()).run()?;
                let painted = output.image(0)?;
                let seen = picture(painted)?;
                let after = judge.see(&seen)?;
                let kept = guides::kept(&before.labels, &after.labels, &classes).unwrap_or(1.0);
                let far = guides::palette(&seen, &picture(&flat(&palette))?);
                let own = &output.details::<PaletteReport>("Palette")?.painted[0];
                figures.push((far, kept, own.distance));
                sheet.push(painted.clone());
            }
            let file = Path::new(&folder).join(format!("{number}-{seed}.png"));
            strip(&sheet)?.save(file)?;
        }
    }
    println!("{:10} {:>8} {:>6} {:>9}", "palette", "distance", "kept", "reported");
    for ((name, _), figures) in PALETTES.iter().zip(&figures) {
        let mean = |of: fn(&(f64, f64, f64)) -> f64| figures.iter().map(of).sum::<f64>() / figures.len() as f64;
        println!("{name:10} {:8.2} {:6.3} {:9.2}", mean(|f| f.0), mean(|f| f.1), mean(|f| f.2));
    }
    Ok(())
}

/// Returns a picture of the palette's flat colors in their shares, 64 × 64 pixels.
fn flat(palette: &Palette) -> Raster {
    let mut picture = Raster::flat(Rgb(0, 0, 0), (64, 64));
    let swatches = palette.swatches();
    for at in 0..64 * 64u32 {
        let share = f64::from(at) / f64::from(64 * 64);
        let mut sum = 0.0;
        let color = swatches.iter().find(|(_, own)| {
            sum += own;
            share < sum
        });
        picture.set(at % 64, at / 64, color.unwrap_or(&swatches[swatches.len() - 1]).0);
    }
    picture
}

/// Returns pictures side by side.
fn strip(pictures: &[Raster]) -> impasto::Result<Raster> {
    let size = pictures[0].size();
    let mut strip = Raster::flat(Rgb(255, 255, 255), (size.width * pictures.len() as u32, size.height));
    for (at, picture) in pictures.iter().enumerate() {
        strip.paste(picture, size.width * at as u32, 0);
    }
    Ok(strip)
}
