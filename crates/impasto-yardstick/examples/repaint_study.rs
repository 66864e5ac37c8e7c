//! Measures what repainting leaves of a picture: makes the tables of docs/repaint.md.
//!
//! ```text
//! cargo run --release -p impasto-yardstick --example repaint_study -- pixels seam drift detail
//! cargo run --release -p impasto-yardstick --example repaint_study -- pixels --model FOLDER --runs 6
//! cargo run --release -p impasto-yardstick --example repaint_study -- compare --out FOLDER --runs 24
//! ```
//!
//! `compare` writes pictures, masks and prompts into a folder, for `benches/peers/repaint.py`, which repaints them by
//! diffusers. Called again after that, it prints the table of both.

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};
use impasto::color::{Lab, linear_mean};
use impasto::diffusion::solver::labels;
use impasto::guidance::Report;
use impasto::hint::{Drawing, Sketch, Strokes};
use impasto::nn::ControlNet;
use impasto::pipeline::{Detail, Output, Request};
use impasto::raster::Filter;
use impasto::{Control, Pipeline, Raster, Rgb, Size, Source};
use impasto_report::Sheet;
use impasto_train::Evaluator;
use impasto_yardstick::random::Rng;
use impasto_yardstick::statistics::quantile;
use serde_json::Value;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures what repainting leaves of a picture, and prints the tables of docs/repaint.md.
#[derive(Parser)]
struct Options {
    /// Tables to make, in this order.
    #[arg(value_enum, required = true)]
    tables: Vec<Table>,
    /// Number of runs of each row.
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    runs: u64,
    /// An existing folder for sheets of pictures, and for the pictures of `compare`.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// A folder with a model for the table `pixels`. The default is the embedded model.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
}

/// A table of docs/repaint.md.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Table {
    /// Counts pixels outside of masks that differ from those of the given picture.
    Pixels,
    /// Measures the seams of repaints with unchanged prompts.
    Seam,
    /// Measures how colors drift over ten rounds of image to image.
    Drift,
    /// Repaints small portraits at full size.
    Detail,
    /// Compares repaints with those of diffusers.
    Compare,
}

const COLORS: [&str; 12] =
    ["red", "blue", "green", "teal", "pink", "purple", "orange", "brown", "navy", "gold", "white", "black"];
const OBJECTS: [&str; 8] = ["house", "tree", "boat", "star", "fish", "flower", "moon", "sun"];
const BLACK: Rgb = Rgb(0, 0, 0);
const WHITE: Rgb = Rgb(255, 255, 255);
/// Number of rounds of image to image.
const ROUNDS: usize = 10;
/// Side of the pictures of the embedded model.
const SIDE: u32 = 256;

fn main() -> Result<()> {
    let options = Options::parse();
    for table in &options.tables {
        match table {
            Table::Pixels => pixels(&options)?,
            Table::Seam => seams(&options)?,
            Table::Drift => drift(&options)?,
            Table::Detail => details(&options)?,
            Table::Compare => compare(&options)?,
        }
    }
    Ok(())
}

/// Returns the prompt of a number: two portraits, then a scene.
fn prompt(number: u64) -> String {
    let mut rng = Rng::new(&format!("repaint/prompt/{number}"));
    if number % 3 == 2 {
        let object = rng.pick(&OBJECTS);
        return format!("a {} {object}, {} sky, {} ground", rng.pick(&COLORS), rng.pick(&COLORS), rng.pick(&COLORS));
    }
    let parts = ["eyes", "hair", "shirt", "background"].map(|part| format!("{} {part}", rng.pick(&COLORS)));
    format!("1girl, skin, {}", parts.join(", "))
}

/// Returns the mask of a number: a box or an ellipse, of a sixteenth to a half of the picture, or its lower part.
fn mask(number: u64, size: Size) -> Raster {
    let mut rng = Rng::new(&format!("repaint/mask/{number}"));
    let mut share = |from: f64, to: f64| from + (to - from) * rng.unit();
    let (x, y, w, h) = (share(0.15, 0.85), share(0.15, 0.85), share(0.12, 0.35), share(0.12, 0.35));
    let kind = number % 3;
    let mut mask = Raster::flat(BLACK, size);
    for (u, v) in (0..size.height).flat_map(|v| (0..size.width).map(move |u| (u, v))) {
        let [across, down] = [f64::from(u) / f64::from(size.width), f64::from(v) / f64::from(size.height)];
        let (dx, dy) = ((across - x) / w, (down - y) / h);
        let inside = match kind {
            0 => dx.abs() < 1.0 && dy.abs() < 1.0,
            1 => dx.hypot(dy) < 1.0,
            _ => down > 0.5 + y / 4.0,
        };
        if inside {
            mask.set(u, v, WHITE);
        }
    }
    mask
}

