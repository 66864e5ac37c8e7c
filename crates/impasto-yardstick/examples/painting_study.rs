//! Measures what painting with words does: makes the tables of docs/painting.md.
//!
//! ```text
//! cargo run --release -p impasto-yardstick --example painting_study -- laws swap --seeds 8
//! ```
//!
//! The pictures are those of the embedded model, or of a model in a folder that knows the same words. A segmentation
//! network that knows nothing of prompts and paint finds the objects. Every table comes with a sheet of the first
//! pictures.

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use impasto::diffusion::solver::Euler;
use impasto::methods::PaintWithWords;
use impasto::methods::paint_with_words::{Area, WeightFn};
use impasto::raster::Filter;
use impasto::{Pipeline, Raster, Rgb, Source};
use impasto_report::Sheet;
use impasto_train::Evaluator;
use impasto_train::dataset::Class;
use impasto_yardstick::placement::{inside, painted, placement};
use ndarray::Array2;
use std::error::Error;
use std::path::PathBuf;
use tch::Device;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Side of the maps, and of pictures as the judge sees them, in pixels.
const SIDE: u32 = Evaluator::SIDE as u32;
/// Color of everything that is not painted.
const PAPER: Rgb = Rgb(245, 245, 245);
const ONE: Rgb = Rgb(200, 60, 50);
const OTHER: Rgb = Rgb(60, 90, 190);
const OBJECTS: [&str; 8] = ["house", "tree", "boat", "star", "fish", "flower", "moon", "sun"];
/// Weight of an object's surroundings in tables that do not vary this weight.
const AROUND: f64 = 0.6;
const PAIRS: [[&str; 2]; 4] = [["house", "star"], ["tree", "moon"], ["boat", "sun"], ["flower", "fish"]];

/// Measures what painting with words does, and prints the tables of docs/painting.md.
#[derive(Parser)]
struct Options {
    /// Tables to make, in this order. The default is all of them.
    #[arg(value_enum, default_values_t = Table::value_variants().to_vec(), hide_default_value = true)]
    tables: Vec<Table>,
    /// Number of pictures of each painting.
    #[arg(long, default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    seeds: usize,
    /// An existing folder for the sheets of pictures.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// A folder with a model that knows the same words. The default is the embedded model.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

/// A table of docs/painting.md.
#[derive(Clone, Copy, ValueEnum)]
enum Table {
    /// Compares laws (weight functions, `WeightFn`) at several gains.
    Laws,
    /// Compares strengths of the painted object.
    Strengths,
    /// Compares weights of the surroundings.
    Background,
    /// Compares pairs of objects with their mirror images.
    Swap,
}

/// A function that makes a law (a weight function), because a run consumes the law.
type Law = Box<dyn Fn() -> WeightFn>;

/// A function that makes a law from its gain.
type OfGain = fn(f64) -> WeightFn;

/// The settings with which a row of a table is painted.
struct Setting {
    name: String,
    law: Law,
    /// Weight of the objects in their areas.
    strength: f64,
    /// Weight of the surroundings.
    background: f64,
    /// Weight of the objects outside their areas.
    outside: f64,
}

impl Setting {
    fn new(name: impl Into<String>, law: impl Fn() -> WeightFn + 'static) -> Self {
        Self { name: name.into(), law: Box::new(law), strength: 1.5, background: 0.0, outside: 0.0 }
    }

    fn log_max(gain: f64) -> Self {
        Self::new(format!("`LogMax({gain})`"), move || WeightFn::LogMax(gain))
    }

    fn strength(self, strength: f64) -> Self {
        Self { name: format!("{}, strength {strength}", self.name), strength, ..self }
    }

    fn background(self, background: f64) -> Self {
        Self { name: format!("{}, surroundings {background}", self.name), background, ..self }
    }

    fn outside(self, outside: f64) -> Self {
        Self { name: format!("{}, outside {outside}", self.name), outside, ..self }
    }

