//! Tests of ControlNet training: the network begins without effect, every part learns, and the result is a checkpoint.

use super::training::{Steps, course, training};
use impasto::hint::{Canny, Drawing, Strokes};
use impasto::nn::{ControlNet, ControlNetConfig};
use impasto::weights::{Tensors, Weights, read_safetensors};
use impasto::{Control, Model, Pipeline, Raster, Result, Rgb, Size, Source};
use impasto_train::dataset::{Dataset, Wording};
use impasto_train::{Adherence, ControlTask, HELD_OUT, Journal, Pictures, Sample, Training, drawn_by_a_person, export};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind};

const SIDE: u32 = 64;

/// A sequence that repeats a few drawings.
struct Few(u64);

impl Pictures for Few {
    fn sample(&self, number: u64) -> Result<Sample> {
        let picture = Dataset::new(SIDE)?.draw(number % self.0)?.picture;
        Ok(Sample { picture, caption: "1girl, hair".into(), latent: None })
    }
}

fn model() -> Result<Model> {
    Model::load(&Source::embedded())
}

fn config() -> Result<ControlNetConfig> {
    ControlTask::config(&model()?, &[4, 8, 8, 16])
}

fn initial() -> Result<Tensors> {
    ControlTask::initial(&model()?, &config()?, 1)
}

fn task(count: u64) -> Result<ControlTask> {
    ControlTask::new(model()?, config()?, Arc::new(Few(count)), Arc::new(Few(count)), 4, Kind::Float)
}

fn run(training: &Training, count: u64) -> Tensors {
    training.run(initial, || Ok(Steps(task(count)?)), |_| {}).unwrap()
}

fn drawing() -> Result<Drawing> {
    let picture = Dataset::new(SIDE)?.draw(5)?.picture;
    let strokes = Strokes::new(picture.size()).line([(8.0, 8.0), (50.0, 12.0)], 2.0, Rgb(255, 99, 71));
    Ok(Drawing { sketch: Canny::default().edges(&picture)?, strokes })
}

/// Paints a picture, with the ControlNet of these weights or without a ControlNet.
fn painted(weights: Option<Tensors>, guidance_scale: f64) -> Result<Raster> {
    let (drawing, config) = (drawing()?, config()?);
    let net = weights.map(|weights| ControlNet::new(&Weights::new("net", weights, Kind::Float, Device::Cpu), &config));
    let net = net.transpose()?;
    let pipeline = Pipeline::new(model()?);
    let mut request =
        pipeline.request("1girl, hair").size((SIDE, SIDE)).steps(3).seed(2).guidance_scale(guidance_scale);
    if let Some(net) = &net {
        request = request.control(Control::drawing(net, &drawing));
    }
    Ok(request.run()?.image(0)?.clone())
}

#[test]
fn untrained_net_changes_no_bit() -> Result<()> {
    assert!(painted(Some(initial()?), 1.0)?.bytes() == painted(None, 1.0)?.bytes());
    // Two branches share common computations, unless a ControlNet distinguishes them. Sums then have another order.
    let [with, without] = [painted(Some(initial()?), 4.0)?, painted(None, 4.0)?];
    assert!(with.bytes().iter().zip(without.bytes()).all(|(a, b)| a.abs_diff(*b) <= 1));
    Ok(())
}

#[test]
fn every_part_of_the_net_learns_within_three_steps() -> Result<()> {
    let start = initial()?;
    let moved = |steps: u64| -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let trained = run(&training(folder.path(), steps), 2);
        start.iter().filter(|(name, x)| trained[*name] != **x).map(|(name, _)| name.clone()).collect()
    };
    let outputs = |name: &str| name.starts_with("controlnet_down_blocks") || name.starts_with("controlnet_mid_block");
    let (first, second, third) = (moved(1), moved(2), moved(3));
    assert!(!first.is_empty() && first.iter().all(|name| outputs(name)), "{first:?}");
    // The hint's last convolution was zero until now, so no layer before it has moved.
    let embedding = |name: &&String| name.starts_with("controlnet_cond_embedding");
    let of_hint: Vec<_> = second.iter().filter(embedding).collect();
    assert!(of_hint.iter().all(|name| name.contains("conv_out")) && !of_hint.is_empty(), "{of_hint:?}");
    assert!(second.contains(&"mid_block.resnets.0.conv1.weight".to_owned()));
    let still: Vec<_> = start.keys().filter(|name| !third.contains(name)).collect();
    // Softmax ignores a value that is added to every score of a row.
    assert!(still.iter().all(|name| name.ends_with("to_k.bias")), "never moved: {still:?}");
    Ok(())
}