fn of(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    quantile(&mut values.into_iter().collect::<Vec<_>>(), share)
}

/// Returns the pixels of a mask that are black.
fn kept(mask: &Raster) -> impl Iterator<Item = (u32, u32)> {
    let Size { width, height } = mask.size();
    let all = (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)));
    all.filter(|(x, y)| mask.pixel(*x, *y) == Some(BLACK))
}

/// Returns the number of kept pixels that differ from the given ones.
fn changed(given: &Raster, mask: &Raster, result: &Raster) -> usize {
    kept(mask).filter(|(x, y)| given.pixel(*x, *y) != result.pixel(*x, *y)).count()
}

/// Prints how many kept pixels differ, over runs of all solvers and of sizes that no cell divides.
fn pixels(options: &Options) -> Result<()> {
    let solvers: Vec<&str> = labels().collect();
    let mut rows: Vec<(&str, Pipeline, bool)> = Vec::new();
    match &options.model {
        Some(folder) => rows.push(("the model", load(Source::dir(folder))?, false)),
        None => {
            rows.push(("embedded", load(Source::embedded())?, false));
            rows.push(("embedded, ControlNet", load(Source::embedded())?, true));
            let folder = tempfile::tempdir()?;
            rows.push(("inpainting network", load(inpainting(folder.path())?)?, false));
        }
    }
    let each = options.runs.div_ceil(rows.len() as u64);
    for (name, pipeline, controls) in &mut rows {
        let net = if *controls { Some(pipeline.model().controlnet(&Source::embedded())?) } else { None };
        let (mut runs, mut pictures, mut wrong, mut all) = (0, 0, 0, 0);
        for number in 0..each {
            let mut rng = Rng::new(&format!("repaint/pixels/{number}"));
            let size = Size::new(40 + rng.below(90) as u32, 40 + rng.below(90) as u32);
            let (given, mask) = (noise(size, &mut rng), mask(number, size));
            let solver = solvers[number as usize % solvers.len()];
            let (images, strength) = (1 + rng.below(2) as usize, [1.0, 0.7, 0.4][rng.below(3) as usize]);
            let drawing = Drawing { sketch: Sketch::of_edges(&given)?, strokes: Strokes::new(size) };
            let request = pipeline.request(prompt(number)).seed(number).steps(5).solver_named(solver).images(images);
            let request = request.start(&given, strength).mask(&mask);
            let request = request.feather(rng.below(12) as f64).soften([0.0, 10.0][rng.below(2) as usize]);
            let output = controlled(request, net.as_ref(), &drawing).run()?;
            // A soft edge repaints more than the mask's white.
            let mask = output.reports.iter().find(|report| report.name == "repaint").map(|report| &report.pictures[0]);
            let mask = mask.ok_or("a repaint has a report")?.raster()?;
            runs += 1;
            for result in &output.images {
                pictures += 1;
                all += kept(&mask).count();
                wrong += changed(&given, &mask, result);
            }
        }
        println!("| {name} | {runs} | {pictures} | {all} | {wrong} |");
    }
    Ok(())
}

fn load(source: Source) -> Result<Pipeline> {
    Ok(Pipeline::builder().source(source).build()?)
}

fn controlled<'p>(request: Request<'p>, net: Option<&'p ControlNet>, drawing: &'p Drawing) -> Request<'p> {
    net.into_iter().fold(request, |request, net| request.control(Control::drawing(net, drawing)))
}

/// Returns a picture of noise, in which every wrong pixel shows.
fn noise(size: Size, rng: &mut Rng) -> Raster {
    let bytes = (0..size.width * size.height * 3).map(|_| rng.below(256) as u8).collect();
    Raster::from_bytes(bytes, size).unwrap_or_else(|_| Raster::flat(BLACK, size))
}

