//! Paint with Words together with all other features of a run.
//!
//! Runs have pictures to start from, masks, learned words and weights, ControlNets, long prompts, forces, readers,
//! prompts of regions, and every sampler.

use impasto::diffusion::solver::{Euler, by_name};
use impasto::diffusion::{Noise, Schedule, Spacing, TrainingSchedule};
use impasto::guidance::Details;
use impasto::mask::Region;
use impasto::methods::paint_with_words::{Area, PaintReport, WeightFn};
use impasto::methods::{ColorForce, PaintWithWords, RegionPrompts};
use impasto::model::Controlled;
use impasto::nn::{ConfigFile, ControlNet, ControlNetConfig};
use impasto::saliency::{Daam, Differential};
use impasto::sampler::{Batching, Origin, Sampler, Start};
use impasto::testing::ToyModel;
use impasto::weights::{Embedding, Lora, Weights};
use impasto::{Control, Grid, Model, Result, Rgb, Source, Window};
use serde_json::Value;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn left() -> Region {
    Region::rect(0.0..0.5, 0.0..1.0)
}

fn paint(strength: f64) -> PaintWithWords {
    let eyes = Area { strength, outside: -0.2 * strength, ..Area::mask(left(), "eyes") };
    PaintWithWords::default().area(eyes).area(Area { strength, negative: true, ..Area::mask(left(), "ugly") })
}

#[test]
fn paint_acts_beside_all_methods_in_every_sampler() -> Result<()> {
    let names = [
        "Euler",
        "Euler a",
        "Heun",
        "LMS",
        "DPM2",
        "DPM2 a",
        "DPM++ 2S a",
        "DPM++ 2M",
        "DPM++ 2M SDE",
        "DPM++ 3M SDE",
        "DPM++ SDE",
        "DDIM",
        "DDPM",
        "PLMS",
        "DEIS",
        "UniPC",
        "LCM",
        "TCD",
    ];
    let (model, grid) = (ToyModel::new(3)?, Grid::new(8, 6));
    let picture = Noise::seeded(5).draw(&[1, 3, 8, 6])?.clamp(-1.0, 1.0);
    let mask = Tensor::zeros([1, 1, 8, 6], CPU);
    let _ = mask.narrow(2, 0, 5).fill_(1.0);
    for name in names {
        let run = |strength: f64, batching| -> Result<Tensor> {
            let schedule = Schedule::new(&TrainingSchedule::stable_diffusion(), 8, Spacing::Karras)?.last(6)?;
            let sampler = Sampler::new(schedule, by_name(name)?.0)
                .batching(batching)
                .guide(paint(strength).weight(WeightFn::LogStd(0.4)))
                .guide(
                    ColorForce::published("hair", Rgb(255, 215, 0))
                        .window(Window::WHOLE)
                        .saliency(Differential::of("hair", "red")),
                )
                .guide(RegionPrompts::default().add(Region::rect(0.5..1.0, 0.0..1.0), "blue shirt", 0.5))
                .guide(Daam::of("gold"));
            let mut start = Start::new("girl gold eyes hair", grid, Noise::seeded(7));
            start.negative = "ugly";
            start.images = 2;
            start.origin = Origin::Picture(&picture);
            start.mask = Some(&mask);
            Ok(sampler.start(&model, start)?.finish()?.shallow_clone())
        };
        let painted = run(1.5, Batching::Together)?;
        assert_eq!(painted, run(1.5, Batching::Together)?, "{name}: a run repeats");
        assert_eq!(painted.isfinite().all(), Tensor::from(true), "{name}");
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(apart(&painted, &run(0.0, Batching::Together)?) > 1e-3, "{name}: paint acts");
        let kept = painted.narrow(2, 5, 3);
        assert_eq!(
            kept,
            run(0.0, Batching::OneByOne)?.narrow(2, 5, 3),
            "{name}: cells that the mask keeps are not painted"
        );
    }
    Ok(())
}

