//! Tests of a whole model, trained from random weights for a few steps: every part learns, and the result is a
//! checkpoint.

use impasto::nn::{
    ClipImageProcessor, ClipText, ClipTextConfig, ClipVisionConfig, ConfigFile, UnetConfig, Vae, VaeConfig,
};
use impasto::weights::{Weights, read_safetensors};
use impasto::{Pipeline, Raster, Result, Size, Source};
use impasto_train::dataset::Dataset;
use impasto_train::{
    ClipTask, EvaluatorTask, HELD_OUT, Journal, Latents, Loss, ModelFolder, Parameters, Rate, Rule, Shard, Task,
    TextTask, Training, UnetTask, VaeTask,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tch::{Device, Kind};

const SIZE: u32 = 64;
const VAE: &str = r#"{"block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "mid_block_add_attention": false,
    "scaling_factor": 1.0, "sample_size": 64}"#;
const UNET: &str = r#"{"block_out_channels": [16, 32], "norm_num_groups": 4, "attention_head_dim": 2, "layers_per_block": 1,
    "cross_attention_dim": 128, "sample_size": 8, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}"#;

pub fn training(folder: &Path, steps: u64) -> Training {
    Training {
        folder: folder.into(),
        seed: 1,
        workers: 2,
        accumulate: 1,
        device: Device::Cpu,
        rate: Rate { warm_up: 2, hold: 0.5, steps },
        muon: (0.02, 0.0),
        adamw: (4e-3, 0.0),
        clip: 1.0,
        ema: 0.9,
        checkpoint: Duration::from_secs(60),
        evaluate: 8,
        until: None,
    }
}

/// A task without its evaluation, which takes longer than a few steps.
pub struct Steps<T>(pub T);

impl<T: Task> Task for Steps<T> {
    fn loss(&self, parameters: &Parameters, shard: &Shard) -> Result<Loss> {
        self.0.loss(parameters, shard)
    }

    fn evaluate(&self, _: &Parameters) -> Result<Vec<(&'static str, f64)>> {
        Ok(Vec::new())
    }

    fn sheet(&self, _: &Parameters) -> Result<Option<Raster>> {
        Ok(None)
    }

    fn rule(&self, name: &str, shape: &[i64]) -> Rule {
        self.0.rule(name, shape)
    }
}

/// Returns the mean of a figure over the first and over the last quarter of a journal.
pub fn course(folder: &Path, figure: &str) -> (f64, f64) {
    let lines = Journal::read(&folder.join("journal.jsonl")).unwrap();
    let values: Vec<f64> = lines.iter().filter_map(|line| line.get(figure)?.as_f64()).collect();
    let quarter = values.len() / 4;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    (mean(&values[..quarter]), mean(&values[values.len() - quarter..]))
}

#[test]
fn every_part_learns_and_the_result_is_a_checkpoint() -> std::result::Result<(), impasto_train::Error> {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let model = ModelFolder::new(at("model"))?;
    let dataset = Dataset::new(SIZE)?;

    let config = VaeConfig::from_json("vae", VAE)?;
    let task = || Ok(VaeTask::new(config.clone(), dataset, Kind::Float));
    let weights = training(&at("vae"), 24).run(|| VaeTask::initial(&config, 1), task, |_| {})?;
    let (first, last) = course(&at("vae"), "close");
    assert!(last < 0.8 * first, "the autoencoder does not learn: {first} -> {last}");
    let scale = task()?.scaling_factor(&weights)?;
    model.put("vae", &VAE.replace("1.0", &scale.to_string()), &weights)?;
    for file in ["checkpoint.safetensors", "ema.safetensors", "sheet.png", "curves.png"] {
        assert!(at("vae").join(file).is_file(), "{file}");
    }

    let vae = || {
        let weights = Weights::open(&at("model/vae/diffusion_pytorch_model.safetensors"), Kind::Float, Device::Cpu)?;
        Vae::new(&weights, &VaeConfig::from_json("vae", &VAE.replace("1.0", &scale.to_string()))?)
    };
    let encoded = Latents::encode(&at("latents"), dataset, vae, 0..64, 2)?;
    let made = std::fs::metadata(at("latents/000000.safetensors")).unwrap().modified().unwrap();
    let held_out = Latents::encode(&at("held-out"), dataset, vae, HELD_OUT..HELD_OUT + 1, 1)?;
    let again = Latents::encode(&at("latents"), dataset, vae, 0..64, 1)?;
    assert_eq!(std::fs::metadata(at("latents/000000.safetensors")).unwrap().modified().unwrap(), made);
    assert_eq!(again.batch(&[3])?, encoded.batch(&[3])?);
    let spread = encoded.batch(&(0..64).collect::<Vec<_>>())?.std(true).double_value(&[]);
    assert!((spread - 1.0).abs() < 0.1, "latents have a standard deviation of {spread}");

    let (latents, held_out) = (Arc::new(encoded), Arc::new(held_out));
    let unet = UnetConfig::from_json("unet", UNET)?;
    let task = || UnetTask::new(UNET, model.clone(), latents.clone(), held_out.clone(), 8, Kind::BFloat16);
    training(&at("unet"), 16).run(|| UnetTask::initial(&unet, 1), task, |_| {})?;
    let (first, last) = course(&at("unet"), "error");
    assert!(last < 0.95 * first, "the UNet does not learn: {first} -> {last}");

    let pipeline = Pipeline::builder().source(Source::dir(model.path())).build()?;
    assert!(pipeline.model().notes().is_empty(), "{:?}", pipeline.model().notes());
    let picture = pipeline.request("1girl, gold eyes").steps(2).run()?.image(0)?.clone();
    assert_eq!(picture.size(), Size::new(SIZE, SIZE));
    Ok(())
}