/// Writes the embedded model as a network that reads a mask and a masked picture, with small weights for both.
fn inpainting(folder: &Path) -> Result<Source> {
    for (name, bytes) in impasto_tiny::FILES.iter().filter(|(name, _)| !name.starts_with("controlnet")) {
        let to = folder.join(name);
        fs::create_dir_all(to.parent().unwrap_or(folder))?;
        fs::write(to, bytes)?;
    }
    let weights = folder.join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&weights)?;
    for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name == "conv_in.weight") {
        let more = tensor.narrow(1, 0, 1).repeat([1, 5, 1, 1]) * 0.1;
        *tensor = Tensor::cat(&[tensor.shallow_clone(), more], 1);
    }
    Tensor::write_safetensors(&tensors, &weights)?;
    let config = folder.join("unet/config.json");
    let text = fs::read_to_string(&config)?.replace("\"in_channels\": 4", "\"in_channels\": 9");
    fs::write(config, text)?;
    Ok(Source::dir(folder))
}

/// Returns the figures of the seam of a repaint; `None` if the mask's border is smooth nowhere.
fn seam(output: &Output) -> Option<[f64; 3]> {
    let report = output.reports.iter().find(|report| report.name == "repaint")?;
    let seam = report.data.get("seams")?.get(0)?;
    let figure = |name| seam.get(name).and_then(Value::as_f64);
    Some([figure("given")?, figure("pasted")?, figure("result")?])
}

/// Prints the seams of repaints with unchanged prompts.
fn seams(options: &Options) -> Result<()> {
    let pipeline = load(Source::embedded())?;
    let rows = [(1.0, 0.0, false), (1.0, 8.0, false), (1.0, 0.0, true), (1.0, 8.0, true), (0.6, 8.0, true)];
    let mut found: Vec<Vec<[f64; 3]>> = vec![Vec::new(); rows.len()];
    let mut sheet = Sheet::new(7);
    for number in 0..options.runs {
        let prompt = prompt(number);
        let first = pipeline.request(&prompt).seed(1000 + number).run()?;
        let (picture, mask) = (first.image(0)?, mask(number, Size::new(SIDE, SIDE)));
        let shown = number < 12;
        if shown {
            sheet = sheet.add("given", picture).add("mask", &mask);
        }
        for ((strength, feather, matched), found) in rows.iter().zip(&mut found) {
            let request = pipeline.request(&prompt).seed(5000 + number).start(picture, *strength).mask(&mask);
            let output = request.feather(*feather).tune(|config| config.match_tone = *matched).run()?;
            found.extend(seam(&output));
            if shown {
                let tone = if *matched { "matched" } else { "" };
                sheet = sheet.add(format!("{strength}, band {feather} {tone}"), output.image(0)?);
            }
        }
    }
    sheet.draw()?.save(options.out.join("seams.png"))?;
    for ((strength, feather, matched), found) in rows.iter().zip(found) {
        let figures = |index: usize| [0.5, 0.9].map(|share| of(found.iter().map(|row| row[index]), share));
        let ([given, _], [pasted, worst], [result, left]) = (figures(0), figures(1), figures(2));
        let runs = found.len();
        println!(
            "| {strength} | {feather} | {matched} | {runs} | {given:.2} | {pasted:.2}, {worst:.2} | {result:.2}, {left:.2} |"
        );
    }
    Ok(())
}

/// Returns the ΔE between the mean colors of two pictures, and the median ΔE between the mean colors of their squares
/// of 32 pixels.
fn shift(one: &Raster, other: &Raster) -> Result<[f64; 2]> {
    let apart = |side: u32| -> Result<f64> {
        let [one, other] = [one, other].map(|picture| picture.resize((side, side), Filter::Box));
        let [one, other] = [one?, other?];
        let at = |at: u32| Some(one.pixel(at % side, at / side)?.delta_e(other.pixel(at % side, at / side)?));
        Ok(of((0..side * side).filter_map(at), 0.5))
    };
    Ok([apart(1)?, apart(8)?])
}

/// Prints the drift of colors over rounds of image to image with an unchanged prompt.
fn drift(options: &Options) -> Result<()> {
    let pipeline = load(Source::embedded())?;
    for keep in [false, true] {
        let mut found: Vec<Vec<[f64; 2]>> = vec![Vec::new(); ROUNDS];
        for number in 0..options.runs {
            let prompt = prompt(number);
            let first = pipeline.request(&prompt).seed(1000 + number).run()?.image(0)?.clone();
            let mut last = first.clone();
            for (round, found) in found.iter_mut().enumerate() {
                let seed = 5000 + number * ROUNDS as u64 + round as u64;
                let request = pipeline.request(&prompt).seed(seed).start(&last, 0.3);
                last = request.tune(|config| config.keep_colors = keep).run()?.image(0)?.clone();
                found.push(shift(&first, &last)?);
            }
        }
        for (round, found) in found.iter().enumerate().filter(|(round, _)| [0, 4, 9].contains(round)) {
            let [[mean, worst], [squares, most]] =
                [0, 1].map(|index| [0.5, 0.9].map(|share| of(found.iter().map(|row| row[index]), share)));
            println!("| {keep} | {} | {mean:.2}, {worst:.2} | {squares:.2}, {most:.2} |", round + 1);
        }
    }
    Ok(())
}

