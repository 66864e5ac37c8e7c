//! Tests of the training of a transformer that predicts the velocity of a flow.

use super::reference::vae;
use super::training::{Steps, course, training};
use impasto::diffusion::Prediction;
use impasto::nn::ConfigFile;
use impasto::nn::cosmos::CosmosConfig;
use impasto::weights::{Tensors, parse_safetensors};
use impasto::{Model, Size, Source};
use impasto_train::dataset::Dataset;
use impasto_train::{FlowTask, HELD_OUT, Latents, ModelFolder, Parameters, Shard, Task};
use std::sync::Arc;
use tch::{Device, Kind};

const TRANSFORMER: &str = r#"{"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16,
    "num_layers": 2, "mlp_ratio": 2.0, "text_embed_dim": 128, "adaln_lora_dim": 8, "rope_scale": [1.0, 1.0, 1.0],
    "concat_padding_mask": false, "extra_pos_embed_type": "learnable", "max_size": [1, 32, 32]}"#;

#[test]
fn transformer_learns_a_flow_and_paints() -> std::result::Result<(), impasto_train::Error> {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let (model, dataset) = (ModelFolder::of_flow(at("model"))?, Dataset::new(64)?);
    let learned = Arc::new(Latents::encode(&at("latents"), dataset, vae, 0..64, 2)?);
    let held_out = Arc::new(Latents::encode(&at("held-out"), dataset, vae, HELD_OUT..HELD_OUT + 1, 1)?);
    let config = CosmosConfig::from_json("transformer", TRANSFORMER)?;
    let task = || FlowTask::new(TRANSFORMER, model.clone(), learned.clone(), held_out.clone(), dataset, 8, Kind::Float);
    let weights = training(&at("flow"), 40).run(
        || FlowTask::initial(&config, 1, Tensors::new()),
        || task().map(Steps),
        |_| {},
    )?;
    let (first, last) = course(&at("flow"), "error");
    assert!(last < 0.9 * first, "the transformer does not learn: {first} -> {last}");
    let (first, last) = course(&at("flow"), "classes");
    assert!(last < 0.7 * first, "the queries do not learn what patches show: {first} -> {last}");
    let (first, last) = course(&at("flow"), "attention");
    assert!(last < 0.9 * first, "attention to names does not learn the things: {first} -> {last}");

    let _no_grad = tch::no_grad_guard();
    let (task, parameters) = (task()?, Parameters::new(&weights, Device::Cpu)?);
    // At progress 1 the teacher has no share in the target. The total is then the error, weighted at small things, and
    // a tenth of both other losses; the figure "error" is the error without weights.
    let loss = task.loss(&parameters, &Shard { seed: 1, step: 0, part: 0, parts: 1, progress: 1.0 })?;
    let part = |name: &str| loss.parts.iter().find(|part| part.0 == name).map_or(f64::NAN, |part| part.1);
    let weighted = loss.total.double_value(&[]) - 0.1 * part("classes") - 0.1 * part("attention");
    assert!(weighted > 1.01 * part("error"), "errors at things count no more: {weighted}, {}", part("error"));
    let figures = task.evaluate(&parameters)?;
    assert_eq!(figures.first().map(|figure| figure.0), Some("held-out error"));
    let sheet = task.sheet(&parameters)?.expect("a sheet of pictures");
    assert!(sheet.size() != Size::new(0, 0));
    let file = std::fs::read(model.path().join("transformer/diffusion_pytorch_model.safetensors")).unwrap();
    let network = parse_safetensors("transformer", &file)?;
    assert!(network.keys().all(|name| !name.contains("layout")));
    // A training that starts from the network alone has its weights and the missing layer.
    let known = network.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
    let again = FlowTask::initial(&config, 2, known)?;
    assert!(again.keys().eq(weights.keys()), "{:?}", again.keys());
    assert!(network.iter().all(|(name, x)| x.equal(&again[name])));
    assert_eq!(again["layout.weight"].abs().max().double_value(&[]), 0.0);
    assert_eq!(Model::load(&Source::dir(model.path()))?.prediction(), Prediction::Flow);
    Ok(())
}
