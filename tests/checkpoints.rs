//! Checkpoints as they are published: names, shapes and what follows from them. `tests/golden/specs/checkpoints/` holds
//! the names, with the scripts that wrote them.

use flate2::read::GzDecoder;
use impasto::nn::{ClipTextConfig, UnetConfig, VaeConfig};
use impasto::weights::{Contents, Family, SingleFile, Tensors};
use impasto::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use tch::{Device, Kind, Tensor};

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/specs/checkpoints/{file}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).expect("the file is there");
    let mut text = Vec::new();
    match file.ends_with(".gz") {
        true => drop(GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).expect("gzip")),
        false => text = bytes,
    }
    serde_json::from_slice(&text).expect("it is JSON")
}

fn shape(value: &Value) -> Vec<i64> {
    value.as_array().expect("a shape").iter().map(|side| side.as_i64().expect("a side")).collect()
}

/// A tensor of any shape that takes no more memory than its rows.
fn stand_in(shape: &[i64]) -> Tensor {
    let rows = shape.first().copied().unwrap_or(1);
    let mut column = vec![1; shape.len()];
    column.iter_mut().take(1).for_each(|side| *side = rows);
    Tensor::arange(rows, (Kind::Float, Device::Cpu)).reshape(column).expand(shape, false)
}

type Rows = Vec<(String, Vec<i64>, String, Vec<i64>, String)>;

/// The name in a single file, its shape, diffusers' name, that shape, and what is between them.
fn key_map(kind: &str) -> BTreeMap<String, Rows> {
    serde_json::from_value(golden(&format!("keymap_{kind}.json.gz"))).expect("parts of rows")
}

fn file_of<'r>(rows: impl Iterator<Item = &'r Rows>) -> Tensors {
    rows.flatten().map(|(name, shape, ..)| (name.clone(), stand_in(shape))).collect()
}

#[test]
fn every_published_name_becomes_that_of_diffusers() -> Result<()> {
    for kind in ["sd15", "sd21", "sdxl", "sdxl_refiner", "controlnet_sd15"] {
        let map = key_map(kind);
        let tensors = file_of(map.values());
        let sources: Tensors = tensors.iter().map(|(name, x)| (name.clone(), x.shallow_clone())).collect();
        let file = SingleFile::of(kind, tensors);
        for (part, rows) in &map {
            let got = file.part(part)?.unwrap_or_default();
            for (name, _, renamed, shape, operation) in rows {
                let source = &sources[name];
                let want = match operation.split_once(' ') {
                    Some(("rows", range)) => {
                        let (from, to) = range.split_once("..").expect("a range");
                        let [from, to] = [from, to].map(|end| end.parse::<i64>().expect("a row"));
                        source.narrow(0, from, to - from)
                    }
                    _ => match operation.as_str() {
                        "transpose" => source.transpose(0, 1),
                        "squeeze" => source.squeeze(),
                        _ => source.shallow_clone(),
                    },
                };
                let x = got.get(renamed).unwrap_or_else(|| panic!("{kind}: {name} did not become {renamed}"));
                assert_eq!(x.size(), *shape, "{kind}: {renamed}");
                // The same place in memory, read the same way: the same values.
                assert_eq!((x.data_ptr(), x.stride()), (want.data_ptr(), want.stride()), "{kind}: {renamed}");
            }
            assert_eq!(got.len(), rows.len(), "{kind}: {part}");
        }
    }
    Ok(())
}

#[test]
fn files_are_recognised_by_names_and_shapes() {
    let family = |name: &str| match name.trim_end_matches("_inpaint") {
        "sd1" => Family::Sd1,
        "sd2" => Family::Sd2,
        "sdxl" => Family::Sdxl,
        "sdxl_refiner" => Family::SdxlRefiner,
        other => panic!("{other}"),
    };
    for case in golden("recognition.json")["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let names = case["names"].as_object().expect("names");
        let tensors = names.iter().map(|(name, value)| (name.clone(), stand_in(&shape(value)))).collect();
        let (file, kind) = (SingleFile::of("it.safetensors", tensors), case["kind"].as_str().expect("a kind"));
        let got = file.contents();
        if kind == "refuse" {
            let message = got.expect_err(name).to_string();
            let says = case["says"].as_str().expect("words");
            assert!(message.starts_with("it.safetensors: ") && message.contains(says), "{name}: {message}");
            continue;
        }
        let base = || case["base"].as_str().map(family);
        let want = match kind {
            "vae" => Contents::Vae,
            "taesd" => Contents::Taesd,
            "text_encoder" => Contents::TextEncoder { width: 768 },
            "controlnet" => Contents::ControlNet { family: base().unwrap(), hint: case["hint"].as_i64().unwrap() },
            "lora" => Contents::Lora { family: base() },
            "textual_inversion" => {
                Contents::TextualInversion { family: base().unwrap(), vectors: case["vectors"].as_i64().unwrap() }
            }
            model => Contents::Model { family: family(model), inpaint: model.ends_with("_inpaint") },
        };
        assert_eq!(got.expect(name), want, "{name}");
        if let Some(prediction) = case["prediction"].as_str() {
            let evidence = file.prediction().expect("told");
            assert_eq!(evidence.v, prediction == "v", "{name}");
            assert_eq!(evidence.zero_snr, case["zero_snr"] == true, "{name}");
        }
    }
}