/// Returns the classes of a portrait's pixels by the judge.
fn classes(judge: &Evaluator, picture: &Raster) -> Result<Tensor> {
    let side = Evaluator::SIDE as u32;
    let picture = picture.resize((side, side), Filter::Box)?.to_tensor(Device::Cpu)?;
    Ok(judge.forward(&picture)?.argmax(1, false))
}

/// Returns the share of pixels that the judge takes for the same parts in two portraits.
fn alike(judge: &Evaluator, one: &Raster, other: &Raster) -> Result<f64> {
    Ok(classes(judge, one)?
        .eq_tensor(&classes(judge, other)?)
        .to_kind(Kind::Double)
        .mean(Kind::Double)
        .double_value(&[]))
}

/// Returns the figures of the colors of a detail: ΔE before and after.
fn colors(report: &Report) -> Vec<[f64; 2]> {
    let all = report.data.get("colors").and_then(Value::as_array).into_iter().flatten();
    let figure = |color: &Value, name: &str| color.get(name).and_then(Value::as_f64);
    all.filter_map(|color| Some([figure(color, "before")?, figure(color, "after")?])).collect()
}

/// Repaints small portraits in a larger picture at full size.
fn details(options: &Options) -> Result<()> {
    let (pipeline, judge) = (load(Source::embedded())?, Evaluator::trained()?);
    let (mut sheet, mut found, mut colored) = (Sheet::new(4), Vec::new(), Vec::new());
    const SMALL: u32 = 64;
    for number in (0..options.runs).filter(|number| number % 3 != 2) {
        let prompt = prompt(number);
        let first = pipeline.request(&prompt).seed(1000 + number).run()?;
        let portrait = first.image(0)?;
        let (x, y) = (30 + (number as u32 * 67) % 240, 40 + (number as u32 * 41) % 220);
        let mut scene = Raster::flat(Rgb(235, 230, 215), (384, 384));
        scene.paste(&portrait.resize((SMALL, SMALL), Filter::Box)?, x, y);
        let mut frame = Raster::flat(BLACK, scene.size());
        frame.paste(&Raster::flat(WHITE, (SMALL, SMALL)), x, y);
        let exact = prompt.split(", ").map(|part| if part.ends_with(" eyes") { "#ffd700 eyes" } else { part });
        let exact = exact.collect::<Vec<_>>().join(", ");
        let detail = |prompt: &str| {
            let mut detail = Detail::under(frame.clone());
            detail.padding = 0;
            detail.prompt = Some(prompt.into());
            detail
        };
        let paint = |prompt: &str| -> Result<Output> {
            Ok(pipeline.request(prompt).seed(number).start(&scene, 0.0).detail(detail(prompt)).run()?)
        };
        let (plain, gold) = (paint(&prompt)?, paint(&exact)?);
        let part = |picture: &Raster| -> Result<Raster> {
            Ok(picture.crop(y..y + SMALL, x..x + SMALL)?.resize((SIDE, SIDE), Filter::Lanczos)?)
        };
        let again = |output: &Output| -> Result<Raster> { part(output.image(0)?) };
        found.push([alike(&judge, portrait, &part(&scene)?)?, alike(&judge, portrait, &again(&plain)?)?]);
        let wrong = changed(&scene, &frame, plain.image(0)?) + changed(&scene, &frame, gold.image(0)?);
        assert_eq!(wrong, 0, "all but the part stays");
        colored.extend(gold.reports.iter().flat_map(colors));
        if found.len() <= 6 {
            sheet = sheet.add("the scene", &scene).add("before", &part(&scene)?);
            sheet = sheet.add("repainted", &again(&plain)?).add("gold eyes", &again(&gold)?);
        }
    }
    sheet.draw()?.save(options.out.join("details.png"))?;
    let figures = |all: &[[f64; 2]]| {
        let [[before, _], [after, worst]] =
            [0, 1].map(|index| [0.5, 0.9].map(|share| of(all.iter().map(|row| row[index]), share)));
        format!("{before:.2} | {after:.2}, {worst:.2}")
    };
    println!("| parts alike, median | {} | {} |", found.len(), figures(&found));
    println!("| ΔE of gold eyes | {} | {} |", colored.len(), figures(&colored));
    Ok(())
}

