//! Tests of LoRA training: the change learns, and the files in both spellings load as what was trained.

use super::training::{Steps, course, training};
use impasto::weights::Lora;
use impasto::{Model, Pipeline, Raster, Result, Size, Source};
use impasto_train::dataset::{Dataset, Style, Wording};
use impasto_train::lora::{Algorithm, Existing, Layers, LoraTask, LowRank, Names, write_lora};
use impasto_train::{Journal, Latents, Parameters, Pictures, Sample, Task, Training};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tch::{Device, Kind};

const SIDE: u32 = 64;
const COUNT: u64 = 4;

/// Blueprints of 64×64 pixels.
struct Blueprints;

impl Pictures for Blueprints {
    fn sample(&self, number: u64) -> Result<Sample> {
        let drawing = Dataset::new(SIDE)?.in_style(Style::Blueprint).draw(number)?;
        let caption = format!("blueprint, {}", drawing.record.caption(Wording::default(), number));
        Ok(Sample { picture: drawing.picture, caption, latent: None })
    }
}

fn model() -> Result<Model> {
    Model::load(&Source::embedded())
}

fn low_rank(algorithm: Algorithm) -> LowRank {
    LowRank { rank: 4, alpha: 6.0, algorithm, layers: Layers::Attention }
}

fn latents() -> Result<Arc<Latents>> {
    Ok(Arc::new(LoraTask::encode(&model()?, &Blueprints, COUNT)?))
}

fn task(model: Model, algorithm: Algorithm, latents: &Arc<Latents>) -> Result<LoraTask> {
    Ok(LoraTask::new(model, low_rank(algorithm), latents.clone(), 4, Kind::Float)?.offset(0.1))
}

fn settings(folder: &Path, steps: u64) -> Training {
    Training { adamw: (0.01, 0.0), ..training(folder, steps) }
}

fn train(training: &Training, algorithm: Algorithm) -> Result<impasto::weights::Tensors> {
    let (model, latents) = (self::model()?, latents()?);
    let make = || Ok(Steps(task(self::model()?, algorithm, &latents)?));
    let trained = training.run(|| LoraTask::initial(&model, &low_rank(algorithm), 1), make, |_| {});
    Ok(trained.expect("the training ends"))
}

fn paint(model: Model) -> Result<Raster> {
    let pipeline = Pipeline::new(model);
    let output = pipeline.request("a red house, green ground").size((SIDE, SIDE)).steps(4).seed(2).run()?;
    Ok(output.image(0)?.clone())
}

/// Returns the largest and the mean difference of two pictures' channels, 0..=255.
fn apart(a: &Raster, b: &Raster) -> (u8, f64) {
    let differences: Vec<u8> = a.bytes().iter().zip(b.bytes()).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: u64 = differences.iter().map(|difference| u64::from(*difference)).sum();
    (differences.iter().copied().max().unwrap(), sum as f64 / differences.len() as f64)
}

/// Returns the mean error of a task's evaluation.
fn error(task: &LoraTask, parameters: &Parameters) -> Result<f64> {
    let _no_grad = tch::no_grad_guard();
    Ok(task.evaluate(parameters)?.iter().find(|(name, _)| *name == "held-out error").unwrap().1)
}

fn learns_and_loads(algorithm: Algorithm) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let training = settings(folder.path(), 48);
    let trained = train(&training, algorithm)?;
    let (before, after) = course(folder.path(), "loss");
    assert!(after < 0.7 * before, "the LoRA does not learn: {before} -> {after}");

    // The error of the network in training is the error of the model that has the file merged in.
    let latents = latents()?;
    let own = task(model()?, algorithm, &latents)?;
    let in_training = error(&own, &Parameters::new(&trained, Device::Cpu)?)?;
    let untrained = Parameters::new(&LoraTask::initial(&model()?, &low_rank(algorithm), 1)?, Device::Cpu)?;
    assert!(in_training < 0.8 * error(&own, &untrained)?, "{in_training}");

    let mut painted = Vec::new();
    for (name, names) in [("kohya", Names::Kohya), ("diffusers", Names::Diffusers)] {
        let path = folder.path().join(name).with_extension("safetensors");
        let metadata = own.metadata(&training, "blueprint");
        write_lora(&path, &low_rank(algorithm).named(&trained, names)?, &metadata, Existing::Keep)?;
        let merged = model()?.with_lora(&[Lora::open(&path)?])?;
        assert!(merged.notes().is_empty(), "{:?}", merged.notes());
        let loaded = error(&task(merged.share()?, algorithm, &latents)?, &untrained_of(&merged, algorithm)?)?;
        assert!((loaded - in_training).abs() < 1e-4 * in_training, "{name}: {loaded} and {in_training}");
        painted.push(paint(merged)?);
    }
    let (most, _) = apart(&painted[0], &painted[1]);
    assert!(most <= 1, "the two files paint pictures that differ by {most}");
    let (_, mean) = apart(&painted[0], &paint(model()?)?);
    assert!(mean > 5.0, "the picture hardly changes: {mean}");
    Ok(())
}

/// Initial weights of a further training on a model, which change nothing.
fn untrained_of(model: &Model, algorithm: Algorithm) -> Result<Parameters> {
    Parameters::new(&LoraTask::initial(model, &low_rank(algorithm), 1)?, Device::Cpu)
}

#[test]
fn lora_learns_and_loads_in_both_spellings() -> Result<()> {
    learns_and_loads(Algorithm::Lora)
}