    /// Makes a painting of `map`, whose surroundings have the color `PAPER`.
    fn paint(&self, map: &Raster, things: &[(Rgb, &str)]) -> PaintWithWords {
        let paint = PaintWithWords::new(map).weight((self.law)());
        let area =
            |(color, thing)| Area { strength: self.strength, outside: self.outside, ..Area::color(color, thing) };
        let paint = things.iter().copied().map(area).fold(paint, PaintWithWords::area);
        ["ground", "sky"].into_iter().fold(paint, |paint, word| paint.color(PAPER, word, self.background))
    }
}

/// An area as shares of the picture: left, top, right, bottom.
type Place = [f64; 4];
const HALVES: [Place; 2] = [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]];

fn draw(map: &mut Raster, area: Place, color: Rgb) {
    let [left, top, right, bottom] = painted(area).map(|share| (share * f64::from(SIDE)) as u32);
    map.paste(&Raster::flat(color, (right - left, bottom - top)), left, top);
}

/// Returns two flags: true if the judge finds an object, and true if the object is in its area.
fn look(judge: &Evaluator, picture: &Raster, thing: &str, area: Place) -> Result<(bool, bool)> {
    let class = Class::ALL.iter().position(|class| class.name() == thing).ok_or("the judge knows no such object")?;
    let seen = picture.resize((SIDE, SIDE), Filter::Box)?.to_tensor(Device::Cpu)?;
    let labels = judge.forward(&seen)?.f_argmax(1, false)?.f_flatten(0, -1)?;
    let labels = Vec::<i64>::try_from(&labels)?.into_iter().map(|label| label as u8).collect();
    // The judge labels cells of 2 × 2 pixels.
    let labels = Array2::from_shape_vec((SIDE as usize / 2, SIDE as usize / 2), labels)?;
    let found = placement(&labels, class as u8, &inside(area, labels.dim()));
    Ok((found.detected, found.placed))
}

/// Model, judge and options, which all tables share.
struct Study {
    pipeline: Pipeline,
    judge: Evaluator,
    seeds: usize,
    out: PathBuf,
}

impl Study {
    /// Makes a table of one object in one quadrant. The quadrant changes from object to object.
    fn one(&mut self, name: &str, settings: &[Setting]) -> Result<()> {
        println!("\n| {name} | found | placed |\n|---|---|---|");
        let (mut maps, mut pictures) = (Vec::new(), Vec::new());
        for setting in settings {
            let (mut found, mut placed) = (0, 0);
            for (number, thing) in (0..).zip(OBJECTS) {
                let (left, top) = (f64::from(number % 2) / 2.0, f64::from(number / 2 % 2) / 2.0);
                let place = [left, top, left + 0.5, top + 0.5];
                let mut map = Raster::flat(PAPER, (SIDE, SIDE));
                draw(&mut map, place, ONE);
                let prompt = format!("a {thing}, ground, sky");
                let request = self.pipeline.request(&prompt).solver(Euler).seed(0).images(self.seeds);
                let output = request.guide(setting.paint(&map, &[(ONE, thing)])).run()?;
                for picture in &output.images {
                    let (there, here) = look(&self.judge, picture, thing, place)?;
                    (found, placed) = (found + usize::from(there), placed + usize::from(here));
                }
                if maps.len() < OBJECTS.len() {
                    maps.push((thing.to_owned(), map));
                }
                pictures.push((setting.name.clone(), output.image(0)?.clone()));
            }
            let share = |count: usize| count as f64 / (OBJECTS.len() * self.seeds) as f64;
            println!("| {} | {:.2} | {:.2} |", setting.name, share(found), share(placed));
        }
        self.sheet(name, OBJECTS.len(), &[maps, pictures].concat())
    }