/// Returns the ΔE between the colors on both sides of the border of a mask, in squares of 8 pixels on both sides of a
/// lower edge: for masks of the lower part of a picture alone.
fn step(picture: &Raster, edge: u32) -> Result<Vec<f64>> {
    let strip = |rows: std::ops::Range<u32>, x: u32| -> Result<Lab> {
        let part = picture.crop(rows, x..x + 8)?.to_tensor(Device::Cpu)?.view([3, -1]);
        Ok(Lab::from_linear(linear_mean(&part)?))
    };
    let both = |x: u32| -> Result<f64> { Ok(strip(edge - 8..edge, x)?.delta_e(strip(edge..edge + 8, x)?)) };
    (0..picture.size().width / 8).map(|x| both(8 * x)).collect()
}

/// Returns a picture of the ten times enlarged differences of two pictures.
fn tenfold(one: &Raster, other: &Raster) -> Result<Raster> {
    let larger = |(one, other): (&u8, &u8)| one.abs_diff(*other).saturating_mul(10);
    Ok(Raster::from_bytes(one.bytes().iter().zip(other.bytes()).map(larger).collect(), one.size())?)
}

/// Compares repaints of the lower part of pictures with those of diffusers, from the same picture, mask and seed.
fn compare(options: &Options) -> Result<()> {
    let pipeline = load(Source::embedded())?;
    let file = |name: &str, number: u64| options.out.join(format!("{name}-{number}.png"));
    let edge = 176;
    let (mut figures, mut missing) = ([(); 2].map(|()| (Vec::new(), Vec::new(), Vec::new())), 0);
    let mut sheet = Sheet::new(5);
    for number in 0..options.runs {
        let prompt = prompt(number);
        let first = pipeline.request(&prompt).seed(1000 + number).run()?;
        let given = first.image(0)?;
        let mut mask = Raster::flat(BLACK, given.size());
        mask.paste(&Raster::flat(WHITE, (SIDE, SIDE - edge)), 0, edge);
        let ours = pipeline.request(&prompt).seed(number).start(given, 1.0).mask(&mask).run()?;
        given.save(file("given", number))?;
        mask.save(file("mask", number))?;
        ours.image(0)?.save(file("impasto", number))?;
        fs::write(options.out.join(format!("prompt-{number}.txt")), &prompt)?;
        let peer = file("diffusers", number);
        if !peer.exists() {
            missing += 1;
            continue;
        }
        let (before, results) = (step(given, edge)?, [Raster::open(peer)?, ours.image(0)?.clone()]);
        if number < 3 {
            let [theirs, ours] = &results;
            sheet = sheet.add("given", given).add("diffusers", theirs).add("impasto", ours);
            sheet = sheet.add("change by diffusers, times 10", &tenfold(given, theirs)?);
            sheet = sheet.add("change by impasto, times 10", &tenfold(given, ours)?);
        }
        for (result, (share, apart, seams)) in results.iter().zip(&mut figures) {
            let pixels: Vec<(u32, u32)> = kept(&mask).collect();
            share.push(changed(given, &mask, result) as f64 / pixels.len() as f64);
            let pair = |(x, y): &(u32, u32)| Some(given.pixel(*x, *y)?.delta_e(result.pixel(*x, *y)?));
            apart.extend(pixels.iter().filter_map(pair));
            let smooth = before.iter().zip(step(result, edge)?).filter(|(before, _)| **before <= 2.0);
            seams.extend(smooth.map(|(_, step)| step));
        }
    }
    if missing > 0 {
        println!("{missing} pictures of diffusers are missing; run benches/peers/repaint.py on the folder");
        return Ok(());
    }
    sheet.draw()?.save(options.out.join("compare.png"))?;
    for (name, (share, apart, seams)) in ["diffusers", "impasto"].iter().zip(figures) {
        let [changed, median, most, worst] =
            [of(share, 0.5), of(apart.iter().copied(), 0.5), of(apart.iter().copied(), 0.9), of(apart, 1.0)];
        let [seam, seams] = [0.5, 0.9].map(|share| of(seams.iter().copied(), share));
        println!("| {name} | {changed:.3} | {median:.2} | {most:.2} | {worst:.1} | {seam:.2}, {seams:.2} |");
    }
    Ok(())
}
