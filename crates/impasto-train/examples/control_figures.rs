//! Measures how closely ControlNets for lines and strokes follow held-out drawings, alone and together with exact
//! strokes:
//!
//! ```text
//! cargo run --release -p impasto-train --example control_figures -- 32 a.safetensors b.safetensors
//! ```
//!
//! The first argument is the number of drawings. Every further argument names a file with the weights of a ControlNet
//! for the embedded model, as `impasto-train control` writes them. `untrained` stands for a ControlNet that has learned
//! nothing. `@1.5` after a name sets a scale of the control other than 1. The negative prompt's branch runs without
//! control, as with `Guess::Even`.
//!
//! Figures are medians over the drawings:
//!
//! * F1 of edges within a pixel,
//! * CIEDE2000 of pixels under strokes,
//! * CIEDE2000 of the objects under strokes, without and with exact strokes,
//! * mean CIEDE2000 between pictures of different seeds.

use impasto::methods::ColorForce;
use impasto::model::Guess;
use impasto::nn::ControlNet;
use impasto::pipeline::Request;
use impasto::weights::{Weights, read_safetensors};
use impasto::{Control, Error, Model, Pipeline, Raster, Result, Size, Source};
use impasto_train::dataset::{Dataset, Wording};
use impasto_train::{Adherence, ControlTask, HELD_OUT, drawn_by_a_person};
use std::path::Path;
use tch::{Device, Kind};

/// Channels of the hint's embedding, as `impasto-train control` sets them for the embedded model.
const WIDTHS: [i64; 4] = [8, 16, 32, 64];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the mean CIEDE2000 between two pictures, at every fourth pixel in both directions.
fn apart(a: &Raster, b: &Raster) -> f64 {
    let Size { width, height } = a.size();
    let places = (0..height).step_by(4).flat_map(|y| (0..width).step_by(4).map(move |x| (x, y)));
    let distances: Vec<f64> = places.filter_map(|(x, y)| Some(a.pixel(x, y)?.delta_e(b.pixel(x, y)?))).collect();
    distances.iter().sum::<f64>() / distances.len().max(1) as f64
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = || Error::custom("usage: control_figures COUNT FILE[@SCALE]…; FILE may be `untrained`");
    let count: u64 = arguments.next().and_then(|count| count.parse().ok()).ok_or_else(usage)?;
    let (model, dataset) = (Model::load(&Source::embedded())?, Dataset::new(256)?);
    let config = ControlTask::config(&model, &WIDTHS)?;
    let pipeline = Pipeline::new(model.share()?);
    println!("{:30} edges  strokes  objects  objects with exact strokes  between seeds", "");
    for name in arguments {
        let (file, scale) = match name.rsplit_once('@') {
            Some((file, scale)) => (file, scale.parse().map_err(|_| usage())?),
            None => (name.as_str(), 1.0),
        };
        let weights = match file {
            "untrained" => ControlTask::initial(&model, &config, 0)?,
            file => read_safetensors(Path::new(file))?,
        };
        let net = ControlNet::new(&Weights::new(&name, weights, Kind::Float, Device::Cpu), &config)?;
        let (mut edges, mut strokes, mut objects, mut exact, mut seeds) = (vec![], vec![], vec![], vec![], vec![]);
        for number in 0..count {
            let original = dataset.draw(HELD_OUT + number)?;
            let caption = original.record.caption(Wording::default(), 0);
            let drawing = drawn_by_a_person(&original.picture, number)?;
            let paint = |seed, forces: Vec<ColorForce>| -> Result<Raster> {
                let request = pipeline
                    .request(caption.as_str())
                    .seed(seed)
                    .control(Control::drawing(&net, &drawing).scale(scale).guess(Guess::Even));
                let output = forces.into_iter().fold(request, Request::guide).run()?;
                Ok(output.image(0)?.clone())
            };
            let painted = paint(number, Vec::new())?;
            let alone = Adherence::measure(&original.picture, &drawing, &painted)?;
            edges.push(alone.edge_f1);
            strokes.extend(alone.strokes);
            objects.extend(alone.objects);
            if alone.strokes.is_some() {
                let forced = paint(number, ColorForce::painted(&drawing.strokes)?)?;
                exact.extend(Adherence::measure(&original.picture, &drawing, &forced)?.objects);
            }
            seeds.push(apart(&painted, &paint(number + 1000, Vec::new())?));
        }
        let [edges, strokes, objects, exact, seeds] =
            [&mut edges, &mut strokes, &mut objects, &mut exact, &mut seeds].map(|values| median(values));
        println!("{name:30} {edges:5.3}  {strokes:7.2}  {objects:7.2}  {exact:26.2}  {seeds:13.2}");
    }
    Ok(())
}
