//! Measures small models and prints their figures side by side:
//!
//! ```text
//! cargo run --release -p impasto-train --example figures -- embedded OUT/model --count 64
//! ```
//!
//! One evaluator judges all models, at its own resolution. Drawings have the model's size and are held out. Prompts
//! name every color. A part counts as painted right if the palette color nearest to its median is the named color.

use clap::{Parser, value_parser};
use impasto::diffusion::{Denoiser, Input, Noise, TrainingSchedule};
use impasto::raster::Filter;
use impasto::vision::{View, Vision, VisionEncoder};
use impasto::weights::Weights;
use impasto::{Branch, Codec, Lab, Pipeline, Raster, Result, Rgb, Source, Step, attention::Tap};
use impasto_train::dataset::{Class, Dataset, Drawing, NamedColor, PALETTE, Record, Wording};
use impasto_train::{Evaluator, HELD_OUT};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Side in pixels of the pictures that the evaluator sees.
const JUDGED: u32 = Evaluator::SIDE as u32;

/// Figures by name, in the order they were measured.
type Column = Vec<(String, f64)>;

/// Prints figures of small models, side by side.
#[derive(Parser)]
struct Options {
    /// Models to measure: `embedded`, `embedded-fast`, `embedded-flow`, or folders in the layout of diffusers.
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Weights of the evaluator that judges. The default is the trained evaluator of the crate.
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
    /// Number of held-out drawings.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..))]
    count: u64,
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let _no_grad = tch::no_grad_guard();
    let Options { models, judge, count } = Options::parse();
    let judge = match judge {
        Some(file) => Evaluator::new(&Weights::open(&file, Kind::Float, Device::Cpu)?)?,
        None => Evaluator::trained()?,
    };
    let columns = models.iter().map(|model| measure(model, &judge, count)).collect::<Result<Vec<_>>>()?;
    println!("| figure | {} |\n|---|{}", models.join(" | "), "---|".repeat(models.len()));
    for (row, (name, _)) in columns.first().into_iter().flatten().enumerate() {
        let cells: Vec<_> = columns.iter().map(|column| format!("{:.3}", column[row].1)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn measure(model: &str, judge: &Evaluator, count: u64) -> Result<Column> {
    let pipeline = Pipeline::builder().source(model.parse::<Source>()?).build()?;
    let width = pipeline.model().defaults().width;
    assert!(width >= JUDGED && width % JUDGED == 0, "{model}: {width} pixels; the judge needs a multiple of {JUDGED}");
    let dataset = Dataset::new(width)?;
    let drawings = (0..count).map(|i| dataset.draw(HELD_OUT + i)).collect::<Result<Vec<_>>>()?;
    let mut column = autoencoder(&pipeline, &drawings)?;
    column.extend(noise(&pipeline, &drawings)?);
    column.extend(retrieval(&pipeline, &drawings)?);
    column.extend(found(&pipeline, judge, &drawings)?);
    column.extend(painted(&pipeline, judge, &drawings)?);
    Ok(column)
}

/// Measures how much encoding and decoding change a picture.
fn autoencoder(pipeline: &Pipeline, drawings: &[Drawing]) -> Result<Column> {
    let model = pipeline.model();
    let round = |x: &Tensor| Ok::<_, impasto::Error>(model.decode(&model.encode(x)?)?.clamp(-1.0, 1.0));
    let (mut psnr, mut cores, mut parts) = (0.0, BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for drawing in drawings {
        let x = drawing.picture.to_tensor(Device::Cpu)?;
        let y = round(&x)?;
        psnr += 10.0 * (4.0 / (&y - &x).square().mean(Kind::Double).double_value(&[])).log10();
        let (decoded, labels) = (Raster::from_tensor(&y)?, drawing.mask.iter().copied().collect::<Vec<_>>());
        for (class, _) in drawing.record.colors() {
            let of = |picture| median_color(picture, &labels, class, drawing.mask.dim().1);
            if let (Some(drawn), Some(got)) = (of(&drawing.picture), of(&decoded)) {
                parts.entry(class).or_default().push(drawn.delta_e(got));
                let core = core(&drawing.mask, class);
                let off = mean_color(&drawing.picture, &core).delta_e(mean_color(&decoded, &core));
                cores.entry(class).or_default().push(off);
            }
        }
    }
    let flats: Vec<f64> = (0..64u32)
        .map(|i| {
            // The colors are spread over the whole color cube.
            let color = Rgb((i * 73 % 256) as u8, (i * 151 % 256) as u8, (i * 199 % 256) as u8);
            let side = pipeline.model().defaults().width;
            let x = Raster::flat(color, (side, side)).to_tensor(Device::Cpu)?;
            Ok(Raster::from_tensor(&round(&x)?)?.pixel(side / 2, side / 2).map_or(f64::NAN, |got| color.delta_e(got)))
        })
        .collect::<Result<_>>()?;
    let mut column = vec![
        ("VAE: PSNR, dB".into(), psnr / drawings.len() as f64),
        ("VAE: 64 flat colors, mean CIEDE2000".into(), mean(&flats)),
        ("VAE: 64 flat colors, worst CIEDE2000".into(), flats.iter().copied().fold(0.0, f64::max)),
    ];
    for (how, mut parts) in [("as the yardstick measures it", cores), ("by the whole part's median", parts)] {
        let portraits = Class::OF_PORTRAITS.map(|class| (class.name(), parts.remove(&class).unwrap_or_default()));
        let others = ("sky, ground, objects", parts.into_values().flatten().collect());
        let row = |(name, off)| (format!("VAE: {name} after the round trip, CIEDE2000 {how}"), median(off));
        column.extend(portraits.into_iter().chain([others]).map(row));
    }
    Ok(column)
}

/// Measures the held-out error of the predicted noise, by quarters of the timesteps.
fn noise(pipeline: &Pipeline, drawings: &[Drawing]) -> Result<Column> {
    let (model, table) = (pipeline.model(), TrainingSchedule::stable_diffusion());
    let mut errors = [const { Vec::new() }; 4];
    for (i, drawing) in drawings.iter().enumerate() {
        let x0 = model.encode(&drawing.picture.to_tensor(Device::Cpu)?)?;
        let condition = model.text(drawing.record.caption(Wording::FULL, i as u64).as_str().into())?;
        let noise = Noise::seeded(i as u64).draw(&x0.size())?;
        for (level, errors) in errors.iter_mut().enumerate() {
            let timestep = (250 * level + (i * 89) % 250) as f64;
            let sigma = table.sigma_of(timestep);
            let x = &x0 + &noise * sigma;
            let step = Step::new(0, 1, sigma, 0.0, timestep);
            let predictions = model.denoise(&step, &[Input::new(Branch::Cond, &x, &condition)], &mut Tap::none())?;
            let off = predictions.eps(Branch::Cond)? - &noise;
            errors.push(off.square().mean(Kind::Double).double_value(&[]));
        }
    }
    let row = |(level, errors): (usize, Vec<f64>)| {
        (format!("UNet: error at timesteps {}..{}", 250 * level, 250 * (level + 1)), mean(&errors))
    };
    Ok(errors.into_iter().enumerate().map(row).collect())
}

/// Measures how well the evaluator finds what was drawn, in drawings and in the VAE's reconstructions of them.
fn found(pipeline: &Pipeline, judge: &Evaluator, drawings: &[Drawing]) -> Result<Column> {
    let model = pipeline.model();
    let mut column = Vec::new();
    for decoded in [false, true] {
        let mut counts = BTreeMap::<Class, (f64, f64)>::new();
        for drawing in drawings {
            let x = drawing.picture.to_tensor(Device::Cpu)?;
            let x = if decoded { model.decode(&model.encode(&x)?)?.clamp(-1.0, 1.0) } else { x };
            let found = labels(judge, &Raster::from_tensor(&x)?)?;
            let pixel = drawing.mask.dim().1 / JUDGED as usize;
            let at = |place: usize| place % (2 * pixel) == pixel;
            let centers = drawing.mask.indexed_iter().filter(|((y, x), _)| at(*y) && at(*x));
            for (found, (_, &drawn)) in found.into_iter().zip(centers) {
                for class in Class::ALL {
                    let (found, drawn) = (found == class.index(), drawn == class.index());
                    let (both, either) = counts.entry(class).or_default();
                    *both += f64::from(u8::from(found && drawn));
                    *either += f64::from(u8::from(found || drawn));
                }
            }
        }
        let iou = |class: &Class| counts.get(class).map_or(0.0, |(both, either)| both / either.max(1.0));
        let of = if decoded { "decoded" } else { "drawn" };
        let mut row = |name: &str, classes: &[Class]| {
            let value = mean(&classes.iter().map(iou).collect::<Vec<_>>());
            column.push((format!("judge: IoU of {name}, {of}"), value));
        };
        row("parts", &Class::OF_PORTRAITS);
        row("objects", &Class::OBJECTS);
        Class::ALL.into_iter().filter(|class| *class != Class::Detail).for_each(|class| row(class.name(), &[class]));
    }
    Ok(column)
}

/// Measures how often a drawing's own caption is the nearest of all captions, and the reverse.
fn retrieval(pipeline: &Pipeline, drawings: &[Drawing]) -> Result<Column> {
    let model = pipeline.model();
    let (mut pictures, mut captions) = (Vec::new(), Vec::new());
    for drawing in drawings {
        let Vision { tokens, text_projection, .. } = model.vision(&drawing.picture, View::default())?;
        pictures.push(tokens.select(1, 0));
        let caption = drawing.record.caption(Wording::FULL, 0);
        let end = model.prompt((&caption).into())?.content().last().map_or(1, |last| last.end);
        let state = model.text((&caption).into())?.context.select(1, end); // of the end token
        captions
            .push(text_projection.map_or_else(|| state.shallow_clone(), |projection| state.matmul(&projection.tr())));
    }
    let unit = |x: Vec<Tensor>| {
        let x = Tensor::cat(&x, 0);
        &x / x.norm_scalaropt_dim(2.0, [1], true)
    };
    let alike = unit(pictures).matmul(&unit(captions).tr());
    let own = Tensor::arange(drawings.len() as i64, (Kind::Int64, Device::Cpu));
    let right = |axis| alike.argmax(axis, false).eq_tensor(&own).mean(Kind::Double).double_value(&[]);
    Ok(vec![("CLIP: caption found".into(), right(1)), ("CLIP: picture found".into(), right(0))])
}

/// Measures how often the model paints the things that captions name, in the named colors.
fn painted(pipeline: &Pipeline, judge: &Evaluator, drawings: &[Drawing]) -> Result<Column> {
    let mut right = BTreeMap::<Class, (f64, f64)>::new();
    let mut present = (0.0, 0.0);
    for (seed, drawing) in drawings.iter().enumerate() {
        let record = palette_colors(&drawing.record, seed);
        let output = pipeline.request(record.caption(Wording::FULL, seed as u64)).seed(seed as u64).run()?;
        let picture = output.image(0)?;
        let found = labels(judge, picture)?;
        let small = picture.resize((JUDGED / 2, JUDGED / 2), Filter::Box)?;
        for (class, color) in record.colors() {
            let got = median_color(&small, &found, class, JUDGED as usize / 2);
            let (hits, all) = right.entry(class).or_default();
            *all += 1.0;
            *hits += f64::from(u8::from(got.is_some_and(|got| NamedColor::nearest(got).name == color.name)));
            if Class::OBJECTS.contains(&class) {
                present.1 += 1.0;
                present.0 += f64::from(u8::from(got.is_some()));
            }
        }
    }
    let share = |(hits, all): (f64, f64)| hits / all.max(1.0);
    let mut column: Column = Class::OF_PORTRAITS
        .iter()
        .chain(&Class::OF_SCENES)
        .map(|class| (format!("binding: {class}"), share(right.get(class).copied().unwrap_or_default())))
        .collect();
    let objects = Class::OBJECTS.iter().filter_map(|class| right.get(class));
    column
        .push(("binding: objects".into(), share(objects.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))));
    column.push(("objects present".into(), share(present)));
    Ok(column)
}

/// Returns the record with colors of the palette, which their names describe exactly.
fn palette_colors(record: &Record, seed: usize) -> Record {
    let mut record = record.clone();
    let mut next = seed;
    let mut pick = || {
        next += 7;
        PALETTE[next % PALETTE.len()]
    };
    match &mut record {
        Record::Portrait { parts, .. } => parts.iter_mut().for_each(|part| part.color = pick()),
        Record::Scene { parts, objects } => {
            parts.iter_mut().for_each(|part| part.color = pick());
            objects.iter_mut().for_each(|object| object.color = pick());
        }
        _ => {}
    }
    record
}

/// Returns the evaluator's class of every second pixel that it sees, row by row.
fn labels(judge: &Evaluator, picture: &Raster) -> Result<Vec<u8>> {
    let seen = picture.resize((JUDGED, JUDGED), Filter::Box)?.to_tensor(Device::Cpu)?;
    Ok(Vec::try_from(judge.forward(&seen)?.argmax(1, false).to_kind(Kind::Uint8).flatten(0, -1))?)
}

/// Returns the pixels of a class, row by row, away from its outlines, as the yardstick measures them. The class is
/// eroded by a 64th of the side. If less than 30 % would be left, it is eroded by half of that distance, or not at all.
fn core(mask: &Array2<u8>, class: Class) -> Vec<usize> {
    let ((h, w), of) = (mask.dim(), class.index());
    let eroded = |reach: usize| -> Vec<usize> {
        let around = |at: usize, end: usize| at.saturating_sub(reach)..(at + reach + 1).min(end);
        let inside = |y, x| around(y, h).all(|y| around(x, w).all(|x| mask[[y, x]] == of));
        (0..h * w).filter(|at| mask[[at / w, at % w]] == of && inside(at / w, at % w)).collect()
    };
    let all = eroded(0);
    let enough = |core: &Vec<usize>| core.len() as f64 >= 0.3 * all.len() as f64;
    [w / 64, w / 128].into_iter().map(eroded).find(enough).unwrap_or(all)
}

/// Returns the mean of some pixels in linear light.
fn mean_color(picture: &Raster, pixels: &[usize]) -> Lab {
    let (width, mut sum) = (picture.size().width as usize, [0.0; 3]);
    for at in pixels {
        let light = picture.pixel((at % width) as u32, (at / width) as u32).map_or([0.0; 3], Rgb::to_linear);
        sum.iter_mut().zip(light).for_each(|(sum, light)| *sum += light / pixels.len() as f64);
    }
    Lab::from_linear(sum)
}

/// Returns the median color, channel by channel, of the pixels that `labels` gives to a class; `None` for a thousandth
/// of all pixels or less.
fn median_color(picture: &Raster, labels: &[u8], class: Class, width: usize) -> Option<Rgb> {
    let of = labels.iter().enumerate().filter(|(_, label)| **label == class.index());
    let pixels: Vec<Rgb> = of.filter_map(|(i, _)| picture.pixel((i % width) as u32, (i / width) as u32)).collect();
    let middle = |channel: fn(&Rgb) -> u8| {
        let mut values: Vec<u8> = pixels.iter().map(channel).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    (pixels.len() * 1000 > labels.len()).then_some(())?;
    Some(Rgb(middle(|c| c.0)?, middle(|c| c.1)?, middle(|c| c.2)?))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