#[test]
fn dora_learns_and_loads_in_both_spellings() -> Result<()> {
    learns_and_loads(Algorithm::Dora)
}

#[test]
fn file_describes_itself() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let low_rank = low_rank(Algorithm::Dora);
    let initial = LoraTask::initial(&model()?, &low_rank, 1)?;
    let task = task(model()?, Algorithm::Dora, &latents()?)?;
    let metadata = task.metadata(&settings(folder.path(), 48), " blueprint ");
    let path = folder.path().join("lora.safetensors");
    write_lora(&path, &low_rank.named(&initial, Names::Kohya)?, &metadata, Existing::Keep)?;
    let summary = Lora::open(&path)?.summary();
    assert_eq!((summary.algorithms["DoRA"], summary.modules["unet"]), (32, 32));
    assert_eq!((summary.ranks, summary.resolution), ([4].into(), Some(Size::new(256, 256))));
    assert_eq!(summary.trigger_words, ["blueprint"]);
    assert_eq!(summary.tags[0], "blueprint", "the most frequent tag");
    assert_eq!(metadata["ss_network_alpha"], "6");
    assert_eq!(metadata["ss_total_batch_size"], "8", "two workers with batches of four");
    Ok(())
}

#[test]
fn resumed_training_of_a_lora_has_the_same_bits() -> Result<()> {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let losses = |folder: &Path| -> Vec<f64> {
        let lines = Journal::read(&folder.join("journal.jsonl")).unwrap();
        lines.iter().filter_map(|line| line.get("loss")?.as_f64()).collect()
    };
    let once = train(&settings(whole.path(), 3), Algorithm::Dora)?;
    train(&Training { until: Some(Instant::now()), ..settings(cut.path(), 3) }, Algorithm::Dora)?;
    assert_eq!(losses(cut.path()).len(), 1);
    assert_eq!(train(&settings(cut.path(), 3), Algorithm::Dora)?, once);
    assert_eq!(losses(cut.path()), losses(whole.path()));
    Ok(())
}

#[test]
fn program_writes_a_lora_and_keeps_files() -> Result<()> {
    let scratch = tempfile::tempdir().unwrap();
    let (pictures, out) = (scratch.path().join("pictures"), scratch.path().join("out"));
    std::fs::create_dir(&pictures).unwrap();
    Blueprints.sample(1)?.picture.save(pictures.join("a.png"))?;
    std::fs::write(pictures.join("a.txt"), "blueprint, a house").unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_impasto-train"));
        command.arg("lora").arg(&out).arg("--pictures").arg(&pictures).args(["--batch", "1", "--trigger", "blueprint"]);
        command.args(more).output().unwrap()
    };
    let file = out.join("lora.safetensors");
    let first = run(&["--steps", "2", "--minutes", "0"]);
    let said = String::from_utf8_lossy(&first.stdout);
    assert!(first.status.success() && !file.exists(), "{first:?}");
    assert!(said.contains("the same command continues from step 1"), "{said}");
    assert!(run(&["--steps", "2"]).status.success());
    let summary = Lora::open(&file)?.summary();
    assert_eq!(
        (summary.trigger_words, summary.tags),
        (vec!["blueprint".into()], vec!["a house".into(), "blueprint".into()])
    );
    assert!(out.join("lora/sheet.png").is_file());

    let written = std::fs::read(&file).unwrap();
    let refused = run(&["--steps", "3"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--replace"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), written);
    assert!(run(&["--steps", "3", "--replace"]).status.success());
    assert_ne!(std::fs::read(&file).unwrap(), written);

    // A finished run writes its tensors again, but not with the settings of another run.
    let other = scratch.path().join("b.safetensors");
    let to_other = ["--steps", "2", "--file", other.to_str().unwrap()];
    for more in [["--rank", "2"], ["--alpha", "1"], ["--seed", "7"], ["--layers", "transformers"], ["--rate", "0.5"]] {
        let refused = run(&[&to_other[..], &more].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        let named = format!("{} is {}; expected ", more[0], more[1]);
        assert!(!refused.status.success() && said.contains(&named) && said.contains("another OUT"), "{more:?}: {said}");
        assert!(!other.exists(), "{more:?}");
    }
    let again = run(&to_other);
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(again.status.success() && said.contains("is already trained for 3 steps; more --steps train on"), "{said}");
    assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&file).unwrap(), "the metadata names three steps");
    // A checkpoint of an earlier version has no settings beside it.
    std::fs::remove_file(&other).unwrap();
    std::fs::remove_file(out.join("lora/settings.json")).unwrap();
    let refused = run(&[&to_other[..], &["--rank", "2"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("rank 2") && !other.exists(), "{said}");
    Ok(())
}

#[test]
fn lora_of_a_transformer_is_refused() -> Result<()> {
    let flow = Model::load(&Source::embedded_flow())?;
    let message = LoraTask::initial(&flow, &low_rank(Algorithm::Lora), 1).unwrap_err().to_string();
    assert!(message.contains("cannot train LoRAs of transformers"), "{message}");
    Ok(())
}

#[test]
fn program_refuses_a_rank_before_it_opens_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_impasto-train"));
    command.arg("lora").arg(folder.path()).args(["--pictures", "no-such-folder", "--rank", "5000"]);
    let said = command.output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("rank is 5000; expected 1 to "), "{said}");
}