#[test]
fn net_learns_and_is_loaded_as_a_checkpoint() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let trained = run(&Training { adamw: (0.004, 0.0), muon: (0.01, 0.0), ..training(folder.path(), 40) }, 4);
    let (before, after) = course(folder.path(), "error");
    assert!(after < 0.9 * before, "the net does not learn: {before} -> {after}");

    let out = folder.path().join("controlnet");
    export(&out, &config()?.to_json()?, &trained)?;
    let net = model()?.controlnet(&Source::dir(&out))?;
    assert_eq!(net.config().conditioning_channels, 5);
    let weights = read_safetensors(&out.join("diffusion_pytorch_model.safetensors"))?;
    assert!(painted(Some(weights), 1.0)?.bytes() != painted(None, 1.0)?.bytes());
    Ok(())
}

fn losses(folder: &Path) -> Vec<f64> {
    let lines = Journal::read(&folder.join("journal.jsonl")).unwrap();
    lines.iter().filter_map(|line| line.get("loss")?.as_f64()).collect()
}

#[test]
fn resumed_training_gives_the_same_bits() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with = |folder: &Path| Training { accumulate: 2, ..training(folder, 3) };
    let once = run(&with(whole.path()), 3);
    let soon = Training { until: Some(Instant::now()), ..with(cut.path()) };
    run(&soon, 3);
    assert_eq!(losses(cut.path()).len(), 1);
    assert_eq!(run(&with(cut.path()), 3), once);
    assert_eq!(losses(cut.path()), losses(whole.path()));
}

#[test]
fn sheet_and_animation_show_stroke_after_stroke() {
    let folder = tempfile::tempdir().unwrap();
    let training = Training { evaluate: 1, ..training(folder.path(), 1) };
    let mut figures = Vec::new();
    let watch = |progress: &impasto_train::TrainingProgress<'_>| {
        figures.extend(progress.figures.iter().filter(|(name, _)| name.starts_with("held-out")).copied());
    };
    training.run(initial, || task(2), watch).unwrap();
    let names: Vec<_> = figures.iter().map(|(name, _)| *name).collect();
    assert!(
        ["held-out error", "held-out edges", "held-out strokes", "held-out objects"]
            .iter()
            .all(|name| names.contains(name)),
        "{names:?}"
    );
    assert!(figures.iter().all(|(_, figure)| figure.is_finite() && *figure >= 0.0), "{figures:?}");
    let sheet = Raster::open(folder.path().join("sheet.png")).unwrap();
    let Size { width, height } = sheet.size();
    assert!(width > 6 * SIDE && height > 4 * SIDE);
    assert_eq!(Raster::open(folder.path().join("animation.png")).unwrap().size().width, 2 * SIDE);
}

#[test]
fn embedded_net_follows_held_out_lines_and_strokes() -> Result<()> {
    let (pipeline, dataset) = (Pipeline::builder().build()?, Dataset::new(256)?);
    let net = pipeline.model().controlnet(&Source::embedded())?;
    let (mut edges, mut objects, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..5 {
        let drawn = dataset.draw(HELD_OUT + number)?;
        let (original, caption) = (drawn.picture, drawn.record.caption(Wording::default(), 0));
        let drawing = drawn_by_a_person(&original, number)?;
        let paint = |control: Option<Control>| -> Result<Adherence> {
            let request = pipeline.request(caption.as_str()).seed(number).steps(14);
            let request = control.into_iter().fold(request, |request, control| request.control(control));
            Adherence::measure(&original, &drawing, request.run()?.image(0)?)
        };
        let followed = paint(Some(Control::drawing(&net, &drawing)))?;
        edges.push(followed.edge_f1);
        objects.extend(followed.objects);
        without.extend(paint(None)?.objects);
    }
    let [edges, objects, without] = [edges, objects, without].map(|mut values| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    });
    println!("edges {edges:.2}, objects {objects:.1}, without the net {without:.1}");
    assert!(edges >= 0.8, "edge F1 {edges:.2}");
    assert!(objects < 11.0 && objects < without / 3.0, "things under strokes: CIEDE2000 {objects:.1} of {without:.1}");
    Ok(())
}
