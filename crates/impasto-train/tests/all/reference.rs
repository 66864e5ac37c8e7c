//! Tests of colorizer training: the model begins as the embedded model, learns, and then colors sketches.

use super::training::training;
use impasto::hint::Canny;
use impasto::methods::Colorize;
use impasto::nn::{ConfigFile, Vae, VaeConfig};
use impasto::weights::{Weights, parse_safetensors};
use impasto::{Model, Pipeline, Result, Source};
use impasto_train::dataset::Dataset;
use impasto_train::{HELD_OUT, Journal, Latents, ReferenceTask, Training};
use std::sync::Arc;
use tch::{Device, Kind};

const SIDE: u32 = 64;

pub fn vae() -> Result<Vae> {
    let file = |name: &str| impasto_tiny::file(name).expect("the embedded model has one");
    let config = VaeConfig::from_json("vae/config.json", std::str::from_utf8(file("vae/config.json")).expect("text"))?;
    let tensors = parse_safetensors("vae", file("vae/diffusion_pytorch_model.safetensors"))?;
    Vae::new(&Weights::new("the embedded VAE", tensors, Kind::Float, Device::Cpu), &config)
}

#[test]
fn colorizer_learns_and_colors_sketches() -> std::result::Result<(), impasto_train::Error> {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let dataset = Dataset::new(SIDE)?;
    let learned = Arc::new(Latents::encode(&at("latents"), dataset, vae, 0..16, 2)?);
    let held_out = Arc::new(Latents::encode(&at("held-out"), dataset, vae, HELD_OUT..HELD_OUT + 1, 2)?);
    let task = || ReferenceTask::new(at("model"), dataset, learned.clone(), held_out.clone(), 2, Kind::Float);
    let embedded = Model::load(&Source::embedded())?;
    let training = Training { evaluate: 3, muon: (0.008, 0.0), adamw: (1e-3, 0.0), ..training(&at("reference"), 3) };
    let mut figures = Vec::new();
    let ema = training.run(
        || ReferenceTask::initial(&embedded, 1),
        task,
        |progress| figures.extend(progress.figures.iter().copied()),
    )?;
    let lines = Journal::read(&at("reference/journal.jsonl")).unwrap();
    let tokens: Vec<f64> = lines.iter().filter_map(|line| line.get("tokens")?.as_f64()).collect();
    assert!(tokens[0] < 1e-9, "the tower begins as the embedded one: {tokens:?}");
    assert!(tokens[2] > 0.0, "and learns: {tokens:?}");
    for name in ["held-out error", "held-out parts", "held-out edges", "held-out entangled"] {
        let figure = figures.iter().find(|(other, _)| *other == name).map(|(_, figure)| *figure);
        assert!(figure.is_some_and(|figure| figure.is_finite() && figure >= 0.0), "{name}: {figure:?}");
    }
    assert!(at("reference/sheet.png").is_file());
    for part in ["unet.", "sketch_encoder.", "image_encoder."] {
        let first = ReferenceTask::initial(&embedded, 1)?;
        let mut own = ema.iter().filter(|(name, _)| name.starts_with(part));
        assert!(own.any(|(name, x)| *x != first[name]), "{part} learns");
    }

    ReferenceTask::export(&at("model"), &ema)?;
    let pipeline = Pipeline::builder().source(Source::dir(at("model"))).build()?;
    assert!(pipeline.model().colorizes() && pipeline.model().notes().is_empty(), "{:?}", pipeline.model().notes());
    let drawing = dataset.draw(HELD_OUT)?;
    let reference = dataset.draw_in_colors_of(&drawing.record, 7)?;
    let sketch = Canny::default().edges(&drawing.picture)?.raster();
    let colors = Colorize::new(&sketch, &reference.picture);
    let output = pipeline.request("").size((SIDE, SIDE)).steps(2).guide(colors).run()?;
    assert_eq!(output.image(0)?.size().width, SIDE);
    Ok(())
}