#[test]
fn towers_and_evaluator_learn() -> std::result::Result<(), impasto_train::Error> {
    let scratch = tempfile::tempdir().unwrap();
    let dataset = Dataset::new(SIZE)?;
    let model = ModelFolder::new(scratch.path().join("model"))?;
    let read = |file: &str| std::fs::read_to_string(model.path().join(file)).unwrap();
    let text = ClipTextConfig::from_json("text", &read("text_encoder/config.json"))?;
    let vision = ClipVisionConfig::from_json("vision", &read("image_encoder/config.json"))?;
    let processor = ClipImageProcessor::from_json("processor", &read("feature_extractor/preprocessor_config.json"))?;
    let task = |frozen| {
        let configs = (text.clone(), vision.clone());
        Ok(ClipTask::new(configs, processor.clone(), model.text()?.0, dataset, 6, frozen))
    };
    let folder = scratch.path().join("clip");
    let start = ClipTask::initial(&text, &vision, 1)?;
    let trained = training(&folder, 8).run(|| ClipTask::initial(&text, &vision, 1), || task(true), |_| {})?;
    let (first, last) = course(&folder, "seen");
    assert!(last < first, "the vision tower does not learn: {first} -> {last}");
    let (first, last) = course(&folder, "near");
    assert!(last < first, "patches do not come nearer to their words: {first} -> {last}");
    let (before, after) = (ClipTask::tower(&start, "text"), ClipTask::tower(&trained, "text"));
    assert_eq!(before, after, "a frozen tower stays as it is");
    assert_ne!(ClipTask::tower(&start, "vision"), ClipTask::tower(&trained, "vision"));

    // A caption that names nothing with its color teaches the patches nothing.
    let (alone, parameters) = (
        ClipTask::new((text.clone(), vision.clone()), processor.clone(), model.text()?.0, dataset, 1, true),
        Parameters::new(&start, Device::Cpu)?,
    );
    for step in 0..32 {
        let loss = alone.loss(&parameters, &Shard { seed: 1, step, part: 0, parts: 1, progress: 0.0 })?;
        assert!(loss.total.double_value(&[]).is_finite(), "step {step}: {:?}", loss.parts);
    }

    let folder = scratch.path().join("evaluator");
    let task = || Ok(EvaluatorTask::new(dataset, None, 4));
    training(&folder, 24).run(|| EvaluatorTask::initial(1), task, |_| {})?;
    let (first, last) = course(&folder, "loss");
    assert!(last < 0.9 * first, "the evaluator does not learn: {first} -> {last}");
    let odd = EvaluatorTask::new(Dataset::new(192)?, None, 1);
    let shard = Shard { seed: 1, step: 0, part: 0, parts: 1, progress: 0.0 };
    let error = odd.loss(&Parameters::new(&EvaluatorTask::initial(1)?, Device::Cpu)?, &shard).expect_err("192 pixels");
    assert!(error.to_string().contains("size is 192; expected at most 128, or a multiple"), "{error}");
    Ok(())
}

#[test]
fn text_encoder_learns_to_read_past_unknown_words() -> std::result::Result<(), impasto_train::Error> {
    let scratch = tempfile::tempdir().unwrap();
    let model = ModelFolder::new(scratch.path().join("model"))?;
    let json = std::fs::read_to_string(model.path().join("text_encoder/config.json")).unwrap();
    let config = ClipTextConfig::from_json("text", &json)?;
    // A random encoder learns to match the embedded encoder.
    let initial = || Parameters::random(1, |weights| ClipText::new(weights, &config));
    let make = || {
        let (tokenizer, before) = model.text()?;
        Ok(TextTask::new(config.clone(), tokenizer, before, Dataset::new(SIZE)?, 4))
    };
    let folder = scratch.path().join("text");
    let trained = training(&folder, 24).run(initial, make, |_| {})?;
    let (first, last) = course(&folder, "words");
    assert!(last < 0.9 * first, "the encoder does not learn: {first} -> {last}");
    let figure = |parameters: &Parameters, name| -> Result<f64> {
        let figures = make()?.evaluate(parameters)?;
        Ok(figures.iter().find(|(own, _)| *own == name).unwrap().1)
    };
    let embedded = read_safetensors(&model.path().join("text_encoder/model.safetensors"))?;
    let embedded = figure(&Parameters::new(&embedded, Device::Cpu)?, "held-out words")?;
    let _no_grad = tch::no_grad_guard();
    let trained = figure(&Parameters::new(&trained, Device::Cpu)?, "held-out words")?;
    assert!(embedded < 0.1, "{embedded} of the variance: the embedded encoder reads past foreign words");
    assert!(trained > 2.0 * embedded, "{trained}, after 24 steps");
    Ok(())
}

#[test]
fn a_shard_is_the_same_every_time_it_is_asked_for() -> std::result::Result<(), impasto_train::Error> {
    let config = VaeConfig::from_json("vae", VAE)?;
    let task = VaeTask::new(config.clone(), Dataset::new(SIZE)?, Kind::Float);
    let parameters = Parameters::new(&VaeTask::initial(&config, 1)?, Device::Cpu)?;
    let loss = |step, part| -> Result<f64> {
        let shard = Shard { seed: 1, step, part, parts: 2, progress: 0.0 };
        Ok(task.loss(&parameters, &shard)?.total.double_value(&[]))
    };
    assert_eq!(loss(3, 0)?, loss(3, 0)?);
    assert_ne!(loss(3, 0)?, loss(4, 0)?);
    assert_ne!(loss(3, 0)?, loss(3, 1)?);
    let shared = parameters.share()?;
    for (own, other) in parameters.tensors().values().zip(shared.tensors().values()) {
        assert_eq!(own.data_ptr(), other.data_ptr());
    }
    Ok(())
}