    /// Makes a table of two objects, left and right and then the other way around, over the same noise.
    fn swap(&mut self, name: &str, settings: &[Setting]) -> Result<()> {
        println!("\n| {name} | found | placed | both | both, either way |\n|---|---|---|---|---|");
        let mut cells = Vec::new();
        for setting in settings {
            let (mut found, mut placed, mut both, mut followed) = (0, 0, 0, 0);
            for pair in PAIRS {
                let prompt = format!("a {} and a {}, ground, sky", pair[0], pair[1]);
                let mut together = vec![0; self.seeds];
                for swapped in [false, true] {
                    let [first, second] = if swapped { [HALVES[1], HALVES[0]] } else { HALVES };
                    let mut map = Raster::flat(PAPER, (SIDE, SIDE));
                    draw(&mut map, first, ONE);
                    draw(&mut map, second, OTHER);
                    let paint = setting.paint(&map, &[(ONE, pair[0]), (OTHER, pair[1])]);
                    let request = self.pipeline.request(&prompt).solver(Euler).seed(0).images(self.seeds);
                    let output = request.guide(paint).run()?;
                    for (picture, together) in output.images.iter().zip(&mut together) {
                        let one = look(&self.judge, picture, pair[0], first)?;
                        let other = look(&self.judge, picture, pair[1], second)?;
                        found += usize::from(one.0) + usize::from(other.0);
                        placed += usize::from(one.1) + usize::from(other.1);
                        *together += usize::from(one.1 && other.1);
                    }
                    let way =
                        format!("{}: {} {}", setting.name, pair[usize::from(swapped)], pair[usize::from(!swapped)]);
                    cells.push((way, output.image(0)?.clone()));
                }
                both += together.iter().sum::<usize>();
                followed += together.iter().filter(|count| **count == 2).count();
            }
            let share = |count: usize, of: usize| count as f64 / (of * PAIRS.len() * self.seeds) as f64;
            let (found, placed) = (share(found, 4), share(placed, 4));
            println!(
                "| {} | {found:.2} | {placed:.2} | {:.2} | {:.2} |",
                setting.name,
                share(both, 2),
                share(followed, 1)
            );
        }
        self.sheet(name, 2 * PAIRS.len(), &cells)
    }

    fn sheet(&self, name: &str, columns: usize, cells: &[(String, Raster)]) -> Result<()> {
        let sheet = Sheet::new(columns);
        let sheet = cells.iter().fold(sheet, |sheet, (caption, picture)| sheet.add(caption.replace('`', ""), picture));
        let path = self.out.join(format!("{name}.png"));
        sheet.draw()?.save(&path)?;
        println!("\n{}", path.display());
        Ok(())
    }
}

fn main() -> Result<()> {
    let Options { tables, seeds, out, model } = Options::parse();
    if !out.is_dir() {
        return Err(format!("{} is no folder; create it first", out.display()).into());
    }
    let source = model.map_or_else(Source::embedded, Source::dir);
    let mut study =
        Study { pipeline: Pipeline::builder().source(source).build()?, judge: Evaluator::trained()?, seeds, out };
    println!("{seeds} seeds");
    for table in tables {
        match table {
            Table::Laws => {
                let mut settings = vec![Setting::new("unpainted", || WeightFn::Flat(0.0))];
                let laws: [(&str, OfGain); 3] =
                    [("LogMax", WeightFn::LogMax), ("LogStd", WeightFn::LogStd), ("LogSqStd", WeightFn::LogSqStd)];
                for (name, law) in laws {
                    let rows = [0.1, 0.2, 0.4, 0.8]
                        .map(|gain| Setting::new(format!("`{name}({gain})`"), move || law(gain)).background(AROUND));
                    settings.extend(rows);
                }
                study.one("law", &settings)?;
            }
            Table::Strengths => {
                let rows = [-1.5, 0.5, 1.0, 1.5, 2.5]
                    .map(|strength| Setting::log_max(0.4).strength(strength).background(AROUND));
                study.one("strength", &rows)?;
            }
            Table::Background => {
                let around = |weight| Setting::log_max(0.4).background(weight);
                let mut rows: Vec<_> = [0.0, 0.25, 0.5, AROUND, 0.75, 1.0].map(around).into();
                rows.extend([0.3, 0.5, AROUND].map(|weight| around(weight).outside(-0.5)));
                study.one("background", &rows)?;
            }
            Table::Swap => {
                let rows = [
                    Setting::new("unpainted", || WeightFn::Flat(0.0)),
                    Setting::log_max(0.1),
                    Setting::log_max(0.2),
                    Setting::log_max(0.4),
                    Setting::log_max(0.1).background(1.0),
                    Setting::log_max(0.2).background(1.0),
                    Setting::log_max(0.4).background(1.0),
                ];
                study.swap("swap", &rows)?;
            }
        }
    }
    Ok(())
}
