//! LoRAs of the trainer in diffusers: no tensor is missing or unexpected, and the UNet predicts the same noise.
//!
//! The tests need a Python with diffusers and PEFT. `PEERS` names this Python; without it, `.peers/bin/python` of the
//! repository is used. Where there is none, the tests count as ignored. To install both in the repository's folder:
//!
//! ```sh
//! python3 -m venv .peers && .peers/bin/pip install torch diffusers transformers accelerate peft
//! ```

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use impasto::attention::Tap;
use impasto::diffusion::Noise;
use impasto::weights::{Lora, Tensors, write_safetensors};
use impasto::{Model, Source};
use impasto_train::lora::{Algorithm, Existing, Layers, LoraTask, LowRank, Names, write_lora};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::Tensor;

/// The way to install what the tests need.
const INSTALL: &str = "python3 -m venv .peers && .peers/bin/pip install torch diffusers transformers accelerate peft";
/// Largest difference of two predictions, which are about 1. Diffusers adds the LoRA's output to that of the layer,
/// and impasto adds the matrices.
const TOLERANCE: f64 = 1e-4;

fn main() {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = std::env::var_os("PEERS").map_or(folder.join(".peers/bin/python"), PathBuf::from);
    let needed = "from importlib.util import find_spec as f; import sys; sys.exit(not (f('diffusers') and f('peft')))";
    let asked = Command::new(&python).args(["-c", needed]).stderr(Stdio::null()).status();
    let missing = !asked.is_ok_and(|status| status.success());
    if missing {
        eprintln!("{} has no diffusers and PEFT, so their tests are ignored: {INSTALL}", python.display());
    }
    let trial = |name: &str, algorithm, layers, names| {
        let python = python.clone();
        Trial::test(name, move || check(&python, algorithm, layers, names)).with_ignored_flag(missing)
    };
    let trials = vec![
        trial("lora_of_kohya_loads", Algorithm::Lora, Layers::Attention, Names::Kohya),
        trial("lora_of_diffusers_loads", Algorithm::Lora, Layers::Transformers, Names::Diffusers),
        // Diffusers ignores the lengths in a DoRA of kohya's names.
        trial("dora_of_diffusers_loads", Algorithm::Dora, Layers::Attention, Names::Diffusers),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

/// Tensors in which nothing is zero, as after a training.
fn trained(model: &Model, low_rank: &LowRank) -> impasto::Result<Tensors> {
    let mut tensors = LoraTask::initial(model, low_rank, 1)?;
    for (name, x) in tensors.iter_mut().filter(|(name, _)| !name.ends_with("lora_A.weight")) {
        let noise = Noise::shared(name.len() as u64).draw(&x.size())?;
        *x = x.f_add(&noise.f_mul_scalar(0.05)?)?;
    }
    Ok(tensors)
}

/// Loads a LoRA here and in diffusers, and compares the predictions of both.
fn check(python: &Path, algorithm: Algorithm, layers: Layers, names: Names) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("unet"))?;
    for file in ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"] {
        std::fs::write(at(file), impasto_tiny::file(file).unwrap())?;
    }
    let model = Model::load(&Source::embedded())?;
    let low_rank = LowRank { rank: 3, alpha: 2.0, algorithm, layers };
    let tensors = low_rank.named(&trained(&model, &low_rank)?, names)?;
    write_lora(&at("lora.safetensors"), &tensors, &BTreeMap::new(), Existing::Keep)?;

    let (sample, context) = (Noise::shared(3).draw(&[2, 4, 32, 32])?, Noise::shared(4).draw(&[2, 77, 128])?);
    let timestep = Tensor::from_slice(&[700.0f32, 40.0]);
    let predict = |model: &Model| {
        model.unet().and_then(|unet| unet.forward(&sample, &timestep, &context, None, &mut Tap::none()))
    };
    let _no_grad = tch::no_grad_guard();
    let prediction = predict(&model.with_lora(&[Lora::open(at("lora.safetensors"))?])?)?;
    let change = (&prediction - predict(&model)?).abs().max().double_value(&[]);
    assert!(change > 100.0 * TOLERANCE, "the LoRA changes the prediction by {change}");
    let case = [("sample", sample), ("timestep", timestep), ("context", context), ("prediction", prediction)];
    let case: Tensors = case.map(|(name, x)| (name.to_owned(), x)).into();
    write_safetensors(&case, &at("case.safetensors"))?;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diffusers_lora.py");
    let output =
        Command::new(python).arg(script).args([at("unet"), at("lora.safetensors"), at("case.safetensors")]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let found: Option<Value> = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let Some(found) = found.filter(|_| output.status.success()) else {
        panic!("{said}{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_eq!((&found["missing"], &found["unexpected"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    let expected = if layers == Layers::Transformers { 40 } else { 32 };
    assert_eq!(found["layers"], expected, "changed layers");
    assert!(found["apart"].as_f64().is_some_and(|apart| apart < TOLERANCE), "{found}");
    Ok(())
}