#[test]
fn whole_published_files_are_recognised() -> Result<()> {
    for (kind, family) in [("sd15", Family::Sd1), ("sd21", Family::Sd2), ("sdxl", Family::Sdxl)] {
        let file = SingleFile::of(kind, file_of(key_map(kind).values()));
        assert_eq!(file.contents()?, Contents::Model { family, inpaint: false });
    }
    let hint = SingleFile::of("control", file_of(key_map("controlnet_sd15").values()));
    assert_eq!(hint.contents()?, Contents::ControlNet { family: Family::Sd1, hint: 3 });
    Ok(())
}

#[test]
fn what_a_model_predicts_is_found_by_the_best_evidence() -> Result<()> {
    let evidence = |kind: &str, edit: &dyn Fn(&mut Tensors)| {
        let mut tensors = file_of(key_map(kind).values());
        edit(&mut tensors);
        SingleFile::of(kind, tensors).prediction()
    };
    let spread = |spread: f64| {
        move |tensors: &mut Tensors| {
            let name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";
            let x = Tensor::arange(320, (Kind::Double, Device::Cpu));
            let x = (&x - x.mean(Kind::Double)) / x.std(false) * spread;
            tensors.insert(name.into(), x);
        }
    };
    assert!(!evidence("sd21", &spread(0.089))?.v);
    let guessed = evidence("sd21", &spread(0.091))?;
    assert!(guessed.v && guessed.because.contains("guessed from the spread 0.091"), "{guessed:?}");
    assert!(!evidence("sd15", &spread(0.5))?.v, "only SD 2.x is judged so");
    let marked = |name: &'static str| move |tensors: &mut Tensors| drop(tensors.insert(name.into(), stand_in(&[0])));
    assert!(evidence("sdxl", &marked("v_pred"))?.because.contains("v_pred"));
    assert!(evidence("sdxl", &marked("ztsnr"))?.zero_snr);
    let last = |level: f64| {
        move |tensors: &mut Tensors| {
            drop(tensors.insert("alphas_cumprod".into(), Tensor::full([1000], level, (Kind::Float, Device::Cpu))))
        }
    };
    assert!(evidence("sd15", &last(0.0))?.zero_snr);
    assert!(!evidence("sd15", &last(0.004_660_1))?.zero_snr, "Stable Diffusion's own proves nothing");
    Ok(())
}

#[test]
fn a_file_beside_a_model_and_its_metadata_tell_what_it_predicts() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let header =
        r#"{"__metadata__":{"modelspec.prediction_type":"v"},"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(&path, bytes).expect("written");
    assert!(SingleFile::open(&path)?.prediction()?.because.contains("metadata"));
    std::fs::write(path.with_extension("yaml"), "  parameterization: \"eps\"").expect("written");
    let evidence = SingleFile::open(&path)?.prediction()?;
    assert!(!evidence.v && evidence.because.contains("yaml"), "{evidence:?}");
    assert!(matches!(SingleFile::open(&path)?.contents(), Err(Error::Malformed { .. })));
    Ok(())
}

/// The configuration that was published with a full-size network.
fn published(name: &str) -> String {
    let path = format!("{}/tests/golden/real_{name}/config.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).expect("the file is there")
}

#[test]
fn shapes_give_the_published_configurations() -> Result<()> {
    for (kind, name, family) in [
        ("sd15", "sd15", Family::Sd1),
        ("sd21", "sd21", Family::Sd2),
        ("sdxl", "sdxl", Family::Sdxl),
        ("sdxl_refiner", "sdxl-refiner", Family::SdxlRefiner),
    ] {
        let file = SingleFile::of(kind, file_of(key_map(kind).values()));
        let config = |part| file.config(part, family).map(|config| config.expect(part));
        let [got, want] = [config("unet")?, published(&format!("{name}-unet"))];
        let [got, want] = [UnetConfig::from_json("got", &got)?, UnetConfig::from_json("want", &want)?];
        let significant = |config: &UnetConfig| -> Result<_> {
            let mut levels = config.levels()?;
            // Where nothing attends, heads and depth mean nothing.
            for level in levels.iter_mut().rev().skip(1).filter(|level| !level.down_attends && !level.up_attends) {
                (level.heads, level.depth) = (0, 0);
            }
            Ok((levels, config.in_channels, config.out_channels, config.use_linear_projection))
        };
        assert_eq!(significant(&got)?, significant(&want)?, "{kind}");
        assert_eq!(got.projection_class_embeddings_input_dim, want.projection_class_embeddings_input_dim);
        assert_eq!(got.addition_time_embed_dim, want.addition_time_embed_dim);
        if kind == "sdxl_refiner" {
            continue; // its key map has the UNet alone
        }
        let [got, want] = [config("vae")?, published(&format!("{name}-vae"))];
        let [got, want] = [VaeConfig::from_json("got", &got)?, VaeConfig::from_json("want", &want)?];
        assert_eq!(got.block_out_channels, want.block_out_channels);
        assert_eq!((got.layers_per_block, got.scaling_factor), (want.layers_per_block, want.scaling_factor));
        let towers: &[(&str, &str)] = match kind {
            "sd15" => &[("text_encoder", "sd15-clip-l-text")],
            "sd21" => &[("text_encoder", "sd21-clip-h-text")],
            _ => &[("text_encoder", "sdxl-clip-l-text"), ("text_encoder_2", "sdxl-clip-bigg-text")],
        };
        for (part, name) in towers {
            let [got, want] = [config(part)?, published(name)];
            let [got, mut want] = [ClipTextConfig::from_json("got", &got)?, ClipTextConfig::from_json("want", &want)?];
            // 2 stands for the end token in files older than that field's meaning.
            (want.eos_token_id, want.projection_dim) = (49407, got.projection_dim);
            assert_eq!(got, want, "{name}");
        }
    }
    Ok(())
}