/// A ControlNet of random weights for the embedded model.
fn net() -> Result<ControlNet> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/impasto-tiny/model/unet/config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("JSON");
    config["conditioning_channels"] = 3.into();
    config["conditioning_embedding_out_channels"] = vec![4, 8, 8, 16].into();
    let config = ControlNetConfig::from_json("config.json", &config.to_string())?;
    ControlNet::new(&Weights::random(1, Kind::Float, Device::Cpu), &config)
}

/// The embedded model with a learned word of three tokens, "zzqx", and a LoRA on a cross-attention.
fn learned() -> Result<Model> {
    let folder = tempfile::tempdir().expect("a folder");
    let model = Model::load(&Source::embedded())?;
    let width =
        model.tensors("text_encoder").expect("it has one")["text_model.embeddings.token_embedding.weight"].size()[1];
    let word = folder.path().join("zzqx.safetensors");
    Tensor::write_safetensors(&[("emb_params", Tensor::randn([3, width], CPU) * 0.05)], &word)?;
    let model = model.with_embedding(&Embedding::open(&word)?)?;
    let unet = model.tensors("unet").expect("it has one");
    let key = unet.keys().find(|name| name.ends_with("attn2.to_k.weight")).expect("cross-attention").clone();
    let (rows, columns) = unet[&key].size2()?;
    let name = key.trim_end_matches(".weight");
    let tensors = [
        (format!("unet.{name}.lora_A.weight"), Tensor::ones([1, columns], CPU) * 0.1),
        (format!("unet.{name}.lora_B.weight"), Tensor::ones([rows, 1], CPU) * 0.1),
    ];
    let path = folder.path().join("lora.safetensors");
    Tensor::write_safetensors(&tensors, &path)?;
    model.with_lora(&[Lora::open(&path)?])
}

#[test]
fn learned_word_is_painted_beside_lora_and_control() -> Result<()> {
    let (model, net, grid) = (learned()?, net()?, Grid::new(8, 8));
    let long = format!("a zzqx boat, {}blue sky, green ground", "simple picture, ".repeat(28));
    let hint = (Tensor::arange(3 * 64 * 64, CPU) * 0.013).sin().reshape([1, 3, 64, 64]) / 2.0 + 0.5;
    let picture = Tensor::zeros([1, 3, 64, 64], CPU);
    let run = |paint: Option<PaintWithWords>, control: bool| -> Result<(Tensor, Details)> {
        let controls: Vec<Control> = control.then(|| Control::new(&net, &hint)).into_iter().collect();
        let controlled = Controlled::new(&model, &controls)?;
        let schedule = Schedule::new(model.training_schedule(), 4, Spacing::Leading)?.last(3)?;
        let force = ColorForce::published("boat", Rgb(200, 30, 30)).window(Window::WHOLE);
        let sampler = Sampler::new(schedule, Euler).guide(force);
        let sampler = paint.into_iter().fold(sampler, Sampler::guide);
        let mut start = Start::new(&long, grid, Noise::seeded(7));
        start.origin = Origin::Picture(&picture);
        let mut run = sampler.start(&controlled, start)?;
        let latent = run.finish()?.shallow_clone();
        Ok((latent, run.into_details()?))
    };
    let paint = PaintWithWords::default()
        .area(Area { strength: 1.5, ..Area::mask(left(), "zzqx") })
        .area(Area { strength: 1.0, ..Area::mask(Region::rect(0.0..1.0, 0.5..1.0), "green ground") })
        .weight(WeightFn::LogMax(0.4));
    let (painted, details) = run(Some(paint.clone()), true)?;
    let details = details.get::<PaintReport>("PaintWithWords")?;
    assert_eq!(details.areas[0].tokens[0].len(), 3, "all of the learned word's tokens");
    assert!(details.areas[1].tokens[0].start > 77, "in the second chunk: {:?}", details.areas[1].tokens);
    assert_eq!(details.steps.len(), 3, "from a picture, three of four steps");
    assert!(details.warnings.is_empty(), "{:?}", details.warnings);
    assert_ne!(painted, run(None, true)?.0, "paint acts beside the ControlNet");
    assert_ne!(painted, run(Some(paint), false)?.0, "the ControlNet acts beside paint");
    Ok(())
}
